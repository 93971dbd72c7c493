"""Logins that own nothing and were granted rights: what they could do they can do at head, and no more."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from app.catalog import Examination
from tests.adoption.legacy import Place
from tests.adoption.test_kept import examined
from tests.catalog.planting import told
from tests.conftest import libpq
from tests.migrations.test_stairs import differences

pytestmark = pytest.mark.parametrize("platform", ["owner"])
MOVE = "on-owner-mismatch=move"
ANA = "b0000000-0000-4000-8000-000000000001"
HERS = "b2000000-0000-4000-8000-000000000001"
MADE: list[str] = []

FLAT = """
    CREATE TABLE users (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), email varchar(255));
    CREATE TABLE chat_messages (id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
      user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE, role text NOT NULL, content text NOT NULL,
      created_at timestamptz DEFAULT now());
    INSERT INTO users (id, email) VALUES ('b0000000-0000-4000-8000-000000000001', 'ana@example.test');
    INSERT INTO chat_messages (user_id, role, content) SELECT id, 'user', 'Hello' FROM users;
"""
SESSIONS = """
    CREATE TABLE users (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), email varchar(255));
    CREATE TABLE chat_sessions (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), tenant_id uuid, user_id uuid NOT NULL,
      messages jsonb DEFAULT '[]', created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now());
    INSERT INTO users (id, email) VALUES ('b0000000-0000-4000-8000-000000000001', 'ana@example.test');
    INSERT INTO chat_sessions (user_id, messages) SELECT id, '[{"role": "user", "content": "Hello"}]' FROM users;
"""


@pytest.fixture(autouse=True)
def no_role_is_left(place: Place) -> Iterator[None]:
    yield
    for role in MADE:
        place.admin.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
    MADE.clear()


def make(place: Place, *roles: str, attributes: str = "LOGIN") -> None:
    for role in roles:
        place.admin.execute(f"CREATE ROLE {role} {attributes}")
        MADE.insert(0, role)


@contextmanager
def as_login(place: Place, login: str) -> Iterator[psycopg.Connection]:
    user = login.strip('"')
    with psycopg.connect(libpq(place.url), user=user, autocommit=True, prepare_threshold=None) as session:
        yield session


def count(place: Place, login: str, table: str) -> int:
    with as_login(place, login) as session:
        [(found,)] = session.execute(f"SELECT count(*) FROM {table}".encode()).fetchall()
    return int(found)


def as_client(place: Place, query: str, role: str = "authenticated", user: str = ANA) -> list[tuple[object, ...]]:
    with psycopg.connect(libpq(place.admin.url)) as session:
        session.execute(
            "SELECT set_config('role', %s, true), set_config('request.jwt.claims', %s, true)",
            [role, f'{{"sub": "{user}"}}'],
        )
        return session.execute(query.encode()).fetchall()


def sound(place: Place) -> Examination:
    found = examined(place)
    assert not found.faults, told(found)
    assert not found.open
    return found


def policies(place: Place, table: str) -> dict[str, str]:
    """The policies of a table that are not the package's own: name -> roles."""
    ours = ("select_own", "insert_own", "update_own", "delete_own", "service")
    return dict(
        place.chain.rows(
            "SELECT policyname::text, array_to_string(roles, ',') FROM pg_policies"
            " WHERE schemaname = 'public' AND tablename = %s AND policyname <> ALL (%s)",
            [table, [f"{table}_{name}" for name in ours]],
        )
    )


