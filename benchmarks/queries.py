"""What the statements of app.queries cost as data grows, and what row level security and acting for a user add.

    python -m benchmarks.queries [--messages 50000 500000] [--rounds 200] [--users 50] [--json FILE]

On a scratch server that is gone afterwards; DATABASE_URL is not looked at. Every user has 50 conversations of 20
messages, half of them within a tenant, so that a page is as long whatever the number of messages; and one user a thread
of 5,000 more, which is read whole to tell what policies cost a row from what they cost a statement. The sizes, and each
statement with and without policies, take turns, so that what else the machine does falls on all alike.

* **end to end** is what a service waits for: a session, the block, the statement, the rows as objects, the commit.
* **server** is what the statement alone takes there, parsed and planned each time.
* **without** is the same statement as the owner of the tables, whom no policy binds.
* **at least** is the server's time under the least policy that could tell users apart: ``user_id = '<this user>'``, a
  constant that no function has to find out. No policy that is of use costs less.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID

import psycopg
import sqlalchemy as sa
from sqlalchemy.orm import Session

from app import embedded, queries
from app.acting_as import acting_as
from app.queries import ConversationPosition, MessagePosition
from benchmarks.ways import conninfo, upgrade

SETTINGS = {
    "shared_buffers": "1GB",
    "max_wal_size": "8GB",
    "fsync": "off",
    "synchronous_commit": "off",
    "random_page_cost": "1.1",  # as hosts with solid state disks have it
}
CONVERSATIONS, MESSAGES = 50, 20  # of a user, of a conversation
LONG = 5_000  # messages of the one long thread
LONG_USER, LONG_THREAD = UUID(int=1), UUID(int=2)
LIMITS = {"growth": 1.2, "policies": 1.1, "context": 1.5}

FILL = f"""
SET session_replication_role = replica;  -- no foreign keys, no triggers
SET synchronize_seqscans = off;
INSERT INTO users (id) SELECT md5('user ' || n)::uuid FROM generate_series(1, :users) AS n;
INSERT INTO tenants (id, name) SELECT md5('tenant ' || n)::uuid, 'Tenant' FROM generate_series(0, :users / 20) AS n;
INSERT INTO tenant_users (tenant_id, user_id)
  SELECT md5('tenant ' || n / 20)::uuid, md5('user ' || n)::uuid FROM generate_series(1, :users) AS n;
INSERT INTO conversations (id, user_id, tenant_id, title, created_at, updated_at)
  SELECT md5(format('conversation %s of %s', k, n))::uuid, md5('user ' || n)::uuid,
         CASE WHEN k % 2 = 0 THEN md5('tenant ' || n / 20)::uuid END, 'Trip to Lyon', at, at
  FROM generate_series(1, {CONVERSATIONS}) AS k, generate_series(1, :users) AS n,
       LATERAL (SELECT timestamptz '2026-01-01' + k * interval '1 day' + n * interval '1 second' AS at) AS moment;
INSERT INTO messages (conversation_id, user_id, role, content, created_at)
  SELECT md5(format('conversation %s of %s', k, n))::uuid, md5('user ' || n)::uuid,
         CASE m % 2 WHEN 1 THEN 'user' ELSE 'assistant' END, repeat('Two seats on Friday, please. ', 10),
         timestamptz '2026-01-01' + k * interval '1 day' + (m + 1) / 2 * interval '1 minute'
  FROM generate_series(1, {CONVERSATIONS}) AS k, generate_series(1, {MESSAGES}) AS m, generate_series(1, :users) AS n;
INSERT INTO users (id) VALUES ('{LONG_USER}');
INSERT INTO conversations (id, user_id) VALUES ('{LONG_THREAD}', '{LONG_USER}');
INSERT INTO messages (conversation_id, user_id, role, content, created_at)
  SELECT '{LONG_THREAD}', '{LONG_USER}', 'user', repeat('Two seats on Friday, please. ', 10),
         timestamptz '2026-01-01' + m * interval '1 minute'
  FROM generate_series(1, {LONG}) AS m;
