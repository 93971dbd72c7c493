"""`make demo` on the sample of our own: what it says is true of what it loaded."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from examples.demo.conversations import SAMPLE, Sources, read
from tests.cli.terminal import Terminal
from tests.cli.test_commands import chat_schema
from tests.postgres_binaries import ROOT


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    nothing = tmp_path_factory.mktemp("no-data")
    return subprocess.run(
        [sys.executable, "-m", "examples.demo", "--data", str(nothing)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_demo_succeeds_and_every_check_passes(demo: subprocess.CompletedProcess[str]) -> None:
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "FAIL" not in demo.stdout


def test_the_demo_moves_every_message_it_loaded(demo: subprocess.CompletedProcess[str]) -> None:
    flat = len(list(read(SAMPLE / "flat.jsonl")))
    elements = len(list(read(SAMPLE / "sessions.jsonl")))
    assert f"{flat} of {flat} flat messages are in 3 conversations" in demo.stdout
    assert f"{elements} of {elements} array elements are rows, in 3 conversations" in demo.stdout
    assert "Each text has the owner and the role that it had before: yes" in demo.stdout


def test_the_demo_reads_threads_as_their_users(demo: subprocess.CompletedProcess[str]) -> None:
    assert demo.stdout.count("asks for the other user's conversation by its id, and gets 0 rows") == 2
    assert "A request without a user (role anon) gets: permission denied" in demo.stdout


def test_the_demo_fits_80_columns(demo: subprocess.CompletedProcess[str]) -> None:
    assert [line for line in (demo.stdout + demo.stderr).splitlines() if len(line) > 80] == []


def test_at_a_terminal_the_database_stays_until_enter_and_can_be_worked_with() -> None:
    with Terminal([sys.executable, "-m", "examples.demo", "--data", "nowhere"], columns=200) as demo:
        demo.reads("Press Enter")
        [address] = re.findall(r"export DATABASE_URL='(.*)'", demo.said)
        with psycopg.connect(address) as connection:
            assert connection.execute("SELECT count(*) FROM public.chat_messages").fetchone() == (9,)
        for words in re.findall(r"chat-schema ((?:status|downgrade|plan)[^#]*)#", demo.said):
            done = chat_schema(address, *words.split())
            assert done.returncode == 0, done.stderr
        demo.types("\n")
        assert demo.ends() == 0
    assert max(len(line) for line in re.split("[\r\n]", demo.shown)) <= 80
    assert "reading flat.jsonl 100% |" in demo.said  # a bar
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(address)


def test_real_conversations_are_taken_where_they_lie(tmp_path: Path) -> None:
    for name in ("ubuntu_irc.jsonl.gz", "tau_bench_airline.jsonl.gz"):
        (tmp_path / name).touch()
    assert Sources.find(tmp_path).flat == tmp_path / "ubuntu_irc.jsonl.gz"
    assert Sources.find(tmp_path / "elsewhere").flat == SAMPLE / "flat.jsonl"
