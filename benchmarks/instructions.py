"""How many instructions of the server a statement takes: as the owner, as a user under row level security, and bare.

    python -m benchmarks.instructions [--postgres 18] [--repeat 20] [--json FILE]

A count of instructions is the same on a busy machine as on an idle one, so that two ways can be compared by a few per
cent. The server runs under valgrind's callgrind, which counts what a backend executes in user space: a session that
runs a statement often, less one that runs it seldom, by the difference. What the kernel does is not in it.

The data is skewed: among 200 users one has 1,000 conversations, one of them of 5,000 messages, a quarter within two
tenants, and 200 more within a tenant that it has left. On a scratch server that is gone afterwards; DATABASE_URL is not
looked at.

* **planned**: parsed and planned for each execution. **generic**: prepared, with a plan that is kept.
* **owner** is the owner of the tables, whom no policy binds; **user** is ``authenticated`` with a claim.
* **append** is an INSERT of one message: **bare** into a table that has the columns, CHECKs and indexes of ``messages``
  and neither keys nor triggers nor policies; **user** sets its claims in the same transaction, as a service does.
  ``resting``: to a conversation that nothing was appended to for a while; ``busy``: to one that has just had another.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from uuid import UUID, uuid4

import psycopg

from app import embedded, unprivileged
from benchmarks.ways import conninfo, upgrade
from tests.postgres_binaries import NEWEST, SUPPORTED, binaries

USER = UUID(int=1)
THREAD, SHARED_THREAD = UUID(int=10), UUID(int=11)  # personal, and within a tenant
CLAIMS = "SELECT set_config('role', 'authenticated', %s), set_config('request.jwt.claims', %s, %s)"
LIMITS = {"planned": 1.35, "generic": 1.30, "append": 2.5}

FILL = f"""
SET session_replication_role = replica;  -- no foreign keys; what triggers fill is filled below
INSERT INTO users (id) SELECT lpad(to_hex(n), 32, '0')::uuid FROM generate_series(1, 200) AS n;
INSERT INTO tenants (id, name) SELECT lpad(to_hex(n), 32, '0')::uuid, 'Tenant' FROM generate_series(1, 3) AS n;
INSERT INTO tenant_users (tenant_id, user_id)
  SELECT t.id, u.id FROM tenants AS t, users AS u WHERE (t.id, u.id) <> ('{UUID(int=3)}', '{USER}');
INSERT INTO conversations (id, user_id, tenant_id, created_at, updated_at)
  SELECT lpad(to_hex(9 + k), 32, '0')::uuid, '{USER}',
         CASE WHEN k > 1000 THEN '{UUID(int=3)}'::uuid
              WHEN k <= 500 AND k % 2 = 0 THEN lpad(to_hex(k / 2 % 2 + 1), 32, '0')::uuid END, at, at
  FROM generate_series(1, 1200) AS k,
       LATERAL (SELECT timestamptz '2026-01-01' + k % 1000 * interval '1 minute' AS at) AS moment;
INSERT INTO conversations (id, user_id, created_at, updated_at)
  SELECT gen_random_uuid(), u.id, timestamptz '2026-01-01', timestamptz '2026-01-01' + k * interval '1 minute'
  FROM users AS u, generate_series(1, 20) AS k WHERE u.id <> '{USER}';
INSERT INTO messages (conversation_id, user_id, role, content, created_at)
  SELECT c.id, c.user_id, 'user', repeat('Two seats on Friday, please. ', 10), c.created_at + m * interval '1 second'
  FROM conversations AS c, generate_series(1, 5000) AS m
  WHERE m <= CASE WHEN c.id = '{THREAD}' THEN 5000 ELSE 20 END;
CREATE TABLE bare (LIKE messages INCLUDING ALL);
INSERT INTO bare OVERRIDING SYSTEM VALUE SELECT * FROM messages;
UPDATE messages AS m SET tenant_id = c.tenant_id FROM conversations AS c
  WHERE c.id = m.conversation_id AND c.tenant_id IS NOT NULL;
