"""What a new message does to its conversation, and to its session, while others write too."""

from __future__ import annotations

import random
import threading
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from tests.conftest import libpq
from tests.schema.rows import Rows

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
CLIENTS, STATEMENTS, THREADS = 6, 20, 60

FILL = f"""
INSERT INTO users (id) SELECT gen_random_uuid();
INSERT INTO brands (user_id, name) SELECT id, 'Soap' FROM users;
INSERT INTO conversations (user_id, created_at, updated_at)
  SELECT id, '2020-01-01', '2020-01-01' FROM users, generate_series(1, {THREADS});
INSERT INTO conversation_sessions (brand_id, user_id, created_at, last_activity_at)
  SELECT id, user_id, '2020-01-01', '2020-01-01' FROM brands, generate_series(1, {THREADS});
"""
# each statement at a time of its own, so that each moves what it writes into
INTO = {
    "messages": "INSERT INTO messages (conversation_id, user_id, role, content, created_at)"
    " SELECT id, user_id, 'user', 'Hi', timestamptz '2021-01-01' + %(turn)s * interval '1 minute' FROM conversations",
    "chat_messages": "INSERT INTO chat_messages (conversation_id, user_id, role, content, created_at)"
    " SELECT id, user_id, 'user', 'Hi', timestamptz '2021-01-01' + %(turn)s * interval '1 minute' FROM conversations",
    "conversation_messages": "INSERT INTO conversation_messages (session_id, brand_id, user_id, role, content)"
    " SELECT id, brand_id, user_id, 'user', 'Hi' FROM conversation_sessions",
}


@pytest.mark.parametrize("table", INTO)
def test_clients_that_write_into_many_at_once_never_deadlock(migrated_url: str, table: str) -> None:
    with psycopg.connect(libpq(migrated_url)) as connection:
        connection.execute(FILL)
    failed: list[str | None] = []

    def client(number: int) -> None:
        chance = random.Random(number)  # noqa: S311
        with psycopg.connect(libpq(migrated_url), autocommit=True) as connection:
            for turn in range(STATEMENTS):
                values = {"turn": turn * CLIENTS + number, "seed": chance.random(), "some": chance.randint(20, 50)}
                try:
                    connection.execute(f"{INTO[table]} ORDER BY random() + %(seed)s LIMIT %(some)s", values)
                except psycopg.Error as error:
                    failed.append(error.sqlstate)

    clients = [threading.Thread(target=client, args=[number]) for number in range(CLIENTS)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    assert failed == []


class TestANewMessage:
    def test_moves_its_conversation_to_within_ten_seconds(self, rows: Rows) -> None:
        user = rows.user()
        conversation = rows.conversation(user, created_at=LONG_AGO, updated_at=LONG_AGO)
        for after, moved in ((9, 0), (11, 11), (20, 11), (22, 22)):
            rows.message(conversation, created_at=LONG_AGO + after * SECOND)
            assert rows.one("SELECT updated_at FROM conversations") == LONG_AGO + moved * SECOND

    def test_waits_for_nobody_who_is_changing_its_conversation(self, migrated_url: str) -> None:
        with psycopg.connect(libpq(migrated_url)) as first, psycopg.connect(libpq(migrated_url)) as second:
            first.execute(FILL)
            first.commit()
            append = f"{INTO['messages']} ORDER BY id LIMIT 1"
            first.execute(append, {"turn": 1})
            second.execute("SET lock_timeout = '1s'")
            second.execute(append, {"turn": 2})
            second.commit()
            first.commit()
            moved = "SELECT max(updated_at) - '2021-01-01' FROM conversations"
            assert first.execute(moved).fetchone() == (timedelta(minutes=1),)  # left to whoever held it
            first.execute(append, {"turn": 3})
            assert first.execute(moved).fetchone() == (timedelta(minutes=3),)


@pytest.mark.parametrize("messages", [500, 8000])
def test_many_messages_of_one_statement_move_their_session_once(db: psycopg.Connection, messages: int) -> None:
    db.execute(FILL)
    db.execute("SET LOCAL track_functions = 'all'")
    db.execute(
        "INSERT INTO conversation_messages (session_id, brand_id, user_id, role, content)"
        " SELECT s.id, s.brand_id, s.user_id, 'user', 'Hi' FROM (SELECT * FROM conversation_sessions LIMIT 2) AS s,"
        " generate_series(1, %s)",
        [messages],
    )
    calls = "SELECT calls FROM pg_stat_xact_user_functions WHERE funcname = 'update_session_on_message'"
    assert db.execute(calls).fetchall() == [(1,)]
    writes = "SELECT n_tup_upd FROM pg_stat_xact_user_tables WHERE relid = 'conversation_sessions'::regclass"
    assert db.execute(writes).fetchall() == [(2,)]
    moved = "SELECT count(*) FROM conversation_sessions WHERE last_activity_at = now()"
    assert db.execute(moved).fetchone() == (2,)
