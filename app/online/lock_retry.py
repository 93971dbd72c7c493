"""Short lock waits, retried: a revision never makes the application's statements queue behind it for long.

``lock_timeout`` bounds one wait, because everything that comes after a waiting ``ALTER TABLE`` queues behind it. A
revision that loses the wait is rolled back, sleeps (longer each time, with jitter) and starts again from its first
statement.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext, MigrationStep
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

from ..options import Options
from .blockers import BlockerWatch

log = logging.getLogger("chat_schema")

_LOCK_ERRORS = {"55P03", "40P01"}  # lock_not_available, deadlock_detected
_LONGEST_PAUSE = 5.0

Steps = Callable[[Any, MigrationContext], Iterable[MigrationStep]]


def is_lock_error(error: DBAPIError) -> bool:
    """Tell whether PostgreSQL ended the statement because of another session's lock."""
    return getattr(error.orig, "sqlstate", None) in _LOCK_ERRORS


def pauses() -> Iterator[float]:
    """Yield growing pauses in seconds, each drawn at random so that deployments do not meet again."""
    ceiling = 0.1
    while True:
        yield random.uniform(ceiling / 2, ceiling)  # noqa: S311  jitter, not a secret
        ceiling = min(ceiling * 2, _LONGEST_PAUSE)


def retrying(steps: Steps, options: Options) -> Steps:
    """Wrap Alembic's ``fn`` so that each revision is retried on lock errors; the shape of the argument is kept."""

    def retried(heads: Any, context: MigrationContext) -> Iterator[MigrationStep]:
        for step in steps(heads, context):
            if not context.as_sql:
                step.migration_fn = _retry(step.migration_fn, str(step.short_log), context, options)
            yield step

    return retried


def _retry(revision: Callable[..., Any], name: str, context: MigrationContext, options: Options) -> Callable[..., None]:
    @functools.wraps(revision)  # Alembic logs the step by this function's name
    def run(**arguments: Any) -> None:
        deadline = time.monotonic() + options.lock_retry_for
        watch: BlockerWatch | None = None
        for attempt, pause in enumerate(pauses(), start=1):
            connection = cast(sa.Connection, context.connection)  # online, see retrying()
            with contextlib.ExitStack() as stack:
                if attempt > 1:  # the first loss is often a passing one and not worth a second connection
                    watch = stack.enter_context(
                        BlockerWatch(connection.engine, backend_pid(connection), options.lock_timeout / 4)
                    )
                try:
                    revision(**arguments)
                    return
                except DBAPIError as error:
                    transaction = context._transaction
                    if not is_lock_error(error) or transaction is None:
                        raise
                    transaction.rollback()
                    lost = error
            who = watch.describe() if watch else "looking who holds it"
            if watch and time.monotonic() + pause > deadline:
                raise CommandError(
                    f"{name}: no lock within {options.lock_retry_for:g} s and {attempt} attempts; "
                    f"last blocked by {who}.\nNothing of this revision was applied. End that transaction "
                    "(SELECT pg_terminate_backend(pid);) or wait for it, then run the command again."
                ) from lost
            log.info(
                "%s: lock not free within %.0f ms, attempt %d (%s)",
                name,
                options.lock_timeout * 1e3,
                attempt,
                who,
            )
            time.sleep(pause)
            context._transaction = connection.begin()

    return run


def backend_pid(connection: sa.Connection) -> int:
    """Return the server process id of ``connection``."""
    return int(connection.scalar(sa.text("SELECT pg_catalog.pg_backend_pid()")) or 0)
