"""Give every message of a flat table its conversation: our revisions beside the original SQL, with clients writing.

    python -m benchmarks.backfill [--rows 250000] [--repeat 3] [--only TEXT] [--json FILE] [--write-docs]

On a scratch server that is gone afterwards; DATABASE_URL is not looked at. Every way starts from a copy of the same
database at revision 0031, once idle and once with clients; with --repeat the run with the median time is shown.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg

from app import database, embedded
from benchmarks import report
from benchmarks.corpus import Corpus, load
from benchmarks.measure import measure
from benchmarks.ways import BEFORE, Way, conninfo, upgrade, ways

SETTINGS = {"shared_buffers": "512MB", "max_wal_size": "16GB", "checkpoint_timeout": "30min"}
DOCS = database.project_folder() / "docs" / "benchmarks.md"


def main() -> None:
    """Measure, print the tables, and write what was asked for."""
    options = _options()
    runs = []
    with tempfile.TemporaryDirectory(prefix="chat-schema-bench-") as folder:
        Path(folder).chmod(0o711)
        with embedded.running(Path(folder) / "data", settings=SETTINGS) as server:
            machine = report.machine(server, SETTINGS)
            corpus = Corpus.find(options.data)
            for rows in options.rows:
                runs.append(run(server, corpus, rows, options))
                print("\n" + report.tables(runs[-1]), flush=True)
    whole = {"machine": machine, "runs": [dataclasses.asdict(run) for run in runs]}
    if options.write_docs:
        options.write_docs.write_text(report.page(machine, runs, options))
    for file in filter(None, (options.json, options.write_docs and options.write_docs.with_suffix(".json"))):
        file.write_text(json.dumps(whole, indent=1) + "\n")


def run(server: embedded.Server, corpus: Corpus, rows: int, options: argparse.Namespace) -> report.Run:
    """Measure every way on ``rows`` messages."""
    template = f"flat_{rows}"
    with psycopg.connect(conninfo(server.url("postgres")), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {template}")
    upgrade(server.url(template), BEFORE)
    with psycopg.connect(conninfo(server.url(template)), autocommit=True) as connection:
        users = load(connection, corpus, rows)
        connection.execute("VACUUM (ANALYZE)")
    print(f"{rows:,} messages of {users:,} users, from {', '.join(corpus.files)}", flush=True)
    results = []
    for _ in range(options.repeat):
        for way, clients in _plan(options, rows):
            result = measure(server, template, way, clients=clients, around=options.around)
            print(report.line(result), flush=True)
            results.append(result)
    with psycopg.connect(conninfo(server.url("postgres")), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {template}")
    return report.Run(rows, users, corpus.files, results)


def _plan(options: argparse.Namespace, rows: int) -> Iterator[tuple[Way, bool]]:
    """Yield what to measure, in the order of the tables: first idle, then with clients."""
    for clients in (False, True) if rows <= options.clients_up_to else (False,):
        for way in ways():
            if options.only in way.name and (way.traffic or not clients):
                yield way, clients


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.backfill", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rows",
        type=int,
        nargs="+",
        default=[int(os.environ.get("ROWS", "250000"))],
        help="messages, several numbers to see how it grows (default: the environment variable ROWS, else 250000)",
    )
    parser.add_argument("--repeat", type=int, default=1, help="runs of each way; the median is shown (default: 1)")
    parser.add_argument("--only", default="", help="measure only the ways with this text in their name")
    parser.add_argument(
        "--clients-up-to",
        type=int,
        default=1_000_000,
        metavar="ROWS",
        help="measure larger tables idle only (default: 1000000)",
    )
    parser.add_argument("--around", type=float, default=20.0, help="seconds of clients before and after (default: 20)")
    parser.add_argument(
        "--data",
        type=Path,
        default=database.project_folder().parent / "shared" / "data",
        help="folder with real conversations as *.jsonl.gz (else the sample of the demo, again and again)",
    )
    parser.add_argument("--json", type=Path, help="write every single run to this file")
    parser.add_argument(
        "--write-docs",
        type=Path,
        nargs="?",
        const=DOCS,
        metavar="FILE",
        help="write docs/benchmarks.md (or FILE) and .json",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
