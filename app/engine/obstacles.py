"""What is in the way of a run: sessions, owners, settings, the disk; and the statements that mend it."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from .blockers import SESSION, Blocker
from .deployer_lock import running_deployment
from .operations.registry import literal
from .options import Options
from .project import Project, VersionTable
from .replicas import ReplicaWatch, replicas_are_hidden
from .statements import MODES

GROWTH = 0.45
"""How much of its size a table has grown by in the worst run of that benchmark."""

BATCH = "the rows of one batch"
_LASTING = 2.0  # seconds that a transaction is still there after it was first seen: most of a service's are not
_CONFLICTS = {  # with which modes of others each of ours does not get along
    "ShareUpdateExclusive": MODES[3:],
    "Share": [MODES[2], MODES[3], *MODES[5:]],
    "ShareRowExclusive": MODES[2:],
    "Exclusive": MODES[1:],
    "AccessExclusive": MODES,
    BATCH: MODES[1:],  # a client that holds one of its rows holds the table so
}


@dataclass(frozen=True)
class Obstacle:
    """What stands in the way, and the statements that mend it."""

    says: str
    mends: str = ""

    def __str__(self) -> str:
        return "\n    ".join([self.says, *self.mends.splitlines()])


@dataclass(frozen=True)
class Lock:
    """The strongest lock that a revision takes on a table, and for how long."""

    table: str
    mode: str
    lasts: str


def would_stop(
    connection: sa.Connection,
    locks: Sequence[Lock],
    backfilled: Collection[str],
    options: Options,
    project: Project,
    versions: VersionTable,
) -> Iterator[Obstacle]:
    """Yield what of this server and its sessions would stop a run that wants ``locks`` and backfills these tables."""
    deployer = running_deployment(connection, versions, project.lock_space)
    if deployer is not None:
        yield Obstacle(
            f"Another deployment is running (pid {deployer.pid}, login {deployer.login}). A run would wait for it "
            f"for {options.deployer_wait:g} s (-x deployer-wait), and find less to do."
        )
    yield from _cannot_write(connection)
    yield from _not_owned(connection, locks)
    yield from _sessions(connection, locks, options)
    yield from _disk(connection, backfilled)


def worth_knowing(
    connection: sa.Connection, backfilled: Collection[str], builds: bool, options: Options
) -> Iterator[str]:
    """Yield what would not stop a run, and that whoever starts it may want to know; ``builds`` says that of indexes."""
    if backfilled:
        yield from _lag(connection, options)
        grows = sum(_bytes(connection, table) for table in backfilled) * GROWTH
        if grows > 1 << 20:
            yield f"The tables may grow by {_size(grows)}, and the server writes at least as much of its log."
    if builds:
        yield from _old_snapshots(connection)
    for name, value in connection.execute(_TIMEOUTS):
        yield f"The login's {name} of {value} does not bind a run: it sets its own."
    if schemas := list(connection.scalars(_OPEN_SCHEMAS)):
        yield (
            f"Everybody may create objects in {', '.join(schemas)}, which is on the login's search_path. A run of ours "
            f"looks up nothing there, but services may: REVOKE CREATE ON SCHEMA {schemas[0]} FROM PUBLIC;"
        )


_TIMEOUTS = sa.text(
    """
    SELECT s.name, s.setting || coalesce(s.unit, '') FROM pg_catalog.pg_settings AS s
    WHERE s.name IN ('statement_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')
      AND s.reset_val <> '0'
    """
)
# by the path that the login has outside of a run
_OPEN_SCHEMAS = sa.text(
    """
    SELECT n.nspname
    FROM pg_catalog.pg_settings AS s
    CROSS JOIN LATERAL pg_catalog.unnest(pg_catalog.string_to_array(s.reset_val, ',')) AS p (name)
    JOIN pg_catalog.pg_namespace AS n ON n.nspname = pg_catalog.btrim(p.name, ' "')
    CROSS JOIN LATERAL pg_catalog.aclexplode(n.nspacl) AS a
    WHERE s.name = 'search_path' AND a.grantee = 0 AND a.privilege_type = 'CREATE'
    """
)
_READ_ONLY = sa.text(
    "SELECT pg_catalog.pg_is_in_recovery() AS replica,"
    " pg_catalog.current_setting('default_transaction_read_only') = 'on' AS read_only,"
    " pg_catalog.current_database() AS database, current_user AS login"
)


def _cannot_write(connection: sa.Connection) -> Iterator[Obstacle]:
    row = connection.execute(_READ_ONLY).one()
    quote = connection.dialect.identifier_preparer.quote_identifier
    if row.replica:
        yield Obstacle("This server is a replica, which only reads. Point the address at the primary.")
    elif row.read_only:
        yield Obstacle(
            "default_transaction_read_only is on here, so nothing can be written.",
            f"ALTER DATABASE {quote(row.database)} RESET default_transaction_read_only;\n"
            f"ALTER ROLE {quote(row.login)} RESET default_transaction_read_only;",
        )


_OWNERS = sa.text(
    """
    SELECT n.nspname || '.' || c.relname AS name, pg_catalog.pg_get_userbyid(c.relowner) AS owner,
           current_user AS login
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname || '.' || c.relname = ANY (CAST(:names AS text[])) AND c.relkind IN ('r', 'p')
      AND NOT pg_catalog.pg_has_role(c.relowner, 'USAGE')
    ORDER BY 1
    """
)


def _not_owned(connection: sa.Connection, locks: Sequence[Lock]) -> Iterator[Obstacle]:
    """Only its owner may alter a table."""
    altered = {lock.table for lock in locks if lock.mode == "AccessExclusive"}
    for row in connection.execute(_OWNERS, {"names": sorted(altered)}):
        yield Obstacle(
            f"{row.name} belongs to {row.owner}, and the login {row.login} may not alter it. Run the command as its "
            "owner, or have that one run:",
            f"GRANT {row.owner} TO {row.login};",
        )


_HELD = sa.text(
    f"""
    SELECT {SESSION}, n.nspname || '.' || c.relname AS name, pg_catalog.replace(l.mode, 'Lock', '') AS mode,
           l.virtualtransaction AS transaction,
           (SELECT p.gid FROM pg_catalog.pg_prepared_xacts AS p
            JOIN pg_catalog.pg_locks AS x ON x.locktype = 'transactionid' AND x.transactionid = p.transaction
            WHERE l.pid IS NULL AND x.virtualtransaction = l.virtualtransaction) AS prepared
    FROM pg_catalog.pg_locks AS l
    JOIN pg_catalog.pg_class AS c ON c.oid = l.relation
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_database AS d ON d.oid = l.database AND d.datname = pg_catalog.current_database()
    LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
    WHERE l.locktype = 'relation' AND l.granted AND n.nspname || '.' || c.relname = ANY (CAST(:names AS text[]))
      AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
      AND (l.pid IS NULL OR a.pid IS NOT NULL)  -- a session that has just ended holds nothing
      -- autovacuum, which is no role's session, gives way
      AND (l.pid IS NULL OR a.usesysid IS NOT NULL OR a.query LIKE '%(to prevent wraparound)')
    ORDER BY a.xact_start
    """
)


def _sessions(connection: sa.Connection, locks: Sequence[Lock], options: Options) -> Iterator[Obstacle]:
    """Look twice: what a service does is over by then, and what is still there may stay."""
    first = _in_the_way(connection, locks)
    if not first:
        return
    until = time.monotonic() + _LASTING
    while first and time.monotonic() < until:
        time.sleep(0.1)
        now = _in_the_way(connection, locks)
        first = {key: now[key] for key in first.keys() & now.keys()}
    told = set()
    for (transaction, _), (row, lock) in sorted(first.items(), key=lambda each: str(each[0])):
        if transaction in told:
            continue
        told.add(transaction)
        wants = f"{lock.mode} on {lock.table}, for {options.lock_retry_for:g} s"
        if row.prepared is not None:
            yield Obstacle(
                f"A prepared transaction holds {row.mode} on {row.name}. A run would wait for {wants}.",
                f"ROLLBACK PREPARED {literal(row.prepared)};  -- or COMMIT PREPARED",
            )
            continue
        blocker = Blocker(row.pid, row.application, row.state, row.age, row.query)
        yield Obstacle(
            f"{blocker}\nIt holds {row.mode} on {row.name}. A run would wait for {wants}.",
            f"SELECT pg_terminate_backend({row.pid});",
        )


def _in_the_way(connection: sa.Connection, locks: Sequence[Lock]) -> dict[tuple[str, str], tuple[Any, Lock]]:
    names = sorted({lock.table for lock in locks})
    found: dict[tuple[str, str], tuple[Any, Lock]] = {}
    for row in connection.execute(_HELD, {"names": names}):
        for lock in locks:
            if lock.table == row.name and row.mode in _CONFLICTS.get(lock.mode, ()):
                found.setdefault((row.transaction, row.name), (row, lock))
    connection.rollback()
    return found


_BYTES = sa.text("SELECT coalesce(pg_catalog.pg_total_relation_size(to_regclass(:name)), 0)")
_DATA = sa.text(
    "SELECT s.setting FROM pg_catalog.pg_settings AS s WHERE s.name = 'data_directory'"
    " AND pg_catalog.inet_server_addr() IS NULL"
)


def _bytes(connection: sa.Connection, table: str) -> int:
    return int(connection.scalar(_BYTES, {"name": table}) or 0)


def _disk(connection: sa.Connection, tables: Collection[str]) -> Iterator[Obstacle]:
    """Compare what is needed with what is free, where the server's data lie on this machine and can be seen."""
    needed = sum(_bytes(connection, table) for table in tables) * GROWTH * 2  # and the log
    data = connection.scalar(_DATA)
    if not data or not needed:
        return
    try:
        disk = os.statvfs(data)
    except OSError:
        return
    free = disk.f_bavail * disk.f_frsize
    if free < needed:
        yield Obstacle(f"The disk of {data} has {_size(free)} free, and the backfills may need {_size(needed)}.")


