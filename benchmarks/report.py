"""What was measured, as tables for a terminal and for docs/benchmarks.md."""

from __future__ import annotations

import argparse
import dataclasses
import os
import platform
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import date

import psycopg

from app import embedded
from benchmarks.locks import EVERY, MODES
from benchmarks.measure import Clients, Result
from benchmarks.traffic import CLIENTS, HOLDS, PAUSE, RESTS
from benchmarks.ways import conninfo

CHARTS = """## As pictures

`python -m docs.generate` draws them from the same figures.

![The longest that a client waited, by way](images/benchmark_wait.svg)

![Seconds by way](images/benchmark_seconds.svg)

![Size of the table afterwards, by way](images/benchmark_size.svg)

![Microseconds a message, by size of the table](images/benchmark_growth.svg)"""
IDLE_HEAD = (
    "way",
    "seconds",
    "of the original",
    "of the raw UPDATE",
    "µs a row",
    "size after",
    "WAL MB",
    "NULL",
    "wrong owner",
    "ended",
)
BUSY_HEAD = (
    "way", "seconds", "of the original", "statements", "failed", "NULL", "wrong owner",
    "p50 ms", "p99 ms", "longest ms", "longer than before", "ended",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Run:
    """All results on one number of messages; ``results`` holds each repetition."""

    rows: int
    users: int
    files: tuple[str, ...]
    results: list[Result]

    def typical(self, *, clients: bool) -> list[Result]:
        """Return each way once: its run with the median time, with the worst that any of its runs left behind."""
        groups: dict[str, list[Result]] = {}
        for result in self.results:
            if (result.clients is not None) == clients:
                groups.setdefault(result.way, []).append(result)
        return [_typical(sorted(group, key=lambda result: result.seconds)) for group in groups.values()]


def machine(server: embedded.Server, settings: Mapping[str, str]) -> dict[str, str]:
    """Return what the figures depend on besides the program."""
    with psycopg.connect(conninfo(server.url("postgres"))) as connection:
        row = connection.execute("SHOW server_version").fetchone()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "Date": date.today().isoformat(),
        "Machine": f"{os.cpu_count()} cores, {memory:.0f} GiB of memory, {platform.system()} {platform.machine()}",
        "PostgreSQL": f"{row[0] if row else '?'}, "
        + ", ".join(f"{name} = {value}" for name, value in settings.items())
        + "; the rest as it comes (fsync on)",
    }


def line(result: Result) -> str:
    """Return one run in one line."""
    stall = f", longest stall {result.clients.during.longest:,.0f} ms" if result.clients else ""
    ended = f", {result.error}" if result.error else ""
    kind = "with clients" if result.clients else "idle"
    return f"  {result.way}, {kind}: {result.seconds:.2f} s{stall}{ended}"


def tables(run: Run) -> str:
    """Return the tables of one number of messages, as Markdown."""
    idle, busy = run.typical(clients=False), run.typical(clients=True)
    parts = []
    if idle:
        parts += ["Idle:", _table(IDLE_HEAD, (_idle_row(result, idle) for result in idle))]
    if busy:
        parts += ["With clients:", _table(BUSY_HEAD, (_busy_row(result, busy) for result in busy))]
    for title, results in (("idle", idle), ("with clients", busy)):
        modes = [mode for mode in MODES if any(mode in result.locks for result in results)]
        rows = ((result.way, *(_milliseconds(result.locks.get(mode)) for mode in modes)) for result in results)
        if results:
            head = ("way", *(mode.removesuffix("Lock") for mode in modes))
            parts += [f"Longest time one transaction held a lock on chat_messages, {title}, in ms:", _table(head, rows)]
    return "\n\n".join(parts)


