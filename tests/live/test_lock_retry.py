"""A revision that needs a strong lock on a table in use: it asks for an instant, steps back, says who is in the way."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest

from alembic import command
from app.catalog import Snapshot
from tests.conftest import alembic_config
from tests.live.command_line import alembic, connect, value, wait_for
from tests.live.conftest import MOVED, OLD_SHAPE, fill, snapshot
from tests.migrations.chain import planned

READS = "SELECT count(*) FROM chat_messages"
WRITES = "UPDATE chat_messages SET content = content"
WAITING_FOR_TABLE = (
    "SELECT pid FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted AND application_name = 'chat-schema'"
    " AND mode = 'AccessExclusiveLock' AND relation = 'chat_messages'::regclass"
)


@contextmanager
def transaction(url: str, query: str) -> Iterator[psycopg.Connection]:
    """Keep a transaction open that has run ``query``, as a report or a forgotten console does."""
    with connect(url, application_name="nightly report") as connection:
        connection.autocommit = False
        connection.execute(query.encode())
        yield connection
        connection.rollback()


@pytest.mark.parametrize("query", [READS, WRITES])
def test_it_names_who_is_in_the_way_and_goes_through_when_they_are_done(
    old_url: str, moved: Snapshot, query: str
) -> None:
    with (
        transaction(old_url, query) as blocker,
        alembic(old_url, "upgrade", MOVED, x=("lock-timeout=150ms",)) as upgrade,
    ):
        upgrade.says(f"pid {blocker.info.backend_pid} (nightly report, idle in transaction, ")
        upgrade.says(f" s): {query}")
        blocker.rollback()
        upgrade.succeeds()
    assert snapshot(old_url) == moved


def test_a_client_behind_the_waiting_revision_does_not_wait_for_the_blocker(
    old_url: str, client: psycopg.Connection
) -> None:
    with (
        transaction(old_url, READS) as blocker,
        connect(old_url) as reader,
        ThreadPoolExecutor() as pool,
        alembic(old_url, "upgrade", MOVED, x=("lock-timeout=1s",)) as upgrade,
    ):
        wait_for(lambda: value(client, WAITING_FOR_TABLE), "the revision to ask for its lock")
        reading = pool.submit(reader.execute, READS)
        behind_us = f"SELECT ({WAITING_FOR_TABLE}) = ANY (pg_blocking_pids({reader.info.backend_pid}))"
        wait_for(lambda: value(client, behind_us), "the reader to stand in line behind the revision")
        reading.result()  # its own timeout is shorter than the blocker's patience, which has no end

        assert blocker.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
        assert upgrade.goes_on
        blocker.rollback()
        upgrade.succeeds()


@pytest.mark.parametrize("retry_for", ["1ms", "800ms"])
def test_it_gives_up_with_nothing_half_applied(old_url: str, moved: Snapshot, retry_for: str) -> None:
    before = snapshot(old_url)
    with transaction(old_url, READS) as blocker:
        [planned_for] = planned(old_url).would_stop
        assert planned_for.says.startswith(f"pid {blocker.info.backend_pid} (nightly report, idle in transaction, ")
        with alembic(old_url, "upgrade", MOVED, x=(f"lock-retry-for={retry_for}",)) as upgrade:
            said = upgrade.fails()
        assert f"31 -> 0032: no lock within {'0.001' if retry_for == '1ms' else '0.8'} s" in said
        assert f"last blocked by pid {blocker.info.backend_pid} (nightly report" in said
        assert "Revision 0032 was rolled back; what was finished before it stays." in said
        assert "run the command again" in said
        assert snapshot(old_url) == before

    assert planned(old_url).would_stop == []
    with alembic(old_url, "upgrade", MOVED) as again:
        again.succeeds()
    assert snapshot(old_url) == moved


def test_it_is_the_one_to_step_back_from_a_deadlock(old_url: str, client: psycopg.Connection) -> None:
    fill(client, users=1, messages=1)
    client.execute("INSERT INTO conversations (user_id) SELECT id FROM users")
    waits_for_conversations = (
        "SELECT FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted AND application_name = 'chat-schema'"
        " AND relation = 'conversations'::regclass"
    )
    with (
        transaction(old_url, "UPDATE conversations SET title = 'mine'") as blocker,
        alembic(old_url, "upgrade", MOVED, x=("lock-timeout=50s",)) as upgrade,
    ):
        blocker.execute("SET deadlock_timeout = '1h'")  # the client looks for no deadlock, so the revision finds it
        wait_for(
            lambda: client.execute(waits_for_conversations.encode()).rowcount,
            "the revision to hold chat_messages and to ask for conversations",
        )
        assert value(blocker, READS) == 1
        blocker.commit()
        upgrade.succeeds()
    assert value(client, "SELECT title FROM conversations") == "mine"


def test_a_login_that_may_not_see_other_sessions_is_told_as_much_as_it_may_see(
    old_url: str, client: psycopg.Connection, owner: str
) -> None:
    """The migrating login is often a plain owner, and the application another login."""
    with (
        transaction(old_url, READS) as blocker,
        alembic(old_url.replace("postgres@", f"{owner}@"), "upgrade", MOVED) as upgrade,
    ):
        upgrade.says(f"pid {blocker.info.backend_pid} (")
        blocker.rollback()
        upgrade.succeeds()


@pytest.fixture
def owner(old_url: str, client: psycopg.Connection) -> Iterator[str]:
    """A login that owns what the package made and has no other right."""
    name = f"owner_{uuid.uuid4().hex}"
    client.execute(f"CREATE ROLE {name} LOGIN")
    client.execute(f"GRANT CREATE ON DATABASE {client.info.dbname} TO {name}")
    client.execute(f"GRANT CREATE ON SCHEMA public TO {name}")
    client.execute(f"ALTER SCHEMA chat_internal OWNER TO {name}")
    ours = "('public'::regnamespace, 'chat_internal'::regnamespace)"
    things = (
        "SELECT CASE relkind WHEN 'v' THEN 'VIEW ' ELSE 'TABLE ' END || oid::regclass FROM pg_class"
        f" WHERE relkind IN ('r', 'v') AND relnamespace IN {ours}"
        f" UNION ALL SELECT 'FUNCTION ' || oid::regprocedure FROM pg_proc WHERE pronamespace IN {ours}"
    )
    for (thing,) in client.execute(things.encode()).fetchall():
        client.execute(f"ALTER {thing} OWNER TO {name}")
    try:
        yield name
    finally:
        client.execute(f"DROP OWNED BY {name}")
        client.execute(f"DROP ROLE {name}")


def test_a_downgrade_retries_too(old_url: str, client: psycopg.Connection) -> None:
    command.upgrade(alembic_config(old_url), "0032")
    with (
        transaction(old_url, READS) as blocker,
        alembic(old_url, "downgrade", OLD_SHAPE) as downgrade,
    ):
        downgrade.says(f"pid {blocker.info.backend_pid} (")
        blocker.rollback()
        downgrade.succeeds()


def test_no_client_stands_in_line_behind_the_default_lock_timeout_of_the_server(
    old_url: str, client: psycopg.Connection
) -> None:
    """The revision's timeout is its session's: clients keep what they had."""
    with alembic(old_url, "upgrade", MOVED) as upgrade:
        upgrade.succeeds()
    assert value(client, "SHOW lock_timeout") == "0"
