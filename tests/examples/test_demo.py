"""`make demo` on the sample of our own: what it says is true of what it loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from examples.demo.conversations import SAMPLE, Sources, read
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
    assert f"{flat} of {flat} flat messages stand in 3 conversations" in demo.stdout
    assert f"{elements} of {elements} array elements are rows, in 3 conversations" in demo.stdout
    assert "in the same hands with the same role as before: yes" in demo.stdout


def test_the_demo_reads_threads_as_their_users(demo: subprocess.CompletedProcess[str]) -> None:
    assert demo.stdout.count("asked for by its id: 0 rows") == 2
    assert "role anon): permission denied" in demo.stdout


def test_real_conversations_are_taken_where_they_lie(tmp_path: Path) -> None:
    for name in ("ubuntu_irc.jsonl.gz", "tau_bench_airline.jsonl.gz"):
        (tmp_path / name).touch()
    assert Sources.find(tmp_path).flat == tmp_path / "ubuntu_irc.jsonl.gz"
    assert Sources.find(tmp_path / "elsewhere").flat == SAMPLE / "flat.jsonl"
