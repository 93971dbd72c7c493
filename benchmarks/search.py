"""What a search takes as messages of others grow, and what its index costs an insert.

    python -m benchmarks.search [--own 100000] [--others 100000 1000000] [--rounds 30] [--inserts 1000] [--data FOLDER]

On a scratch server that is gone afterwards; DATABASE_URL is not looked at. One user has ``--own`` messages, spread over
the whole table, among those of ``--others``; all are real conversations from the folder, or the demo's small sample.

* **server** is the time of ``search_messages()`` for a page of 20, parsed and planned each time, called by the user:
  the median of the rounds. **on CPU** is what the server's process worked meanwhile (Linux): all is in memory, so the
  rest of the time other programs had the machine.
* **growth** is the ratio of that to the same among the fewest messages of others.
* **insert** is a message of 200 to 600 characters as a service stores it, in a transaction of its own, as the user:
  what the server's process works for it, with and without the index in turns, on a table that holds few messages.
* **recall** is the share of Chinese, Japanese and Korean substrings of two characters and more that find their message.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from uuid import NAMESPACE_OID, UUID, uuid5

import psycopg

from app import embedded
from benchmarks.as_a_user import on_cpu
from benchmarks.corpus import Corpus
from benchmarks.ways import conninfo, upgrade

SETTINGS = {
    "shared_buffers": "1GB",
    "max_wal_size": "8GB",
    "fsync": "off",
    "synchronous_commit": "off",
    "random_page_cost": "1.1",
    "maintenance_work_mem": "512MB",
}
USER, THREAD = UUID(int=1), UUID(int=2)
LIMITS = {"page": 20.0, "growth": 1.5, "insert": 1.5, "recall": 1.0}
PAGES = {
    "a common word": ("the", False),
    "a rare word": ("hurricane", False),
    "a word of no message": ("xyzzyxyzzy", False),
    "two words": ("kernel panic", False),
    "a phrase": ('"sound card"', False),
    "a common word, best first": ("the", True),
}
CJK = (
    "東京都港区の芝公園へ歩いて行きました。天気がとても良かったです。",
    "请帮我找两张星期五从里昂出发的火车票。最好是早上九点以后。",
    "다음 주 금요일에 리옹으로 가는 기차표 두 장을 예약해 주세요.",
)


INSERT = "INSERT INTO messages (conversation_id, user_id, role, content) VALUES (%s, %s, 'user', %s) RETURNING id"


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--own", type=int, default=100_000)
    parser.add_argument("--others", type=int, nargs="+", default=[100_000, 1_000_000], help="up to 4000000")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--inserts", type=int, default=1000, help="of each way")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    options = parser.parse_args()
    corpus = Corpus.find(options.data)
    with tempfile.TemporaryDirectory(prefix="chat-schema-bench-") as folder:
        Path(folder).chmod(0o711)
        with embedded.running(Path(folder) / "data", settings=SETTINGS) as server:
            urls = {others: filled(server, corpus, options.own, others) for others in sorted(options.others)}
            print("\n".join(pages(urls, options.rounds)), flush=True)
            print("\n".join(inserts(database(server, "inserts"), corpus, options.inserts)), flush=True)
            print("\n".join(recall(database(server, "recall"))), flush=True)


def database(server: embedded.Server, name: str) -> str:
    """Make a database at head and return its address."""
    with psycopg.connect(conninfo(server.url("postgres")), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    upgrade(server.url(name), "head")
    return conninfo(server.url(name))


def filled(server: embedded.Server, corpus: Corpus, own: int, others: int) -> str:
    """Make a database of so many messages; the indexes are built after it, as by a migration."""
    began = time.perf_counter()
    url = database(server, f"others_{others}")
    with psycopg.connect(url) as connection:
        connection.execute("SET session_replication_role = replica")  # no keys, no triggers
        [[index]] = connection.execute("SELECT pg_get_indexdef('idx_messages_search'::regclass)").fetchall()
        connection.execute("DROP INDEX idx_messages_search")
        copy = "COPY messages (conversation_id, user_id, role, content, created_at) FROM STDIN"
        with connection.cursor().copy(copy) as rows:
            for row in mixed(corpus, own, others):
                rows.write_row(row)
        connection.execute("INSERT INTO users (id) SELECT DISTINCT user_id FROM messages")
        connection.execute(
            "INSERT INTO conversations (id, user_id) SELECT DISTINCT conversation_id, user_id FROM messages"
        )
        connection.execute(index.encode())
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE)")
    print(f"{own:,} messages of the user, {others:,} of others: {time.perf_counter() - began:.0f} s", flush=True)
    return url


def mixed(corpus: Corpus, own: int, others: int) -> Iterator[tuple[UUID, UUID, str, str, object]]:
    """Yield the messages in the order of time; the user's own are the same texts, at even distances."""
    written = 0
    for number, line in enumerate(corpus.rows(max(others, own))):
        if number < others:
            owner = uuid5(NAMESPACE_OID, line.owner)
            yield owner, owner, "user", line.content, line.created_at
        if (number + 1) * own // max(others, own) > written:
            written += 1
            yield THREAD, USER, "user", line.content, line.created_at


