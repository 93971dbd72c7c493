from collections.abc import Iterator

import psycopg
import pytest
import sqlalchemy as sa

from app import embedded
from tests.policies.world import ROWS


def libpq(url: str | sa.URL) -> str:
    """Return a database's address as libpq takes it."""
    return sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


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
