"""How one revision runs live: retried while locks are in its way, and undone where it fails after it has committed.

This is the one seam around a single revision. What it does to an error is a note on it (PEP 678) that says what
stands in the database now.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, cast

import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext, MigrationStep, RevisionStep
from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

from . import lock_retry, unfinished
from .hooks import Hooks
from .options import Options
from .positions import Positions
from .steering import Step, steering_of
from .unfinished import DOWNGRADE, StoppedError, Unfinished

Steps = Callable[[Any, MigrationContext], Iterable[MigrationStep]]


def live(steps: Steps, options: Options, arguments: Mapping[str, Any] = MappingProxyType({})) -> Steps:
    """Wrap Alembic's ``fn`` so that each revision runs as said above; the shape of the argument is kept.

    ``arguments`` are those of ``context.run_migrations()``, which each function of a revision gets.
    """

    def wrapped(heads: Any, context: MigrationContext) -> Iterator[MigrationStep]:
        if context.as_sql:
            yield from steps(heads, context)
            return
        _hold(context)
        left = _left(steps.__name__, heads, context, options, arguments)
        hooks, steering = Hooks.of(context, options), steering_of(context)
        for step in steps(heads, context):
            if not isinstance(step, RevisionStep):
                yield step
                continue
            begun = Unfinished.of(step)
            step.migration_fn = _live(step, left if begun == left else begun, context, options)
            steering.step = Step.of(step)
            _hold(context, hooks)
            hooks.before(steering.step)
            yield step
            hooks.after(steering.step)  # its transaction has ended: Alembic asks for the next one
            steering.step = None

    return wrapped


def about_to_undo(context: MigrationContext) -> list[Callable[..., Any]]:
    """Return the ``downgrade()`` of each revision that a downgrade is about to run, in their order."""
    steps = cast(Steps, context._migrations_fn)
    if steps.__name__ != DOWNGRADE:
        return []
    heads = context.get_current_heads()
    left = unfinished.noted_in(
        cast(sa.Connection, context.connection), context.version_table_schema, context.version_table
    )
    undone_first = []
    if (
        left is not None
        and left.opposite.direction == DOWNGRADE
        and left.is_at(heads, cast(ScriptDirectory, context.script))
    ):
        undone_first.append(left.opposite.function(_script(left, context)))
    return undone_first + [step.migration_fn for step in steps(heads, context) if isinstance(step, RevisionStep)]


def _live(step: RevisionStep, begun: Unfinished, context: MigrationContext, options: Options) -> Callable[..., None]:
    revision = step.migration_fn

    @functools.wraps(revision)  # Alembic logs the step by this function's name
    def run(**arguments: Any) -> None:
        try:
            with steering_of(context).revision(), begun.noted_before_commits(context):
                lock_retry.attempt(functools.partial(revision, **arguments), str(step.short_log), context, options)
            unfinished.forget(context)
        except BaseException as error:
            error.add_note(_aftermath(error, begun, context, options, arguments))
            raise

    return run


def _hold(context: MigrationContext, hooks: Hooks | None = None) -> None:
    """Wait for the end of a pause, without a transaction; nor is one open for ``hooks`` behind it."""
    steering = steering_of(context)
    if (steering.is_paused or hooks) and not context._in_external_transaction:
        cast(sa.Connection, context.connection).commit()  # Alembic has looked which revision the database is at
    steering.hold()


def _left(
    command: str, heads: Any, context: MigrationContext, options: Options, arguments: Mapping[str, Any]
) -> Unfinished | None:
    """Return what a run of the same direction has left, to be gone on with; undo what one of the other has left."""
    connection = cast(sa.Connection, context.connection)
    if command == DOWNGRADE:
        Positions.of(context).forget(connection)  # of backfills that the way back may undo
    left = unfinished.noted_in(connection, context.version_table_schema, context.version_table)
    if left is None or not left.is_at(heads, cast(ScriptDirectory, context.script)):
        return None
    if command == left.opposite.direction:
        _undo(left, context, options, arguments)
    return left


def _undo(begun: Unfinished, context: MigrationContext, options: Options, arguments: Mapping[str, Any]) -> None:
    function = functools.partial(begun.opposite.function(_script(begun, context)), **arguments)
    with steering_of(context).work(), context.begin_transaction(_per_migration=True):
        lock_retry.attempt(function, f"undoing the unfinished {begun}", context, options)
        unfinished.forget(context)


def _aftermath(
    error: BaseException,
    begun: Unfinished,
    context: MigrationContext,
    options: Options,
    arguments: Mapping[str, Any],
) -> str:
    """Undo what the failed revision has committed, and return what stands now."""
    connection = cast(sa.Connection, context.connection)
    before = begun.revision if begun.direction == DOWNGRADE else _script(begun, context).down_revision
    rolled_back = f"Revision {begun.revision} was rolled back; what was finished before it stays."
    stays = (
        f"What revision {begun.revision} had committed stays: run the command again to go on, or "
        f"{begun.opposite.direction} to {before} to undo it."
    )
    if not begun.committed:
        return rolled_back
    if isinstance(error, KeyboardInterrupt | StoppedError) or connection.closed or connection.invalidated:
        return stays
    try:
        if context._transaction is not None:
            context._transaction.rollback()
            context._transaction = None
        _undo(begun, context, options, arguments)
        batches = Positions.of(context).names(connection)
        connection.rollback()
    except (DBAPIError, CommandError) as failure:
        return f"Undoing revision {begun.revision} failed too: {_said(failure)}\n{stays}"
    kept = f" Finished batches of {' and '.join(batches)} stay; the next run goes on after them." if batches else ""
    return (
        f"Revision {begun.revision} had committed a part, which its {begun.opposite.direction} has undone: "
        f"the database is at {before}.{kept}"
    )


def _script(begun: Unfinished, context: MigrationContext) -> Script:
    return cast(ScriptDirectory, context.script).get_revision(begun.revision)


def _said(failure: DBAPIError | CommandError) -> str:
    said = failure.orig if isinstance(failure, DBAPIError) else failure
    return str(said).strip().splitlines()[0]
