from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy as sa

from alembic import command
from app.catalog import Snapshot, take_snapshot
from app.embedded import Server
from tests.catalog.planting import OWNER
from tests.conftest import alembic_config


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


@pytest.fixture(scope="module")
def owned_database(server: Server, migrated_template: object) -> Iterator[str]:
    """A database that a plain login owns and has migrated; the three roles came with the template's migration."""
    name = f"owned_{uuid4().hex}"
    administrator = sa.create_engine(server.url("postgres"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with administrator.connect() as everywhere:
        everywhere.exec_driver_sql(f'CREATE ROLE "{OWNER}" LOGIN NOCREATEROLE NOCREATEDB')
        everywhere.exec_driver_sql(f'CREATE DATABASE {name} OWNER "{OWNER}"')
        try:
            command.upgrade(alembic_config(server.url(name, OWNER).render_as_string(hide_password=False)), "head")
            yield name
        finally:
            everywhere.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
            everywhere.exec_driver_sql(f'DROP ROLE "{OWNER}"')


@pytest.fixture
def planted(server: Server, owned_database: str) -> Iterator[sa.Connection]:
    """A superuser's connection to that database; what it does there, roles included, is rolled back."""
    engine = sa.create_engine(server.url(owned_database), poolclass=sa.NullPool)
    with engine.connect() as connection:
        yield connection
        connection.rollback()


@pytest.fixture
def own_copy(server: Server, owned_database: str) -> Iterator[sa.Connection]:
    """A superuser's connection to a copy of it that is this test's alone."""
    name = f"copy_{uuid4().hex}"
    administrator = sa.create_engine(server.url("postgres"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with administrator.connect() as everywhere:
        everywhere.exec_driver_sql(f'CREATE DATABASE {name} OWNER "{OWNER}" TEMPLATE {owned_database}')
        try:
            with sa.create_engine(server.url(name), poolclass=sa.NullPool).connect() as connection:
                yield connection
        finally:
            everywhere.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
