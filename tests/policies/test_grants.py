"""Who holds which right: written out, and the same where a hosted platform grants everything by default."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from alembic.script import ScriptDirectory

from alembic import command
from app.models import Message, Share
from tests.conftest import alembic_config, libpq
from tests.policies.acting import Refusal, acting, refused, values
from tests.policies.world import OWNER

READ = {"SELECT"}
WRITE = {"SELECT", "INSERT", "UPDATE", "DELETE"}
NOBODY: dict[str, set[str]] = {}
BOTH_WRITE = {"authenticated": WRITE, "service_role": WRITE}
BOTH_READ = {"authenticated": READ, "service_role": READ}
MEMBERS_READ = {"authenticated": READ, "service_role": WRITE}

WRITTEN = [column.name for column in Message.__table__.columns if column.name not in ("seq", "parent_id")]
WRITE_MESSAGE = {"SELECT", "DELETE", "INSERT(parent_id)"} | {
    f"{verb}({column})" for verb in ("INSERT", "UPDATE") for column in WRITTEN
}

RELATIONS: dict[str, dict[str, set[str]]] = {
    "public.users": {
        "authenticated": {"SELECT(id)", "SELECT(email)", "SELECT(created_at)", "SELECT(updated_at)", "UPDATE(email)"},
        "service_role": WRITE,
    },
    "public.tenants": MEMBERS_READ,
    "public.tenant_users": MEMBERS_READ,
    "public.tasks": BOTH_WRITE,
    "public.conversations": BOTH_WRITE,
    "public.messages": {"authenticated": WRITE_MESSAGE, "service_role": WRITE_MESSAGE},
    "public.messages_seq_seq": NOBODY,  # an identity column's sequence asks for no right
    "public.conversation_messages_seq_seq": NOBODY,
    "public.chat_messages": BOTH_WRITE,
    "public.chat_sessions": BOTH_WRITE,
    "public.brands": BOTH_WRITE,
    "public.conversation_sessions": BOTH_WRITE,
    "public.conversation_messages": BOTH_WRITE,
    "public.attachments": BOTH_WRITE,
    "public.feedback": BOTH_WRITE,
    "public.shares": {
        "authenticated": {"DELETE"}
        | {f"SELECT({column.name})" for column in Share.__table__.columns if column.name != "token_hash"}
        | {f"INSERT({name})" for name in ("id", "user_id", "conversation_id", "message_id", "token_hash", "expires_at")}
        | {"UPDATE(expires_at)", "UPDATE(revoked_at)"},
        "service_role": WRITE,
    },
    "public.retention_rules": {"service_role": WRITE},
    "public.retention_holds": {"service_role": WRITE},
    "public.user_llm_providers": {
        "authenticated": {f"SELECT({name})" for name in ("user_id", "provider", "created_at", "updated_at")}
        | {"DELETE"},
        "service_role": WRITE,
    },
    "public.provider_usage_stats": BOTH_READ,
    "public.daily_message_volume": BOTH_READ,
    "public.message_usage": BOTH_READ,
    "chat_internal.alembic_version": {role: {"SELECT(version_num)"} for role in ("authenticated", "service_role")},
    "chat_internal.adopted": NOBODY,
    "chat_internal.adopted_ordinal_seq": NOBODY,
    "chat_internal.adopted_values": NOBODY,
    "chat_internal.kept": NOBODY,
    "chat_internal.backfill_progress": NOBODY,
    "chat_internal.role_names": NOBODY,
    "chat_internal.chat_session_arrays": NOBODY,
}

# Trigger functions are in neither list: a trigger asks for no right when it fires.
CALLED_BY_BOTH = {
    "chat_internal.current_user_id()",
    "chat_internal.current_tenant_ids()",
    "chat_internal.branch(uuid,uuid,integer)",
    "chat_internal.branch_elements(uuid)",
    "chat_internal.default_conversation(uuid)",
    "chat_internal.default_conversation_id(uuid)",
    "chat_internal.element_role(jsonb)",
    "chat_internal.element_time(jsonb)",
    "chat_internal.latest_leaf(uuid,uuid)",
    "chat_internal.message_element(public.messages)",
    "chat_internal.parent_of(uuid,uuid)",
    "chat_internal.search_messages(text,uuid,uuid,text[],timestamp with time zone,timestamp with time zone,boolean,"
    "text,timestamp with time zone,uuid,double precision,integer)",
    "chat_internal.search_terms(uuid,text)",
    "chat_internal.session_elements(jsonb,timestamp with time zone)",
    "chat_internal.siblings(uuid,uuid)",
    "chat_internal.store_session_messages(uuid,uuid,jsonb,timestamp with time zone)",
    "public.complete_conversation_session(uuid)",
    "public.cancel_conversation_session(uuid)",
    "public.get_conversation_history(uuid,integer)",
    "public.get_session_cost(uuid)",
    "public.get_session_message_stats(uuid)",
}
CALLED_BY_INSERTS = {  # by a CHECK and by an index, as whoever inserts; they only compute
    "chat_internal.default_conversation_id(uuid)",
    "chat_internal.search_terms(uuid,text)",
}
CALLED_BY_SERVICES = {
    "chat_internal.open_share(bytea,timestamp with time zone,bigint,integer)",
    "chat_internal.purge_conversation_session_batch(timestamp with time zone,integer)",
    "chat_internal.repair_users()",
}

SCHEMAS = "('public'::regnamespace, 'chat_internal'::regnamespace)"
RELATION_RIGHTS = f"""
SELECT c.oid::regclass::text, coalesce(r.rolname, 'PUBLIC'), a.privilege_type, a.is_grantable
FROM pg_class AS c
CROSS JOIN aclexplode(
  coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))
) AS a
LEFT JOIN pg_roles AS r ON r.oid = a.grantee
WHERE c.relnamespace IN {SCHEMAS} AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND a.grantee <> c.relowner
UNION ALL
SELECT c.oid::regclass::text, coalesce(r.rolname, 'PUBLIC'), a.privilege_type || '(' || t.attname || ')', a.is_grantable
FROM pg_attribute AS t
JOIN pg_class AS c ON c.oid = t.attrelid
CROSS JOIN aclexplode(t.attacl) AS a
LEFT JOIN pg_roles AS r ON r.oid = a.grantee
WHERE c.relnamespace IN {SCHEMAS} AND a.grantee <> c.relowner
"""
FUNCTION_RIGHTS = f"""
SELECT p.oid::regprocedure::text, coalesce(r.rolname, 'PUBLIC'), a.privilege_type, a.is_grantable
FROM pg_proc AS p
CROSS JOIN aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
LEFT JOIN pg_roles AS r ON r.oid = a.grantee
WHERE p.pronamespace IN {SCHEMAS} AND a.grantee <> p.proowner
"""
SCHEMA_RIGHTS = """
SELECT n.nspname, coalesce(r.rolname, 'PUBLIC'), a.privilege_type, a.is_grantable
FROM pg_namespace AS n
CROSS JOIN aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) AS a
LEFT JOIN pg_roles AS r ON r.oid = a.grantee
WHERE n.nspname = 'chat_internal' AND a.grantee <> n.nspowner
"""

Right = tuple[str, str, str, bool]  # object, grantee, privilege, with grant option


@pytest.fixture
def hosted(database_url: str, migrated_template: object) -> Iterator[psycopg.Connection]:
    """An empty database whose default privileges give the three roles everything, as hosted platforms have it.

    (`migrated_template`: that the three roles exist.)
    """
    with psycopg.connect(libpq(database_url)) as connection:
        for kind in ("TABLES", "SEQUENCES", "FUNCTIONS"):
            connection.execute(f"ALTER DEFAULT PRIVILEGES GRANT ALL ON {kind} TO anon, authenticated, service_role")
        connection.commit()
        yield connection


def rights(connection: psycopg.Connection, query: str) -> set[Right]:
    connection.execute("SELECT set_config('search_path', '', true)")  # so that every name is qualified
    found = set(connection.execute(query).fetchall())
    connection.rollback()
    return found


def relations(connection: psycopg.Connection, *kinds: str) -> list[str]:
    """Return the qualified names of what is of these kinds, in the letters of `pg_class.relkind`."""
    connection.execute("SELECT set_config('search_path', '', true)")
    return values(
        connection,
        f'SELECT oid::regclass::text FROM pg_class WHERE relnamespace IN {SCHEMAS} AND relkind = ANY(%s::"char"[])',
        list(kinds),
    )


def designed_rights() -> set[Right]:
    return {
        (relation, role, privilege, False)
        for relation, roles in RELATIONS.items()
        for role, privileges in roles.items()
        for privilege in privileges
    }


def designed_calls() -> set[Right]:
    callers = {
        "authenticated": CALLED_BY_BOTH,
        "service_role": CALLED_BY_BOTH | CALLED_BY_SERVICES,
        "PUBLIC": CALLED_BY_INSERTS,
    }
    return {(function, role, "EXECUTE", False) for role, functions in callers.items() for function in functions}


@pytest.fixture(params=["plain", "hosted"])
def migrated(request: pytest.FixtureRequest) -> psycopg.Connection:
    """A database at head, with and without the default privileges of a hosted platform."""
    if request.param == "plain":
        connection: psycopg.Connection = request.getfixturevalue("shared_db")
        return connection
    connection = request.getfixturevalue("hosted")
    command.upgrade(alembic_config(request.getfixturevalue("database_url")), "head")
    return connection


def test_nothing_is_granted_beyond_the_design(migrated: psycopg.Connection) -> None:
    assert rights(migrated, RELATION_RIGHTS) == designed_rights()
    assert rights(migrated, FUNCTION_RIGHTS) == designed_calls()
    assert rights(migrated, SCHEMA_RIGHTS) == {("chat_internal", role, "USAGE", False) for role in BOTH_READ}


def test_the_design_names_every_relation(shared_db: psycopg.Connection) -> None:
    assert set(relations(shared_db, "r", "p", "v", "m", "f", "S")) == RELATIONS.keys()


def test_no_revision_leaves_more_than_rows_to_anybody(hosted: psycopg.Connection, database_url: str) -> None:
    """A migration may stand at any of them for hours, and what it makes must be closed from its first moment."""
    config = alembic_config(database_url)
    revisions = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    down_past_the_rename = "0027"  # the way down makes functions anew
    for run, revision in [
        *((command.upgrade, revision) for revision in reversed(revisions)),
        (command.downgrade, down_past_the_rename),
    ]:
        run(config, revision)
        held = rights(hosted, RELATION_RIGHTS) | rights(hosted, FUNCTION_RIGHTS) | rights(hosted, SCHEMA_RIGHTS)
        beyond = {
            (name, role, privilege)
            for name, role, privilege, _ in held
            if (role in ("anon", "PUBLIC") and name not in CALLED_BY_INSERTS)
            or privilege.partition("(")[0] not in WRITE | {"EXECUTE", "USAGE"}
        }
        assert not beyond, f"{run.__name__} to {revision}"


def test_nobody_truncates_on_a_hosted_platform(hosted: psycopg.Connection, database_url: str) -> None:
    command.upgrade(alembic_config(database_url), "head")
    tables = relations(hosted, "r", "p")
    assert len(tables) > 10
    for role in ("anon", "authenticated", "service_role"):
        with acting(hosted, OWNER, role=role):
            for table in tables:
                with pytest.raises(psycopg.errors.InsufficientPrivilege), hosted.transaction():
                    hosted.execute(f"TRUNCATE {table} CASCADE")


@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role"])
@pytest.mark.parametrize(
    "table", ["adopted", "adopted_values", "chat_session_arrays", "backfill_progress", "role_names"]
)
def test_internal_tables_are_closed(world: psycopg.Connection, role: str, table: str) -> None:
    with acting(world, OWNER, role=role):
        for statement in (f"SELECT FROM chat_internal.{table}", f"DELETE FROM chat_internal.{table}"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), world.transaction():
                world.execute(statement)


def test_only_services_purge(world: psycopg.Connection) -> None:
    purge = "SELECT chat_internal.purge_conversation_session_batch(now(), 10)"
    with acting(world, OWNER), refused(world, Refusal.NO_GRANT):
        world.execute(purge)
    with acting(world, role="service_role"):
        assert values(world, purge) == [0]
