"""How long `chat-schema verify` takes as messages grow, rule by rule.

    python -m benchmarks.verify [--messages 250000 1000000 4000000]

On a scratch server that is gone afterwards; DATABASE_URL is not looked at. ROWS=1000000 in the environment stands for
one number. Every user has 50 conversations of 20 messages, in the order in which many users write at once. The sizes
take turns, and each is shown with its second look, when what fits is in the cache. Rules that one query counts show its
time with the first.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import psycopg
import sqlalchemy as sa
from alembic.config import Config

from app import database, embedded, verification
from benchmarks.ways import conninfo, upgrade

SETTINGS = {"shared_buffers": "1GB", "max_wal_size": "8GB", "fsync": "off", "synchronous_commit": "off"}
CONVERSATIONS, MESSAGES = 50, 20  # of a user, of a conversation
FILL = f"""
SET session_replication_role = replica;  -- no foreign keys, no triggers
INSERT INTO users (id) SELECT md5('user ' || n)::uuid FROM generate_series(1, :users) AS n;
INSERT INTO conversations (id, user_id)
  SELECT md5(format('conversation %s of %s', k, n))::uuid, md5('user ' || n)::uuid
  FROM generate_series(1, {CONVERSATIONS}) AS k, generate_series(1, :users) AS n;
INSERT INTO messages (conversation_id, user_id, role, content, created_at)
  SELECT md5(format('conversation %s of %s', k, n))::uuid, md5('user ' || n)::uuid,
         CASE m % 2 WHEN 1 THEN 'user' ELSE 'assistant' END, repeat('Two seats on Friday, please. ', 10),
         timestamptz '2026-01-01' + k * interval '1 day' + (m + 1) / 2 * interval '1 minute'
  FROM generate_series(1, {CONVERSATIONS}) AS k, generate_series(1, {MESSAGES}) AS m, generate_series(1, :users) AS n;
"""


def main() -> None:
    """Measure and print one table."""
    rows = [int(os.environ["ROWS"])] if "ROWS" in os.environ else [250_000, 1_000_000, 4_000_000]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.verify", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, nargs="+", default=rows, help="sizes to measure (default: %(default)s)")
    sizes: list[int] = parser.parse_args().messages
    with tempfile.TemporaryDirectory(prefix="chat-schema-bench-") as folder:
        Path(folder).chmod(0o711)
        with embedded.running(Path(folder) / "data", settings=SETTINGS) as server:
            upgrade(server.url("postgres"), "head")
            urls = [_filled(server, size) for size in sizes]
            for _ in range(2):
                took = [_times(url) for url in urls]
    print("| check, ms | " + " | ".join(f"{size:,}" for size in sizes) + " |\n|---" + "|---" * len(sizes) + "|")
    for name in took[0]:
        print(f"| {name} | " + " | ".join(f"{1000 * each[name]:.0f}" for each in took) + " |")
    print("| all | " + " | ".join(f"{1000 * sum(each.values()):.0f}" for each in took) + " |")


def _filled(server: embedded.Server, messages: int) -> sa.URL:
    """Return a copy of the migrated database that holds so many messages."""
    url = server.url(f"of_{messages}")
    with psycopg.connect(conninfo(server.url("template1")), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {url.database} TEMPLATE postgres STRATEGY FILE_COPY")
    with psycopg.connect(conninfo(url), autocommit=True) as connection:
        users = messages // CONVERSATIONS // MESSAGES
        connection.execute(FILL.replace(":users", str(users)))
        connection.execute("VACUUM (ANALYZE)")
    return url


def _times(url: sa.URL) -> dict[str, float]:
    """Return the seconds that each check took."""
    took = {}
    with database.connect(url) as connection:
        began = time.perf_counter()
        for check in verification.verify(connection, Config(database.project_folder() / "alembic.ini")):
            assert check.passed, check
            now = time.perf_counter()
            took[check.name], began = now - began, now
    return took


if __name__ == "__main__":
    main()
