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
from collections.abc import Callable, Collection, Iterator
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
_DEADLOCK_TIMEOUT = sa.text("SELECT setting FROM pg_catalog.pg_settings WHERE name = 'deadlock_timeout'")  # in ms


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
    vacuumed: Collection[str] = ()
    steering = steering_of(context)
    for number, pause in enumerate(pauses(), start=1):
        connection = cast(sa.Connection, context.connection)  # online, see revisions.py
        with contextlib.ExitStack() as stack:
            if number > 1:  # the first loss is often a passing one and not worth a second connection
                watch = stack.enter_context(
                    BlockerWatch(connection.engine, backend_pid(connection), options.lock_timeout / 4)
                )
            try:
                if vacuumed:
                    _take_from_autovacuum(connection, vacuumed, options)
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
        vacuumed = sorted(watch.vacuumed) if watch else ()
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


def _take_from_autovacuum(connection: sa.Connection, tables: Collection[str], options: Options) -> None:
    """Lock ``tables`` as autovacuum does, which gives way to whoever waits for longer than ``deadlock_timeout``.

    No attempt waits that long for a stronger lock, because clients would queue behind it. They do not queue behind this
    one, and while it is held no other worker begins. One against wraparound does not give way.
    """
    patience = int(connection.scalar(_DEADLOCK_TIMEOUT) or 0) + 500
    connection.exec_driver_sql(
        f"SET LOCAL lock_timeout = '{patience}ms';"
        + "".join(f" LOCK TABLE {table} IN SHARE UPDATE EXCLUSIVE MODE;" for table in tables)
        + f" SET LOCAL lock_timeout = '{options.lock_timeout * 1000:.0f}ms'",
        execution_options={"no_parameters": True},
    )


def backend_pid(connection: sa.Connection) -> int:
    """Return the server process id of ``connection``."""
    return int(connection.scalar(sa.text("SELECT pg_catalog.pg_backend_pid()")) or 0)
