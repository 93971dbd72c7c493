"""Take databases of older applications to head while their clients are at work, and tell what these feel.

    python -m benchmarks.adoption [--sessions 200000] [--messages 1000000] [--only 3a] [--workers 1] [--json FILE]

* **3a**: ``chat_sessions`` with one array each, of 2 to 16 messages, of 2,000 in every thousandth session, on a
  platform like Supabase. Clients come through PostgREST and write whole arrays.
* **2**: ``conversations`` and ``messages`` of 20 each, on a plain server. Clients send SQL as the owner of the tables.

On a scratch server that is gone afterwards; DATABASE_URL is not looked at. The databases are those of
``../shared/legacy`` (``CHAT_SCHEMA_LEGACY``) with real conversations in them. The exit code is 1 if a statement of a
client failed, a row is not as it was, or ``verify`` finds something.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa
from alembic.config import Config

from app import database, embedded, verification
from benchmarks import traffic
from benchmarks.backfill import SETTINGS
from benchmarks.companion import Companion
from benchmarks.corpus import Corpus
from benchmarks.measure import Clients, felt
from benchmarks.traffic import CLIENTS, Client
from benchmarks.ways import conninfo, upgrade
from tests.adoption import legacy
from tests.adoption.old_clients import Api, Auth

LONG, EVERY = 2_000, 1_000  # messages of a long session, and one session in how many is long
LENGTHS = range(2, 17)  # of the others, in turn
OF_A_USER = 50  # sessions, conversations
OF_A_CONVERSATION = 20  # messages
TENANTS = 100
MARK = "said to the benchmark"  # what the clients write, so that the rest can be counted


def uid(kind: str, number: int) -> uuid.UUID:
    """Return the id of a row."""
    return uuid.uuid5(uuid.NAMESPACE_OID, f"{kind} {number}")


class SessionClient(Client):
    """Writes arrays through PostgREST; ``address`` is the one for its login, the superuser's, and how many users."""

    def open(self) -> None:
        authenticator, admin, users = self.address
        self.api, self.auth = Api(authenticator), Auth(admin)
        self.users = range(self.number, users, CLIENTS + 1)
        self.made: list[tuple[str, str]] = []

    def turn(self) -> None:
        chance, number = self.random.random(), self.random.choice(self.users)
        user = str(uid("user", number))
        if chance < 0.30:
            self.timed(self.api.select, user, "chat_sessions", {"user_id": user}, "updated_at")
        elif chance < 0.70:
            session = str(uid("session", number * OF_A_USER + self.random.randrange(OF_A_USER)))
            found = self.timed(self.api.select, user, "chat_sessions", {"id": session})
            if found:
                said = {"role": "user", "content": MARK, "timestamp": "2026-02-01T10:00:00Z"}
                written = {"messages": [*found[0]["messages"], said]}
                self.timed(self.api.update, user, "chat_sessions", session, written)
        elif chance < 0.85 or not self.made:
            tenant = str(uid("tenant", number % TENANTS))
            row = {"tenant_id": tenant, "user_id": user, "messages": [{"role": "user", "content": MARK}]}
            made = self.timed(self.api.insert, user, "chat_sessions", row)
            if made:
                self.made.append((user, made["id"]))
        elif chance < 0.95:
            user, session = self.made.pop()
            self.timed(self.api.delete, user, "chat_sessions", {"id": session})
        else:
            self.timed(self.auth.sign_up, f"{uuid.uuid4()}@example.test")

    def write_for_a_while(self) -> None:
        user = str(uid("user", self.users[0]))
        session = {"tenant_id": str(uid("tenant", self.users[0] % TENANTS)), "user_id": user}
        with self.api.transaction():
            self.timed(self.api.insert, user, "chat_sessions", {**session, "messages": []})
            self.rest()


