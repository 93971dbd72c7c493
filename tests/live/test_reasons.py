"""A backfill waits for what else would suffer: held back log, room, and what a query tells."""

from __future__ import annotations

import signal

import psycopg
import pytest

from alembic import command
from tests.database.conftest import refusal
from tests.live.command_line import alembic, value
from tests.live.conftest import MESSAGES, OLD_SHAPE, USERS, fill

TINY = ("batch-time=1ms", "lock-timeout=50ms")
MOVED = "SELECT count(conversation_id) FROM chat_messages"
REVISION = "SELECT version_num FROM chat_internal.alembic_version"
BUSY = "wait-while=SELECT 'p99 is ' || p99 FROM ops.latency WHERE p99 > 200"


def test_a_query_of_the_users_holds_the_backfill_and_lets_it_go_on(old_url: str, client: psycopg.Connection) -> None:
    fill(client)
    client.execute("CREATE SCHEMA ops CREATE TABLE latency (p99 int)")
    client.execute("INSERT INTO ops.latency VALUES (300)")
    told = ": waits for the query of -x wait-while"
    with alembic(old_url, "upgrade", "head", x=(*TINY, BUSY)) as upgrade:
        upgrade.says(f"{told}: p99 is 300\n")
        assert value(client, MOVED) == 0
        client.execute("ALTER TABLE ops.latency RENAME TO gone")
        upgrade.says(f'{told}, which fails: relation "ops.latency" does not exist\n')
        assert value(client, MOVED) == 0
        client.execute("ALTER TABLE ops.gone RENAME TO latency")
        client.execute("UPDATE ops.latency SET p99 = 20")
        said = upgrade.succeeds()
    assert said.count("which fails") == 1
    assert value(client, MOVED) == USERS * MESSAGES


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("SELEC true", "syntax error"),
        ("DELETE FROM public.users RETURNING true", "cannot execute DELETE in a read-only transaction"),
        ("SELECT false; DELETE FROM public.users", "cannot insert multiple commands"),
        ("SELECT pg_catalog.pg_sleep(10)", "statement timeout"),
        ("SELECT 1 FROM users", 'relation "users" does not exist'),
    ],
)
def test_a_query_that_fails_or_writes_is_refused_before_anything_has_run(
    old_url: str, client: psycopg.Connection, query: str, why: str
) -> None:
    fill(client, messages=1)
    said = refusal(old_url, command.upgrade, "head", x=(f"wait-while={query}",))
    assert "The query of -x wait-while failed, so nothing was run: " in said
    assert why in said
    assert value(client, "SELECT count(*) FROM users") == USERS
    assert value(client, REVISION) == OLD_SHAPE


def test_a_replication_slot_that_holds_the_log_back_is_waited_for(old_url: str, client: psycopg.Connection) -> None:
    fill(client)
    client.execute("SELECT pg_create_physical_replication_slot('behind', true)")
    try:
        client.execute("CREATE TABLE large AS SELECT repeat('x', 1000) FROM generate_series(1, 3000)")
        with alembic(old_url, "upgrade", "head", x=(*TINY, "max-wal-held=1MB")) as upgrade:
            upgrade.says("waits for replication slot behind, which holds ")
            assert "of the log back (-x max-wal-held=1MB)" in upgrade.output
            assert value(client, MOVED) == 0
            client.execute("SELECT pg_drop_replication_slot('behind')")
            upgrade.succeeds()
    finally:
        client.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")


def test_a_database_that_is_too_large_is_waited_for_and_the_run_can_be_stopped(
    old_url: str, client: psycopg.Connection
) -> None:
    fill(client)
    with alembic(old_url, "upgrade", "head", x=(*TINY, "max-database-size=1MB")) as upgrade:
        upgrade.says("waits for the database to be smaller than ")
        assert "(-x max-database-size=1MB)" in upgrade.output
        upgrade.process.send_signal(signal.SIGINT)
        upgrade.fails()
    assert value(client, MOVED) == 0


@pytest.mark.parametrize("text", ["1", "10 GB", "-1GB", "1KB", "", "nan", "infGB"])
def test_a_size_that_is_none_is_refused(old_url: str, text: str) -> None:
    said = refusal(old_url, command.upgrade, "head", x=(f"max-wal-held={text}",))
    assert "-x max-wal-held takes none, or a size such as 500MB, 10GB or 2TB" in said
