"""Short lock waits, retried: a revision never makes the application's statements queue behind it for long.

``lock_timeout`` bounds one wait, because everything that comes after a waiting ``ALTER TABLE`` queues behind it. A
revision that loses the wait is rolled back, sleeps (longer each time, with jitter) and starts again from its first
statement.
"""

from __future__ import annotations

import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterator
from typing import cast

import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

from .blockers import BlockerWatch
from .options import Options
from .steering import steering_of

log = logging.getLogger("alembic.engine")

_LOCK_ERRORS = {"55P03", "40P01"}  # lock_not_available, deadlock_detected
_LONGEST_PAUSE = 5.0


def is_lock_error(error: DBAPIError) -> bool:
    """Tell whether PostgreSQL ended the statement because of another session's lock."""
    return getattr(error.orig, "sqlstate", None) in _LOCK_ERRORS


def pauses() -> Iterator[float]:
    """Yield growing pauses in seconds, each drawn at random so that deployments do not meet again."""
    ceiling = 0.1
    while True:
        yield random.uniform(ceiling / 2, ceiling)  # noqa: S311  jitter, not a secret
        ceiling = min(ceiling * 2, _LONGEST_PAUSE)


def attempt(function: Callable[[], object], name: str, context: MigrationContext, options: Options) -> None:
    """Call ``function``, which runs within the context's transaction, until no lock is in its way.

    Raises :class:`alembic.util.CommandError`, with the sessions that hold the lock, when it was not free for too long.
    """
    deadline = time.monotonic() + options.lock_retry_for
    watch: BlockerWatch | None = None
    steering = steering_of(context)
    for number, pause in enumerate(pauses(), start=1):
        connection = cast(sa.Connection, context.connection)  # online, see revisions.py
        with contextlib.ExitStack() as stack:
            if number > 1:  # the first loss is often a passing one and not worth a second connection
                watch = stack.enter_context(
                    BlockerWatch(connection.engine, backend_pid(connection), options.lock_timeout / 4)
                )
            try:
                function()
                steering.waits_for(None)
                return
            except DBAPIError as error:
                transaction = context._transaction
                if not is_lock_error(error) or transaction is None:
                    raise
                transaction.rollback()
                context._transaction = None
                lost = error
        who = watch.describe() if watch else "looking who holds it"
        if watch and time.monotonic() + pause > deadline:
            raise CommandError(
                f"{name}: no lock within {options.lock_retry_for:g} s and {number} attempts; last blocked by {who}.\n"
                "End that transaction (SELECT pg_terminate_backend(pid);) or wait for it, then run the command again."
            ) from lost
        log.info("%s: lock not free within %.0f ms, attempt %d (%s)", name, options.lock_timeout * 1e3, number, who)
        steering.waits_for(f"a lock held by {who}" if watch else "a lock")
        steering.sleep(pause)
        context._transaction = connection.begin()


def backend_pid(connection: sa.Connection) -> int:
    """Return the server process id of ``connection``."""
    return int(connection.scalar(sa.text("SELECT pg_catalog.pg_backend_pid()")) or 0)
