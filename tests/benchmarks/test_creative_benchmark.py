"""`python -m benchmarks.creative` on a few messages: each figure of the original document is there. No times."""

from __future__ import annotations

from tests.benchmarks.running import run_benchmark


def test_each_figure_is_printed_with_its_limit() -> None:
    printed = run_benchmark("creative", "--messages", "200", "--rounds", "2")
    assert printed.startswith("200 messages of the session, 300 of the user")
    limits = {line[:32].strip(): line.split()[-1].strip("!") for line in printed.splitlines()[2:-1]}
    assert limits == {
        "a session by its id": "1",
        "the first page of the session": "5",
        "a page in its middle": "5",
        "its last page": "5",
        "get_conversation_history()": "5",
        "the cost of the session": "10",
        "get_session_cost()": "10",
        "the cost of the user": "10",
    }
