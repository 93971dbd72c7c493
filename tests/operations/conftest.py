"""Operations as a revision calls them: online on a migrated database of the test alone, and offline into a script."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import sqlalchemy as sa
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext

from app.options import Options
from app.project import INTERNAL_SCHEMA, PROJECT

Revision = Callable[..., AbstractContextManager[Operations]]


@pytest.fixture
def connection(migrated_url: str) -> Iterator[sa.Connection]:
    """Where the revisions of this test run; a plain table ``notes`` (id, body, owner) is there for them."""
    engine = sa.create_engine(migrated_url, poolclass=sa.NullPool)
    with engine.connect().execution_options(no_parameters=True) as connection:  # a % is a %
        connection.exec_driver_sql("CREATE TABLE public.notes (id int, body text, owner uuid)")
        connection.commit()
        yield connection


@pytest.fixture
def revision(connection: sa.Connection) -> Revision:
    """``with revision() as op:`` is the body of a revision, with Alembic's transaction around it."""

    @contextmanager
    def body(options: Options = Options()) -> Iterator[Operations]:  # noqa: B008  frozen
        context = MigrationContext.configure(
            connection,
            opts={
                "engine_options": options,
                "engine_project": PROJECT,
                "version_table_schema": INTERNAL_SCHEMA,
                "transaction_per_migration": True,
            },
        )
        with context.begin_transaction(_per_migration=True):
            yield Operations(context)

    return body


class Script:
    """What revisions wrote offline."""

    def __init__(self) -> None:
        self._written = io.StringIO()

    def operations(self, options: Options = Options()) -> Operations:  # noqa: B008  frozen
        """Return the operations that write into this script."""
        return Operations(
            MigrationContext.configure(
                dialect_name="postgresql",
                dialect_opts={"paramstyle": "named"},
                opts={
                    "as_sql": True,
                    "output_buffer": self._written,
                    "literal_binds": True,
                    "engine_options": options,
                    "engine_project": PROJECT,
                },
            )
        )

    def __str__(self) -> str:
        return self._written.getvalue()

    @property
    def lines(self) -> list[str]:
        """The script without its empty lines."""
        return [line for line in str(self).splitlines() if line.strip()]


@pytest.fixture
def script() -> Script:
    return Script()


def value(connection: sa.Connection, query: str) -> object:
    """Return the single value of ``query``, and leave no transaction open."""
    found = connection.exec_driver_sql(query).scalar()
    connection.rollback()
    return found
