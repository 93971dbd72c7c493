"""A revision that commits before its end: known while it is unfinished, and undone when it fails.

A revision that works outside a transaction commits step by step. Before its first commit it is noted in a table beside
Alembic's version table; the transaction that records its version drops that table. So whoever comes next knows what a
killed run has left: the same direction goes on with it, the other one undoes it first. When a step fails, the opposite
function of the revision, ``downgrade()`` for ``upgrade()``, undoes what was committed before the error is told.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, cast

import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext, RevisionStep
from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError

UPGRADE, DOWNGRADE = "upgrade", "downgrade"
TABLE = "unfinished_revision"
_DEFAULT = "alembic_version"


class StoppedError(CommandError):
    """Somebody told the run to stop: what it has committed stays, because undoing it could take long."""


class StopsBeforeBackfillError(StoppedError):
    """``-x stop-before-backfill=yes``: the rows are left to a run without it."""

    status = 3
    """What a command exits with."""


@dataclasses.dataclass
class Unfinished:
    """A revision and the direction, ``upgrade`` or ``downgrade``, in which it was begun."""

    revision: str
    direction: str
    committed: bool = dataclasses.field(default=False, compare=False)
    """Whether something of it has been committed, by this run or by one before."""

    @classmethod
    def of(cls, step: RevisionStep) -> Unfinished:
        """Return what ``step`` is while it runs."""
        return cls(step.revision.revision, UPGRADE if step.is_upgrade else DOWNGRADE)

    @property
    def opposite(self) -> Unfinished:
        """What undoes it."""
        return Unfinished(self.revision, DOWNGRADE if self.direction == UPGRADE else UPGRADE)

    def function(self, script: Script) -> Callable[..., Any]:
        """Return the function of the revision that runs in this direction."""
        return cast(Callable[..., Any], getattr(script.module, self.direction))

    def is_at(self, heads: tuple[str, ...], scripts: ScriptDirectory) -> bool:
        """Tell whether the database, at ``heads``, is still where this was begun, and was not stamped since."""
        if self.direction == DOWNGRADE:
            return self.revision in heads
        applied = {each.revision for each in scripts.iterate_revisions(heads, "base")} if heads else set()
        before = scripts.get_revision(self.revision)._normalized_down_revisions
        return self.revision not in applied and applied.issuperset(before)

    def __str__(self) -> str:
        return f"{self.direction} {self.revision}"

    @contextlib.contextmanager
    def noted_before_commits(self, context: MigrationContext) -> Iterator[None]:
        """While entered, note it before the first transaction that ``autocommit_block()`` ends."""
        autocommit_block = context.autocommit_block

        @contextlib.contextmanager
        def noting() -> Iterator[None]:
            if not self.committed:
                self._note(context)
            with autocommit_block():
                self.committed = True
                yield

        context.autocommit_block = noting  # type: ignore[method-assign]
        try:
            yield
        finally:
            del context.autocommit_block  # the instance's; the class has its own

    def _note(self, context: MigrationContext) -> None:
        """Write the note, in one round trip: others may be waiting for what this transaction has locked."""
        connection = cast(sa.Connection, context.connection)
        table = connection.dialect.identifier_preparer.format_table(
            _table(context.version_table_schema, context.version_table)
        )
        revision = self.revision.replace("'", "''")
        connection.execution_options(no_parameters=True).exec_driver_sql(
            f"DROP TABLE IF EXISTS {table};"  # a publication FOR ALL TABLES would refuse a DELETE
            f" CREATE TABLE {table} (revision text NOT NULL, direction text NOT NULL);"
            f" ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;"  # the owner's alone
            f" INSERT INTO {table} (revision, direction) VALUES ('{revision}', '{self.direction}')"
        )


def noted_in(connection: sa.Connection, schema: str | None, version_table: str = _DEFAULT) -> Unfinished | None:
    """Return the revision that a run has left unfinished, if there is one."""
    table = _table(schema, version_table)
    if not sa.inspect(connection).has_table(table.name, schema):
        return None
    row = connection.execute(sa.select(table)).first()
    return None if row is None else Unfinished(row.revision, row.direction, committed=True)


def forget(context: MigrationContext) -> None:
    """Drop the note, within the transaction that ends the revision."""
    connection = cast(sa.Connection, context.connection)
    _table(context.version_table_schema, context.version_table).drop(connection, checkfirst=True)


def _table(schema: str | None, version_table: str) -> sa.Table:
    return sa.Table(
        TABLE if version_table == _DEFAULT else f"{version_table}_unfinished",  # each chain has its own
        sa.MetaData(schema=schema),
        sa.Column("revision", sa.Text),
        sa.Column("direction", sa.Text),
    )
