"""What the package promises, each with the command that proves it: `make claims` runs the quick ones.

    python -m docs.generate.claims [--only TEXT]

It writes docs/claims.json, what each command said last, and docs/claims.md. What takes long is not run: its figure is
that of the recorded benchmark. The exit code is 1 if a command failed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from app import embedded
from docs.generate import DOCS, ROOT
from docs.generate.charts import FIGURES, INSTRUCTIONS, SHOWN

RECORDED = DOCS / "claims.json"
BACKFILL = "python -m benchmarks.backfill --rows 1000000"


@dataclass(frozen=True)
class Claim:
    """A promise, the command that proves it, and where it takes long how its figure reads in the recorded benchmark."""

    says: str
    command: str
    recorded: Callable[[dict[str, dict[str, Any]]], str] | None = None


def _failed(ways: dict[str, dict[str, Any]]) -> str:
    clients = ways["ours, 1 worker"]["clients"]
    return f"{clients['failed']:,} of {clients['statements']:,} statements"


def _wait(ways: dict[str, dict[str, Any]]) -> str:
    before, during = (ways["ours, 1 worker"]["clients"][when][-1] for when in ("before", "during"))
    return f"{during:,.0f} ms; before the upgrade {before:,.0f} ms"


def _time(ways: dict[str, dict[str, Any]]) -> str:
    ours, original = (ways[f"{way}, idle"]["seconds"] for way in ("ours, 2 workers", "original SQL"))
    return f"{ours / original:.2f} of its time"


def _size(ways: dict[str, dict[str, Any]]) -> str:
    sizes = [ways[f"{way}, idle"] for way in ("ours, 2 workers", "original SQL")]
    ours, original = (way["size_after"] / way["size_before"] for way in sizes)
    return f"{ours:.2f} of its size, not {original:.2f}"


def _policies(_: dict[str, dict[str, Any]]) -> str:
    results = json.loads(INSTRUCTIONS.read_text("utf-8"))["results"]
    ratios = [result["ratio"] for result in results if result["way"] == "user"]
    return f"{min(ratios):.2f} to {max(ratios):.2f} times"


CLAIMS = {
    "An upgrade does not disturb": [
        Claim(f"Beside clients no statement fails ({SHOWN:,} messages)", BACKFILL, _failed),
        Claim("The longest that a client waits", BACKFILL, _wait),
        Claim("With nobody else at work it takes less time than the plain SQL", BACKFILL, _time),
        Claim("The table grows less than by the plain SQL", BACKFILL, _size),
        Claim("Each revision takes the locks that it declares", "pytest -q tests/live/test_locks.py"),
        Claim("A killed backfill goes on where it was", "pytest -q tests/live/test_kills.py -k killed_backfill"),
        Claim("Of five deployments one works, the others wait", "pytest -q tests/live/test_deployers.py -k five_on"),
    ],
    "The schema is what it says": [
        Claim("An empty database gets to head, and its catalog is as expected", "chat-schema upgrade head"),
        Claim("It verifies", "chat-schema verify"),
        Claim("Models and database agree", "chat-schema check"),
        Claim("It goes down to base and leaves nothing", "pytest -q tests/migrations/test_chain.py"),
        Claim("No revision would stop clients", "chat-schema lint"),
    ],
    "Users are kept apart": [
        Claim("Each role does what it may, and nothing else", "pytest -q tests/policies/test_matrix.py"),
        Claim("Members of random tenants see what they may", "pytest -q tests/policies/test_visibility_property.py"),
        Claim("A service acts for a user, and nothing stays behind", "pytest -q tests/services/test_acting_as.py"),
        Claim("The same through PgBouncer", "pytest -q tests/services/test_pgbouncer.py"),
        Claim(
            "What a page costs a user, to what it costs the owner whom no policy binds (instructions)",
            "python -m benchmarks.instructions --json docs/instructions.json",
            _policies,
        ),
        Claim("What a client makes in pg_temp runs nothing as the owner", "pytest -q tests/shadows/test_functions.py"),
    ],
    "The pages hold": [
        Claim("Commands and pictures of the pages are as the code has them", "pytest -q tests/docs"),
        Claim("The service of the pages passes its tests", "pytest -q tests/services/test_docs.py"),
        Claim("The snippets of the engine's page do what they say", "pytest -q tests/engine/test_docs.py"),
    ],
}


def claims_page() -> str:
    """Return docs/claims.md, from what was recorded."""
    recorded = json.loads(RECORDED.read_text("utf-8"))
    whole = json.loads(FIGURES.read_text("utf-8"))
    results = next(run["results"] for run in whole["runs"] if run["rows"] == SHOWN)
    ways = {result["way"] + ("" if result["clients"] else ", idle"): result for result in results}
    counted = json.loads(INSTRUCTIONS.read_text("utf-8"))["date"]
    lines = [
        "# Claims",
        "",
        "What proves each promise? The command beside it. `make claims` runs the quick ones and writes this page anew.",
        "",
        f"The benchmark takes long, so its last figures stand here: {whole['machine']['Date']}, "
        f"{whole['machine']['Machine']}.",
        "",
    ]
    for title, claims in CLAIMS.items():
        lines += [f"## {title}", "", "| promise | command | last figure | when |", "|---|---|---|---|"]
        for claim in claims:
            if claim.recorded:
                figure = claim.recorded(ways)
                when = counted if claim.recorded is _policies else whole["machine"]["Date"]
            else:
                last = recorded.get(claim.command, {"said": "not run yet", "date": ""})
                figure, when = last["said"], last["date"]
            lines.append(f"| {claim.says} | `{claim.command}` | {figure} | {when} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Run the quick ones, record what they said, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m docs.generate.claims", description=__doc__)
    parser.add_argument("--only", default="", help="run only the commands with this text; the others stay as recorded")
    only = parser.parse_args().only
    recorded = json.loads(RECORDED.read_text("utf-8")) if RECORDED.exists() else {}
    failed = 0
    with tempfile.TemporaryDirectory(prefix="chat-schema-claims-") as folder:
        Path(folder).chmod(0o711)
        for claim in (claim for claims in CLAIMS.values() for claim in claims):
            if not claim.recorded and only in claim.command:
                code, said = _run(claim.command, Path(folder))
                print(f"{'ok  ' if code == 0 else 'FAIL'}  {claim.command}: {said}", flush=True)
                failed += code != 0
                recorded[claim.command] = {"said": said, "date": date.today().isoformat()}
    commands = [claim.command for claims in CLAIMS.values() for claim in claims if not claim.recorded]
    recorded = {command: recorded[command] for command in commands if command in recorded}
    RECORDED.write_text(json.dumps(recorded, indent=1) + "\n", "utf-8")
    (DOCS / "claims.md").write_text(claims_page(), "utf-8")
    if failed:
        raise SystemExit(1)


def _run(command: str, folder: Path) -> tuple[int, str]:
    """Run a command, those of chat-schema on a server in ``folder``; return its exit code and its last words."""
    program, *words = shlex.split(command)
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    if program == "pytest":
        done = _done(["pytest", *words], environment)
    else:
        with embedded.running(folder / "data") as server:
            address = server.url().render_as_string(hide_password=False)
            done = _done(["chat_schema", *words], environment | {"DATABASE_URL": address})
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    said = lines[-1] if lines else f"exit code {done.returncode}"
    return done.returncode, re.sub(r" in [\d.]+s.*$", "", said).strip("= ")


def _done(words: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    main()
