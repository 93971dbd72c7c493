"""A database as the older application left it, and that application's clients, which never stop writing."""

from __future__ import annotations

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
from tests.live.command_line import connect
from tests.postgres_binaries import NEWEST

OLD_SHAPE = "0013"  # chat_messages without conversations; 0014 and 0015 bring them


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


@pytest.fixture
def head(migrated_url: str) -> Snapshot:
    """The catalog that a clean upgrade makes."""
    return snapshot(migrated_url)


def snapshot(url: str) -> Snapshot:
    """Read the catalog of the database at ``url``."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        return take_snapshot(connection)


def fill(client: psycopg.Connection, users: int, messages: int, width: int = 400) -> None:
    """Write ``messages`` messages of ``width`` bytes for each of ``users`` users, in turn, about 16 to a page."""
    client.execute("INSERT INTO users (id) SELECT md5(n::text)::uuid FROM generate_series(1, %s) AS n", [users])
    client.execute(
        "INSERT INTO chat_messages (user_id, role, content)"
        " SELECT md5(u::text)::uuid, 'user', repeat('x', %s)"
        " FROM generate_series(1, %s), generate_series(1, %s) AS u",
        [width, messages, users],
    )
