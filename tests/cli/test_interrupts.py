"""Ctrl-C and SIGTERM at any moment: one message, and the exit code that shells know for them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import pytest

from tests.live.command_line import connect
from tests.postgres_binaries import ROOT


@contextmanager
def chat_schema(url: str, *words: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "chat_schema", *words],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    try:
        yield process, process.stderr
    finally:
        process.kill()
        process.communicate()


def wait_for(text: str, lines: IO[str]) -> None:
    for line in lines:
        if text in line:
            return
    raise AssertionError(f"it ended without {text!r}")


@pytest.mark.parametrize("imported", ["sqlalchemy.exc", "psycopg", "alembic.util"])
def test_ctrl_c_in_the_first_second_is_one_message(imported: str) -> None:
    with chat_schema("postgresql://nowhere.invalid/db", "heads", PYTHONPROFILEIMPORTTIME="1") as (process, said):
        wait_for(imported, said)
        process.send_signal(signal.SIGINT)
        rest = [line for line in said.read().splitlines() if not line.startswith("import time:")]
        assert process.wait() == 130
    assert rest == ["chat-schema: interrupted; what was committed stays."]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_an_upgrade_that_waits_with_its_own_exit_code(
    database_url: str, number: signal.Signals, status: int
) -> None:
    with connect(database_url) as busy:
        busy.execute(f"SELECT pg_advisory_lock({0x63686174}, 1)".encode())  # another deployment is running
        with chat_schema(database_url, "upgrade", "head") as (process, said):
            wait_for("Another deployment", said)
            process.send_signal(number)
            rest = said.read()
            assert process.wait() == status
    assert "chat-schema: Interrupted." in rest
    assert "Traceback" not in rest