class TodoClient(Client):
    """Sends the SQL of its repository as the owner of the tables; ``address`` is libpq's, and how many users."""

    def open(self) -> None:
        self.connection = psycopg.connect(self.address[0], autocommit=True, prepare_threshold=None)
        self.users = range(self.number, self.address[1], CLIENTS + 1)
        self.made: list[uuid.UUID] = []

    def run(self, statement: str, *parameters: object) -> Any:
        """Return the cursor after ``statement``, None where it failed."""
        return self.timed(self.connection.execute, statement, parameters)

    def turn(self) -> None:
        chance, number = self.random.random(), self.random.choice(self.users)
        user = uid("user", number)
        conversation = uid("conversation", number * OF_A_USER + self.random.randrange(OF_A_USER))
        if chance < 0.20:
            self.run("SELECT * FROM conversations WHERE user_id = %s ORDER BY updated_at DESC", user)
        elif chance < 0.45:
            self.run("SELECT * FROM messages WHERE conversation_id = %s ORDER BY created_at ASC", conversation)
        elif chance < 0.80:
            self.say(conversation, user)
        elif chance < 0.90 or not self.made:
            made = self.run("INSERT INTO conversations (user_id) VALUES (%s) RETURNING id", user)
            if made:
                self.made.append(made.fetchone()[0])
                self.say(self.made[-1], user)
        elif chance < 0.95:
            self.run("DELETE FROM conversations WHERE id = %s", self.made.pop())
        else:
            self.run("INSERT INTO users (email, password_hash) VALUES (%s, 'x')", f"{uuid.uuid4()}@example.test")

    def say(self, conversation: uuid.UUID, user: uuid.UUID) -> None:
        """Add a message to a conversation, and note that it is active."""
        insert = "INSERT INTO messages (conversation_id, user_id, role, content) VALUES (%s, %s, 'user', %s)"
        self.run(insert, conversation, user, MARK)
        self.run("UPDATE conversations SET updated_at = now() WHERE id = %s", conversation)

    def write_for_a_while(self) -> None:
        self.run("BEGIN")
        self.say(uid("conversation", self.number * OF_A_USER), uid("user", self.number))
        self.rest()
        self.run("COMMIT")


@dataclasses.dataclass(frozen=True)
class Start:
    """A database to begin with: how it is filled, who works on it, and what must be the same afterwards.

    ``before`` and ``after`` are queries of how many messages there are that no client wrote, and the sum of their
    hashes.
    """

    name: str
    platform: str
    client: type[Client]
    before: str
    after: str


SAME = "count(*), sum(hashtextextended({content}, 0)::numeric)"
STARTS = (
    Start(
        "3a",
        "supabase-all",
        SessionClient,
        f"SELECT {SAME.format(content='e ->> $$content$$')}"
        " FROM public.chat_sessions AS s, jsonb_array_elements(s.messages) AS e"
        " WHERE s.tenant_id IN (SELECT t.id FROM public.tenants AS t WHERE t.name = 'bulk')",
        f"SELECT {SAME.format(content='m.content')}"
        " FROM public.messages AS m JOIN public.conversations AS c ON c.id = m.conversation_id"
        " WHERE c.tenant_id IN (SELECT t.id FROM public.tenants AS t WHERE t.name = 'bulk')"
        f" AND m.content <> '{MARK}'",
    ),
    Start(
        "2",
        "plain",
        TodoClient,
        f"SELECT {SAME.format(content='m.content')} FROM public.messages AS m",
        f"SELECT {SAME.format(content='m.content')} FROM public.messages AS m WHERE m.content <> '{MARK}'",
    ),
)


@dataclasses.dataclass(frozen=True)
class Result:
    """One start: its messages, how long the upgrade took in seconds, what clients felt, what is not as it should be."""

    start: str
    parents: int
    messages: int
    workers: int
    seconds: float
    clients: Clients
    wrong: list[str]


