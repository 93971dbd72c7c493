"""What the engine is told of the project whose revisions it runs."""

from __future__ import annotations

import dataclasses
import zlib
from typing import cast

import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext


@dataclasses.dataclass(frozen=True)
class Project:
    """The names of a project; all have a default that suits one with an ``alembic.ini`` and nothing else.

    ``env.py`` hands it to ``context.configure(engine_project=...)``.
    """

    command: str = "alembic"
    """What its users type, as messages name it."""
    address: str = "sqlalchemy.url"
    """What holds the address of the database, as messages name it."""
    without_address: str = ""
    """What messages add about that: what happens where it is not given."""
    verify: str | None = None
    """The command that tells what is wrong with a database, where the project has one."""
    default_schema: str | None = None
    """The schema of a name without one; None: whichever the search_path finds."""
    search_path: str | None = None
    """The search_path of a run; None: that of the login."""
    home: str | None = None
    """The schema of the engine's own table, and of functions that are the project's own; None: the version table's."""
    positions: str | None = None
    """The table of positions that a revision of the project makes; None: the engine makes one while it needs it."""
    lock_space: int | None = None
    """The first key of the deployer lock; None: one that follows from the name of the version table."""


def project_of(context: MigrationContext) -> Project:
    """Return the project of this run."""
    return cast(Project, context.opts.get("engine_project") or Project())


@dataclasses.dataclass(frozen=True)
class VersionTable:
    """Where a chain records its revisions: each such table is a project of its own, for locks and for notes."""

    schema: str
    name: str = "alembic_version"

    @classmethod
    def found_by(cls, connection: sa.Connection, schema: str | None, name: str = "alembic_version") -> VersionTable:
        """Return it with its schema; where none is named, that is the one in which the session creates tables."""
        return cls(schema or str(connection.scalar(sa.text("SELECT pg_catalog.current_schema()")) or ""), name)

    @property
    def lock_space(self) -> int:
        """A key that every deployer of the project computes alike."""
        return zlib.crc32(f"{self.schema}.{self.name}".encode()) & 0x7FFFFFFF
