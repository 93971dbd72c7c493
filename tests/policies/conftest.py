from collections.abc import Iterator

import psycopg
import pytest

from app import embedded
from tests.conftest import libpq
from tests.policies.world import ROWS


@pytest.fixture(scope="module")
def _world(server: embedded.Server, _shared_database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(libpq(server.url(_shared_database))) as connection:
        connection.execute(ROWS)
        yield connection
        connection.rollback()


@pytest.fixture
def world(_world: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """The superuser's connection to a migrated database that holds the rows of `world`; each test is undone."""
    with _world.transaction(force_rollback=True):
        yield _world
