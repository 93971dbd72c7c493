"""``op.backfill``: the step of a revision that touches every row of a table."""

from __future__ import annotations

from alembic.operations import Operations

from .. import batches
from ..positions import Positions
from ..project import project_of
from ..steering import steering_of
from .registry import is_offline, operation, options_of, quoted, statement


@operation
def backfill(
    operations: Operations, name: str, table: str, alias: str, batch: str, pending: str, passes: int = 1
) -> None:
    """Bring every row of ``table`` that is ``pending`` into its new form, in small committed batches.

    ``batch`` is a statement with ``{batch}`` where the condition on the rows ``alias`` of this batch goes; it must
    leave finished rows alone, because it is run again after a kill. ``pending`` is the condition that no row meets in
    the end. Several ``passes`` spare the indexes, where ``batch`` updates most rows in columns that none of them has.
    Locks: those of the rows of one batch, until its commit. Offline it is one statement over the whole table.
    """
    work = batches.Backfill(name, quoted(operations, table), alias, batch, pending, passes)
    context = operations.get_context()
    if is_offline(operations):
        statement(operations, work.whole())
        return
    options, project = options_of(operations), project_of(context)
    if options.stop_before_backfill:
        batches.refuse_rows(operations.get_bind(), work, project)
        return  # there are none: nothing would be done, by a walk over the whole table
    with context.autocommit_block():  # commits what came before, so that the batches' own connections see it
        engine = operations.get_bind().engine
        batches.run(engine, work, options, Positions.of(context), project, steering_of(context))