SET session_replication_role = DEFAULT;
VACUUM (ANALYZE);
"""


COLUMNS = (
    "id, conversation_id, user_id, role, content, tool_calls, metadata, idempotency_key, seq, created_at, tenant_id"
)
THREAD_PAGE = f"SELECT {COLUMNS} FROM messages WHERE conversation_id = %s ORDER BY created_at, seq LIMIT %s"
SIDEBAR = (
    "SELECT id, tenant_id, user_id, title, metadata, created_at, updated_at FROM conversations"
    " WHERE user_id = %s ORDER BY updated_at DESC, id DESC LIMIT %s"
)
TENANT_SIDEBAR = SIDEBAR.replace("WHERE user_id", "WHERE tenant_id")
APPEND = "INSERT INTO {table} (id, conversation_id, user_id, role, content) VALUES (%s, %s, %s, 'user', %s)"
PAGES: dict[str, tuple[str, tuple[UUID, int]]] = {
    "thread of 15": (THREAD_PAGE, (THREAD, 15)),
    "thread of 15 in a tenant": (THREAD_PAGE, (SHARED_THREAD, 15)),
    "sidebar of 20": (SIDEBAR, (USER, 20)),
    "sidebar of 20 in a tenant": (TENANT_SIDEBAR, (UUID(int=1), 20)),
}


@dataclasses.dataclass
class Result:
    """Instructions of one execution, in thousands; ``ratio`` is to the first way of the same statement."""

    postgres: int
    statement: str
    way: str
    instructions: float
    ratio: float
    limit: float | None = None


class Server:
    """A PostgreSQL whose backends count their instructions."""

    def __init__(self, major: int, folder: Path) -> None:
        self.major = major
        self.folder = folder
        self.data = folder / "data"
        self.account = unprivileged.account_for(self.data)
        self.programs = binaries(major)
        self.counts = folder / "counts"
        self.counts.mkdir()
        unprivileged.hand_over(self.counts, self.account)
        self.appended = 0

    def fill(self) -> None:
        """Make the database at head, and the data, at full speed."""
        with embedded.running(self.data, bin_dir=self.programs) as server:
            upgrade(server.url(), "head")
            with psycopg.connect(conninfo(server.url()), autocommit=True) as connection:
                for statement in FILL.split(";\n"):
                    connection.execute(statement.encode())

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        """Run it under callgrind meanwhile."""
        programs = unprivileged.installation_for(self.account, self.programs) if self.account else self.programs
        counter = [valgrind(), "--tool=callgrind", "--quiet", f"--callgrind-out-file={self.counts}/%p"]
        served = [programs / "postgres", "-D", self.data, "-k", self.counts]
        settings = ("listen_addresses=", "autovacuum=off", "fsync=off", "jit=off", "max_parallel_workers=0")
        options = [word for setting in settings for word in ("-c", setting)]
        environment = {n: v for n, v in os.environ.items() if not n.startswith(("PG", "LC_", "LANG"))}
        account = unprivileged.run_as(self.account)
        del account["check"]
        with (self.folder / "log").open("w") as log:
            process = subprocess.Popen(
                [*counter, *served, *options], stdout=log, stderr=log, env=environment, **account
            )
        try:
            self._wait_for(process)
            yield
        finally:
            process.terminate()
            process.wait()

    def _wait_for(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + 120
        while True:
            try:
                self.connect().close()
                return
            except psycopg.OperationalError:
                if process.poll() is not None or time.monotonic() > deadline:
                    said = (self.folder / "log").read_text(errors="replace")
                    raise SystemExit(
                        f"PostgreSQL did not start under valgrind, so nothing was counted:\n{said}"
                    ) from None
                time.sleep(0.2)

    def connect(self) -> psycopg.Connection:
        """Open a session as the owner of the tables."""
        return psycopg.connect(host=str(self.counts), user="postgres", dbname=embedded.DATABASE, autocommit=True)

    def page(self, name: str, *, user: bool, generic: bool, repeat: int) -> float:
        """Return the instructions of one execution of a page."""
        text, values = PAGES[name]

        def session(times: int) -> int:
            with self.connect() as connection:
                if generic:
                    connection.execute("SET plan_cache_mode = force_generic_plan")
                if user:
                    act(connection, for_the_transaction=False)
                for _ in range(times):
                    assert connection.execute(text, values, prepare=generic).fetchall()
                return connection.info.backend_pid

        return self._difference(session, repeat)

    def append(self, table: str, *, user: bool, busy: bool, repeat: int) -> float:
        """Return the instructions of a transaction that appends one message."""

        def session(times: int) -> int:
            with self.connect() as connection:
                for _ in range(times):
                    self.appended += 0 if busy else 1
                    thread = THREAD if busy else UUID(int=12 + 2 * self.appended)  # a personal one that rests
                    message = (uuid4(), thread, USER, "Two seats on Friday, please.")
                    with connection.transaction():
                        if user:
                            act(connection, for_the_transaction=True)
                        connection.execute(APPEND.format(table=table), message, prepare=False)
                return connection.info.backend_pid

        return self._difference(session, repeat)

    def _difference(self, session: Callable[[int], int], repeat: int) -> float:
        session(5)  # the first reader of a page leaves marks in it, and files of the catalog are made
        few, many = (self._total(session(times)) for times in (5, 5 + repeat))
        return (many - few) / repeat / 1000

    def _total(self, pid: int) -> int:
        """Return what the backend has counted, once it has ended."""
        file, deadline = self.counts / str(pid), time.monotonic() + 60
        while time.monotonic() < deadline:
            if file.exists() and (found := re.search(r"^(?:totals|summary): (\d+)", file.read_text(), re.MULTILINE)):
                return int(found[1])
            time.sleep(0.05)
        raise SystemExit(f"The backend {pid} has left no count, so nothing can be said; see {self.folder / 'log'}.")


def act(connection: psycopg.Connection, *, for_the_transaction: bool) -> None:
    """Be the user, for a transaction as services are, or for the session: then the statement alone is counted."""
    claims = json.dumps({"sub": str(USER)})
    connection.execute(CLAIMS, [for_the_transaction, claims, for_the_transaction], prepare=False)


def valgrind() -> str:
    """Return the program that counts."""
    program = shutil.which("valgrind")
    if program is None:
        raise SystemExit(
            "valgrind is not installed, so instructions cannot be counted. Install it (apt-get install valgrind) and"
            " run this again; python -m benchmarks.queries measures times without it."
        )
    return program


def measure(server: Server, repeat: int) -> Iterator[Result]:
    """Measure every page and every append."""
    for name in PAGES:
        for way in ("planned", "generic"):
            both = [server.page(name, user=user, generic=way == "generic", repeat=repeat) for user in (False, True)]
            for who, count in zip(("owner", "user"), both, strict=True):
                limit = LIMITS[way] if who == "user" and "tenant" not in name else None
                yield Result(server.major, f"{name}, {way}", who, count, count / both[0], limit)
    bare = server.append("bare", user=False, busy=True, repeat=repeat)
    yield Result(server.major, "append", "bare", bare, 1)
    for user in (False, True):
        for busy in (True, False):
            count = server.append("messages", user=user, busy=busy, repeat=repeat)
            way = f"{'user' if user else 'owner'}, {'busy' if busy else 'resting'}"
            yield Result(server.major, "append", way, count, count / bare, LIMITS["append"] if user else None)


HEADER = f"{'PostgreSQL':<12}{'statement':<36}{'way':<16}{'thousands':>10}{'ratio':>8}{'at most':>9}"


def line(result: Result) -> str:
    """Return a result for a terminal; what is over its limit is marked."""
    r = result
    mark = "!" if r.limit and r.ratio > r.limit else ""
    limit = f"{r.limit:.2f}" if r.limit else ""
    return f"{r.postgres:<12}{r.statement:<36}{r.way:<16}{r.instructions:>10,.0f}{r.ratio:>8.2f}{limit:>9}{mark}"


def main() -> None:
    """Count, print each result as it comes, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--postgres", type=int, nargs="+", choices=SUPPORTED, default=[NEWEST])
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    valgrind()
    print(HEADER, flush=True)
    results: list[Result] = []
    for major in options.postgres:
        with tempfile.TemporaryDirectory(prefix="chat-schema-bench-") as scratch:
            Path(scratch).chmod(0o711)
            server = Server(major, Path(scratch))
            server.fill()
            with server.counting():
                for result in measure(server, options.repeat):
                    print(line(result), flush=True)
                    results.append(result)
    if options.json:
        rows = [dataclasses.asdict(result) for result in results]
        options.json.write_text(
            json.dumps({"date": date.today().isoformat(), "limits": LIMITS, "results": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
