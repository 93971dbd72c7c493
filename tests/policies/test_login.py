"""A true login that is a member of role authenticated and of nothing else: it sets claims and switches no role."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import psycopg
import pytest
from psycopg import errors

from app import embedded
from tests.conftest import libpq
from tests.policies.acting import Refusal, claims_of, outcome, refused, values
from tests.policies.test_matrix import ACTORS, MATRIX, ROWS, USERS, statement
from tests.policies.world import OTHER, OWNER
from tests.policies.world import ROWS as WORLD

LOGIN = "chat_schema_test_login"


@pytest.fixture(scope="module")
def _login(server: embedded.Server, _shared_database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(libpq(server.url(_shared_database))) as administrator:
        administrator.execute(f"CREATE ROLE {LOGIN} LOGIN IN ROLE authenticated")
        administrator.execute(WORLD)
        administrator.commit()
        with psycopg.connect(libpq(server.url(_shared_database, user=LOGIN))) as connection:
            yield connection
            connection.rollback()
        administrator.execute(f"DROP ROLE {LOGIN}")


@pytest.fixture
def login(_login: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """A connection as the login; each test is undone."""
    with _login.transaction(force_rollback=True):
        yield _login


def claim(connection: psycopg.Connection, user: UUID) -> None:
    connection.execute("SELECT set_config('request.jwt.claims', %s, true)", [claims_of(user)])


@pytest.mark.parametrize("rows", MATRIX)
def test_it_meets_the_same_outcomes_as_who_switches_the_role(login: psycopg.Connection, rows: str) -> None:
    for verb, outcomes in MATRIX[rows].items():
        expected = dict(zip(ACTORS, outcomes, strict=True))
        for actor in ("owner", "co-member", "other", "foreigner"):
            claim(login, USERS[actor])
            user = OWNER if verb == "INSERT in owner's name" else USERS[actor]
            found = outcome(login, statement(verb, ROWS[rows]), {"user": user}, undo=True)
            assert found == expected[actor], f"{actor} does {verb}"


def test_without_claims_it_sees_nothing(login: psycopg.Connection) -> None:
    assert values(login, "SELECT id FROM users") == []


@pytest.mark.parametrize("role", ["service_role", "anon", "postgres"])
def test_it_cannot_become_another_role(login: psycopg.Connection, role: str) -> None:
    with pytest.raises(errors.InsufficientPrivilege), login.transaction():
        login.execute("SELECT set_config('role', %s, true)", [role])


def test_it_cannot_switch_row_level_security_off(login: psycopg.Connection) -> None:
    """row_security = off asks for an error instead of filtered rows; it opens nothing."""
    claim(login, OTHER)
    login.execute("SELECT set_config('row_security', 'off', true)")
    with refused(login, Refusal.BY_POLICY):
        login.execute("SELECT FROM tasks")


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE tasks DISABLE ROW LEVEL SECURITY",
        "DROP POLICY tasks_select_own ON tasks",
        "CREATE POLICY mine ON tasks USING (true)",
        "ALTER TABLE tasks DISABLE TRIGGER ALL",
        "CREATE OR REPLACE FUNCTION chat_internal.current_user_id() RETURNS uuid LANGUAGE sql AS 'SELECT NULL::uuid'",
        "CREATE FUNCTION chat_internal.mine() RETURNS uuid LANGUAGE sql AS 'SELECT NULL::uuid'",
        "CREATE TABLE public.mine ()",
        "GRANT SELECT ON users TO anon",
    ],
)
def test_it_changes_nothing_of_the_schema(login: psycopg.Connection, statement: str) -> None:
    with pytest.raises(errors.InsufficientPrivilege), login.transaction():
        login.execute(statement)
