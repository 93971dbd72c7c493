"""A real streaming replica that falls behind makes the backfill wait; nothing else that reads the log does."""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from alembic import command
from app import embedded, unprivileged
from tests.conftest import SETTINGS, alembic_config, scratch_folder
from tests.live.command_line import Run, alembic, connect, value, wait_for
from tests.live.conftest import MESSAGES, MOVED, OLD_SHAPE, USERS, fill, locked_message
from tests.postgres_binaries import binaries

TIGHT = ("batch-time=1ms", "lock-timeout=50ms", "max-replica-lag=1ms")
WAITS = "conversations of chat_messages: waits for replica standby, "


@pytest.fixture
def bin_dir(request: pytest.FixtureRequest) -> Path:
    return binaries(request.config.getoption("--postgres"))


@pytest.fixture
def folder() -> Iterator[Path]:
    with scratch_folder() as folder:
        yield folder


@pytest.fixture
def primary(folder: Path, bin_dir: Path) -> Iterator[str]:
    """The address of a database in the older shape on a server of this test alone."""
    with embedded.running(folder / "primary", bin_dir=bin_dir, settings=SETTINGS):
        pass  # stopped, so that its files can be copied as they are
    shutil.copytree((folder / "primary").resolve(), folder / "copy")
    with embedded.running(folder / "primary", bin_dir=bin_dir, settings=SETTINGS | {"wal_level": "logical"}) as server:
        url = server.url().render_as_string(hide_password=False)
        command.upgrade(alembic_config(url), OLD_SHAPE)
        with connect(url) as client:
            fill(client)
        yield url


@pytest.fixture
def client(primary: str) -> Iterator[psycopg.Connection]:
    with connect(primary) as client:
        yield client


@pytest.fixture
def replica(primary: str, client: psycopg.Connection, folder: Path, bin_dir: Path) -> Iterator[psycopg.Connection]:
    """A client of a hot standby that follows ``primary`` and shows all that is there."""
    data = (folder / "standby").resolve()
    data.parent.mkdir(parents=True, exist_ok=True)
    (folder / "copy").rename(data)
    (data / "standby.signal").touch()
    account = unprivileged.account_for(data)
    for path in (data, *data.rglob("*")):
        unprivileged.hand_over(path, account)
    follow = f"host={client.info.host} port={client.info.port} user=postgres application_name=standby"
    settings = SETTINGS | {"wal_level": "logical", "primary_conninfo": follow}
    with (
        embedded.running(folder / "standby", bin_dir=bin_dir, settings=settings) as standby,
        connect(standby.url().render_as_string(hide_password=False)) as connection,
    ):
        caught_up = "SELECT replay_lsn = pg_current_wal_flush_lsn() FROM pg_stat_replication"
        wait_for(lambda: value(client, caught_up), "the replica to catch up")
        yield connection


def test_a_replica_that_is_behind_is_waited_for(
    primary: str, client: psycopg.Connection, replica: psycopg.Connection
) -> None:
    with late(primary, replica) as upgrade:
        upgrade.says(WAITS)
        assert "(-x max-replica-lag=0.001s)" in upgrade.output
        moved = value(client, "SELECT count(conversation_id) FROM chat_messages")
        client.execute("INSERT INTO chat_messages (user_id, role, content) VALUES (md5('1')::uuid, 'user', 'now')")
        assert value(client, "SELECT count(conversation_id) - 1 FROM chat_messages") == moved
        assert upgrade.goes_on
        replica.execute("SELECT pg_wal_replay_resume()")
        assert upgrade.succeeds().count(WAITS) == 1
    missing = "SELECT count(*) FROM chat_messages WHERE conversation_id IS NOT NULL"
    wait_for(lambda: value(replica, missing) == USERS * MESSAGES + 1, "the replica to show what was done")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_waits_for_a_replica_can_be_told_to_stop(
    primary: str, client: psycopg.Connection, replica: psycopg.Connection, number: signal.Signals
) -> None:
    with late(primary, replica) as upgrade:
        upgrade.says(WAITS)
        upgrade.process.send_signal(number)
        assert "FAILED: conversations of chat_messages stopped at " in upgrade.fails()
    with alembic(primary, "upgrade", MOVED) as again:  # ten seconds, not a millisecond
        assert WAITS not in again.succeeds()


@contextlib.contextmanager
def late(primary: str, replica: psycopg.Connection) -> Iterator[Run]:
    """Start an upgrade that goes on while the replica stands still."""
    with locked_message(primary) as locked:  # so that it is not done before anybody looks at the replica
        replica.execute("SELECT pg_wal_replay_pause()")
        with alembic(primary, "upgrade", MOVED, x=TIGHT) as upgrade:
            upgrade.says(WAITS)
            locked.release()
            yield upgrade


def test_a_subscriber_is_not_waited_for(primary: str, client: psycopg.Connection) -> None:
    """One that reads a logical slot, as a realtime service does, serves no queries."""
    client.execute("CREATE PUBLICATION ours FOR TABLE users (id)")
    client.execute("SELECT pg_create_logical_replication_slot('ours', 'pgoutput')")
    client.execute("CREATE DATABASE theirs")
    with connect(primary.replace("/chat", "/theirs")) as subscriber:
        subscriber.execute("CREATE TABLE users (id uuid PRIMARY KEY)")
        subscriber.execute(
            f"CREATE SUBSCRIPTION ours CONNECTION 'host={client.info.host} user=postgres dbname=chat' PUBLICATION ours"
            " WITH (slot_name = ours, create_slot = false, copy_data = false)"
        )
        subscriber.autocommit = False
        subscriber.execute("LOCK TABLE users")
        client.execute("INSERT INTO users VALUES (gen_random_uuid())")
        behind = "SELECT state = 'streaming' AND replay_lsn < pg_current_wal_flush_lsn() FROM pg_stat_replication"
        wait_for(lambda: value(client, behind), "the subscriber to be behind")
        with locked_message(primary) as locked, alembic(primary, "upgrade", MOVED, x=TIGHT) as upgrade:
            wait_for(
                lambda: upgrade.output.count("waits for a row locked by") > 5, "the backfill to look more than once"
            )
            assert value(client, behind)
            locked.release()
            assert "waits for replica" not in upgrade.succeeds()


@pytest.mark.usefixtures("replica")
def test_a_login_that_may_not_see_the_replicas_is_told(primary: str, client: psycopg.Connection) -> None:
    client.execute("CREATE ROLE deployer LOGIN")
    client.execute("CREATE DATABASE theirs OWNER deployer")
    with alembic(primary.replace("postgres@/chat", "deployer@/theirs"), "upgrade", MOVED) as upgrade:
        said = upgrade.succeeds()
    assert "conversations of chat_messages: cannot see how far the replicas are (GRANT pg_monitor), so waits" in said
    client.execute("GRANT pg_monitor TO deployer")
    with alembic(primary.replace("postgres@/chat", "deployer@/theirs"), "downgrade", "base") as downgrade:
        downgrade.succeeds()
    with alembic(primary.replace("postgres@/chat", "deployer@/theirs"), "upgrade", MOVED) as upgrade:
        assert "cannot see how far" not in upgrade.succeeds()
