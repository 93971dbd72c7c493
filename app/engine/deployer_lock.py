"""One deployment at a time, without ever waiting inside the server.

A blocking advisory lock, its transaction form, or a lock held by a second idle connection each deadlock or hang against
``CREATE INDEX CONCURRENTLY``, which waits for every older transaction. Polling and committing between polls does not.

Any login may take any advisory lock, so one lock for all deployments could be held by somebody who may not deploy. Here
each deployer takes a lock of its own in one space of keys, then looks who else holds one there; holders without rights
here do not count. Of two deployers that take theirs at once, at least one sees the other, because each looks after it
has taken: both may release and try again, and never do both go on.

Two projects in one database, with two version tables, have two spaces and run side by side: what one of them locks the
other waits for, as for any client.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import random
import time
from collections.abc import Iterator

import sqlalchemy as sa
from alembic.util import CommandError

from .project import VersionTable

log = logging.getLogger("alembic.engine")

_TAKE = sa.text("SELECT pg_catalog.pg_try_advisory_lock(:space, :key)")
_RELEASE = sa.text("SELECT pg_catalog.pg_advisory_unlock(:space, :key)")
# Advisory locks are one database's own. Every login may read all of this, except when another's session began. Who may
# deploy is a member of the owner of the version table or of its schema. Before the table exists, whoever may create in
# the schema; before that exists, whoever may create it.
_HOLDERS = sa.text(
    """
    SELECT a.pid, a.usename,
           extract(epoch FROM pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) a.backend_start)::pg_catalog.int4
             AS age,
           CASE
             WHEN n.oid IS NOT NULL THEN pg_catalog.pg_has_role(a.usesysid, n.nspowner, 'MEMBER')
               OR CASE
                 WHEN c.oid IS NOT NULL THEN pg_catalog.pg_has_role(a.usesysid, c.relowner, 'MEMBER')
                 ELSE pg_catalog.has_schema_privilege(a.usesysid, n.oid, 'CREATE')
               END
             ELSE pg_catalog.has_database_privilege(a.usesysid, d.oid, 'CREATE')
           END AS may_deploy
    FROM pg_catalog.pg_locks AS l
    JOIN pg_catalog.pg_stat_activity AS a ON a.pid OPERATOR(pg_catalog.=) l.pid
    JOIN pg_catalog.pg_database AS d ON d.oid OPERATOR(pg_catalog.=) l.database
    LEFT JOIN pg_catalog.pg_namespace AS n ON n.nspname OPERATOR(pg_catalog.=) CAST(:schema AS pg_catalog.name)
    LEFT JOIN pg_catalog.pg_class AS c ON c.relnamespace OPERATOR(pg_catalog.=) n.oid
      AND c.relname OPERATOR(pg_catalog.=) CAST(:table AS pg_catalog.name)
    WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.granted AND l.objsubid OPERATOR(pg_catalog.=) 2
      AND l.classid OPERATOR(pg_catalog.=) CAST(:space AS pg_catalog.oid)
      AND d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
      AND l.pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid()
    """
)


@contextlib.contextmanager
def deployer_lock(
    connection: sa.Connection, wait: float, versions: VersionTable, space: int | None = None
) -> Iterator[None]:
    """Hold the deployer lock of the project with this version table; wait up to ``wait`` seconds for it.

    ``space`` is the first key of its locks, where that does not follow from the table's name.

    Raises :class:`alembic.util.CommandError` when another deployment still holds it then.
    """
    deadline = time.monotonic() + wait
    lock = _Lock(connection, versions, versions.lock_space if space is None else space)
    told = False
    while (other := lock.try_to_hold()) is not None:
        age = "" if other.age is None else f", {other.age} s"  # hidden from whoever is no member of that login
        who = f"pid {other.pid}, login {other.login}{age}"
        if time.monotonic() > deadline:
            raise CommandError(
                f"Another deployment still holds the deployer lock after {wait:g} s ({who}); nothing was changed. "
                "Wait for it to end, then run the command again, or give -x deployer-wait=..."
            )
        if not told:
            log.info("Another deployment is running (%s); waiting for it.", who)
            told = True
        time.sleep(random.uniform(0.1, 0.4))  # noqa: S311  jitter, not a secret
    try:
        yield
    finally:
        if not connection.closed and not connection.invalidated:
            with contextlib.suppress(sa.exc.DBAPIError):  # a dead session has released its locks already
                connection.rollback()
                lock.release()


@dataclasses.dataclass(frozen=True)
class Deployer:
    """A session that holds a lock in the space of the deployer lock, and its age in seconds where that is visible."""

    pid: int
    login: str
    age: int | None
    may_deploy: bool


def deployers(connection: sa.Connection, versions: VersionTable, space: int) -> list[Deployer]:
    """Return who holds the deployer lock of the project with this version table; every login may ask."""
    place = {"space": space, "schema": versions.schema, "table": versions.name}
    return [Deployer(*row) for row in connection.execute(_HOLDERS, place)]


def running_deployment(connection: sa.Connection, versions: VersionTable, space: int | None) -> Deployer | None:
    """Return the deployer who holds the lock now, without taking any; None where there is none."""
    return _Lock(connection, versions, versions.lock_space if space is None else space)._other()


class _Lock:
    """The advisory lock of this deployer, which means nothing before it has looked for others."""

    def __init__(self, connection: sa.Connection, versions: VersionTable, space: int) -> None:
        self._connection = connection
        self._versions = versions
        self._space = {"space": space}
        self._key = 0
        self._ignored = False

    def try_to_hold(self) -> Deployer | None:
        """Take the lock and return None; or hold none, and return a deployer who is in the way."""
        other = self._other()  # before it takes one too: who only waits should be in nobody's way
        if other is None:
            self._take()
            other = self._other()
            if other is not None:
                self.release()
        self._connection.commit()
        return other

    def release(self) -> None:
        self._connection.execute(_RELEASE, {**self._space, "key": self._key})
        self._connection.commit()

    def _take(self) -> None:
        taken = False
        while not taken:  # nobody can hold a key beforehand that is chosen now
            self._key = random.getrandbits(31)
            taken = bool(self._connection.scalar(_TAKE, {**self._space, "key": self._key}))

    def _other(self) -> Deployer | None:
        holders = deployers(self._connection, self._versions, self._space["space"])
        strangers = ", ".join(f"pid {holder.pid}, login {holder.login}" for holder in holders if not holder.may_deploy)
        if strangers and not self._ignored:
            log.warning("Ignoring locks in the place of the deployer lock: %s may not deploy here.", strangers)
            self._ignored = True
        return next((holder for holder in holders if holder.may_deploy), None)
