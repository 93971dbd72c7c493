"""How far the replicas are behind: a backfill writes faster than a replica may be able to follow."""

from __future__ import annotations

import collections
import dataclasses
import time

import sqlalchemy as sa

# Physical standbys; the readers of a logical slot (which a realtime service is) serve no queries that could be stale.
_STANDBYS = sa.text(
    """
    SELECT coalesce(nullif(r.application_name, ''), host(r.client_addr), 'pid ' || r.pid) AS name,
           (r.replay_lsn - '0/0')::bigint AS replayed
    FROM pg_catalog.pg_stat_replication AS r
    WHERE r.state IN ('streaming', 'catchup') AND r.replay_lsn IS NOT NULL
      AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_replication_slots AS s WHERE s.active_pid = r.pid AND s.slot_type = 'logical'
      )
    """
)
_WRITTEN = sa.text("SELECT (pg_catalog.pg_current_wal_flush_lsn() - '0/0')::bigint")
_HIDDEN = sa.text("SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_replication AS r WHERE r.state IS NULL)")


@dataclasses.dataclass(frozen=True)
class Lag:
    """A replica, and the seconds for which the primary has had something that it has not."""

    name: str
    seconds: float


class ReplicaWatch:
    """Remember when the primary stood where, and by that tell how old the state is that a replica shows.

    pg_stat_replication.replay_lag is the delay of what was replayed last: it stands still with a replica that does.
    """

    def __init__(self) -> None:
        self._stood: collections.deque[tuple[float, int]] = collections.deque()  # (time.monotonic, log position)

    def worst(self, connection: sa.Connection) -> Lag | None:
        """Return the replica that is furthest behind, None where there is none or this login may not see them.

        Lag from before the first call is not known. Reads in the transaction of ``connection``.
        """
        now = time.monotonic()
        written = int(connection.scalar(_WRITTEN) or 0)
        if not self._stood or written > self._stood[-1][1]:
            self._stood.append((now, written))
        replayed = {row.name: row.replayed for row in connection.execute(_STANDBYS)}
        while len(self._stood) > 1 and self._stood[1][1] <= min(replayed.values(), default=written):
            self._stood.popleft()  # every replica has passed the next one as well
        lags = [Lag(name, self._behind(position, now)) for name, position in replayed.items()]
        return max(lags, key=lambda lag: lag.seconds, default=None)

    def _behind(self, replayed: int, now: float) -> float:
        return next((now - moment for moment, position in self._stood if position > replayed), 0.0)


def replicas_are_hidden(connection: sa.Connection) -> bool:
    """Tell whether there are replicas of which this login, without pg_monitor, may not see how far they are."""
    return bool(connection.scalar(_HIDDEN))
