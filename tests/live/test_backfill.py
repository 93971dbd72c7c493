"""A backfill of any size, with any number of workers, under any timeout of the login, finds every row."""

from __future__ import annotations

import argparse
import uuid
from collections.abc import Iterator

import psycopg
import pytest

from alembic import command
from app.catalog import Snapshot
from app.engine import batches
from tests.conftest import alembic_config
from tests.live.command_line import alembic, connect, value, wait_for
from tests.live.conftest import MESSAGES, MOVED, USERS, fill, locked_message, snapshot
from tests.migrations.chain import planned

TINY = ("batch-time=1ms", "lock-timeout=50ms")
ONE_OR_THREE = pytest.mark.parametrize("workers", [1, 3])
ASTRAY = (
    "SELECT count(*) FROM chat_messages AS m LEFT JOIN conversations AS c ON c.id = m.conversation_id"
    " WHERE c.user_id IS DISTINCT FROM m.user_id"
)
# Every batch is a transaction of its own, and each row knows the transaction that wrote it.
BATCHES = "SELECT count(DISTINCT xmin::text) FROM chat_messages"


def upgrade(url: str, revision: str, *x: str) -> None:
    """Upgrade within this process: what is told to the user is not at stake."""
    config = alembic_config(url)
    config.cmd_opts = argparse.Namespace(x=list(x))
    command.upgrade(config, revision)


@ONE_OR_THREE
@pytest.mark.parametrize("messages", [0, 1, 17, MESSAGES])
def test_every_row_gets_its_conversation(old_url: str, client: psycopg.Connection, messages: int, workers: int) -> None:
    fill(client, messages=messages)
    upgrade(old_url, "0033", f"backfill-workers={workers}")
    assert value(client, "SELECT count(*) FROM chat_messages") == messages * USERS
    assert value(client, ASTRAY) == 0
    assert value(client, "SELECT count(*) FROM conversations") == (USERS if messages else 0)
    assert value(client, "SELECT count(*) FROM chat_internal.backfill_progress") == 0


@ONE_OR_THREE
def test_tiny_batches_leave_no_remainder(old_url: str, client: psycopg.Connection, workers: int) -> None:
    fill(client)
    upgrade(old_url, "0033", "batch-time=1ms", f"backfill-workers={workers}")
    assert value(client, ASTRAY) == 0
    found = value(client, BATCHES)
    assert isinstance(found, int)
    assert found > 2 * workers


def test_a_batch_grows_while_it_is_cheap(old_url: str, client: psycopg.Connection) -> None:
    fill(client)
    upgrade(old_url, "0033", "batch-time=1h")
    assert value(client, ASTRAY) == 0
    found = value(client, BATCHES)
    assert isinstance(found, int)
    assert found < 20, "it is to double from 16 positions to the 300 of a page and on to all 60 pages"


@ONE_OR_THREE
def test_a_row_that_a_client_holds_is_waited_for_and_not_skipped(
    old_url: str, client: psycopg.Connection, moved: Snapshot, workers: int
) -> None:
    fill(client)
    x = (*TINY, f"backfill-workers={workers}")
    with locked_message(old_url) as locked, alembic(old_url, "upgrade", MOVED, x=x) as run:
        run.says(f"conversations of chat_messages: waits for a row locked by pid {locked.pid} (halfway, idle in ")
        assert run.goes_on
        locked.release()
        run.succeeds()
    assert value(client, ASTRAY) == 0
    assert snapshot(old_url) == moved


def test_a_row_that_is_held_for_too_long_stops_it_with_the_name_of_the_holder(
    old_url: str, client: psycopg.Connection
) -> None:
    fill(client)
    with locked_message(old_url) as locked:
        [in_the_way] = planned(old_url).would_stop
        assert in_the_way.says.startswith(f"pid {locked.pid} (halfway, idle in transaction, ")
        assert "A run would wait for the rows of one batch on public.chat_messages" in in_the_way.says
        with alembic(old_url, "upgrade", MOVED, x=(*TINY, "lock-retry-for=1ms")) as run:
            said = run.fails()
        assert "FAILED: conversations of chat_messages stopped at " in said
        assert f"a row was locked for 0.001 s, last by pid {locked.pid} (halfway, idle in transaction, " in said
        assert "Finished batches of conversations of chat_messages stay; the next run goes on after them." in said
        assert value(client, "SELECT count(conversation_id) FROM chat_messages")
    with alembic(old_url, "upgrade", MOVED) as again:
        assert "conversations of chat_messages: goes on at " in again.succeeds()
    assert value(client, ASTRAY) == 0


