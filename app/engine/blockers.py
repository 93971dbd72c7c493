"""Who holds the lock that a migration waits for."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Collection
from types import TracebackType

import sqlalchemy as sa

from .session import safe_search_path

SESSION = r"""
    a.pid,
    coalesce(nullif(a.application_name, ''), '(no application_name)') AS application,
    coalesce(a.state, a.backend_type, 'unknown state') AS state,
    extract(epoch FROM pg_catalog.clock_timestamp() - coalesce(a.xact_start, a.backend_start))::float AS age,
    pg_catalog.left(pg_catalog.regexp_replace(coalesce(a.query, ''), '\s+', ' ', 'g'), 120) AS query
"""
"""What is selected of the row ``a`` of pg_stat_activity for a :class:`Blocker`."""

_BLOCKERS = sa.text(
    f"""
    SELECT {SESSION}
    FROM pg_catalog.pg_stat_activity AS a
    WHERE a.pid = ANY (pg_catalog.pg_blocking_pids(:waiting))
    ORDER BY age DESC
    """
)
# An autovacuum worker is no role's session. That much every login may see; what the worker does is hidden.
_VACUUMED = sa.text(
    """
    SELECT w.relation::regclass::text
    FROM pg_catalog.pg_locks AS w
    JOIN pg_catalog.pg_class AS c ON c.oid = w.relation AND c.relkind IN ('r', 'm')
    JOIN pg_catalog.pg_locks AS h ON h.relation = w.relation AND h.database = w.database AND h.granted
      AND h.mode = 'ShareUpdateExclusiveLock' AND h.pid = ANY (pg_catalog.pg_blocking_pids(:waiting))
    JOIN pg_catalog.pg_stat_activity AS a ON a.pid = h.pid AND a.usesysid IS NULL
    WHERE w.pid = :waiting AND w.locktype = 'relation' AND NOT w.granted
      AND pg_catalog.has_table_privilege(c.oid, 'DELETE')
    """
)


@dataclasses.dataclass(frozen=True)
class Blocker:
    """A session that holds what another waits for; ``age`` is its transaction's, in seconds.

    A login without pg_read_all_stats sees of another login's session no more than that it is there.
    """

    pid: int
    application: str
    state: str
    age: float | None
    query: str

    def __str__(self) -> str:
        age = "unknown age" if self.age is None else f"{self.age:.0f} s"
        return f"pid {self.pid} ({self.application}, {self.state}, {age}): {self.query}"


def blockers_of(connection: sa.Connection, pids: Collection[int]) -> list[Blocker]:
    """Return the sessions that any of the backends ``pids`` waits for at this moment."""
    found = {row.pid: Blocker(*row) for pid in pids for row in connection.execute(_BLOCKERS, {"waiting": pid})}
    return list(found.values())


class BlockerWatch:
    """While entered, remember who blocks the backend ``waiting``; read :attr:`seen`, :attr:`vacuumed` afterwards.

    A second connection has to look during the wait: once ``lock_timeout`` has ended it, nobody blocks any more.
    """

    def __init__(self, engine: sa.Engine, waiting: int, interval: float) -> None:
        self.seen: dict[int, Blocker] = {}
        self.vacuumed: set[str] = set()
        """The tables, as SQL, that it waited for because autovacuum was at work on them."""
        self._engine = engine
        self._waiting = waiting
        self._interval = interval
        self._looks = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, name="blocker-watch", daemon=True)

    def __enter__(self) -> BlockerWatch:
        self._thread.start()
        self._looks.wait(10)  # connecting can take longer than the wait that is to be seen
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        try:
            with (
                self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
                safe_search_path(connection),
            ):
                self._looks.set()
                while not self._stop.wait(self._interval):
                    for row in connection.execute(_BLOCKERS, {"waiting": self._waiting}):
                        self.seen[row.pid] = Blocker(*row)
                    self.vacuumed.update(connection.scalars(_VACUUMED, {"waiting": self._waiting}))
        except sa.exc.DBAPIError:
            self._looks.set()  # the watch only explains; the wait it watches goes on or fails by itself

    def describe(self) -> str:
        """Return one line for each session seen, or that none was."""
        return "; ".join(str(blocker) for blocker in self.seen.values()) or "a session that was gone before we looked"
