"""Rules that every table, function, view and policy follows, whichever it is."""

import psycopg
import pytest

from tests.policies.acting import acting, values
from tests.policies.world import ACME, OWNER

SCHEMAS = "('public'::regnamespace, 'chat_internal'::regnamespace)"


def test_every_table_has_row_level_security_and_none_forces_it(shared_db: psycopg.Connection) -> None:
    tables = shared_db.execute(
        "SELECT relname, relrowsecurity, relforcerowsecurity FROM pg_class"
        f" WHERE relnamespace IN {SCHEMAS} AND relkind IN ('r', 'p')"
    ).fetchall()
    assert len(tables) > 10
    assert {(enabled, forced) for _, enabled, forced in tables} == {(True, False)}, tables


def test_every_policy_is_permissive_and_speaks_to_one_role(shared_db: psycopg.Connection) -> None:
    policies = shared_db.execute(
        "SELECT schemaname, permissive, array_to_string(roles, ',') FROM pg_policies"
    ).fetchall()
    assert set(policies) == {
        ("public", "PERMISSIVE", "authenticated"),
        ("public", "PERMISSIVE", "service_role"),
        ("chat_internal", "PERMISSIVE", "authenticated"),
        ("chat_internal", "PERMISSIVE", "service_role"),  # reads alembic_version
    }


def test_every_internal_table_lets_nobody_in_but_the_revision_is_read(shared_db: psycopg.Connection) -> None:
    tables = values(
        shared_db,
        "SELECT relname FROM pg_class WHERE relnamespace = 'chat_internal'::regnamespace AND relkind IN ('r', 'p')",
    )
    policies = shared_db.execute(
        "SELECT tablename, policyname, cmd, qual, with_check FROM pg_policies WHERE schemaname = 'chat_internal'"
    ).fetchall()
    readable = {
        ("alembic_version", f"alembic_version_read_{role}", "SELECT", "true", None)
        for role in ("authenticated", "service_role")
    }
    shut = {(table, f"{table}_none", "ALL", "false", None) for table in tables if table != "alembic_version"}
    assert set(policies) == shut | readable
    assert len(tables) > 5


def test_not_even_a_grant_opens_an_internal_table(shared_db: psycopg.Connection) -> None:
    shared_db.execute("GRANT ALL ON ALL TABLES IN SCHEMA chat_internal TO authenticated")
    with acting(shared_db, OWNER):
        for table in ("role_names", "adopted", "backfill_progress"):
            assert shared_db.execute(f"SELECT FROM chat_internal.{table}").rowcount == 0
        refused = pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security")
        with refused, shared_db.transaction():
            shared_db.execute("INSERT INTO chat_internal.role_names VALUES ('anon', 'authenticated')")


def test_no_two_policies_meet_on_one_role_and_verb(shared_db: psycopg.Connection) -> None:
    """Permissive policies are joined by OR, so a second one can only open; it also runs on each query."""
    assert not values(
        shared_db,
        "SELECT tablename FROM pg_policies GROUP BY tablename, roles, cmd HAVING count(*) > 1"
        " UNION ALL SELECT tablename FROM pg_policies GROUP BY tablename, roles"
        " HAVING bool_or(cmd = 'ALL') AND count(*) > 1",
    )


def test_a_table_with_owners_has_the_five_policies(shared_db: psycopg.Connection) -> None:
    policies: dict[str, set[tuple[str, str]]] = {}
    public = "SELECT tablename, policyname, cmd FROM pg_policies WHERE schemaname = 'public'"
    for table, name, verb in shared_db.execute(public):
        policies.setdefault(table, set()).add((name, verb))
    read_by_members = {
        t: {(f"{t}_select_member", "SELECT"), (f"{t}_service", "ALL")} for t in ("tenants", "tenant_users")
    }
    own_row = {("users_select_own", "SELECT"), ("users_update_own", "UPDATE"), ("users_service", "ALL")}
    owned = (
        "tasks",
        "conversations",
        "messages",
        "chat_messages",
        "brands",
        "conversation_sessions",
        "conversation_messages",
        "attachments",
        "feedback",
        "shares",
    )
    verbs = ("SELECT", "INSERT", "UPDATE", "DELETE")
    assert policies == {
        **{t: {(f"{t}_{verb.lower()}_own", verb) for verb in verbs} | {(f"{t}_service", "ALL")} for t in owned},
        **read_by_members,
        "users": own_row,
        "retention_rules": {("retention_rules_service", "ALL")},
        "retention_holds": {("retention_holds_service", "ALL")},
        "user_llm_providers": {
            ("user_llm_providers_select_own", "SELECT"),
            ("user_llm_providers_delete_own", "DELETE"),
            ("user_llm_providers_service", "ALL"),
        },
    }


