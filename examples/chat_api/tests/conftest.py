"""One migrated database and one running service for all tests: row level security keeps their users apart."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from chat_api import local
from chat_api.service import Server
from chat_api.settings import Settings
from chat_schema import embedded
from tests.person import Person

FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@pytest.fixture(scope="session")
def server() -> Iterator[embedded.Server]:
    with tempfile.TemporaryDirectory(prefix="chat-api-tests-") as folder:
        Path(folder).chmod(0o711)  # root's server runs as another account
        with embedded.running(Path(folder) / "data", settings=FAST) as running:
            yield running


@pytest.fixture(scope="session")
def settings(server: embedded.Server, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    url = local.prepare(server.url())
    files = str(tmp_path_factory.mktemp("files"))
    return Settings(url, secret="a secret of the tests, long enough for HS256", files=files, seconds_a_word=0.002)


@dataclasses.dataclass(frozen=True)
class Running:
    """A service that listens."""

    url: str
    settings: Settings
    owner: psycopg.Connection

    def person(self, email: str | None = None) -> Person:
        """Return somebody new, with an account."""
        user_id = uuid.uuid4()
        self.owner.execute("INSERT INTO users (id, email) VALUES (%s, %s)", [user_id, email])
        return Person(self.url, self.settings, user_id)

    def tenant(self, name: str, *members: Person) -> uuid.UUID:
        """Return a new tenant with these members."""
        tenant_id = uuid.uuid4()
        self.owner.execute("INSERT INTO tenants (id, name) VALUES (%s, %s)", [tenant_id, name])
        for member in members:
            self.owner.execute("INSERT INTO tenant_users VALUES (%s, %s)", [tenant_id, member.user_id])
        return tenant_id


@pytest.fixture(scope="session")
def owner(server: embedded.Server, settings: Settings) -> Iterator[psycopg.Connection]:
    """A connection of the tables' owner, which sees everything."""
    with psycopg.connect(libpq(server.url()), autocommit=True) as connection:
        yield connection


def libpq(url: sa.URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def chat(settings: Settings, owner: psycopg.Connection) -> Iterator[Running]:
    with running(settings) as url:
        yield Running(url, settings, owner)


@contextlib.contextmanager
def running(settings: Settings) -> Iterator[str]:
    """Serve on a free port of the loopback, as `python -m chat_api` does."""
    server = Server(settings)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            deadline = time.monotonic() + 30
            while not server.started and thread.is_alive() and time.monotonic() < deadline:
                time.sleep(0.01)
            assert server.started
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()
