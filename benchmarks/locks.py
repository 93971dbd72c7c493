"""Which locks a migration holds on a table and for how long, seen by looking every few milliseconds.

A lock that comes and goes between two looks is not seen: what is printed is a lower bound, exact to about one look.
"""

from __future__ import annotations

import time
from multiprocessing.connection import Connection

import psycopg

EVERY = 0.01  # seconds
MODES = (  # weakest first
    "AccessShareLock",
    "RowShareLock",
    "RowExclusiveLock",
    "ShareUpdateExclusiveLock",
    "ShareLock",
    "ShareRowExclusiveLock",
    "ExclusiveLock",
    "AccessExclusiveLock",
)

_HELD = """
    SELECT l.pid, l.virtualtransaction, l.mode
    FROM pg_catalog.pg_locks AS l JOIN pg_catalog.pg_database AS d ON d.oid = l.database
    WHERE l.locktype = 'relation' AND d.datname = %s AND l.relation = %s AND l.granted
"""
# the clients and autovacuum are not the migration's
_MIGRATES = """
    SELECT pid, application_name <> 'client' AND backend_type IN ('client backend', 'parallel worker')
    FROM pg_catalog.pg_stat_activity
"""


def watch(parent: Connection, conninfo: str, database: str, table: int) -> None:
    """Look who holds what on the table of that oid, as the work of a :class:`~benchmarks.companion.Companion`.

    ``conninfo`` is that of another database, for a backfill gives way to whoever works in its own. The result is a
    dict: for each mode seen, weakest first, how long one transaction held it at most, in seconds.
    """
    since: dict[tuple[int, str, str], float] = {}
    longest: dict[str, float] = {}
    migrates: dict[int, bool] = {}
    with psycopg.connect(conninfo, autocommit=True, application_name="client") as connection:
        parent.send("ready")
        while not parent.poll(EVERY):
            now = time.monotonic()
            held = connection.execute(_HELD, (database, table)).fetchall()
            if any(pid not in migrates for pid, *_ in held):
                migrates |= dict(connection.execute(_MIGRATES).fetchall())
            since = {lock: since.get(lock, now) for lock in held if migrates.get(lock[0])}
            for lock, first in since.items():
                longest[lock[2]] = max(longest.get(lock[2], 0.0), now - first + EVERY)
        parent.recv()
    parent.send({mode: longest[mode] for mode in MODES if mode in longest})
