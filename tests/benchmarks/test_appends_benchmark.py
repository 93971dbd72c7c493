"""`python -m benchmarks.appends` on a few statements: it runs, and ours has no deadlock. No times."""

from __future__ import annotations

from tests.benchmarks.running import run_benchmark


def test_both_ways_are_measured_and_ours_has_no_deadlock() -> None:
    printed = run_benchmark("appends", "--clients", "2", "--seconds", "1", "--statements", "16")
    waits, ours = printed.splitlines()[-2:]
    assert waits.startswith("waits")
    assert ours.startswith("ours")
    assert ours.endswith(" 0 of 16")