def main() -> int:
    """Measure, print the table, and write what was asked for."""
    options = _options()
    if not legacy.LEGACY.is_dir():
        sys.exit(f"There are no databases of older applications in {legacy.LEGACY}: set CHAT_SCHEMA_LEGACY.")
    results = []
    with tempfile.TemporaryDirectory(prefix="chat-schema-bench-") as folder:
        Path(folder).chmod(0o711)
        with embedded.running(Path(folder) / "data", settings=SETTINGS) as server:
            corpus = Corpus.find(options.data)
            for start in STARTS:
                if options.only in ("", start.name):
                    results.append(measure(server, start, corpus, options))
                    print(line(results[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps([dataclasses.asdict(result) for result in results], indent=1) + "\n")
    return 1 if any(result.wrong for result in results) else 0


def measure(server: embedded.Server, start: Start, corpus: Corpus, options: argparse.Namespace) -> Result:
    """Fill a database, let clients in, upgrade it, and look at what has become of it."""
    with legacy.place(server, start.platform) as place:
        place.load(start.name)
        with place.admin.connect() as connection:
            if start.name == "3a":
                parents, users = options.sessions, fill_sessions(connection, corpus, options.sessions)
                address: Any = (place.url_of("authenticator"), place.admin.url, users)
            else:
                parents = options.messages // OF_A_CONVERSATION
                users = fill_conversations(connection, corpus, parents)
                address = (conninfo(sa.make_url(place.url)), users)
            connection.execute("VACUUM (ANALYZE)")
            connection.execute("CHECKPOINT")
            before = connection.execute(start.before.encode()).fetchone()
            assert before is not None
            print(f"{start.name}: {before[0]:,} messages in {parents:,} of {users:,} users", flush=True)
            told = (*legacy.STARTS[start.name].options, f"backfill-workers={options.workers}")
            with Companion(traffic.run, start.client, address) as talk:
                time.sleep(options.around)
                began = time.monotonic()
                upgrade(sa.make_url(place.url), "head", "rehearse=no", *told)  # what is measured is the upgrade
                ended = time.monotonic()
                time.sleep(options.around)
            sent = felt(talk.result, began, ended)
            wrong = [f"{number} statements failed: {error}" for error, number in sent.errors.items()]
            after = connection.execute(start.after.encode()).fetchone()
            if after != before:
                wrong.append(f"messages were {before}, are {after}")
        wrong += problems(place)
        return Result(start.name, parents, before[0], options.workers, ended - began, sent, wrong)


def problems(place: legacy.Place) -> list[str]:
    """Return what ``chat-schema verify`` finds."""
    engine = sa.create_engine(place.url, poolclass=sa.NullPool)
    config = Config(database.project_folder() / "alembic.ini")
    with engine.connect() as connection:
        checks = list(verification.verify(connection, config))
    return [f"{check.name}: {problem}" for check in checks for problem in check.problems]


def fill_sessions(connection: psycopg.Connection, corpus: Corpus, sessions: int) -> int:
    """Write ``sessions`` arrays of real messages, with their users and tenants; return how many users."""
    users = sessions // OF_A_USER
    people = "id, instance_id, aud, role, email, raw_app_meta_data, raw_user_meta_data, created_at, updated_at"
    with connection.transaction(), connection.cursor() as cursor:
        connection.execute("SET LOCAL session_replication_role = replica")  # no foreign keys: they hold
        with cursor.copy(f"COPY auth.users ({people}, is_sso_user, is_anonymous) FROM STDIN") as copy:
            for n in range(users):
                row = (uid("user", n), uuid.UUID(int=0), "authenticated", "authenticated", f"person{n}@example.test")
                copy.write_row((*row, "{}", "{}", "2026-01-01", "2026-01-01", False, False))
        with cursor.copy("COPY public.tenants (id, name) FROM STDIN") as copy:
            for n in range(TENANTS):
                copy.write_row((uid("tenant", n), "bulk"))
        with cursor.copy("COPY public.tenant_users (tenant_id, user_id) FROM STDIN") as copy:
            for n in range(users):
                copy.write_row((uid("tenant", n % TENANTS), uid("user", n)))
        columns = "id, tenant_id, user_id, messages, created_at, updated_at"
        with cursor.copy(f"COPY public.chat_sessions ({columns}) FROM STDIN") as copy:
            for n, (array, at) in enumerate(arrays(corpus, sessions)):
                user = n // OF_A_USER % users
                copy.write_row((uid("session", n), uid("tenant", user % TENANTS), uid("user", user), array, at, at))
    return users


def arrays(corpus: Corpus, number: int) -> Iterator[tuple[str, Any]]:
    """Yield ``number`` arrays of messages as JSON, each with the time of its last message."""
    lengths = [LONG if n % EVERY == 0 else LENGTHS[n % len(LENGTHS)] for n in range(number)]
    lines = corpus.rows(sum(lengths))
    for length in lengths:
        said = [next(lines) for _ in range(length)]
        elements = [
            {"role": line.role, "content": line.content, "timestamp": line.created_at.isoformat()} for line in said
        ]
        yield json.dumps(elements), said[-1].created_at


def fill_conversations(connection: psycopg.Connection, corpus: Corpus, conversations: int) -> int:
    """Write ``conversations`` of real messages, with their users; return how many users."""
    users = conversations // OF_A_USER
    lines = corpus.rows(conversations * OF_A_CONVERSATION)
    with connection.transaction(), connection.cursor() as cursor:
        connection.execute("SET LOCAL session_replication_role = replica")
        with cursor.copy("COPY public.users (id, email, password_hash) FROM STDIN") as copy:
            for n in range(users):
                copy.write_row((uid("user", n), f"person{n}@example.test", "x"))
        with cursor.copy("COPY public.conversations (id, user_id, title) FROM STDIN") as copy:
            for n in range(conversations):
                copy.write_row((uid("conversation", n), uid("user", n // OF_A_USER % users), "Trip to Lyon"))
        columns = "conversation_id, user_id, role, content, created_at"
        with cursor.copy(f"COPY public.messages ({columns}) FROM STDIN") as copy:
            for n, line in enumerate(lines):
                conversation = n // OF_A_CONVERSATION
                user = uid("user", conversation // OF_A_USER % users)
                role = "user" if line.role == "user" else "agent"
                copy.write_row((uid("conversation", conversation), user, role, line.content, line.created_at))
    return users


def line(result: Result) -> str:
    """Return one result in one paragraph."""
    before, during = result.clients.before, result.clients.during
    return (
        f"{result.start}, {result.messages:,} messages in {result.parents:,}, workers {result.workers}: head after"
        f" {result.seconds:.0f} s ({1e6 * result.seconds / result.messages:.0f} µs a message);"
        f" {result.clients.statements:,} statements of clients, {result.clients.failed} failed;"
        f" p50 {before.p50:.1f} -> {during.p50:.1f} ms, p99 {before.p99:.1f} -> {during.p99:.1f} ms"
        f" ({during.p99 / before.p99:.1f} times), longest {before.longest:.0f} -> {during.longest:.0f} ms"
        f" ({during.longest - before.longest:+.0f} ms); {'; '.join(result.wrong) or 'every message is as it was'}"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.adoption", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sessions", type=int, default=200_000, help="of 3a (default: 200000)")
    parser.add_argument("--messages", type=int, default=1_000_000, help="of 2 (default: 1000000)")
    parser.add_argument("--only", default="", choices=[start.name for start in STARTS], help="measure only this one")
    parser.add_argument("--workers", type=int, default=1, help="-x backfill-workers (default: 1)")
    parser.add_argument("--around", type=float, default=10.0, help="seconds of clients before and after (default: 10)")
    parser.add_argument("--data", type=Path, default=database.project_folder().parent / "shared" / "data")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    options = parser.parse_args()
    least = (CLIENTS + 1) * OF_A_USER  # each client has users of its own
    if options.sessions < least or options.messages < least * OF_A_CONVERSATION:
        parser.error(f"at least --sessions {least} and --messages {least * OF_A_CONVERSATION}")
    return options


if __name__ == "__main__":
    sys.exit(main())
