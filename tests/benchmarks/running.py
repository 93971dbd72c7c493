"""Run a benchmark as its user does."""

from __future__ import annotations

import os
import sys

from tests.conftest import scratch_folder
from tests.postgres_binaries import ROOT
from tests.programs import output_of


def run_benchmark(name: str, *arguments: str) -> str:
    """Run ``python -m benchmarks.<name>`` in the checkout and return what it prints; it has to succeed."""
    with scratch_folder() as scratch:
        command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
        return output_of(command, cwd=ROOT, env={**os.environ, "TMPDIR": str(scratch)}, timeout=600)
