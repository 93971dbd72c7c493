"""Why a backfill waits although nobody paused it: what else would suffer if it went on now.

* a replica that is behind, ``-x max-replica-lag``
* log that a replication slot or the archive holds back, so that it fills the disk, ``-x max-wal-held``
* the size of the database, ``-x max-database-size``
* autovacuum at work on the table, ``-x wait-for-autovacuum``
* whatever a query of the user's tells, such as the p99 of the clients, ``-x wait-while``

All but the replicas can be seen by any login. The room left on the server's disk can be seen by none: PostgreSQL has no
function for it. A query of ``wait-while`` can bring it in, from a table that a monitoring tool writes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from types import TracebackType
from typing import Any, cast

import psycopg
import sqlalchemy as sa
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

from .options import Options, Size
from .project import Project
from .replicas import ReplicaWatch
from .session import session_settings

log = logging.getLogger("alembic.engine")

_SIZE_EVERY = 10.0  # seconds between two looks at the size of the database, which reads a folder of many files
_ANSWER_WITHIN = "2s"  # a query of the user's
# The log from where a slot still needs it; one that is about to lose it is behind, whatever the limit.
_SLOTS = sa.text(
    """
    SELECT s.slot_name AS name, s.wal_status = 'unreserved' AS loses,
           (pg_catalog.pg_current_wal_lsn() - s.restart_lsn)::bigint AS held
    FROM pg_catalog.pg_replication_slots AS s
    WHERE s.restart_lsn IS NOT NULL
    ORDER BY held DESC
    """
)
# The files of the log that are full and not archived: from the end of the one that was archived last, or from the first
# one that failed where none was yet, to the file that is being written. The name may also be that of a history.
_ARCHIVE = sa.text(
    """
    SELECT greatest(
             pg_catalog.div(pg_catalog.pg_current_wal_lsn() - '0/0'::pg_lsn, w.size)
             - ('x' || substr(a.name, 9, 8))::bit(32)::bigint * (4294967296 / w.size)
             - ('x' || substr(a.name, 17, 8))::bit(32)::bigint
             - a.archived,
             0
           )::bigint * w.size AS held
    FROM (
      SELECT coalesce(s.last_archived_wal, s.last_failed_wal) AS name,
             (s.last_archived_wal IS NOT NULL)::int AS archived
      FROM pg_catalog.pg_stat_archiver AS s
    ) AS a
    CROSS JOIN (
      SELECT pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size')) AS size
    ) AS w
    WHERE pg_catalog.current_setting('archive_mode') <> 'off' AND a.name ~ '^[0-9A-F]{24}'
    """
)
_SIZE = sa.text("SELECT pg_catalog.pg_database_size(pg_catalog.current_database())")
# An autovacuum worker is no role's session. That much every login may see; what the worker does is hidden.
_AUTOVACUUM = sa.text(
    """
    SELECT l.pid FROM pg_catalog.pg_locks AS l JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
    WHERE l.locktype = 'relation' AND l.relation = CAST(:table AS regclass) AND l.granted
      AND l.mode = 'ShareUpdateExclusiveLock' AND a.usesysid IS NULL
      AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database())
    LIMIT 1
    """
)


@dataclasses.dataclass(frozen=True)
class Reason:
    """A reason to wait: its ``kind`` is told once in a row, ``text`` says what is waited for."""

    kind: str
    text: str


class Reasons:
    """Look for reasons to wait, for one backfill of ``table``; close it to end the session of the user's query."""

    def __init__(self, engine: sa.Engine, table: str, options: Options, project: Project) -> None:
        self._table, self._options = table, options
        self._replicas = ReplicaWatch()
        self._size, self._sized = 0, -_SIZE_EVERY
        self._query = UsersQuery(engine, options, project) if options.wait_while else None

    def look(self, connection: sa.Connection) -> Reason | None:
        """Return the first reason that holds now. Reads in the transaction of ``connection``."""
        lag = self._replicas.worst(connection)
        most = self._options.max_replica_lag
        if lag is not None and lag.seconds > most:
            return Reason("replica", f"replica {lag.name}, {lag.seconds:.0f} s behind (-x max-replica-lag={most:g}s)")
        return (
            self._log_held_back(connection)
            or self._size_of_database(connection)
            or self._autovacuum(connection)
            or (self._query.look() if self._query else None)
        )

    def close(self) -> None:
        """End the session of the user's query."""
        if self._query:
            self._query.close()

    def _log_held_back(self, connection: sa.Connection) -> Reason | None:
        most = self._options.max_wal_held
        for slot in connection.execute(_SLOTS):
            if slot.loses or (most and slot.held > most):
                loses = ", and is about to lose what it needs" if slot.loses else ""
                return Reason(
                    "slot",
                    f"replication slot {slot.name}, which holds {Size(slot.held)} of the log back{loses} "
                    f"(-x max-wal-held={most})",
                )
        held = connection.scalar(_ARCHIVE) if most else None
        if held is not None and held > most:
            return Reason("archive", f"the archive, which is {Size(held)} of the log behind (-x max-wal-held={most})")
        return None

    def _size_of_database(self, connection: sa.Connection) -> Reason | None:
        most = self._options.max_database_size
        if not most:
            return None
        if time.monotonic() - self._sized >= _SIZE_EVERY:
            self._size, self._sized = int(connection.scalar(_SIZE) or 0), time.monotonic()
        if self._size <= most:
            return None
        return Reason("size", f"the database to be smaller than {Size(self._size)} (-x max-database-size={most})")

    def _autovacuum(self, connection: sa.Connection) -> Reason | None:
        if not self._options.wait_for_autovacuum:
            return None
        pid = connection.scalar(_AUTOVACUUM, {"table": self._table})
        return None if pid is None else Reason("autovacuum", f"autovacuum, at work on {self._table} (pid {pid})")


