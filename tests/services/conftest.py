"""A service's side of a database: engines of a login that may only switch roles, as README and docs/services.md say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from uuid import UUID

import pytest
import pytest_asyncio
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app import embedded
from tests.services.people import ROWS

LOGIN = "chat_schema_test_service"


@pytest.fixture(scope="session")
def service_login(server: embedded.Server, migrated_template: object) -> Iterator[str]:
    """Make the login of the service; the roles it is a member of come with the template's migration."""
    administrator = sa.create_engine(server.url("postgres"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with administrator.connect() as connection:
        connection.execute(sa.text(f"CREATE ROLE {LOGIN} LOGIN NOINHERIT"))
        connection.execute(sa.text(f"GRANT authenticated, service_role TO {LOGIN}"))
        yield LOGIN
        connection.execute(sa.text(f"DROP ROLE {LOGIN}"))


@pytest.fixture
def administrator(migrated_url: str) -> sa.Engine:
    """The superuser's engine; policies do not bind it."""
    engine = sa.create_engine(migrated_url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text(ROWS))
    return engine


@pytest.fixture(scope="module")
def shared_engine(server: embedded.Server, _shared_database: str) -> Iterator[sa.Engine]:
    """The superuser's engine to the database that the tests of a module share."""
    engine = sa.create_engine(server.url(_shared_database))
    yield engine
    engine.dispose()


@pytest.fixture
def service_url(administrator: sa.Engine, service_login: str) -> sa.URL:
    return administrator.url.set(username=service_login)


@pytest.fixture
def engine(service_url: sa.URL) -> Iterator[sa.Engine]:
    """One connection, so that what a transaction leaves behind meets the next."""
    engine = sa.create_engine(service_url, pool_size=1, max_overflow=0)
    yield engine
    engine.dispose()


@pytest_asyncio.fixture
async def async_engine(service_url: sa.URL) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(service_url, pool_size=1, max_overflow=0)
    yield engine
    await engine.dispose()


def seen_by(connection: sa.Connection) -> list[UUID]:
    """Return whose tasks the connection sees."""
    return list(connection.scalars(sa.text("SELECT user_id FROM tasks ORDER BY user_id")))
