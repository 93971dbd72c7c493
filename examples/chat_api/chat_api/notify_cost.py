"""Measure what NOTIFY costs: commits per second of messages, without and with the triggers of `chat_api.notify`.

    python -m chat_api.notify_cost [--writers 8] [--seconds 10] [--rounds 3]

On a scratch server with PostgreSQL's own settings, durable commits among them, by pgbench; one service listens. The
two ways take turns, so that a machine that slows down slows both.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import statistics
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy.ext.asyncio import create_async_engine

from chat_api import local, notify
from chat_api.live import Live
from chat_schema import database, embedded

PEOPLE = 1000
WORLD = f"""
    INSERT INTO users (id) SELECT md5(n::text)::uuid FROM generate_series(1, {PEOPLE}) AS n;
    INSERT INTO conversations (id, user_id) SELECT md5('c' || n)::uuid, md5(n::text)::uuid
    FROM generate_series(1, {PEOPLE}) AS n
"""
TRANSACTION = f"""
\\set n random(1, {PEOPLE})
BEGIN;
SELECT set_config('role', 'authenticated', true),
       set_config('request.jwt.claims', format('{{"sub": "%s"}}', md5(:n::text)::uuid), true);
INSERT INTO messages (conversation_id, user_id, role, content)
VALUES (md5('c' || :n)::uuid, md5(:n::text)::uuid, 'user', repeat('word ', 40));
COMMIT;
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m chat_api.notify_cost", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=10, help="of one measurement")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chat-api-cost-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # root's server runs as another account
        script = folder / "transaction.sql"
        script.write_text(TRANSACTION)
        with embedded.running(folder / "data") as server:
            local.prepare(server.url())
            with database.connect(server.url()) as connection:
                connection.exec_driver_sql(WORLD)
                connection.commit()
                rates: dict[str, list[float]] = {"without": [], "with": []}
                for number in range(1, options.rounds + 1):
                    for way, found in rates.items():
                        (notify.install if way == "with" else notify.remove)(connection)
                        with _listening(server):
                            found.append(_commits_per_second(server, script, options.writers, options.seconds))
                        print(f"round {number}, {way:>7} NOTIFY: {found[-1]:8,.0f} commits/s", flush=True)
    without, with_ = statistics.median(rates["without"]), statistics.median(rates["with"])
    print(
        f"{options.writers} writers, median of {options.rounds}: {without:,.0f} commits/s without NOTIFY,"
        f" {with_:,.0f} with: {with_ / without:.2f} of it"
    )


def _commits_per_second(server: embedded.Server, script: Path, writers: int, seconds: int) -> float:
    pgbench = [str(embedded.installed_binaries() / "pgbench"), "--no-vacuum", "--file", str(script), "--jobs", "2"]
    size = ["--client", str(writers), "--time", str(seconds)]
    where = ["--host", str(server.socket_dir), "--port", str(server.port), "--username", local.LOGIN]
    said = subprocess.run(
        [*pgbench, *size, *where, embedded.DATABASE], capture_output=True, text=True, check=True
    ).stdout
    found = re.search(r"^tps = ([0-9.]+)", said, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"pgbench said no rate:\n{said}")
    return float(found[1])


@contextlib.contextmanager
def _listening(server: embedded.Server) -> Iterator[None]:
    """Listen as one service does, where the triggers are installed: it reads what they write, too."""
    done = threading.Event()

    async def listen() -> None:
        engine = create_async_engine(server.url(user=local.LOGIN))
        task = asyncio.create_task(Live().listen(engine))
        await asyncio.to_thread(done.wait)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await engine.dispose()

    thread = threading.Thread(target=asyncio.run, args=[listen()])
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


if __name__ == "__main__":
    main()
