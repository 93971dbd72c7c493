"""The older application, which knows no conversations and does not know either that a migration is running."""

from __future__ import annotations

import random
import threading
import time
from types import TracebackType

import psycopg

from tests.live.command_line import connect, wait_for


class Application:
    """One client each for the first ``clients`` users of :func:`tests.live.conftest.fill`, busy while this is entered.

    A client owns its user's messages: it inserts, changes and deletes them, and knows what must be there in the end.
    """

    def __init__(self, url: str, clients: int = 3) -> None:
        self._url = url
        self._stop = threading.Event()
        self._expected: dict[str, str] = {}
        self._failures: list[BaseException] = []
        self._written = [0] * clients
        self._threads = [threading.Thread(target=self._work, args=(n,), daemon=True) for n in range(clients)]

    def __enter__(self) -> Application:
        with connect(self._url) as client:
            self._expected = dict(client.execute("SELECT id::text, content FROM chat_messages").fetchall())
        for thread in self._threads:
            thread.start()
        wait_for(lambda: all(self._written) or self._failures, "every client to have written")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _work(self, number: int) -> None:
        try:
            with connect(self._url, application_name=f"client {number}") as client:
                self._write(client, number)
        except BaseException as failure:
            self._failures.append(failure)

    def _write(self, client: psycopg.Connection, number: int) -> None:
        dice = random.Random(number)  # noqa: S311  dice
        owner = "user_id = md5(%s)::uuid"
        user = str(number + 1)
        own = [row[0] for row in client.execute(f"SELECT id::text FROM chat_messages WHERE {owner}".encode(), [user])]
        while not self._stop.is_set():
            text = f"{dice.random()}" * dice.choice([1, 20])
            picked = dice.randrange(len(own)) if own else 0
            action = dice.choice(["insert", "insert", "update", "update", "delete"]) if own else "insert"
            if action == "insert":
                [(key,)] = client.execute(
                    "INSERT INTO chat_messages (user_id, role, content) VALUES (md5(%s)::uuid, 'user', %s)"
                    " RETURNING id::text",
                    [user, text],
                )
                own.append(key)
                self._expected[key] = text
            elif action == "update":
                changed = client.execute("UPDATE chat_messages SET content = %s WHERE id = %s", [text, own[picked]])
                assert changed.rowcount == 1, f"{own[picked]} was lost"
                self._expected[own[picked]] = text
            else:
                deleted = client.execute("DELETE FROM chat_messages WHERE id = %s", [own[picked]])
                assert deleted.rowcount == 1, f"{own[picked]} was lost"
                del self._expected[own.pop(picked)]
            self._written[number] += 1
            time.sleep(0.002)  # a client thinks; without, three of them leave the machine to nobody else

    def check(self, client: psycopg.Connection) -> None:
        """No statement has failed, and every message is there, as it was written, in a conversation of its owner."""
        assert not self._failures, self._failures
        stored: dict[str, str] = dict(client.execute("SELECT id::text, content FROM chat_messages").fetchall())
        assert stored == self._expected
        astray = client.execute(
            "SELECT m.id FROM chat_messages AS m LEFT JOIN conversations AS c ON c.id = m.conversation_id"
            " WHERE c.user_id IS DISTINCT FROM m.user_id"
        )
        assert astray.rowcount == 0
        assert client.execute("SELECT FROM conversations GROUP BY user_id HAVING count(*) > 1").rowcount == 0