class UsersQuery:
    """The query of ``-x wait-while``: read-only, in a session of its own, for two seconds at most.

    It tells to wait by ``true``, by a number other than zero, or by a text, which is told. While it fails nobody knows
    how the clients fare: so that is a reason to wait, too.
    """

    def __init__(self, engine: sa.Engine, options: Options, project: Project) -> None:
        self._engine, self._options, self._project = engine, options, project
        self._stack = contextlib.ExitStack()
        self._connection: sa.Connection | None = None

    def __enter__(self) -> UsersQuery:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def try_out(self) -> None:
        """Raise :class:`alembic.util.CommandError` where the query does not run, before anything else has."""
        try:
            self._ask()
        except (DBAPIError, psycopg.Error) as error:
            raise CommandError(
                f"The query of -x wait-while failed, so nothing was run: {_first_line(error)}\nIt is one SELECT that "
                "reads, with the schema of each table named, and that is true while a backfill should wait. Mend it "
                "and run the command again, or leave it out."
            ) from None

    def look(self) -> Reason | None:
        """Return the reason, None where the query tells to go on."""
        try:
            answer = self._ask()
        except (DBAPIError, psycopg.Error) as error:
            self.close()
            return Reason("query fails", f"the query of -x wait-while, which fails: {_first_line(error)}")
        if not answer:
            return None
        said = f": {answer}" if isinstance(answer, str) else ""
        return Reason("query", f"the query of -x wait-while{said}")

    def close(self) -> None:
        """End its session; the next question opens another."""
        self._connection = None
        stack, self._stack = self._stack, contextlib.ExitStack()
        with contextlib.suppress(DBAPIError, psycopg.Error):
            stack.close()

    def _ask(self) -> Any:
        if self._connection is None:
            connection = self._stack.enter_context(self._engine.connect())
            self._stack.enter_context(session_settings(connection, self._options, self._project))
            connection.exec_driver_sql(f"SET statement_timeout = '{_ANSWER_WITHIN}'")
            connection.exec_driver_sql("SET default_transaction_read_only = on")
            connection.commit()
            self._connection = connection
        driver = cast(psycopg.Connection, self._connection.connection.driver_connection)
        try:
            with driver.cursor() as cursor:
                # binary results take the protocol that refuses a second statement behind a semicolon
                cursor.execute(self._options.wait_while.encode(), binary=True)
                row = cursor.fetchone() if cursor.description else None
        finally:
            if not driver.closed:
                driver.rollback()
        return row[0] if row else None


def _first_line(error: psycopg.Error | DBAPIError) -> str:
    said = error.orig if isinstance(error, DBAPIError) else error
    return (str(said).strip().splitlines() or [type(said).__name__])[0]
