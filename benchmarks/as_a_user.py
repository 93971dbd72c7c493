"""What one statement takes on the server for a user under the policies: milliseconds and pages, medians of rounds."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import psycopg as dialect

from app import embedded
from benchmarks.ways import conninfo, upgrade

SETTINGS = {"shared_buffers": "512MB", "fsync": "off", "synchronous_commit": "off", "random_page_cost": "1.1"}


class Taken(NamedTuple):
    """One statement: milliseconds that it took, planning included, that its process worked, and pages that it read."""

    milliseconds: float
    on_cpu: float
    pages: int


@contextmanager
def filled(statements: str) -> Iterator[psycopg.Connection]:
    """Yield a connection to a scratch server at head that holds what ``statements`` put there."""
    with tempfile.TemporaryDirectory(prefix="chat-schema-bench-") as folder:
        Path(folder).chmod(0o711)
        with embedded.running(Path(folder) / "data", settings=SETTINGS) as server:
            upgrade(server.url(), "head")
            with psycopg.connect(conninfo(server.url()), autocommit=True) as connection:
                connection.execute(statements.encode())
                connection.execute("VACUUM (ANALYZE)")
                yield connection


def measure(connection: psycopg.Connection, user: UUID | None, statement: sa.Select[Any] | str, rounds: int) -> Taken:
    """Ask ``statement`` as ``user``, or the owner of the tables, ``rounds`` times after one that fills the caches."""
    text = statement
    if not isinstance(statement, str):
        text = str(statement.compile(dialect=dialect.dialect(), compile_kwargs={"literal_binds": True}))
    explain = f"EXPLAIN (ANALYZE, TIMING OFF, BUFFERS, FORMAT JSON) {text}".replace("%%", "%")
    found = []
    for _ in range(rounds + 1):
        with connection.transaction():
            if user is not None:
                connection.execute(
                    "SELECT set_config('role', 'authenticated', true), set_config('request.jwt.claims', %s, true)",
                    [json.dumps({"sub": str(user)})],
                )
            before = on_cpu(connection)
            row = connection.execute(explain.encode()).fetchone()
            worked = (on_cpu(connection) - before) / 1000
            assert row is not None
            [[told]] = row
            plan = told["Plan"]
            taken = told["Planning Time"] + told["Execution Time"]
            found.append(Taken(taken, worked or taken, plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]))
    return Taken(*(median(each) for each in zip(*found[1:], strict=True)))


def on_cpu(connection: psycopg.Connection) -> float:
    """Return how long the connection's server process has worked, in microseconds; 0 where nothing tells."""
    told = Path(f"/proc/{connection.info.backend_pid}/schedstat")
    return int(told.read_text().split()[0]) / 1000 if told.exists() else 0.0