SET session_replication_role = DEFAULT;
"""


@dataclasses.dataclass(frozen=True)
class Someone:
    """A user whose pages are measured."""

    user: UUID
    tenant: UUID
    conversation: UUID
    conversations: ConversationPosition  # in the middle of them
    messages: MessagePosition


Query = Callable[[Someone], sa.Select[Any]]
WHOLE = f"{LONG:,} messages of a thread"
QUERIES: dict[str, Query] = {
    "conversations of a user": lambda one: queries.conversations_of_user(one.user, limit=20),
    "the next of them": lambda one: queries.conversations_of_user(one.user, after=one.conversations, limit=20),
    "conversations of a tenant": lambda one: queries.conversations_of_tenant(one.tenant, limit=20),
    "a thread": lambda one: queries.thread(one.conversation, limit=15),
    "the next of it": lambda one: queries.thread(one.conversation, after=one.messages, limit=15),
    "the end of a thread": lambda one: queries.thread_backwards(one.conversation, limit=15),
    "what came before": lambda one: queries.thread_backwards(one.conversation, before=one.messages, limit=15),
    WHOLE: lambda one: queries.thread(one.conversation, limit=LONG),
}


@dataclasses.dataclass
class Size:
    """One number of messages, its database, and who is measured there."""

    messages: int
    engine: sa.Engine
    owners_engine: sa.Engine  # of its own: a plan that is kept is made anew whenever the role changes
    people: list[Someone]

    def asking(self, query: str) -> list[Someone]:
        """Return those who ask this: the long thread is one user's."""
        reader = dataclasses.replace(self.people[0], user=LONG_USER, conversation=LONG_THREAD)
        return [reader] if query == WHOLE else self.people


@dataclasses.dataclass
class Result:
    """One statement on one number of messages: times in microseconds, the median of all rounds."""

    query: str
    messages: int
    plan: str
    end_to_end: float
    end_to_end_without: float
    server: float
    server_without: float
    server_at_least: float

    @property
    def context(self) -> float:
        """End to end, as a user by as the owner."""
        return self.end_to_end / self.end_to_end_without

    @property
    def policies(self) -> float:
        """The same on the server."""
        return self.server / self.server_without

    @property
    def least(self) -> float:
        """What it is under the least policy."""
        return self.server_at_least / self.server_without


