"""Requests generated from the OpenAPI document, right and wrong ones, and every answer held against it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import Running


def test_every_answer_is_as_described(chat: Running, tmp_path: Path) -> None:
    """By schemathesis' own command: its plugin cannot make its items on pytest 9.2 (AttributeError: _nodeid)."""
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{chat.url}/openapi.json"]
    told = {
        "--header": f"Authorization: Bearer {chat.person().token}",
        "--exclude-path": "/api/events",  # it does not end by itself; tests/test_live.py reads it
        "--phases": "coverage,fuzzing,stateful",
        "--max-examples": "15",
        "--seed": "1",
    }
    options = [word for pair in told.items() for word in pair]
    done = subprocess.run(
        [*command, *options],
        cwd=tmp_path,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=1500,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    assert "Tested: 23" in done.stdout
