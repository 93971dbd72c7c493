"""docs/start.md holds: its commands and its program, one after the other, on an empty database."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from tests.postgres_binaries import ROOT
from tests.programs import output_of

PAGE = (ROOT / "docs" / "start.md").read_text("utf-8")


def test_the_steps_of_the_page_lead_to_a_chat_that_its_user_alone_reads(tmp_path: Path, database_url: str) -> None:
    """The database is empty; the embedded server in its place is what tests/embedded is about."""
    environment = {**os.environ, "DATABASE_URL": database_url, "PYTHONPATH": str(ROOT)}
    steps = re.findall(r"^chat-schema (upgrade head|verify)$", PAGE, re.MULTILINE)
    assert steps == ["upgrade head", "verify"]
    for step in steps:
        said = output_of([sys.executable, "-m", "chat_schema", *step.split()], cwd=tmp_path, env=environment)
    assert "Verified" in said
    [(name, program)] = re.findall(r"^```python\n# (\S+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert f"python {name}" in PAGE
    (tmp_path / name).write_text(program)
    assert output_of([sys.executable, name], cwd=tmp_path, env=environment).splitlines() == [
        "Ann sees ['Trip to Lyon']",
        "    user: Two seats on Friday, please.",
        "    assistant: Booked: the 8:04.",
        "Ben sees []",
    ]
