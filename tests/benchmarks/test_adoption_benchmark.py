"""`python -m benchmarks.adoption` on a few rows: clients work, nothing is lost, and it says what it saw. No times."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.adoption.legacy import LEGACY
from tests.benchmarks.running import run_benchmark


def test_each_start_is_measured_with_clients_and_comes_to_head_whole(tmp_path: Path) -> None:
    if not LEGACY.is_dir():
        pytest.skip(f"the databases of the four applications are not in {LEGACY}: set CHAT_SCHEMA_LEGACY")
    arguments = ["--sessions", "250", "--messages", "5000", "--around", "0.5", "--data", str(tmp_path)]
    printed = run_benchmark("adoption", *arguments, "--json", str(tmp_path / "results.json"))
    results = json.loads((tmp_path / "results.json").read_text())
    assert [result["start"] for result in results] == ["3a", "2"]
    for result in results:
        assert (result["wrong"], result["clients"]["failed"]) == ([], 0)
        assert result["clients"]["statements"] > 0
        assert f"{result['start']}, {result['messages']:,} messages" in printed
