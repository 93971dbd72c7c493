"""Whatever ends a run, and wherever: one message if it can still speak, nothing lost, and the next run goes on.

``CHAT_SCHEMA_TEST_KILLS`` is how many times the chain is killed on its way (default 4).
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from alembic import command
from app import embedded
from app.catalog import Snapshot
from tests.conftest import SETTINGS, alembic_config, scratch_folder
from tests.live.application import Application
from tests.live.command_line import Run, alembic, connect, value, wait_for
from tests.live.conftest import MESSAGES, MOVED, OLD_SHAPE, USERS, fill, locked_message, snapshot
from tests.postgres_binaries import binaries

KILLS = int(os.environ.get("CHAT_SCHEMA_TEST_KILLS", "4"))
TINY = ("batch-time=1ms", "lock-timeout=50ms")
ONE_OR_THREE = pytest.mark.parametrize("workers", [1, 3])
MAIN = (
    "SELECT a.pid FROM pg_locks JOIN pg_stat_activity AS a USING (pid)"
    " WHERE locktype = 'advisory' AND application_name = 'chat-schema' AND datname = current_database()"
)
WORKER = (
    "SELECT pid FROM pg_stat_activity WHERE application_name = 'chat-schema' AND datname = current_database()"
    f" AND query LIKE '%%public.chat_messages%%' AND pid NOT IN ({MAIN})"  # the first 1,024 bytes of the query
)
INVALID = "SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid WHERE NOT indisvalid"


@ONE_OR_THREE
def test_a_killed_backfill_goes_on_where_it_was_and_no_client_notices(
    old_url: str, client: psycopg.Connection, moved: Snapshot, workers: int
) -> None:
    fill(client)
    x = (*TINY, f"backfill-workers={workers}")
    with Application(old_url) as application:
        with locked_message(old_url) as locked, alembic(old_url, "upgrade", MOVED, x=x) as killed:
            locked.wait_until_reached()
            killed.kill()
        position = value(client, "SELECT position FROM chat_internal.backfill_progress")
        assert isinstance(position, int)
        assert position > 0
        with alembic(old_url, "upgrade", MOVED, x=x) as again:
            assert "conversations of chat_messages: goes on at " in again.succeeds()
    application.check(client)
    assert snapshot(old_url) == moved


@pytest.mark.sampled(3)
@ONE_OR_THREE
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_backfill_told_to_stop_says_how_far_it_came(
    old_url: str, client: psycopg.Connection, number: signal.Signals, workers: int
) -> None:
    fill(client)
    x = (*TINY, f"backfill-workers={workers}")
    with locked_message(old_url) as locked, alembic(old_url, "upgrade", MOVED, x=x) as upgrade:
        locked.wait_until_reached()
        upgrade.process.send_signal(number)
        said = upgrade.fails()
    percent = int(said.partition("FAILED: conversations of chat_messages stopped at ")[2].partition(" %")[0])
    assert 0 < percent < 100
    assert (
        "What revision 0033 had committed stays: run the command again to go on, or downgrade to 0032 to undo it."
        in said
    )
    assert value(client, "SELECT count(*) FROM chat_messages WHERE conversation_id IS NOT NULL")
    with alembic(old_url, "upgrade", MOVED) as again:
        again.succeeds()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_revision_told_to_stop_is_rolled_back(
    old_url: str, client: psycopg.Connection, number: signal.Signals
) -> None:
    before = snapshot(old_url)
    with connect(old_url) as blocker:
        blocker.autocommit = False
        blocker.execute("SELECT FROM chat_messages")
        with alembic(old_url, "upgrade", MOVED, x=("lock-timeout=50s",)) as upgrade:
            wait_for(lambda: value(client, "SELECT true FROM pg_locks WHERE NOT granted"), "the revision to wait")
            upgrade.process.send_signal(number)
            assert "Revision 0032 was rolled back; what was finished before it stays." in upgrade.fails()
    assert snapshot(old_url) == before


@pytest.mark.sampled(2)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_index_build_told_to_stop_is_made_good_by_the_next_run(
    old_url: str, client: psycopg.Connection, moved: Snapshot, number: signal.Signals
) -> None:
    with waiting_build(old_url, client) as (upgrade, blocker):
        upgrade.process.send_signal(number)
        assert "FAILED: Interrupted." in upgrade.fails()
        assert value(client, INVALID) == "idx_chat_messages_conversation"
        blocker.rollback()
    with alembic(old_url, "upgrade", MOVED) as again:
        again.succeeds()
    assert snapshot(old_url) == moved


def test_the_index_of_a_terminated_build_is_made_good_by_the_next_run(
    old_url: str, client: psycopg.Connection, moved: Snapshot
) -> None:
    with waiting_build(old_url, client) as (upgrade, blocker):
        client.execute(f"SELECT pg_terminate_backend(({MAIN}))")
        assert "terminating connection due to administrator command" in upgrade.fails()
        assert value(client, INVALID) == "idx_chat_messages_conversation"
        blocker.rollback()
    with alembic(old_url, "upgrade", MOVED) as again:
        again.succeeds()
    assert snapshot(old_url) == moved


def test_the_next_run_waits_for_the_build_that_a_killed_one_left_in_the_server(
    old_url: str, client: psycopg.Connection, moved: Snapshot
) -> None:
    with waiting_build(old_url, client) as (upgrade, blocker):
        upgrade.kill()
        with alembic(old_url, "upgrade", MOVED) as again:
            again.says(f"Another deployment is running (pid {value(client, MAIN)}, ")
            assert value(client, INVALID) == "idx_chat_messages_conversation"
            blocker.rollback()
            again.succeeds()
    assert snapshot(old_url) == moved


@contextmanager
def waiting_build(url: str, client: psycopg.Connection) -> Iterator[tuple[Run, psycopg.Connection]]:
    """Start an upgrade whose first index build waits for a client that has written and not committed."""
    fill(client)
    command.upgrade(alembic_config(url), "0033")
    with connect(url) as writer:
        writer.autocommit = False
        writer.execute("UPDATE chat_messages SET content = 'not committed' WHERE user_id = md5('5')::uuid")
        with alembic(url, "upgrade", MOVED) as upgrade:
            waits = f"SELECT EXISTS ({INVALID}) AND EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pid = ({MAIN}))"
            wait_for(lambda: value(client, waits), "the index build to wait for the writer")
            yield upgrade, writer


def test_a_build_that_waits_for_a_client_holds_up_no_other(old_url: str, client: psycopg.Connection) -> None:
    with waiting_build(old_url, client) as (upgrade, writer):
        client.execute("INSERT INTO chat_messages (user_id, role, content) VALUES (md5('1')::uuid, 'user', '')")
        client.execute("UPDATE chat_messages SET content = '' WHERE user_id = md5('1')::uuid")
        client.execute("DELETE FROM chat_messages WHERE user_id = md5('2')::uuid")
        assert upgrade.goes_on
        writer.commit()
        upgrade.succeeds()
    assert value(client, "SELECT count(*) FROM chat_messages WHERE content = 'not committed'") == MESSAGES


@pytest.mark.parametrize("who", ["worker", "main"])
def test_a_terminated_connection_is_one_message(
    old_url: str, client: psycopg.Connection, moved: Snapshot, who: str
) -> None:
    fill(client)
    with locked_message(old_url) as locked, alembic(old_url, "upgrade", MOVED, x=TINY) as upgrade:
        locked.wait_until_reached()
        terminate = f"SELECT pg_terminate_backend(({MAIN if who == 'main' else WORKER}))"
        wait_for(lambda: value(client, terminate) is True, f"the {who} to terminate")  # between tries it has no query
        locked.release()
        said = upgrade.fails()
    assert "terminating connection due to administrator command" in said
    stands = {
        "worker": "Revision 0033 had committed a part, which its downgrade has undone: the database is at 0032.",
        "main": "What revision 0033 had committed stays: run the command again to go on",
    }
    assert stands[who] in said
    assert "run the command again" in said
    with alembic(old_url, "upgrade", MOVED) as again:
        again.succeeds()
    assert snapshot(old_url) == moved


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGKILL])  # SIGQUIT: an immediate shutdown
def test_a_server_that_goes_down_is_one_message(request: pytest.FixtureRequest, number: signal.Signals) -> None:
    with scratch_folder() as folder:
        data = folder / "data"
        bin_dir = binaries(request.config.getoption("--postgres"))
        with embedded.running(data, bin_dir=bin_dir, settings=SETTINGS) as server:
            url = server.url().render_as_string(hide_password=False)
            command.upgrade(alembic_config(url), OLD_SHAPE)
            with connect(url) as client:
                fill(client)
            with locked_message(url) as locked, alembic(url, "upgrade", MOVED, x=TINY) as upgrade:
                locked.wait_until_reached()
                [postmaster, *_] = (data.resolve() / "postmaster.pid").read_text().splitlines()
                os.kill(int(postmaster), number)
                assert "FAILED: Cannot reach PostgreSQL at " in upgrade.fails()
        with embedded.running(data, bin_dir=bin_dir, settings=SETTINGS) as server:
            url = server.url().render_as_string(hide_password=False)
            with alembic(url, "upgrade", MOVED) as again:
                again.succeeds()
            with connect(url) as client:  # the crash may take the last batches with it, and their position too
                assert value(client, "SELECT count(conversation_id) FROM chat_messages") == USERS * MESSAGES


def test_a_chain_killed_again_and_again_ends_like_one_left_alone(
    database_url: str, moved: Snapshot, record_property: Callable[[str, object], None]
) -> None:
    """Upwards with rows in both older shapes; once all are moved, downwards, and so on."""
    seed = random.randrange(2**32)  # noqa: S311  dice
    record_property("seed", seed)
    dice = random.Random(seed)  # noqa: S311
    command.upgrade(alembic_config(database_url), "0021")
    with connect(database_url) as client:
        fill(client)
        client.execute(
            "INSERT INTO chat_sessions (user_id, messages)"
            """ SELECT id, '[{"role": "user", "content": "a"}, {}, 7]' FROM users"""
        )
        upwards, kept, kills = True, True, 0
        while kills < KILLS:
            step = ("upgrade", MOVED) if upwards else ("downgrade", "base")
            with alembic(database_url, *step, x=(*TINY, "allow-data-loss=yes")) as run:
                wait_for(lambda: "Running " in run.output or not run.goes_on, "a revision to begin")
                time.sleep(dice.choice([0, 0.02, 0.1, 0.3]) * dice.random())
                if run.goes_on:
                    run.kill()
                    kills += 1
                    continue
                run.succeeds()
            if kept:
                assert_kept(client)
            upwards, kept = not upwards, False
        with alembic(database_url, "upgrade", MOVED) as last:
            last.succeeds()
        if kept:
            assert_kept(client)
    assert snapshot(database_url) == moved


def test_a_run_that_is_turned_round_after_each_kill_keeps_every_row(
    database_url: str, moved: Snapshot, record_property: Callable[[str, object], None]
) -> None:
    """What an unfinished upgrade has left is undone by a downgrade, and the other way round."""
    seed = random.randrange(2**32)  # noqa: S311  dice
    record_property("seed", seed)
    dice = random.Random(seed)  # noqa: S311
    command.upgrade(alembic_config(database_url), "0021")
    below = snapshot(database_url)
    with connect(database_url) as client:
        fill(client, messages=MESSAGES * 4)
        client.execute(
            "INSERT INTO chat_sessions (user_id, messages)"
            """ SELECT id, '[{"role": "user", "content": "a"}, {}, 7]' FROM users"""
        )
        arrays = "SELECT array_agg(messages::text ORDER BY user_id) FROM chat_sessions"
        old = value(client, arrays)
        upwards = True
        for _ in range(KILLS):
            step = ("upgrade", MOVED) if upwards else ("downgrade", "0021")
            with alembic(database_url, *step, x=TINY) as run:
                wait_for(lambda: "Running " in run.output or not run.goes_on, "a revision to begin")
                time.sleep(dice.choice([0.02, 0.3, 1]) * dice.random())
                if run.goes_on:
                    run.kill()
                else:
                    run.succeeds()
            upwards = not upwards
        with alembic(database_url, "downgrade", "0021") as back:
            back.succeeds()
        assert snapshot(database_url) == below
        assert value(client, "SELECT count(*) FROM chat_messages") == USERS * MESSAGES * 4
        assert value(client, arrays) == old
        with alembic(database_url, "upgrade", MOVED) as last:
            last.succeeds()
        assert value(client, "SELECT count(conversation_id) FROM chat_messages") == USERS * MESSAGES * 4
        assert value(client, "SELECT count(*) FROM messages") == USERS * 3
    assert snapshot(database_url) == moved


def assert_kept(client: psycopg.Connection) -> None:
    """Once moved, every message of both older shapes is a row that has its conversation."""
    assert value(client, "SELECT count(conversation_id) FROM chat_messages") == USERS * MESSAGES
    assert value(client, "SELECT count(*) FROM messages") == USERS * 3
