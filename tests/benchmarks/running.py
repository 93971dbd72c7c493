"""Run a benchmark as its user does."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.conftest import scratch_folder
from tests.postgres_binaries import ROOT


def run_benchmark(name: str, *arguments: str) -> str:
    """Run ``python -m benchmarks.<name>`` in the checkout and return what it prints; it has to succeed."""
    with scratch_folder() as scratch:
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}", *arguments],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(scratch)},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
