"""Whatever ends a run, and wherever: one message if it can still speak, nothing lost, and the next run goes on.

``CHAT_SCHEMA_TEST_KILLS`` is how many times the chain is killed on its way to head (default 10).
"""

from __future__ import annotations

import os
import random
import signal
import time

import psycopg
import pytest

from alembic import command
from app.catalog import Snapshot
from tests.conftest import alembic_config
from tests.live.application import Application
from tests.live.command_line import Run, alembic, connect, value, wait_for
from tests.live.conftest import fill, halfway, snapshot

KILLS = int(os.environ.get("CHAT_SCHEMA_TEST_KILLS", "10"))
TINY = ("batch-time=1ms", "lock-timeout=50ms")
ONE_OR_THREE = pytest.mark.parametrize("workers", [1, 3])
MAIN = (
    "SELECT a.pid FROM pg_locks JOIN pg_stat_activity AS a USING (pid)"
    " WHERE locktype = 'advisory' AND application_name = 'chat-schema' AND datname = current_database()"
)
WORKER = (
    "SELECT pid FROM pg_stat_activity WHERE application_name = 'chat-schema' AND datname = current_database()"
    f" AND query LIKE '%%UPDATE public.chat_messages%%' AND pid NOT IN ({MAIN})"
)
INVALID = "SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid WHERE NOT indisvalid"


@ONE_OR_THREE
def test_a_killed_backfill_goes_on_where_it_was_and_no_client_notices(
    old_url: str, client: psycopg.Connection, head: Snapshot, workers: int
) -> None:
    fill(client, users=5, messages=200)
    x = (*TINY, f"backfill-workers={workers}")
    with Application(old_url) as application:
        with halfway(old_url) as locked, alembic(old_url, "upgrade", "head", x=x) as killed:
            locked.wait_until_reached()
            killed.kill()
        position = value(client, "SELECT position FROM chat_internal.backfill_progress")
        assert isinstance(position, int)
        assert position > 0
        with alembic(old_url, "upgrade", "head", x=x) as again:
            assert "conversations of chat_messages: goes on at " in again.succeeds()
    application.check(client)
    assert snapshot(old_url) == head


@ONE_OR_THREE
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_backfill_told_to_stop_says_how_far_it_came(
    old_url: str, client: psycopg.Connection, number: signal.Signals, workers: int
) -> None:
    fill(client, users=5, messages=200)
    x = (*TINY, f"backfill-workers={workers}")
    with halfway(old_url) as locked, alembic(old_url, "upgrade", "head", x=x) as upgrade:
        locked.wait_until_reached()
        upgrade.process.send_signal(number)
        said = upgrade.fails()
    percent = int(said.partition("FAILED: conversations of chat_messages stopped at ")[2].partition(" %")[0])
    assert 0 < percent < 100
    assert "What is done stays done: run it again to go on." in said
    assert value(client, "SELECT count(*) FROM chat_messages WHERE conversation_id IS NOT NULL")
    with alembic(old_url, "upgrade", "head") as again:
        again.succeeds()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_revision_told_to_stop_is_rolled_back(
    old_url: str, client: psycopg.Connection, number: signal.Signals
) -> None:
    before = snapshot(old_url)
    with connect(old_url) as blocker:
        blocker.autocommit = False
        blocker.execute("SELECT FROM chat_messages")
        with alembic(old_url, "upgrade", "head", x=("lock-timeout=50s",)) as upgrade:
            wait_for(lambda: value(client, "SELECT true FROM pg_locks WHERE NOT granted"), "the revision to wait")
            upgrade.process.send_signal(number)
            assert "FAILED: Interrupted. The revision that was running was rolled back" in upgrade.fails()
    assert snapshot(old_url) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_index_build_told_to_stop_is_made_good_by_the_next_run(
    old_url: str, client: psycopg.Connection, head: Snapshot, number: signal.Signals
) -> None:
    with waiting_build(old_url, client) as (upgrade, blocker):
        upgrade.process.send_signal(number)
        assert "FAILED: Interrupted." in upgrade.fails()
        assert value(client, INVALID) == "idx_chat_messages_conversation"
        blocker.rollback()
    with alembic(old_url, "upgrade", "head") as again:
        again.succeeds()
    assert snapshot(old_url) == head


def test_the_index_of_a_terminated_build_is_made_good_by_the_next_run(
    old_url: str, client: psycopg.Connection, head: Snapshot
) -> None:
    with waiting_build(old_url, client) as (upgrade, blocker):
        client.execute(f"SELECT pg_terminate_backend(({MAIN}))")
        assert "terminating connection due to administrator command" in upgrade.fails()
        assert value(client, INVALID) == "idx_chat_messages_conversation"
        blocker.rollback()
    with alembic(old_url, "upgrade", "head") as again:
        again.succeeds()
    assert snapshot(old_url) == head


def test_the_next_run_waits_for_the_build_that_a_killed_one_left_in_the_server(
    old_url: str, client: psycopg.Connection, head: Snapshot
) -> None:
    with waiting_build(old_url, client) as (upgrade, blocker):
        upgrade.kill()
        with alembic(old_url, "upgrade", "head") as again:
            again.says(f"Another deployment is running (pid {value(client, MAIN)}, ")
            assert value(client, INVALID) == "idx_chat_messages_conversation"
            blocker.rollback()
            again.succeeds()
    assert snapshot(old_url) == head
