"""`python -m benchmarks.instructions` where its program is missing: it says so before it does anything."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.postgres_binaries import ROOT


def test_without_valgrind_it_says_what_to_install() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "benchmarks.instructions"],
        cwd=ROOT,
        env={**os.environ, "PATH": "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr.startswith("valgrind is not installed")
    assert "apt-get install valgrind" in said.stderr
