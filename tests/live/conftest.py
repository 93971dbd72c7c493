"""A database as the older application left it, and that application's clients, which never stop writing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from pytest_postgresql import factories
from pytest_postgresql.executors import NoopExecutor

from alembic import command
from app import embedded
from app.catalog import Snapshot, take_snapshot
from tests.conftest import _database, _text, alembic_config
from tests.live.command_line import connect, value, wait_for
from tests.postgres_binaries import NEWEST

OLD_SHAPE = "0031"  # chat_messages without conversations; 0032 and 0033 bring them
MOVED = "0042"  # every chat has been moved and counted; what comes after it are columns, tables and indexes of features
USERS, MESSAGES = 5, 200  # about 60 pages, which is more than two first batches of a backfill and a remainder


def _upgrade_to_old_shape(*, host: str, port: int, dbname: str, **_: object) -> None:
    command.upgrade(alembic_config(_text(embedded.Server(Path(host), port, NEWEST), dbname)), OLD_SHAPE)


old_template = factories.postgresql_noproc(depends_on="address", dbname="old_shape", load=[_upgrade_to_old_shape])


@pytest.fixture
def old_url(server: embedded.Server, old_template: NoopExecutor) -> Iterator[str]:
    """The address of a database of this test alone whose chat_messages know no conversations, and hold none yet."""
    with _database(server, template=old_template.template_dbname) as name:
        yield _text(server, name)


@pytest.fixture
def client(old_url: str) -> Iterator[psycopg.Connection]:
    """A client of the database at ``old_url``, in autocommit."""
    with connect(old_url) as connection:
        yield connection


def _upgrade_to_moved(*, host: str, port: int, dbname: str, **_: object) -> None:
    command.upgrade(alembic_config(_text(embedded.Server(Path(host), port, NEWEST), dbname)), MOVED)


moved_template = factories.postgresql_noproc(depends_on="address", dbname="moved", load=[_upgrade_to_moved])


@pytest.fixture
def head(migrated_url: str) -> Snapshot:
    """The catalog that a clean upgrade makes."""
    return snapshot(migrated_url)


@pytest.fixture
def moved(server: embedded.Server, moved_template: NoopExecutor) -> Iterator[Snapshot]:
    """The catalog that a clean upgrade to ``MOVED`` makes."""
    with _database(server, template=moved_template.template_dbname) as name:
        yield snapshot(_text(server, name))


def snapshot(url: str) -> Snapshot:
    """Read the catalog of the database at ``url``."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        return take_snapshot(connection)


def fill(client: psycopg.Connection, users: int = USERS, messages: int = MESSAGES) -> None:
    """Write ``messages`` messages for each of ``users`` users, in turn, about 16 to a page."""
    client.execute("INSERT INTO users (id) SELECT md5(n::text)::uuid FROM generate_series(1, %s) AS n", [users])
    client.execute(
        "INSERT INTO chat_messages (user_id, role, content)"
        " SELECT md5(u::text)::uuid, 'user', repeat('x', 400)"
        " FROM generate_series(1, %s) AS n, generate_series(1, %s) AS u ORDER BY n, u",
        [messages, users],
    )


class Locked:
    """A message of the last user three quarters down a filled table, locked by a client."""

    def __init__(self, client: psycopg.Connection) -> None:
        self.pid = client.info.backend_pid
        self._client = client

    def wait_until_reached(self) -> None:
        """Wait until a backfill has committed some batches and has come to the message."""
        with connect(self._client.info.dsn) as watcher:
            reached = (
                "SELECT true FROM chat_internal.backfill_progress, pg_stat_activity AS a"
                " WHERE position > 0 AND a.application_name = 'chat-schema'"
                f" AND {self.pid} = ANY (pg_blocking_pids(a.pid))"
            )
            wait_for(lambda: value(watcher, reached), "the backfill to come to the locked message")

    def release(self) -> None:
        """End the transaction that locks it."""
        self._client.rollback()


@contextlib.contextmanager
def locked_message(url: str) -> Iterator[Locked]:
    """Lock one message, so that a backfill comes to it and no further, until a test has done what it does halfway."""
    command.upgrade(alembic_config(url), "0032")  # takes the table for an instant, which the lock would not let it
    with connect(url, application_name="halfway") as client:
        client.autocommit = False
        client.execute(
            "SELECT FROM chat_messages WHERE id = (SELECT id FROM chat_messages WHERE user_id = md5(%s)::uuid"
            " ORDER BY ctid OFFSET %s LIMIT 1) FOR UPDATE",
            [str(USERS), MESSAGES * 3 // 4],
        )
        yield Locked(client)
        with contextlib.suppress(psycopg.OperationalError):  # the server has gone down under the test
            client.rollback()
