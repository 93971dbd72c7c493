"""`python -m benchmarks.search` on a few messages: it runs, and every substring is found. No times."""

from __future__ import annotations

from tests.benchmarks.running import run_benchmark


def test_every_figure_is_printed_and_all_of_cjk_is_found() -> None:
    sizes = ["--own", "200", "--others", "200", "400", "--rounds", "2", "--inserts", "20"]
    printed = run_benchmark("search", *sizes, "--data", "none")
    lines = printed.splitlines()
    assert sum(line.startswith("a common word ") for line in lines) == 2
    assert sum(line.endswith("the index") or " the index " in line for line in lines) == 2
    [recall] = [line for line in lines if line.startswith("recall")]
    assert recall.endswith(" 1.000")
