"""`make bench` on a few rows: it runs, and each way ends with the right data or says what it left. No times."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.running import run_benchmark

ROWS = 1000
IDLE = ["original SQL", "raw UPDATE", "key batches", "ours, 1 worker", "ours, 2 workers"]
BUSY = [way for way in IDLE if way != "raw UPDATE"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    arguments = ["--rows", str(ROWS), "--around", "0.5", "--data", str(folder)]
    arguments += ["--json", str(folder / "results.json"), "--write-docs", str(folder / "page.md")]
    (folder / "stdout").write_text(run_benchmark("backfill", *arguments))
    return folder


@pytest.fixture(scope="module")
def results(folder: Path) -> list[dict[str, Any]]:
    [run] = json.loads((folder / "results.json").read_text())["runs"]
    found: list[dict[str, Any]] = run["results"]
    return found


def test_every_way_is_measured_idle_and_with_clients(results: list[dict[str, Any]]) -> None:
    assert [result["way"] for result in results if not result["clients"]] == IDLE
    assert [result["way"] for result in results if result["clients"]] == BUSY


def test_idle_every_way_gives_every_message_its_owners_conversation(results: list[dict[str, Any]]) -> None:
    idle = [result for result in results if not result["clients"]]
    assert [(r["error"], r["rows"], r["nulls"], r["mismatches"]) for r in idle] == [(None, ROWS, 0, 0)] * len(idle)


@pytest.mark.parametrize("way", [way for way in BUSY if way != "original SQL"])
def test_with_the_trigger_no_client_fails_and_no_message_is_left(results: list[dict[str, Any]], way: str) -> None:
    [result] = [result for result in results if result["way"] == way and result["clients"]]
    assert (result["error"], result["nulls"], result["mismatches"]) == (None, 0, 0)
    assert result["clients"]["statements"] > 0
    assert result["clients"]["errors"] == {}


def test_the_original_says_what_it_leaves_when_clients_write(results: list[dict[str, Any]], folder: Path) -> None:
    [result] = [result for result in results if result["way"] == "original SQL" and result["clients"]]
    assert result["nulls"] > 0  # of clients that write afterwards, or of all: what they wrote meanwhile made it fail
    assert f"{result['nulls']:,}" in (folder / "stdout").read_text()
    assert (result["error"] or "done") in (folder / "stdout").read_text()


def test_the_page_names_the_command_and_the_machine_and_holds_every_way(folder: Path) -> None:
    page = (folder / "page.md").read_text()
    assert f"python -m benchmarks.backfill --rows {ROWS}" in page
    assert "- PostgreSQL: " in page
    assert all(page.count(f"| {way} ") >= 2 for way in IDLE)
    for line in (folder / "stdout").read_text().splitlines():
        assert not line.startswith("|") or line in page