def test_what_lies_before_the_stored_position_is_found_all_the_same(old_url: str, client: psycopg.Connection) -> None:
    """VACUUM FULL between two runs moves rows to where the first run has been."""
    fill(client)
    upgrade(old_url, "0032")
    client.execute(
        "INSERT INTO chat_internal.backfill_progress (name, position) VALUES ('conversations of chat_messages', 9000)"
    )
    upgrade(old_url, "0033")
    assert value(client, ASTRAY) == 0


def test_a_session_that_knew_no_conversations_finds_its_own_by_index_afterwards(
    old_url: str, client: psycopg.Connection
) -> None:
    """What it has planned for an empty table would read all of it with every message."""
    users = 2000
    fill(client, users=users, messages=1)
    client.execute("VACUUM (ANALYZE) conversations")
    upgrade(old_url, "0032")
    insert = "INSERT INTO chat_messages (user_id, role, content) VALUES (md5('1')::uuid, 'user', 'again')"
    for _ in range(10):  # then plans are kept
        client.execute(insert)
    upgrade(old_url, "0033")

    def read_one_by_one() -> int:
        client.execute("SELECT pg_stat_force_next_flush()")
        found = value(client, "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'conversations'")
        assert isinstance(found, int)
        return found

    before = read_one_by_one()
    client.execute(insert)
    assert read_one_by_one() - before < users


def test_the_table_is_vacuumed_on_the_way(
    old_url: str, client: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "_VACUUM_FROM_PAGES", 1)
    fill(client)
    upgrade(old_url, "0033", "batch-time=1ms")
    vacuums = "SELECT vacuum_count FROM pg_stat_user_tables WHERE relname = 'chat_messages'"
    wait_for(lambda: value(client, vacuums), "the server to have counted a vacuum")
    assert value(client, ASTRAY) == 0


@pytest.fixture
def hurried_url(old_url: str, client: psycopg.Connection) -> Iterator[str]:
    """A login that the server is to cut off after half a second of anything."""
    name = f"hurried_{uuid.uuid4().hex}"
    client.execute(f"CREATE ROLE {name} LOGIN SUPERUSER")
    known = client.execute("SELECT name FROM pg_settings WHERE name LIKE '%_timeout'").fetchall()
    for setting in ("statement", "lock", "idle_in_transaction_session", "idle_session", "transaction"):
        if (f"{setting}_timeout",) in known:  # the last since PostgreSQL 17
            client.execute(f"ALTER ROLE {name} SET {setting}_timeout = '500ms'")
    try:
        yield old_url.replace("postgres@", f"{name}@")
    finally:
        client.execute(f"REASSIGN OWNED BY {name} TO postgres")
        client.execute(f"DROP OWNED BY {name}")
        client.execute(f"DROP ROLE {name}")


def test_timeouts_of_the_login_do_not_cut_off_a_backfill(
    hurried_url: str, old_url: str, client: psycopg.Connection
) -> None:
    fill(client)
    with locked_message(old_url) as locked, alembic(hurried_url, "upgrade", "0037", x=("lock-timeout=1h",)) as run:
        long_waits = (
            "SELECT true FROM pg_stat_activity WHERE application_name = 'chat-schema'"
            f" AND {locked.pid} = ANY (pg_blocking_pids(pid)) AND clock_timestamp() - query_start > '1s'"
        )
        wait_for(lambda: value(client, long_waits) or not run.goes_on, "the backfill to wait, and the others with it")
        locked.release()
        run.succeeds()
    assert value(client, ASTRAY) == 0


def test_timeouts_of_the_login_do_not_cut_off_an_index_build(
    hurried_url: str, old_url: str, client: psycopg.Connection
) -> None:
    fill(client, users=1, messages=1)
    upgrade(old_url, "0033")
    with connect(old_url) as writer:
        writer.autocommit = False
        writer.execute("UPDATE chat_messages SET content = ''")
        with alembic(hurried_url, "upgrade", "0037") as run:
            long_waits = (
                "SELECT true FROM pg_stat_activity WHERE application_name = 'chat-schema'"
                " AND clock_timestamp() - query_start > '1s'"
                f" AND {writer.info.backend_pid} = ANY (pg_blocking_pids(pid))"
            )
            wait_for(lambda: value(client, long_waits) or not run.goes_on, "the build to wait")
            writer.commit()
            run.succeeds()
    assert value(client, "SELECT count(*) FROM pg_index WHERE NOT indisvalid") == 0
