"""`python -m benchmarks.noop` with one pair: it runs, and compares both ways of upgrading. No times."""

from __future__ import annotations

from tests.benchmarks.running import run_benchmark


def test_both_upgrades_are_compared_with_the_command_that_only_looks() -> None:
    lines = run_benchmark("noop", "--pairs", "1").splitlines()
    assert [line.split(" | ")[0] for line in lines[2:5]] == [
        "| alembic current",
        "| alembic upgrade head",
        "| chat_schema upgrade head",
    ]
    assert lines[5::3] == [
        f"{name} upgrade head, of what alembic current takes:" for name in ("alembic", "chat_schema")
    ]
