"""One way, once, on a copy of the database: how long it took, what clients felt, what it left behind."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import psycopg
from alembic.util import CommandError

from app import embedded
from benchmarks import locks, traffic
from benchmarks.companion import Companion
from benchmarks.traffic import FlatClient, Latencies, Statement
from benchmarks.ways import Way, conninfo

COPY = "measured"
COLUMN = """
    SELECT count(*) FROM pg_catalog.pg_attribute
    WHERE attrelid = 'public.chat_messages'::regclass AND attname = 'conversation_id'
"""
LEFT_BEHIND = """
    SELECT count(*),
           count(*) FILTER (WHERE m.conversation_id IS NULL),
           count(*) FILTER (WHERE m.conversation_id IS NOT NULL AND c.user_id IS DISTINCT FROM m.user_id)
    FROM public.chat_messages AS m LEFT JOIN public.conversations AS c ON c.id = m.conversation_id
"""
NOTHING_DONE = "SELECT count(*), count(*), 0 FROM public.chat_messages"
SIZE = "SELECT pg_total_relation_size('public.chat_messages')"
SILENCE = 1.5  # seconds; else this program's last query would count as somebody's work, to which a backfill gives way
WAL = "SELECT pg_current_wal_insert_lsn() - '0/0'"


@dataclass(frozen=True)
class Clients:
    """What the clients of one run felt: ``before`` is the baseline, ``during`` what overlaps the migration."""

    statements: int
    failed: int
    errors: dict[str, int]
    before: Latencies
    during: Latencies
    after: Latencies


@dataclass(frozen=True)
class Result:
    """One run; sizes and WAL in bytes, ``locks`` in seconds for each mode; ``error`` where the way failed."""

    way: str
    rows: int
    seconds: float
    error: str | None
    nulls: int
    mismatches: int
    size_before: int
    size_after: int
    wal: int
    locks: dict[str, float] = field(default_factory=dict)
    clients: Clients | None = None


def measure(server: embedded.Server, template: str, way: Way, *, clients: bool, around: float) -> Result:
    """Run ``way`` on a copy of the database ``template``; clients run ``around`` seconds before and after it too."""
    url = server.url(COPY)
    with _administer(server) as connection:
        connection.execute(f"CREATE DATABASE {COPY} TEMPLATE {template} STRATEGY FILE_COPY")
        connection.execute("CHECKPOINT")
    try:
        with psycopg.connect(conninfo(url), autocommit=True, application_name="client") as connection:
            size_before = _value(connection, SIZE)
            _value(connection, "SELECT count(*) FROM public.chat_messages")  # into the cache
            talk = Companion(traffic.run, FlatClient, conninfo(url))
            table = _value(connection, "SELECT 'public.chat_messages'::regclass::oid")
            watch = Companion(locks.watch, conninfo(server.url("postgres")), COPY, table)
            with contextlib.ExitStack() as stack:
                if clients:
                    stack.enter_context(talk)
                    time.sleep(around)
                stack.enter_context(watch)
                wal, error = _value(connection, WAL), None
                if not clients:
                    time.sleep(SILENCE)
                began = time.monotonic()
                try:
                    way.run(url)
                except (psycopg.Error, CommandError) as failure:
                    error = str(failure).splitlines()[0]
                ended = time.monotonic()
                wal = _value(connection, WAL) - wal
                size_after = _value(connection, SIZE)
                if clients:
                    time.sleep(around)
            rows, nulls, mismatches = _left_behind(connection)
        sent = felt(talk.result, began, ended) if clients else None
        return Result(
            way.name, rows, ended - began, error, nulls, mismatches, size_before, size_after, wal, watch.result, sent
        )
    finally:
        with _administer(server) as connection:
            connection.execute(f"DROP DATABASE {COPY} WITH (FORCE)")


def _left_behind(connection: psycopg.Connection) -> tuple[int, int, int]:
    """Return how many messages there are, how many have no conversation, and how many have another user's."""
    row = connection.execute(LEFT_BEHIND if _value(connection, COLUMN) else NOTHING_DONE).fetchone()
    assert row is not None
    return int(row[0]), int(row[1]), int(row[2])


def felt(statements: Sequence[Statement], began: float, ended: float) -> Clients:
    """Sum up what clients sent before, during and after a migration (``time.monotonic``)."""
    errors = Counter(statement.error for statement in statements if statement.error)
    return Clients(
        statements=len(statements),
        failed=errors.total(),
        errors=dict(errors),
        before=Latencies.of([s for s in statements if s.began + s.seconds < began]),
        during=Latencies.of([s for s in statements if s.began < ended and s.began + s.seconds >= began]),
        after=Latencies.of([s for s in statements if s.began >= ended]),
    )


def _value(connection: psycopg.Connection, query: str) -> int:
    row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[0])


def _administer(server: embedded.Server) -> psycopg.Connection:
    return psycopg.connect(conninfo(server.url("postgres")), autocommit=True)
