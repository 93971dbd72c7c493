"""What a long step shows: a bar to somebody who watches, lines to a log, and never one in the other."""

from __future__ import annotations

import logging
import os
import pty
import subprocess
import sys

import psycopg
import pytest

from app.engine import progress
from tests.live.command_line import PATIENCE, alembic
from tests.live.conftest import fill
from tests.postgres_binaries import ROOT


def test_a_log_gets_plain_lines(old_url: str, client: psycopg.Connection) -> None:
    fill(client)
    with alembic(old_url, "upgrade", "head") as upgrade:
        said = upgrade.succeeds()
    assert "INFO  [alembic.engine] conversations of chat_messages: 100 %, 1,000 rows\n" in said
    assert "\r" not in said
    assert "\x1b" not in said


@pytest.mark.parametrize("environment", [{"TERM": "xterm"}, {"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_a_terminal_gets_a_bar(old_url: str, client: psycopg.Connection, environment: dict[str, str]) -> None:
    fill(client)
    said = on_a_terminal(old_url, environment)
    bars = [line for line in said.split("\r") if "conversations of chat_messages " in line]
    assert "  0% |" in bars[0]
    assert "100% |" in bars[-1]
    assert "| 1,000 rows, " in bars[-1]
    assert "/s [" in bars[-1]
    assert "INFO  [alembic.engine] conversations of chat_messages" not in said
    assert ("\x1b[3" in said) is (environment == {"TERM": "xterm"})  # colours


def on_a_terminal(url: str, environment: dict[str, str]) -> str:
    """Upgrade with a terminal for all three streams, one that says it is 0 wide; return what came out of it."""
    here, there = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "alembic", "-x", "batch-time=1ms", "upgrade", "head"],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url, **environment},
        stdin=there,
        stdout=there,
        stderr=there,
    )
    os.close(there)
    said = b""
    try:
        while part := os.read(here, 1 << 16):
            said += part
    except OSError:  # how Linux tells that nobody holds the other end any more
        pass
    finally:
        os.close(here)
    assert process.wait(PATIENCE) == 0, said.decode()
    return said.decode()


def test_a_step_that_is_waiting_says_so_beside_its_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    bar = progress.Progress("step", total=2)
    bar.advance(1, 1)
    bar.say("step: waits")
    bar.advance(1, 1)
    bar.close()
    assert "\rstep: waits\n" in capsys.readouterr().err.replace("\r" + " " * 8, "").replace(" " * 8, "")


def test_a_long_step_reports_to_the_log_on_its_way(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_LOG_EVERY", 0)
    with caplog.at_level(logging.INFO, "alembic.engine"):
        report = progress.Progress("step", total=300, done=100)
        report.advance(100, 7)
        report.close()
    first, last = caplog.messages
    assert first.startswith("step: 66 %, 7 rows, ")
    assert first.endswith(" s left")
    assert last == "step: 66 %, 7 rows"


@pytest.mark.parametrize(("total", "done", "percent"), [(0, 0, 100), (1000, 999, 99), (1000, 1001, 100), (3, 0, 0)])
def test_only_what_is_done_counts_as_done(total: int, done: int, percent: int) -> None:
    assert progress.Progress("step", total, done).percent == percent
