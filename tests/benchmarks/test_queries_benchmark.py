"""`python -m benchmarks.queries` on a few rows: it runs and says what it measured. No times."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.queries import QUERIES
from tests.benchmarks.running import run_benchmark


def test_each_statement_is_measured_on_each_size(tmp_path: Path) -> None:
    arguments = ["--messages", "2000", "1000", "--rounds", "3", "--users", "1"]
    arguments += ["--json", str(tmp_path / "results.json")]
    printed = run_benchmark("queries", *arguments)
    results = json.loads((tmp_path / "results.json").read_text())["results"]
    assert [(r["query"], r["messages"]) for r in results] == [(q, n) for q in QUERIES for n in (1000, 2000)]
    for result in results:
        times = ("end_to_end", "end_to_end_without", "server", "server_without", "server_at_least")
        assert min(result[time] for time in times) > 0
        assert "Scan" in result["plan"]
        assert result["query"] in printed