def test_each_command_is_open_to_whom_it_was_granted_and_the_log_says_so(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.load("2")
    make(place, "reads", "writes")
    place.chain.execute("GRANT SELECT ON tasks TO reads; GRANT SELECT, INSERT, UPDATE, DELETE ON tasks TO writes")
    place.chain.execute("CREATE POLICY granted_select ON tasks USING (true)")  # of our name, and never enforced
    with caplog.at_level(logging.INFO, "chat_schema"):
        place.chain.upgrade("head", MOVE)
    assert policies(place, "tasks") == {
        "granted_select": "reads,writes",
        "granted_insert": "writes",
        "granted_update": "writes",
        "granted_delete": "writes",
    }
    assert "tasks: policy granted_select created for reads, writes" in caplog.text
    assert "kept as yours: policies granted_select on public.tasks: decides for reads, writes, as before" in caplog.text
    found = sound(place)
    assert {each.identity for each in found.kept} >= {"granted_select on public.tasks"}
    assert count(place, "reads", "tasks") == 2
    # a right that comes later opens no row
    place.chain.execute("GRANT DELETE ON tasks TO reads; GRANT SELECT ON brands TO reads")
    with as_login(place, "reads") as session:
        assert session.execute("DELETE FROM tasks").rowcount == 0
    assert len(as_client(place, "SELECT FROM tasks")) == 1
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_client(place, "SELECT FROM tasks", role="anon")


def test_a_right_on_columns_alone_stays_one_on_columns_alone(place: Place) -> None:
    place.load("2")
    make(place, "reads")
    place.chain.execute("GRANT SELECT (id, email) ON users TO reads")
    place.chain.upgrade("head", MOVE)
    with as_login(place, "reads") as session:
        assert len(session.execute("SELECT id, email FROM users").fetchall()) == 3
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute("SELECT password_hash FROM users")
    sound(place)


@pytest.mark.parametrize("role", ['"App RW"', '"o\'clock"', '"select"'])
def test_a_role_is_called_as_it_likes(place: Place, role: str) -> None:
    place.load("2")
    make(place, role)
    place.chain.execute(f"GRANT SELECT, INSERT ON tasks TO {role} WITH GRANT OPTION")
    before = place.chain.snapshot()
    place.chain.upgrade("head", MOVE)
    assert count(place, role, "tasks") == 2
    sound(place)
    place.chain.downgrade("base")
    assert differences(before, place.chain.snapshot()) == []
    place.chain.upgrade("head", MOVE)
    assert count(place, role, "tasks") == 2
    place.chain.upgrade("head", MOVE)
    sound(place)


def test_members_of_a_group_and_of_the_predefined_roles_go_on(place: Place) -> None:
    place.load("2")
    make(place, "app_group", attributes="NOLOGIN BYPASSRLS")  # which no member inherits
    make(place, "member", "reader", "writer", "client_too")
    place.admin.execute("GRANT app_group TO member; GRANT pg_read_all_data TO reader, writer, client_too")
    place.admin.execute("GRANT pg_write_all_data TO writer; GRANT authenticated TO client_too")
    place.chain.execute("GRANT SELECT ON tasks TO app_group")
    place.chain.upgrade("head", MOVE)
    for login in ("member", "reader", "writer", "client_too"):
        assert count(place, login, "tasks") == 2
    assert count(place, "reader", "messages") == 6
    with as_login(place, "writer") as session:
        assert session.execute("UPDATE tasks SET completed = true").rowcount == 2
    with as_login(place, "client_too") as session:
        session.execute("SET ROLE authenticated")
        assert session.execute("SELECT FROM tasks").rowcount == 0
    sound(place)


def test_a_role_that_row_level_security_has_bound_keeps_its_policies_and_gains_nothing(place: Place) -> None:
    place.load("2")
    make(place, "bound", "denied")
    mine = "user_id = nullif(current_setting('app.user', true), '')::uuid"
    place.chain.execute(
        "ALTER TABLE tasks ENABLE ROW LEVEL SECURITY;"
        f"CREATE POLICY own_tasks ON tasks USING ({mine});"
        f"CREATE POLICY tasks_select_own ON tasks AS RESTRICTIVE FOR SELECT TO bound USING (title <> 'secret');"
        "CREATE POLICY granted_select ON tasks FOR SELECT TO authenticated USING (true);"
        "ALTER TABLE conversations ENABLE ROW LEVEL SECURITY;"
        "GRANT SELECT, INSERT, UPDATE, DELETE ON tasks TO bound; GRANT SELECT ON tasks, conversations TO denied"
    )
    before = place.chain.snapshot()
    place.chain.upgrade("head", MOVE)
    found = policies(place, "tasks")
    assert found.pop("own_tasks") == "bound,denied"
    assert list(found.values()) == ["bound"]
    sound(place)
    for login in ("bound", "denied"):
        assert count(place, login, "tasks") == 0
    assert count(place, "denied", "conversations") == 0
    with as_login(place, "bound") as session:
        session.execute("SELECT set_config('app.user', %s, false)", [ANA])
        assert session.execute("SELECT FROM tasks").rowcount == 1
        session.execute("INSERT INTO tasks (user_id, title) VALUES (%s, 'secret')", [ANA])
        assert session.execute("SELECT FROM tasks").rowcount == 1
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute("INSERT INTO tasks (user_id, title) VALUES (gen_random_uuid(), 'x')")
    assert len(as_client(place, "SELECT FROM tasks", user="b0000000-0000-4000-8000-000000000002")) == 1
    place.chain.execute("DELETE FROM tasks WHERE title = 'secret'")
    place.chain.downgrade("base")
    assert differences(before, place.chain.snapshot()) == []


def test_a_service_writes_flat_messages_that_get_their_conversation(place: Place) -> None:
    place.chain.execute(FLAT)
    make(place, "app_rw", "ingests", "reads")
    place.chain.execute(
        "GRANT SELECT, INSERT, UPDATE, DELETE ON users, chat_messages TO app_rw;"
        "GRANT INSERT ON chat_messages TO ingests; GRANT SELECT ON chat_messages TO reads"
    )
    before = place.chain.snapshot()
    place.chain.upgrade()
    sound(place)
    with as_login(place, "ingests") as session:
        session.execute("INSERT INTO chat_messages (user_id, role, content) VALUES (%s, 'user', 'one')", [ANA])
    with as_login(place, "app_rw") as session:
        [(user,)] = session.execute("INSERT INTO users (email) VALUES ('new@example.test') RETURNING id").fetchall()
        insert = "INSERT INTO chat_messages (user_id, role, content) VALUES (%s, 'user', 'two') RETURNING id"
        [(message,)] = session.execute(insert, [user]).fetchall()
        assert session.execute("UPDATE chat_messages SET content = 'three' WHERE id = %s", [message]).rowcount == 1
        assert session.execute("DELETE FROM chat_messages WHERE id = %s", [message]).rowcount == 1
        session.execute("DELETE FROM users WHERE id = %s", [user])
    assert count(place, "reads", "chat_messages") == 2
    with as_login(place, "reads") as session, pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute("SELECT FROM conversations")
    assert place.chain.value("SELECT count(DISTINCT conversation_id) FROM chat_messages") == 1
    place.chain.downgrade("base")
    assert differences(before, place.chain.snapshot()) == []
    place.chain.upgrade()
    sound(place)


def test_a_service_writes_arrays_through_the_view(place: Place) -> None:
    place.chain.execute(SESSIONS)
    make(place, "app_rw", "reads")
    place.chain.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON users, chat_sessions TO app_rw")
    place.chain.execute("GRANT SELECT ON chat_sessions TO reads")
    before = place.chain.snapshot()
    place.chain.upgrade()
    sound(place)
    with as_login(place, "app_rw") as session:
        hello = [{"role": "user", "content": "Hello"}]
        assert session.execute("SELECT messages FROM chat_sessions").fetchall() == [(hello,)]
        insert = "INSERT INTO chat_sessions (user_id, messages) VALUES (%s, %s) RETURNING id, messages"
        [(made, written)] = session.execute(insert, [ANA, '[{"role": "user", "content": "a"}]']).fetchall()
        assert written == [{"role": "user", "content": "a"}]
        update = "UPDATE chat_sessions SET messages = '[]' WHERE id = %s RETURNING messages"
        assert session.execute(update, [made]).fetchall() == [([],)]
        assert session.execute("DELETE FROM chat_sessions WHERE id = %s", [made]).rowcount == 1
    assert count(place, "reads", "chat_sessions") == 1
    with as_login(place, "reads") as session:
        for statement in ("DELETE FROM chat_sessions", "UPDATE messages SET content = ''"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(statement.encode())
    assert as_client(place, "SELECT FROM chat_sessions", user="b0000000-0000-4000-8000-000000000002") == []
    place.chain.downgrade("base")
    assert differences(before, place.chain.snapshot()) == []
    place.chain.upgrade()
    sound(place)


def test_a_role_that_is_gone_does_not_stand_in_the_way_back(place: Place) -> None:
    place.chain.execute(FLAT)
    make(place, "app_rw", "stays")
    place.chain.execute("GRANT SELECT, INSERT ON chat_messages TO app_rw; GRANT SELECT ON chat_messages TO stays")
    place.chain.upgrade()
    place.admin.execute("DROP OWNED BY app_rw; DROP ROLE app_rw")
    MADE.remove("app_rw")
    place.chain.downgrade("0030")
    assert count(place, "stays", "chat_messages") == 1


def test_the_script_lets_the_same_roles_in(place: Place) -> None:
    place.load("2")
    make(place, "app_rw")
    place.chain.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app_rw")
    place.chain.upgrade_by_script("head", MOVE)
    sound(place)
    assert count(place, "app_rw", "tasks") == 2


def test_a_client_that_later_becomes_a_member_of_such_a_role_is_a_fault(place: Place) -> None:
    place.load("2")
    make(place, "app_rw")
    place.chain.execute("GRANT SELECT ON tasks TO app_rw")
    place.chain.upgrade("head", MOVE)
    sound(place)
    place.admin.execute("GRANT app_rw TO authenticated")
    try:
        assert {each.identity for each in examined(place).faults} == {"authenticated in app_rw"}
    finally:
        place.admin.execute("REVOKE app_rw FROM authenticated")
