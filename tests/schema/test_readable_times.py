"""Times that PostgreSQL holds and a driver cannot read: one such row would break every listing that it is in."""

from __future__ import annotations

import json
from uuid import UUID

import pytest
from psycopg import errors

from tests.schema.rows import Rows

UNREADABLE = ("infinity", "-infinity", "294000-01-01+00", "9999-12-31+00", "0001-01-01 23:59:59+00", "4000-01-01+00 BC")
FIRST, LAST = "0001-01-02 00:00:00+00", "9999-12-30 23:59:59.999999+00"
ZONES = ("UTC", "Pacific/Kiritimati", "Etc/GMT+12", "Asia/Manila", "America/Juneau")

TIMES = (
    "SELECT c.relname::text, a.attname::text FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid"
    " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.atttypid = 'timestamptz'::regtype"
    " AND NOT a.attisdropped ORDER BY 1, a.attnum"
)


@pytest.fixture
def user(rows: Rows) -> UUID:
    """A user with one row in every table."""
    user = rows.user()
    rows.tenant(user)
    rows.insert("tasks", user_id=user, title="Task")
    conversation = rows.conversation(user)
    rows.insert("retention_holds", conversation_id=conversation, user_id=user)
    rows.insert("retention_rules", keep="1 day")
    rows.hang_on(rows.message(conversation))
    rows.insert("chat_messages", user_id=user, role="user", content="Hi")
    rows.insert("user_llm_providers", user_id=user, provider="acme", ciphertext=b"sealed", key_id="a")
    rows.turn(rows.session(user, rows.insert("brands", user_id=user, name="Acme")))
    return user


def test_no_time_of_any_table_is_unreadable(rows: Rows, user: UUID) -> None:
    times = rows.all(TIMES)
    assert len({table for table, _ in times}) == 16
    for table, column in times:
        for value in UNREADABLE:
            with pytest.raises(errors.CheckViolation, match=f"ck_{table}_(times|marks)"), rows.connection.transaction():
                rows.run(f"UPDATE {table} SET {column} = %s", value)


@pytest.mark.parametrize("zone", ZONES)
def test_what_is_let_in_is_read_in_every_time_zone(rows: Rows, user: UUID, zone: str) -> None:
    rows.connection.execute("SELECT set_config('TimeZone', %s, true)", [zone])
    for table, column in rows.all(TIMES):
        for value in (FIRST, LAST):
            rows.run(f"UPDATE {table} SET {column} = %s", value)
            assert rows.all(f"SELECT {column}, {column} = %s::timestamptz FROM {table}", value)[0][1], table


@pytest.mark.parametrize("column", ["created_at", "updated_at"])
@pytest.mark.parametrize("value", UNREADABLE)
def test_nor_does_one_come_through_the_view_of_arrays(rows: Rows, user: UUID, column: str, value: str) -> None:
    for statement in (
        f"INSERT INTO chat_sessions (user_id, {column}) VALUES (%(user)s, %(value)s)",
        f"UPDATE chat_sessions SET {column} = %(value)s WHERE user_id = %(user)s",
    ):
        with pytest.raises(errors.CheckViolation, match="ck_conversations_times"), rows.connection.transaction():
            rows.connection.execute(statement.encode(), {"user": user, "value": value})


@pytest.mark.parametrize("key", ["timestamp", "created_at", "createdAt"])
@pytest.mark.parametrize(
    "value",
    [
        *UNREADABLE,
        "0001-01-01T00:00:00+14:00",
        "0001-01-01T12:00:00Z",
        "9999-12-31T23:59:59-12:00",
        "9999-12-31",
        99999999999999,
        "1e10",
    ],
)
def test_nor_within_an_array_which_is_stored_all_the_same(rows: Rows, user: UUID, key: str, value: object) -> None:
    array = [{"role": "user", "content": "When?", key: value}]
    session = rows.insert("conversations", user_id=user, created_at="2020-01-01+00")
    rows.run("UPDATE chat_sessions SET messages = %s WHERE id = %s", json.dumps(array), session)
    stored = (
        "SELECT m.created_at = c.updated_at FROM messages AS m JOIN conversations AS c ON c.id = m.conversation_id"
        " WHERE c.id = %s"
    )
    assert rows.all(stored, session) == [True], "the session's time, as for a time that says nothing"
    assert rows.all("SELECT messages FROM chat_sessions WHERE id = %s", session) == [array]