def test_ten_functions_run_as_their_owner_and_none_of_them_is_public(shared_db: psycopg.Connection) -> None:
    definers = values(
        shared_db, f"SELECT oid::regprocedure::text FROM pg_proc WHERE prosecdef AND pronamespace IN {SCHEMAS}"
    )
    assert set(definers) == {
        "chat_internal.current_tenant_ids()",
        "chat_internal.fill_message_tenant()",
        "chat_internal.mend_branches()",
        "chat_internal.mirror_auth_user()",
        "chat_internal.move_head()",
        "chat_internal.move_messages_to_tenant()",
        "chat_internal.place_message()",
        "chat_internal.repair_users()",
        "chat_internal.search_messages(text,uuid,uuid,text[],timestamp with time zone,timestamp with time zone,boolean,"
        "text,timestamp with time zone,uuid,double precision,integer)",
        "chat_internal.touch_conversations()",
    }


def test_every_function_searches_pg_catalog_and_pg_temp_last(shared_db: psycopg.Connection) -> None:
    """With an empty path PostgreSQL looks for types and relations in pg_temp first: a caller's ran as the owner.

    One is without: every statement of a user calls it, as the user, and each name in it has its schema.
    """
    without = values(
        shared_db,
        f"SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace IN {SCHEMAS}"
        " AND NOT coalesce(proconfig, '{}') @> ARRAY['search_path=pg_catalog, pg_temp']",
    )
    assert without == ["chat_internal.current_user_id()"]


def test_every_view_reads_as_its_caller(shared_db: psycopg.Connection) -> None:
    views = shared_db.execute(
        f"SELECT relname, reloptions::text FROM pg_class WHERE relnamespace IN {SCHEMAS} AND relkind IN ('v', 'm')"
    ).fetchall()
    names = ("chat_sessions", "provider_usage_stats", "daily_message_volume", "message_usage")
    assert set(views) == {(name, "{security_invoker=true}") for name in names}


@pytest.mark.parametrize(
    "table",
    [
        "users",
        "tasks",
        "conversations",
        "messages",
        "chat_messages",
        "brands",
        "conversation_sessions",
        "attachments",
        "feedback",
        "shares",
    ],
)
def test_the_plan_asks_once_who_the_caller_is(world: psycopg.Connection, table: str) -> None:
    with acting(world, OWNER):
        plan = "\n".join(values(world, f"EXPLAIN SELECT FROM {table}"))
    assert "InitPlan" in plan
    assert "current_user_id" not in plan  # a filter that names it would call it for each row


def test_a_query_asks_a_few_times_at_most_however_many_rows_it_reads(world: psycopg.Connection) -> None:
    world.execute("SET LOCAL track_functions = 'all'")
    world.execute(
        "INSERT INTO conversations (user_id, tenant_id) SELECT %s, %s FROM generate_series(1, 200)", [OWNER, ACME]
    )
    for table in ("messages", "chat_messages"):
        world.execute(
            f"INSERT INTO {table} (conversation_id, user_id, role, content)"
            " SELECT id, user_id, 'user', 'x' FROM conversations WHERE user_id = %s",
            [OWNER],
        )
    calls = "SELECT calls FROM pg_stat_xact_user_functions WHERE funcname = 'current_user_id'"
    for relation in ("conversations", "messages", "chat_messages", "chat_sessions"):
        before = sum(values(world, calls))
        with acting(world, OWNER):
            assert world.execute(f"SELECT FROM {relation}").rowcount > 200
        asked = sum(values(world, calls)) - before
        assert 1 <= asked < 5, relation  # the planner asks too, and the functions of the policies
