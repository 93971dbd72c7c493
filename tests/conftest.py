"""Databases for the tests, on the embedded server; ``--postgres 15`` (16, 17) takes another major version.

Each xdist worker has a server of its own. Databases in it are cheap and separate; roles (anon, authenticated,
service_role) are the server's and shared, so a test that changes one puts it back.

* ``shared_db``: a connection to a migrated database that is rolled back after the test. The fastest.
* ``db``: a connection to a migrated database of this test alone, for tests that commit or run DDL.
* ``migrated_url``, ``database_url``: the address of a migrated, and of an empty, database of this test alone.
* ``server``: the server itself; ``server.url("postgres")`` is its superuser.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from alembic.config import Config
from pytest_postgresql import factories
from pytest_postgresql.executors import NoopExecutor

from alembic import command
from app import embedded
from tests.postgres_binaries import NEWEST, ROOT, SUPPORTED, binaries

# A shell that starts the tests in the background lets them ignore Ctrl-C, and so would every command they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SETTINGS = {  # a test's server may lose everything in a crash
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_wal_size": "256MB",
    "max_connections": "100",
}


def libpq(url: str | sa.URL) -> str:
    """Return a database's address as libpq takes it."""
    return sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--postgres",
        type=int,
        choices=SUPPORTED,
        default=NEWEST,
        help="major version of PostgreSQL to test on",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of a test that is marked ``sampled(n)`` try every n-th case alone, unless CHAT_SCHEMA_TEST_CASES=all."""
    if os.environ.get("CHAT_SCHEMA_TEST_CASES") == "all" or any("[" in argument for argument in config.args):
        return
    seen: Counter[str] = Counter()
    left_out = []
    for item in items:
        if (mark := item.get_closest_marker("sampled")) is not None:
            name = item.nodeid.partition("[")[0]
            if seen[name] % mark.args[0]:
                left_out.append(item)
            seen[name] += 1
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        chosen = set(map(id, left_out))
        items[:] = [item for item in items if id(item) not in chosen]


def unrehearsed(options: Iterable[str]) -> list[str]:
    """Return ``options`` of -x, without a rehearsal where none is asked for: it would take most of a test's time."""
    return [*options] if any(each.startswith("rehearse=") for each in options) else [*options, "rehearse=no"]


def alembic_config(url: str) -> Config:
    """Return our Alembic configuration for the database at ``url``; what it prints is in ``.stdout``."""
    config = Config(ROOT / "alembic.ini", stdout=io.StringIO())
    config.attributes["url"] = url
    return config


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Iterator[embedded.Server]:
    """This worker's server, with superuser ``postgres``."""
    # As Ctrl-C: pytest then tears down, while it takes the SystemExit of embedded.running for one test's failure.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with scratch_folder() as folder:
        bin_dir = binaries(request.config.getoption("--postgres"))
        with embedded.running(folder / "data", bin_dir=bin_dir, settings=SETTINGS) as running:
            yield running


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield a folder that root's server can enter too, in memory where there is plenty: half the time."""
    memory = Path("/dev/shm")  # noqa: S108  mkdtemp makes the folder ours alone
    roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2**31
    folder = Path(tempfile.mkdtemp(prefix="chat-schema-tests-", dir=memory if roomy else None))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@dataclass(frozen=True)
class Address:
    """A server in the form that the factories of pytest-postgresql depend on."""

    host: str
    port: int
    user: str = "postgres"
    password: str | None = None
    options: str = ""
    maintenance_dbname: str = "postgres"
    template_dbname: str | None = None


@pytest.fixture(scope="session")
def address(server: embedded.Server) -> Address:
    return Address(str(server.socket_dir), server.port)


def _upgrade_to_head(*, host: str, port: int, dbname: str, **_: object) -> None:
    command.upgrade(alembic_config(_text(embedded.Server(Path(host), port, NEWEST), dbname)), "head")


migrated_template = factories.postgresql_noproc(depends_on="address", dbname="migrated", load=[_upgrade_to_head])
db = factories.postgresql("migrated_template")


@pytest.fixture
def database_url(server: embedded.Server) -> Iterator[str]:
    with _database(server, template="template1") as name:
        yield _text(server, name)


@pytest.fixture
def migrated_url(server: embedded.Server, migrated_template: NoopExecutor) -> Iterator[str]:
    with _database(server, template=migrated_template.template_dbname) as name:
        yield _text(server, name)


@pytest.fixture(scope="module")
def _shared_database(server: embedded.Server, migrated_template: NoopExecutor) -> Iterator[str]:
    with _database(server, template=migrated_template.template_dbname) as name:
        yield name


@pytest.fixture
def shared_db(server: embedded.Server, _shared_database: str) -> Iterator[psycopg.Connection]:
    with _connect(server, _shared_database) as connection:
        yield connection
        connection.rollback()


@contextlib.contextmanager
def _database(server: embedded.Server, *, template: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex}"
    with _connect(server, "postgres") as connection:
        connection.autocommit = True
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        try:
            yield name
        finally:
            _end_sessions(connection, name)
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _end_sessions(connection: psycopg.Connection, database: str) -> None:
    """End what is still connected and give it its millisecond or two: DROP DATABASE itself waits 100 ms at a time."""
    for _ in range(50):
        ended = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database]
        )
        if not ended.rowcount:
            break
        time.sleep(0.002)


def _connect(server: embedded.Server, database: str) -> psycopg.Connection:
    return psycopg.connect(host=str(server.socket_dir), port=server.port, user="postgres", dbname=database)


def _text(server: embedded.Server, database: str) -> str:
    return server.url(database).render_as_string(hide_password=False)
