"""One deployment at a time, without ever waiting inside the server.

A blocking advisory lock, its transaction form, or a lock held by a second idle connection each deadlock or hang against
``CREATE INDEX CONCURRENTLY``, which waits for every older transaction. Polling and committing between polls does not.
"""

from __future__ import annotations

import contextlib
import logging
import random
import time
from collections.abc import Iterator

import sqlalchemy as sa
from alembic.util import CommandError

log = logging.getLogger("chat_schema")

_KEYS = {"space": 0x63686174, "key": 1}  # "chat" in ASCII; advisory locks are one database's own
_TRY = sa.text("SELECT pg_catalog.pg_try_advisory_lock(:space, :key)")
_RELEASE = sa.text("SELECT pg_catalog.pg_advisory_unlock(:space, :key)")
_HOLDER = sa.text(
    "SELECT a.pid, a.usename, extract(epoch FROM clock_timestamp() - a.backend_start)::int AS age"
    " FROM pg_catalog.pg_locks AS l JOIN pg_catalog.pg_stat_activity AS a USING (pid)"
    " WHERE l.locktype = 'advisory' AND l.granted AND l.classid = :space AND l.objid = :key AND l.objsubid = 2"
    " AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())"
)


@contextlib.contextmanager
def deployer_lock(connection: sa.Connection, wait: float) -> Iterator[None]:
    """Hold the deployer lock of this database on ``connection``; wait up to ``wait`` seconds for it.

    Raises :class:`alembic.util.CommandError` when another deployment still holds it then.
    """
    deadline = time.monotonic() + wait
    told = False
    while not connection.scalar(_TRY, _KEYS):
        holder = connection.execute(_HOLDER, _KEYS).first()
        connection.commit()
        who = f"pid {holder.pid}, login {holder.usename}, {holder.age} s" if holder else "just ended"
        if time.monotonic() > deadline:
            raise CommandError(
                f"Another deployment still holds the deployer lock after {wait:g} s ({who}); nothing was changed. "
                "Wait for it to end, then run the command again, or give -x deployer-wait=..."
            )
        if not told:
            log.info("Another deployment is running (%s); waiting for it.", who)
            told = True
        time.sleep(random.uniform(0.1, 0.4))  # noqa: S311  jitter, not a secret
    connection.commit()
    try:
        yield
    finally:
        if not connection.closed and not connection.invalidated:
            with contextlib.suppress(sa.exc.DBAPIError):  # a dead session has released its locks already
                connection.rollback()
                connection.execute(_RELEASE, _KEYS)
                connection.commit()
