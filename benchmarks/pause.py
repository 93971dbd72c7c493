"""Measure how soon a pause is obeyed: from the moment it is asked for until nothing of the run is under way.

    python -m benchmarks.pause --rows 250000 --times 20

A backfill of that many messages runs meanwhile with its default options. Each pause is written as ``chat-schema pause``
writes it and counts until the run has acknowledged it; then the same for the end of the pause, until the next batch has
been committed. What the command needs to start and connect comes on top, and is printed by itself.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa
from alembic.config import Config

from alembic import command
from chat_schema import database, embedded
from chat_schema.engine.control import PAUSE, STATUS, Control
from chat_schema.project import VERSIONS

_OLD_SHAPE = "0031"
_PATIENCE = 60.0


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=250_000, help="messages to backfill (default: 250000)")
    parser.add_argument("--times", type=int, default=20, help="how many pauses (default: 20)")
    parser.add_argument("--workers", type=int, default=1, help="backfill-workers of the run (default: 1)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chat-schema-bench-") as folder, contextlib.ExitStack() as stack:
        Path(folder).chmod(0o711)
        server = stack.enter_context(embedded.running(Path(folder) / "data"))
        url = server.url()
        _fill(url, given.rows)
        run = subprocess.Popen(
            [sys.executable, "-m", "chat_schema", "-x", f"backfill-workers={given.workers}", "upgrade", "head"],
            env={**os.environ, "DATABASE_URL": url.render_as_string(hide_password=False)},
            stderr=subprocess.DEVNULL,
        )
        try:
            obeyed, went_on = _measure(url, given.times)
        finally:
            run.kill()
            run.wait()
        began = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "chat_schema", "status"],
            env={**os.environ, "DATABASE_URL": url.render_as_string(hide_password=False)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        print(f"A command starts, connects and looks in {time.monotonic() - began:.2f} s.")
    print(_told("paused", obeyed))
    print(_told("went on", went_on))


def _fill(url: sa.URL, rows: int) -> None:
    config = Config(database.project_folder() / "alembic.ini")
    config.attributes.update(url=url.render_as_string(hide_password=False), configure_logging=False)
    command.upgrade(config, _OLD_SHAPE)
    with database.create_engine(url).begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO public.users (id) SELECT md5(n::text)::uuid FROM generate_series(1, 1000) AS n"
        )
        connection.exec_driver_sql(
            "INSERT INTO public.chat_messages (user_id, role, content)"
            f" SELECT md5((mod(n, 1000) + 1)::text)::uuid, 'user', repeat('x', 99) FROM generate_series(1, {rows}) AS n"
        )


def _measure(url: sa.URL, times: int) -> tuple[list[float], list[float]]:
    obeyed, went_on = [], []
    with database.create_engine(url).connect() as connection:
        control = Control.beside(connection, VERSIONS)

        def position() -> int:
            found = connection.scalar(sa.text("SELECT coalesce(max(position), 0) FROM chat_internal.backfill_progress"))
            connection.rollback()
            return int(found or 0)

        _wait(lambda: position() > 0)
        for _ in range(times):
            time.sleep(random.uniform(0.2, 0.7))  # noqa: S311  at no fixed moment of a batch
            began = time.monotonic()
            wish = control.write(connection, PAUSE, True)

            def acknowledged(token: str = wish.token) -> bool:
                status = control.read(connection).get(STATUS)
                return status is not None and status.value["acknowledged"] == token

            _wait(acknowledged)
            obeyed.append(time.monotonic() - began)
            before = position()
            time.sleep(0.5)
            if position() != before:
                raise SystemExit("A batch was committed after the pause had been acknowledged.")
            began = time.monotonic()
            control.take_back(connection, PAUSE)
            _wait(functools.partial(lambda at: position() != at, before))
            went_on.append(time.monotonic() - began)
    return obeyed, went_on


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("The backfill is over, or was never begun: take more --rows.")
        time.sleep(0.005)


def _told(what: str, seconds: list[float]) -> str:
    ordered = sorted(seconds)
    return (
        f"{what}: {len(ordered)} times, after {statistics.median(ordered):.2f} s in the median, "
        f"{ordered[-1]:.2f} s at most."
    )


if __name__ == "__main__":
    main()