def main() -> None:
    """Measure, print the table, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--messages", type=int, nargs="+", default=[50_000, 500_000], help="up to 5000000")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--users", type=int, default=50, help="how many are measured, each in its turn")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chat-schema-bench-") as folder:
        Path(folder).chmod(0o711)
        with embedded.running(Path(folder) / "data", settings=SETTINGS) as server:
            sizes = [fill(server, messages, options.users) for messages in sorted(options.messages)]
            results = [result for name in QUERIES for result in measure(name, sizes, options.rounds)]
    print(table(results))
    if options.json:
        rows = [
            {**dataclasses.asdict(r), "context": r.context, "policies": r.policies, "least": r.least} for r in results
        ]
        options.json.write_text(json.dumps({"limits": LIMITS, "results": rows}, indent=1) + "\n")


def fill(server: embedded.Server, messages: int, people: int) -> Size:
    """Make a database of as many messages and choose who is measured."""
    name = f"messages_{messages}"
    began = time.perf_counter()
    users = max(messages // (CONVERSATIONS * MESSAGES), 1)
    with psycopg.connect(conninfo(server.url("postgres")), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    upgrade(server.url(name), "head")
    with psycopg.connect(conninfo(server.url(name)), autocommit=True) as connection:
        connection.execute(FILL.replace(":users", str(users)))
        connection.execute("VACUUM (ANALYZE)")
    engine = sa.create_engine(server.url(name))
    chosen = range(1, users + 1, max(users // people, 1))
    with Session(engine) as session:
        found = [someone(session, number) for number in list(chosen)[:people]]
    print(f"{messages:,} messages of {users:,} users: filled in {time.perf_counter() - began:.0f} s", flush=True)
    return Size(messages, engine, sa.create_engine(engine.url), found)


def someone(session: Session, number: int) -> Someone:
    """Return the user of this number, with positions in the middle of its pages."""
    user = session.scalars(sa.select(sa.func.md5(f"user {number}").cast(sa.Uuid))).one()
    conversations = session.scalars(queries.conversations_of_user(user)).all()
    conversation = next(c for c in conversations if c.tenant_id)
    messages = session.scalars(queries.thread(conversation.id)).all()
    middle = ConversationPosition.of(conversations[len(conversations) // 2])
    assert conversation.tenant_id is not None
    return Someone(user, conversation.tenant_id, conversation.id, middle, MessagePosition.of(messages[MESSAGES // 2]))


def measure(name: str, sizes: list[Size], rounds: int) -> Iterator[Result]:
    """Measure one statement on every size, with and without policies, each in its turn."""
    query = QUERIES[name]
    times: dict[tuple[int, str], list[float]] = {}
    for turn in range(-5, rounds):  # the first warm up
        for size in sizes:
            people = size.asking(name)
            one = people[turn % len(people)]
            for way, user in (("user", one.user), ("owner", None)):
                taken = {"end to end": end_to_end(size, query(one), user)}
                if turn % 10 == 0:
                    taken["server"] = on_the_server(size, query(one), user)
                    if user:
                        taken["at least"] = under_the_least_policy(size, query(one), user)
                for what, microseconds in taken.items():
                    if turn >= 0:
                        times.setdefault((size.messages, f"{what} {way}"), []).append(microseconds)
    for size in sizes:
        middle = {what: median(taken) for (messages, what), taken in times.items() if messages == size.messages}
        yield Result(
            name,
            size.messages,
            plan(size, name),
            middle["end to end user"],
            middle["end to end owner"],
            middle["server user"],
            middle["server owner"],
            middle["at least user"],
        )


def end_to_end(size: Size, statement: sa.Select[Any], user: UUID | None) -> float:
    """Return how long a service waits for the page, in microseconds."""
    before = time.perf_counter()
    engine = size.engine if user else size.owners_engine
    with Session(engine) as session, acting_as(session, user) if user else nullcontext():
        rows = session.scalars(statement).all()
        session.commit()
    taken = time.perf_counter() - before
    assert rows
    return taken * 1e6


def on_the_server(size: Size, statement: sa.Select[Any], user: UUID | None) -> float:
    """Return how long the statement takes on the server, in microseconds."""
    engine = size.engine if user else size.owners_engine
    with Session(engine) as session, acting_as(session, user) if user else nullcontext():
        return in_a_loop(session.connection(), statement)


def under_the_least_policy(size: Size, statement: sa.Select[Any], user: UUID) -> float:
    """Return the same where policies compare the owner with a constant, which is rolled back."""
    with Session(size.owners_engine) as session:
        for table in ("conversations", "messages"):
            session.execute(sa.text(f"ALTER POLICY {table}_select_own ON {table} USING (user_id = '{user}')"))
        with acting_as(session, user):
            return in_a_loop(session.connection(), statement)


def in_a_loop(connection: sa.Connection, statement: sa.Select[Any]) -> float:
    """Return the mean of 50 in a loop on the server, in microseconds, after one that fills its caches."""
    times = 50
    text = statement.compile(connection, compile_kwargs={"literal_binds": True}).string
    loop = f"""
        DO $loop$
        DECLARE began timestamptz;
        BEGIN
          FOR turn IN 0..{times} LOOP
            IF turn = 1 THEN
              began := clock_timestamp();
            END IF;
            EXECUTE $query${text}$query$;
          END LOOP;
          PERFORM set_config('bench.taken', extract(epoch FROM clock_timestamp() - began)::text, true);
        END
        $loop$
    """
    connection.exec_driver_sql(loop.replace("%", "%%"))
    taken = float(connection.exec_driver_sql("SELECT current_setting('bench.taken')").scalar_one())
    return taken / times * 1e6


def plan(size: Size, name: str) -> str:
    """Return how the server reads the page for its user: the nodes of the plan and their indexes."""
    one = size.asking(name)[0]
    with Session(size.engine) as session, acting_as(session, one.user):
        connection = session.connection()
        text = QUERIES[name](one).compile(connection, compile_kwargs={"literal_binds": True}).string
        [found] = connection.exec_driver_sql("EXPLAIN (FORMAT JSON) " + text.replace("%", "%%")).scalar_one()
    return " < ".join(nodes(found["Plan"]))


def nodes(node: dict[str, Any]) -> Iterator[str]:
    """Name the nodes from the innermost out, without those that policies evaluate once."""
    for child in node.get("Plans", ()):
        if child["Parent Relationship"] not in ("InitPlan", "SubPlan"):
            yield from nodes(child)
    yield f"{node['Node Type']} {node['Index Name']}" if "Index Name" in node else node["Node Type"]


def table(results: list[Result]) -> str:
    """Return the results as lines for a terminal; what is over a limit is marked."""
    lines = [
        f"{'statement':<28}{'messages':>10}{'p50 µs':>9}{'growth':>9}{'context':>9}{'server µs':>11}{'policies':>10}"
        f"{'at least':>10}"
    ]
    first: dict[str, Result] = {}
    for result in results:
        base = first.setdefault(result.query, result)
        growth = mark(result.end_to_end / base.end_to_end, LIMITS["growth"])
        context, policies = mark(result.context, LIMITS["context"]), mark(result.policies, LIMITS["policies"])
        lines.append(
            f"{result.query:<28}{result.messages:>10,}{result.end_to_end:>9.0f}{growth:>9}{context:>9}"
            f"{result.server:>11.0f}{policies:>10}{result.least:>9.2f}"
        )
        if result is base:
            lines.append(f"    {result.plan}")
        elif result.plan != base.plan:
            lines.append(f"    ANOTHER PLAN: {result.plan}")
    lines.append("! is over the limit: " + ", ".join(f"{name} {limit}" for name, limit in LIMITS.items()))
    return "\n".join(lines)


def mark(ratio: float, limit: float) -> str:
    """Return the ratio, with a mark where it is over its limit."""
    return f"{ratio:.2f}{'!' if ratio > limit else ' '}"


if __name__ == "__main__":
    main()
