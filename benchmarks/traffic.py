"""Old-style clients: what an application that knows no conversations sends while its database is migrated.

Each has users of its own: when one waits, it waits for the migration and not for another client.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import psycopg

CLIENTS = 4
PAUSE = 0.01  # seconds a client thinks between two statements
HOLDS, RESTS = 2.0, 3.0  # seconds a transaction is held open, and between two of them

INSERT = "INSERT INTO public.chat_messages (user_id, role, content) VALUES (%s, 'user', 'And what about tomorrow?')"
READ = "SELECT role, content, created_at FROM public.chat_messages WHERE user_id = %s ORDER BY created_at DESC LIMIT 50"
_ONE = "(SELECT m.id FROM public.chat_messages AS m WHERE m.user_id = %s ORDER BY m.created_at OFFSET %s LIMIT 1)"
UPDATE = f"UPDATE public.chat_messages SET content = content || '!' WHERE id = {_ONE}"
DELETE = f"DELETE FROM public.chat_messages WHERE id = {_ONE}"
SIGN_UP = "INSERT INTO public.users (id) VALUES (%s)"


class Statement(NamedTuple):
    """One statement of a client: when it was sent (``time.monotonic``), how long it took, and how it failed."""

    began: float
    seconds: float
    error: str | None


class Latencies(NamedTuple):
    """How long statements took, in milliseconds."""

    p50: float
    p99: float
    longest: float

    @classmethod
    def of(cls, statements: Sequence[Statement]) -> Latencies:
        """Sum up ``statements``, of which there must be one at least."""
        times = sorted(1000 * statement.seconds for statement in statements)
        return cls(times[len(times) // 2], times[len(times) * 99 // 100], times[-1])


def run(parent: Connection, conninfo: str) -> None:
    """Be the clients, as the work of a :class:`~benchmarks.companion.Companion`; the result is what they sent."""
    with psycopg.connect(conninfo) as connection:
        users = [row[0] for row in connection.execute("SELECT DISTINCT user_id FROM public.chat_messages ORDER BY 1")]
    stop = threading.Event()
    clients = [_Client(conninfo, users[number :: CLIENTS + 1], stop, number) for number in range(CLIENTS + 1)]
    works = [clients[0].hold, *(client.talk for client in clients[1:])]
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    parent.send("ready")
    parent.recv()
    stop.set()
    for thread in threads:
        thread.join()
    parent.send([statement for client in clients for statement in client.statements])


class _Client:
    def __init__(self, conninfo: str, users: list[uuid.UUID], stop: threading.Event, seed: int) -> None:
        self.statements: list[Statement] = []
        self._conninfo, self._users, self._stop = conninfo, users, stop
        self._random = random.Random(seed)  # noqa: S311  the same choices in each run
        self._connection = self._connect()

    def talk(self) -> None:
        """Send statements, each a transaction, until told to stop."""
        while not self._stop.wait(PAUSE):
            chance, user = self._random.random(), self._random.choice(self._users)
            if chance < 0.40:
                self._send(READ, user)
            elif chance < 0.75:
                self._send(INSERT, user)
            elif chance < 0.90:
                self._send(UPDATE, user, self._random.randrange(20))
            elif chance < 0.95:
                self._send(DELETE, user, self._random.randrange(20))
            else:
                user = uuid.UUID(int=self._random.getrandbits(128), version=4)
                if self._send(SIGN_UP, user):
                    self._users.append(user)
                    self._send(INSERT, user)
        self._connection.close()

    def hold(self) -> None:
        """Every few seconds write in a transaction and leave it open for a while."""
        while not self._stop.wait(RESTS):
            user = self._random.choice(self._users)
            self._send("BEGIN")
            self._send(INSERT, user)
            self._send(UPDATE, user, 0)
            self._stop.wait(HOLDS)
            self._send("COMMIT")
        self._connection.close()

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(self._conninfo, autocommit=True, application_name="client")

    def _send(self, query: Any, *parameters: object) -> bool:
        began, problem = time.monotonic(), None
        try:
            self._connection.execute(query, parameters)
        except psycopg.Error as error:
            problem = f"{error.sqlstate}: {error}".splitlines()[0]
            if self._connection.closed:
                self._connection = self._connect()
        self.statements.append(Statement(began, time.monotonic() - began, problem))
        return problem is None
