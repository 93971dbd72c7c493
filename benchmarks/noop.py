"""What an upgrade costs that finds nothing to do: `alembic upgrade head` at head beside `alembic current`.

    python -m benchmarks.noop [--pairs 10]

On a scratch server that is gone afterwards; DATABASE_URL is not looked at. Each run is a process, as a deployment
starts it: it begins, connects, looks and ends. The commands take turns in who is first. CPU is the process's alone.

An upgrade may take 1.0 s more than `alembic current`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from app import database, embedded
from benchmarks.ways import upgrade

COMMANDS = (["alembic", "current"], ["alembic", "upgrade", "head"], ["chat_schema", "upgrade", "head"])


@dataclass(frozen=True)
class Cost:
    """Seconds of one process: by the clock, and of a processor."""

    clock: float
    cpu: float


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.noop", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=10, help="runs of each command (default: %(default)s)")
    pairs: int = parser.parse_args().pairs
    with tempfile.TemporaryDirectory(prefix="chat-schema-bench-") as folder:
        Path(folder).chmod(0o711)
        with embedded.running(Path(folder) / "data") as server:
            upgrade(server.url(), "head")
            for command in COMMANDS:  # compiles what was never imported, and fills the caches
                _cost(server.url(), command)
            costs: dict[str, list[Cost]] = {" ".join(command): [] for command in COMMANDS}
            for pair in range(pairs):
                for command in COMMANDS if pair % 2 else COMMANDS[::-1]:
                    costs[" ".join(command)].append(_cost(server.url(), command))
    print("| command | clock, s | CPU, s |\n|---|---|---|")
    for name, each in costs.items():
        print(f"| {name} | {_median(each, 'clock'):.2f} | {_median(each, 'cpu'):.2f} |")
    current, *upgrades = costs
    for name in upgrades:
        print(f"{name}, of what {current} takes:")
        for kind in ("clock", "cpu"):
            pairs_of = zip(costs[name], costs[current], strict=True)
            more = [getattr(ours, kind) - getattr(its, kind) for ours, its in pairs_of]
            ratio = _median(costs[name], kind) / _median(costs[current], kind)
            print(f"  {kind} {ratio:.2f}; {statistics.median(more):+.2f} s in the median, {max(more):+.2f} s at most")


def _cost(url: sa.URL, command: list[str]) -> Cost:
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=database.project_folder(),
        env={**os.environ, "DATABASE_URL": url.render_as_string(hide_password=False)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    clock = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed with status {process.returncode}.")
    return Cost(clock, used.ru_utime + used.ru_stime)


def _median(costs: list[Cost], kind: str) -> float:
    return statistics.median(getattr(each, kind) for each in costs)


if __name__ == "__main__":
    main()