def page(machine: Mapping[str, str], runs: Sequence[Run], options: argparse.Namespace) -> str:
    """Return docs/benchmarks.md."""
    command = shlex.join(
        ["python", "-m", "benchmarks.backfill", *(word for word in sys.argv[1:] if word != "--write-docs")]
    )
    facts = "\n".join(f"- {name}: {value}" for name, value in machine.items())
    text = f"""# Benchmarks

Printed by `{command} --write-docs`; do not edit.

How revisions 0032 to 0037 give every row of `chat_messages` its conversation, beside other ways to do it, each on a
copy of the same database.

{facts}
- Text: {", ".join(runs[0].files)}, in the order of time, one history a user.
- Clients: {CLIENTS} that send a statement, wait {PAUSE * 1000:.0f} ms and send the next (40 % read the last 50
  messages, 35 % insert without a conversation, 15 % update, 5 % delete, 5 % sign up and insert), and one that keeps a
  transaction open for {HOLDS:.0f} s of every {HOLDS + RESTS:.0f}. They run {options.around:g} s before, during, and
  {options.around:g} s after the migration; `before -> during` compares within one run.
- Runs of each way: {options.repeat}. Shown is the one with the median time, with the worst stall and all failures of
  any.

The ways:

- **original SQL**: the three migrations that our revisions replace: key, indexes, one UPDATE with a correlated
  subquery, VALIDATE, check; one transaction a file.
- **raw UPDATE**: column, conversations, the same UPDATE and nothing else: no key, no index, no trigger, no check.
- **key batches**: 1,000 keys a transaction without a pause, as pgroll does it, with our trigger, key and indexes.
- **ours**: `alembic upgrade 0037` from 0031.

"NULL" and "wrong owner" count messages without a conversation and in another user's at the end. A way that failed
shows the time until then. Locks are sampled every {EVERY * 1000:.0f} ms, so that a shorter one can be missed; those of
the clients are left out.

{CHARTS}
"""
    for run in runs:
        text += f"\n## {run.rows:,} messages of {run.users:,} users\n\n{tables(run)}\n"
    if len(runs) > 1:
        text += f"\n## How it grows\n\nµs a row, idle:\n\n{_growth(runs)}\n"
    return text


def _typical(group: Sequence[Result]) -> Result:
    median = group[len(group) // 2]
    felt = [result.clients for result in group if result.clients]
    worst = max(felt, key=lambda clients: clients.during.longest - clients.before.longest) if felt else None
    if worst:
        errors = {name: clients.errors[name] for clients in felt for name in clients.errors}
        worst = dataclasses.replace(worst, failed=sum(clients.failed for clients in felt), errors=errors)
    return dataclasses.replace(
        median,
        error=next((result.error for result in group if result.error), None),
        nulls=max(result.nulls for result in group),
        mismatches=max(result.mismatches for result in group),
        clients=worst,
    )


def _idle_row(result: Result, all_: Sequence[Result]) -> Sequence[str]:
    return (
        result.way, f"{result.seconds:.2f}", _ratio(result, all_, "original SQL"), _ratio(result, all_, "raw UPDATE"),
        f"{1e6 * result.seconds / result.rows:.1f}", f"{result.size_after / result.size_before:.2f}",
        f"{result.wal / 1e6:.0f}", f"{result.nulls:,}", f"{result.mismatches:,}", result.error or "done",
    )  # fmt: skip


def _busy_row(result: Result, all_: Sequence[Result]) -> Sequence[str]:
    clients = result.clients
    assert isinstance(clients, Clients)
    before, during = clients.before, clients.during
    return (
        result.way, f"{result.seconds:.2f}", _ratio(result, all_, "original SQL"), f"{clients.statements:,}",
        f"{clients.failed:,}", f"{result.nulls:,}", f"{result.mismatches:,}",
        *(f"{then:,.1f} -> {now:,.1f}" for then, now in zip(before, during, strict=True)),
        f"{during.longest - before.longest:+,.0f}", result.error or "done",
    )  # fmt: skip


def _ratio(result: Result, all_: Iterable[Result], way: str) -> str:
    other = next((other for other in all_ if other.way == way), None)
    return f"{result.seconds / other.seconds:.2f}" if other else ""


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{1000 * seconds:,.0f}"


def _growth(runs: Sequence[Run]) -> str:
    rows = {run.rows: {r.way: f"{1e6 * r.seconds / r.rows:.1f}" for r in run.typical(clients=False)} for run in runs}
    names = list(next(iter(rows.values())))
    head = ("way", *(f"{number:,} rows" for number in rows))
    return _table(head, ((name, *(of.get(name, "") for of in rows.values())) for name in names))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, *rows]
    widths = [max(len(row[column]) for row in lines) for column in range(len(head))]
    padded = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in lines
    ]
    return "\n".join([padded[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *padded[1:]])
