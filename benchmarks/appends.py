"""What clients that write at the same time cost each other: appends to one conversation, and to many in one statement.

    python -m benchmarks.appends [--clients 6] [--seconds 10] [--statements 2000]

On a scratch server that is gone afterwards; DATABASE_URL is not looked at. Two ways take turns on the same tables:

* **waits**: each message moves its conversation, and waits for whoever else is moving it (one plain UPDATE).
* **ours**: ``chat_internal.touch_conversations()``, which moves what is ten seconds behind and waits for nobody.

Appends to one conversation are counted for some seconds. Into many conversations each statement inserts 40 to 150 of
200 in an order of its own; those that fail with a deadlock are counted.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import psycopg

from app import embedded
from benchmarks.ways import conninfo, upgrade

USER, THREAD = UUID(int=1), UUID(int=2)
SETTINGS = {"max_wal_size": "4GB"}  # a commit waits for the disk, as in use
FILL = f"""
INSERT INTO users (id) VALUES ('{USER}');
INSERT INTO conversations (id, user_id, created_at, updated_at)
  VALUES ('{THREAD}', '{USER}', '2020-01-01', '2020-01-01');
INSERT INTO conversations (user_id, created_at, updated_at)
  SELECT '{USER}', '2020-01-01', '2020-01-01' FROM generate_series(1, 199);
"""
WAITS = """
CREATE OR REPLACE FUNCTION chat_internal.touch_conversations() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
BEGIN
  UPDATE public.conversations AS c SET updated_at = n.last_at
  FROM (
    SELECT a.conversation_id, a.user_id, max(coalesce(a.created_at, now())) AS last_at
    FROM added AS a GROUP BY a.conversation_id, a.user_id
  ) AS n
  WHERE c.id = n.conversation_id AND c.user_id = n.user_id AND c.updated_at < n.last_at;
  RETURN NULL;
END
$$
"""
ONE = f"INSERT INTO messages (conversation_id, user_id, role, content) VALUES ('{THREAD}', '{USER}', 'user', 'Go on.')"
# each statement at a time of its own, so that each moves what it writes into
MANY = """
INSERT INTO messages (conversation_id, user_id, role, content, created_at)
SELECT id, user_id, 'user', 'Go on.', timestamptz '2021-01-01' + %s * interval '1 minute'
FROM conversations ORDER BY random() LIMIT %s
"""


def appends(url: str, clients: int, seconds: float) -> float:
    """Return how many messages a second the clients append to one conversation, each in its own transaction."""
    done: Counter[int] = Counter()
    end = time.monotonic() + seconds

    def client(number: int) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            while time.monotonic() < end:
                connection.execute(ONE)
                done[number] += 1

    _together(client, clients)
    return done.total() / seconds


def deadlocks(url: str, clients: int, statements: int) -> int:
    """Return how many of so many statements that write into many conversations fail with a deadlock."""
    failed: Counter[int] = Counter()

    def client(number: int) -> None:
        chance = random.Random(number)  # noqa: S311
        with psycopg.connect(url, autocommit=True) as connection:
            for turn in range(number, statements, clients):
                try:
                    connection.execute(MANY, [turn, chance.randint(40, 150)])
                except psycopg.errors.DeadlockDetected:
                    failed[number] += 1

    _together(client, clients)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE conversations SET updated_at = '2020-01-01'")
    return failed.total()


def main() -> None:
    """Measure both ways in turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=10, help="of appends to one conversation, of each way")
    parser.add_argument("--statements", type=int, default=2000, help="into many; an eighth of the other way")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chat-schema-bench-") as folder:
        Path(folder).chmod(0o711)
        with embedded.running(Path(folder) / "data", settings=SETTINGS) as server:
            upgrade(server.url(), "head")
            lines = measure(conninfo(server.url()), options.clients, options.seconds, options.statements)
    print("\n".join(lines))


def measure(url: str, clients: int, seconds: float, statements: int) -> list[str]:
    """Return the table."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(FILL.encode())
        [[ours]] = connection.execute(
            "SELECT pg_get_functiondef('chat_internal.touch_conversations()'::regprocedure)"
        ).fetchall()
        rates: dict[str, list[float]] = {"waits": [], "ours": []}
        failures = {}
        for turn in range(2):
            for way, function in (("waits", WAITS), ("ours", ours)):
                connection.execute(function.encode())
                rates[way].append(appends(url, clients, seconds / 2))
                if turn == 0:
                    failures[way] = deadlocks(url, clients, statements if way == "ours" else statements // 8)
    waits, own = (sum(rates[way]) / 2 for way in ("waits", "ours"))
    return [
        f"{'way':<8}{'appends a second':>18}{'ratio':>8}{'deadlocks':>22}",
        _line("waits", waits, 1, failures["waits"], statements // 8),
        _line("ours", own, own / waits, failures["ours"], statements),
    ]


def _line(way: str, rate: float, ratio: float, failed: int, sent: int) -> str:
    deadlocks = f"{failed:,} of {sent:,}"
    return f"{way:<8}{rate:>18.0f}{ratio:>8.2f}{deadlocks:>22}"


def _together(client: Callable[[int], None], clients: int) -> None:
    threads = [threading.Thread(target=client, args=[number]) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
