from collections.abc import Iterator

import psycopg
import pytest
import sqlalchemy as sa

from app.catalog import Snapshot, take_snapshot


@pytest.fixture
def connection(shared_db: psycopg.Connection) -> Iterator[sa.Connection]:
    """A migrated database; whatever a test does to it is rolled back."""
    engine = sa.create_engine("postgresql+psycopg://", creator=lambda: shared_db, poolclass=sa.StaticPool)
    with engine.connect() as connection:
        yield connection


@pytest.fixture
def before(connection: sa.Connection) -> Snapshot:
    """The catalog as the chain leaves it."""
    return take_snapshot(connection)