@contextlib.contextmanager
def as_user(connection: psycopg.Connection) -> Iterator[None]:
    """Act as the user for one transaction."""
    with connection.transaction():
        connection.execute(
            "SELECT set_config('role', 'authenticated', true), set_config('request.jwt.claim.sub', %s, true)",
            [str(USER)],
        )
        yield


def pages(urls: dict[int, str], rounds: int) -> Iterator[str]:
    """Measure each page on each database in turns, and yield the lines of the table."""
    yield f"{'a page of 20':<28}{'others':>12}{'rows':>6}{'server ms':>11}{'on CPU ms':>11}{'growth':>8}"
    with contextlib.ExitStack() as stack:
        connect = functools.partial(psycopg.connect, prepare_threshold=None)
        open_ = {others: stack.enter_context(connect(url)) for others, url in urls.items()}
        for name, (query, best) in PAGES.items():
            times: dict[int, list[float]] = {others: [] for others in urls}
            worked: dict[int, list[float]] = {others: [] for others in urls}
            found = {}
            for turn in range(-3, rounds):  # the first warm up
                for others, connection in open_.items():
                    with as_user(connection):
                        before = on_cpu(connection)
                        taken, found[others] = page(connection, query, best)
                        cpu = on_cpu(connection) - before
                    if turn >= 0:
                        times[others].append(taken)
                        worked[others].append(cpu / 1000 or taken)
            first = median(worked[min(urls)])
            for others in urls:
                cpu = median(worked[others])
                yield (
                    f"{name:<28}{others:>12,}{found[others]:>6}{median(times[others]):>11.1f}"
                    f"{mark(cpu, 'page', '.1f'):>11}{mark(cpu / first, 'growth', '.2f'):>8}"
                )


def page(connection: psycopg.Connection, query: str, best: bool) -> tuple[float, int]:
    """Return how long the server takes for a page, in milliseconds, and how many rows it has."""
    statement = "SELECT * FROM chat_internal.search_messages(%s, p_best_first => %s)"
    plan = connection.execute(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement}", [query, best]).fetchone()
    assert plan is not None
    [told] = plan[0]
    return told["Planning Time"] + told["Execution Time"], round(told["Plan"]["Actual Rows"])


def inserts(url: str, corpus: Corpus, count: int) -> Iterator[str]:
    """Measure inserts with and without the index in turns, and yield the lines of the table."""
    texts = [line.content for line in corpus.lines if 200 <= len(line.content) <= 600] or [corpus.lines[0].content * 4]
    random.Random(1).shuffle(texts)  # noqa: S311
    endless = itertools.cycle(texts)
    times: dict[str, list[float]] = {"without": [], "with": []}
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO users (id) VALUES (%s)", [USER])
        connection.execute("INSERT INTO conversations (id, user_id) VALUES (%s, %s)", [THREAD, USER])
        [[index]] = connection.execute("SELECT pg_get_indexdef('idx_messages_search'::regclass)").fetchall()
        connection.commit()
        for turn in range(-1, 10):
            for way, change in (("without", "DROP INDEX idx_messages_search"), ("with", index)):
                connection.execute(change.encode())
                connection.commit()
                for _ in range(count // 10):
                    clock, before = time.perf_counter(), on_cpu(connection)
                    with as_user(connection):
                        connection.execute(INSERT, [THREAD, USER, next(endless)])
                    taken = (time.perf_counter() - clock) * 1e6
                    if turn >= 0:
                        times[way].append(on_cpu(connection) - before or taken)
    mean = {way: sum(taken) / len(taken) for way, taken in times.items()}  # those that merge the new terms included
    yield f"{'an insert':<28}{'µs':>12}{'ratio':>8}"
    for way in times:
        ratio = mark(mean[way] / mean["without"], "insert", ".2f")
        yield f"{way + ' the index':<28}{mean[way]:>12.0f}{ratio:>8}"


def recall(url: str) -> Iterator[str]:
    """Search every substring of the sentences, and yield how many found theirs."""
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO users (id) VALUES (%s)", [USER])
        connection.execute("INSERT INTO conversations (id, user_id) VALUES (%s, %s)", [THREAD, USER])
        asked = hits = 0
        for text in CJK:
            [[key]] = connection.execute(INSERT, [THREAD, USER, text]).fetchall()
            runs = "".join(c if c.isalnum() else " " for c in text).split()
            for run in runs:
                for start, end in itertools.combinations(range(len(run) + 1), 2):
                    if end - start > 1:
                        asked += 1
                        search = "SELECT id FROM chat_internal.search_messages(%s, %s)"
                        hits += (key,) in connection.execute(search, [run[start:end], USER]).fetchall()
    share = hits / asked
    missed = "" if share >= LIMITS["recall"] else "!"
    yield f"recall: {hits:,} of {asked:,} substrings of CJK text, {share:.3f}{missed}"
    yield "! is over the limit: " + ", ".join(f"{name} {limit}" for name, limit in LIMITS.items())


def mark(value: float, limit: str, form: str) -> str:
    """Write a figure, marked where it is over its limit."""
    return f"{value:{form}}{'!' if value > LIMITS[limit] else ''}"


if __name__ == "__main__":
    main()