def _size(number: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 1024 or unit == "GB":
            break
        number /= 1024
    return f"{number:,.0f} {unit}"


def _lag(connection: sa.Connection, options: Options) -> Iterator[str]:
    if replicas_are_hidden(connection):
        yield "This login cannot see how far the replicas are (GRANT pg_monitor), so a backfill would wait for none."
        return
    watch = ReplicaWatch()
    lag = watch.worst(connection)
    if lag is None:
        return
    connection.rollback()
    time.sleep(1)
    lag = watch.worst(connection)
    if lag is not None and lag.seconds:
        yield (
            f"The replica {lag.name} is behind. A backfill would wait for it while it is more than "
            f"{options.max_replica_lag:g} s behind (-x max-replica-lag)."
        )


_SNAPSHOTS = sa.text(
    f"""
    SELECT {SESSION}
    FROM pg_catalog.pg_stat_activity AS a
    WHERE a.datname = pg_catalog.current_database() AND a.pid <> pg_catalog.pg_backend_pid()
      AND a.xact_start < pg_catalog.clock_timestamp() - interval '30 seconds' AND a.backend_type = 'client backend'
    ORDER BY a.xact_start LIMIT 5
    """
)


def _old_snapshots(connection: sa.Connection) -> Iterator[str]:
    for row in connection.execute(_SNAPSHOTS):
        yield f"An index build would wait for the end of {Blocker(*row)}; meanwhile it blocks nobody."
