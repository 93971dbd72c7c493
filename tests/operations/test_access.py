"""Roles, policies and grants: exactly what the revision names, whatever a platform granted before."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from alembic.util import CommandError

from app.engine.operations.access import create_policy, drop_policy, enable_row_level_security
from app.operations.access import (
    alter_owner_policies,
    create_missing_roles,
    create_owner_policies,
    grant_more,
    grant_only,
    grant_schema_usage,
    record_role_names,
    revoke_schema_usage,
)
from app.options import Options
from tests.operations.conftest import Revision, Script, value

OWN = "owner = (SELECT chat_internal.current_user_id())"
POLICIES = sa.text(
    "SELECT policyname, cmd, array_to_string(roles, ','), qual IS NOT NULL AS using, with_check IS NOT NULL AS check"
    " FROM pg_policies WHERE tablename = 'notes' ORDER BY policyname"
)
GRANTS = (
    "SELECT string_agg(grantee || ' ' || privilege_type, ', ' ORDER BY grantee, privilege_type)"
    " FROM information_schema.role_table_grants WHERE table_name = 'notes' AND grantee <> 'postgres'"
)


@pytest.fixture
def other_roles(connection: sa.Connection) -> Iterator[Options]:
    """Options with role names that this server does not have, one of them in need of quotes."""
    suffix = uuid.uuid4().hex[:8]
    options = Options(anon_role=f"anon_{suffix}", authenticated_role=f"App-User_{suffix}", service_role=f"svc_{suffix}")
    yield options
    connection.rollback()
    for name in (options.anon_role, options.authenticated_role, options.service_role):
        connection.exec_driver_sql(f'DROP ROLE IF EXISTS "{name}"')
    connection.commit()


def test_missing_roles_are_created_and_those_that_are_there_left(
    connection: sa.Connection, revision: Revision, other_roles: Options
) -> None:
    for _ in range(2):
        with revision(other_roles) as operations:
            create_missing_roles(operations)
    names = f"('{other_roles.anon_role}', '{other_roles.authenticated_role}', '{other_roles.service_role}')"
    query = f"SELECT count(*) FROM pg_roles WHERE rolname IN {names} AND NOT rolcanlogin AND NOT rolbypassrls"
    assert value(connection, query) == 3


def test_a_script_creates_missing_roles_too(connection: sa.Connection, script: Script, other_roles: Options) -> None:
    create_missing_roles(script.operations(other_roles))
    for _ in range(2):
        connection.exec_driver_sql(str(script))
    connection.commit()
    assert value(connection, f"SELECT count(*) FROM pg_roles WHERE rolname = '{other_roles.authenticated_role}'") == 1


def test_a_login_that_may_not_create_roles_gets_the_statements_for_one_that_may(
    connection: sa.Connection, revision: Revision, other_roles: Options
) -> None:
    connection.exec_driver_sql("SET ROLE service_role")
    connection.commit()
    with pytest.raises(CommandError) as refusal, revision(other_roles) as operations:
        create_missing_roles(operations)
    connection.exec_driver_sql("RESET ROLE")
    connection.commit()
    said = str(refusal.value)
    assert f'\n  CREATE ROLE "{other_roles.anon_role}" NOLOGIN;\n' in said
    assert f'\n  CREATE ROLE "{other_roles.authenticated_role}" NOLOGIN;\n' in said
    assert "run the upgrade again" in said


def test_owner_policies_are_five_and_permissive(connection: sa.Connection, revision: Revision) -> None:
    with revision() as operations:
        enable_row_level_security(operations, "notes")
        create_owner_policies(operations, "notes", owner=OWN)
    assert connection.execute(POLICIES).fetchall() == [
        ("notes_delete_own", "DELETE", "authenticated", True, False),
        ("notes_insert_own", "INSERT", "authenticated", False, True),
        ("notes_select_own", "SELECT", "authenticated", True, False),
        ("notes_service", "ALL", "service_role", True, True),
        ("notes_update_own", "UPDATE", "authenticated", True, True),
    ]
    connection.rollback()
    assert value(connection, "SELECT bool_and(permissive = 'PERMISSIVE') FROM pg_policies WHERE tablename = 'notes'")
    assert value(connection, "SELECT relrowsecurity AND NOT relforcerowsecurity FROM pg_class WHERE relname = 'notes'")


def test_owner_policies_change_together_and_leave_the_service_its_own(
    connection: sa.Connection, revision: Revision
) -> None:
    with revision() as operations:
        create_owner_policies(operations, "notes", owner=OWN)
        alter_owner_policies(operations, "notes", owner=f"{OWN} AND id > 7")
    conditions = (
        "SELECT count(*) FROM pg_policies WHERE tablename = 'notes' AND concat(qual, with_check) LIKE '%id > 7%'"
    )
    assert value(connection, conditions) == 4
    assert (
        value(connection, "SELECT qual || with_check FROM pg_policies WHERE policyname = 'notes_service'") == "truetrue"
    )


def test_a_new_row_can_be_asked_for_more_than_the_others(connection: sa.Connection, revision: Revision) -> None:
    with revision() as operations:
        create_owner_policies(operations, "notes", owner=OWN, insert="id > 7")
    asked = sa.text("SELECT policyname FROM pg_policies WHERE tablename = 'notes' AND with_check LIKE '%id > 7%'")
    assert connection.scalars(asked).all() == ["notes_insert_own"]
    owned = "SELECT count(*) FROM pg_policies WHERE tablename = 'notes' AND concat(qual, with_check) LIKE '%user_id%'"
    assert value(connection, owned) == 4


def test_a_policy_is_dropped_by_name(connection: sa.Connection, revision: Revision) -> None:
    with revision() as operations:
        create_policy(operations, "just one", "notes", "SELECT", to="anon", using="true")
    assert connection.execute(POLICIES).fetchall() == [("just one", "SELECT", "anon", True, False)]
    connection.rollback()
    with revision() as operations:
        drop_policy(operations, "just one", "notes")
    assert connection.execute(POLICIES).fetchall() == []


def test_only_what_is_named_is_granted(connection: sa.Connection, revision: Revision) -> None:
    connection.exec_driver_sql("GRANT ALL ON notes TO PUBLIC, anon, authenticated, service_role")
    connection.exec_driver_sql("GRANT UPDATE (body) ON notes TO anon")
    connection.commit()
    with revision() as operations:
        grant_only(operations, "notes", authenticated="SELECT, UPDATE (body)", service_role="SELECT, DELETE")
    assert value(connection, GRANTS) == "authenticated SELECT, service_role DELETE, service_role SELECT"
    assert value(connection, "SELECT has_column_privilege('authenticated', 'notes', 'body', 'UPDATE')")
    assert not value(connection, "SELECT has_column_privilege('anon', 'notes', 'body', 'UPDATE')")


def test_more_is_granted_beside_what_is_there(connection: sa.Connection, revision: Revision) -> None:
    connection.exec_driver_sql("ALTER TABLE notes ADD mood text; GRANT INSERT (mood) ON notes TO authenticated")
    connection.commit()
    with revision() as operations:
        grant_more(operations, "notes", authenticated="INSERT (body)", service_role="INSERT (body), UPDATE (body)")
    asked = "SELECT array_agg(has_column_privilege(r, 'notes', c, p)) FROM (VALUES {}) AS v (r, c, p)"
    granted = (
        "('authenticated', 'mood', 'INSERT'), ('authenticated', 'body', 'INSERT'), ('service_role', 'body', 'UPDATE')"
    )
    refused = "('authenticated', 'body', 'UPDATE'), ('service_role', 'mood', 'INSERT'), ('anon', 'body', 'INSERT')"
    assert value(connection, asked.format(granted)) == [True, True, True]
    assert value(connection, asked.format(refused)) == [False, False, False]


def test_functions_and_sequences_are_granted_by_their_full_names(connection: sa.Connection, revision: Revision) -> None:
    connection.exec_driver_sql("CREATE SEQUENCE ticks")
    connection.exec_driver_sql("CREATE FUNCTION tick(a int, b text) RETURNS int LANGUAGE sql RETURN 1")
    connection.exec_driver_sql("GRANT ALL ON SEQUENCE ticks TO anon")
    connection.commit()
    with revision() as operations:
        grant_only(operations, "SEQUENCE ticks", service_role="USAGE")
        grant_only(operations, "FUNCTION tick(int, text)", authenticated="EXECUTE")
    assert not value(connection, "SELECT has_sequence_privilege('anon', 'ticks', 'USAGE')")
    assert value(connection, "SELECT has_sequence_privilege('service_role', 'ticks', 'USAGE')")
    assert not value(connection, "SELECT has_function_privilege('anon', 'tick(int, text)', 'EXECUTE')")
    assert value(connection, "SELECT has_function_privilege('authenticated', 'tick(int, text)', 'EXECUTE')")


def test_usage_of_a_schema_comes_and_goes(connection: sa.Connection, revision: Revision) -> None:
    connection.exec_driver_sql("CREATE SCHEMA attic")
    connection.commit()
    usage = "SELECT has_schema_privilege('authenticated', 'attic', 'USAGE')"
    with revision() as operations:
        grant_schema_usage(operations, "attic", to=["authenticated", "service_role"])
    assert value(connection, usage)
    with revision() as operations:
        revoke_schema_usage(operations, "attic", of=["authenticated", "service_role"])
    assert not value(connection, usage)


def test_role_names_are_written_down(connection: sa.Connection, revision: Revision) -> None:
    connection.exec_driver_sql("CREATE TABLE names (logical text, actual text)")
    connection.commit()
    with revision(Options(service_role="it's me")) as operations:
        record_role_names(operations, "names")
    assert connection.exec_driver_sql("SELECT * FROM names").fetchall() == [
        ("anon", "anon"),
        ("authenticated", "authenticated"),
        ("service_role", "it's me"),
    ]


def test_the_script(script: Script) -> None:
    operations = script.operations(Options(authenticated_role="App-User"))
    enable_row_level_security(operations, "chat_internal.notes")
    create_policy(operations, "own", "notes", "UPDATE", to="authenticated", using=OWN, check=OWN)
    drop_policy(operations, "own", "notes")
    grant_only(operations, "FUNCTION tick(int, text)", authenticated="EXECUTE")
    grant_schema_usage(operations, "attic", to=["authenticated"])
    revoke_schema_usage(operations, "attic", of=["authenticated"])
    assert script.lines == [
        "ALTER TABLE chat_internal.notes ENABLE ROW LEVEL SECURITY;",
        f'CREATE POLICY own ON public.notes AS PERMISSIVE FOR UPDATE TO "App-User" USING ({OWN}) WITH CHECK ({OWN});',
        "DROP POLICY own ON public.notes;",
        'REVOKE ALL ON FUNCTION public.tick(int, text) FROM PUBLIC, "anon", "App-User", "service_role";',
        'GRANT EXECUTE ON FUNCTION public.tick(int, text) TO "App-User";',
        'GRANT USAGE ON SCHEMA attic TO "App-User";',
        'REVOKE USAGE ON SCHEMA attic FROM "App-User";',
    ]
