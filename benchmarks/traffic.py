"""Old-style clients: what an application that knows no conversations sends while its database is migrated.

Each has users of its own: when one waits, it waits for the migration and not for another client.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, TypeVar

import psycopg

Answer = TypeVar("Answer")

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


def run(parent: Connection, kind: type[Client], address: Any) -> None:
    """Be the clients, as the work of a :class:`~benchmarks.companion.Companion`; the result is what they sent."""
    stop = threading.Event()
    clients = [kind(address, stop, number) for number in range(CLIENTS + 1)]
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


class Client(ABC):
    """One client of an application; ``number`` tells it from the others, who have other users."""

    def __init__(self, address: Any, stop: threading.Event, number: int) -> None:
        self.statements: list[Statement] = []
        self.address, self.number = address, number
        self.random = random.Random(number)  # noqa: S311  the same choices in each run
        self._stop = stop
        self.open()

    @abstractmethod
    def open(self) -> None:
        """Connect, and find out whom to be; again after a connection is lost."""

    @abstractmethod
    def turn(self) -> None:
        """Send what a user does next, each statement a transaction."""

    @abstractmethod
    def write_for_a_while(self) -> None:
        """Write in a transaction that is open for ``HOLDS`` seconds."""

    def talk(self) -> None:
        """Take turns until told to stop."""
        while not self._stop.wait(PAUSE):
            self.turn()

    def hold(self) -> None:
        """Every few seconds write in a transaction and leave it open for a while."""
        while not self._stop.wait(RESTS):
            self.write_for_a_while()

    def timed(self, send: Callable[..., Answer], *arguments: Any, **options: Any) -> Answer | None:
        """Return what ``send`` returns, None where it failed; note how long it took, and how it failed."""
        began, problem, answer = time.monotonic(), None, None
        try:
            answer = send(*arguments, **options)
        except psycopg.Error as error:
            problem = f"{error.sqlstate}: {error}".splitlines()[0]
            if isinstance(error, psycopg.OperationalError):
                self.open()
        self.statements.append(Statement(began, time.monotonic() - began, problem))
        return answer

    def rest(self) -> None:
        """Leave a transaction open."""
        self._stop.wait(HOLDS)


class FlatClient(Client):
    """A client of the flat table; ``address`` is libpq's."""

    def open(self) -> None:
        self._connection = psycopg.connect(self.address, autocommit=True, application_name="client")
        users = [row[0] for row in self._connection.execute("SELECT id FROM public.users ORDER BY id")]
        self._users = users[self.number :: CLIENTS + 1]

    def turn(self) -> None:
        chance, user = self.random.random(), self.random.choice(self._users)
        if chance < 0.40:
            self._send(READ, user)
        elif chance < 0.75:
            self._send(INSERT, user)
        elif chance < 0.90:
            self._send(UPDATE, user, self.random.randrange(20))
        elif chance < 0.95:
            self._send(DELETE, user, self.random.randrange(20))
        else:
            user = uuid.UUID(int=self.random.getrandbits(128), version=4)
            if self._send(SIGN_UP, user):
                self._users.append(user)
                self._send(INSERT, user)

    def write_for_a_while(self) -> None:
        user = self.random.choice(self._users)
        self._send("BEGIN")
        self._send(INSERT, user)
        self._send(UPDATE, user, 0)
        self.rest()
        self._send("COMMIT")

    def _send(self, query: Any, *parameters: object) -> bool:
        return self.timed(self._connection.execute, query, parameters) is not None
