"""What is printed and cannot be written: the command does not pretend to have printed it, and prints no traceback."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.live.command_line import connect
from tests.migrations.chain import HEAD
from tests.postgres_binaries import ROOT


def shell(script: str, url: str = "postgresql://nowhere.invalid/db") -> subprocess.CompletedProcess[str]:
    """Run a line of the shell in which ``$C`` is the command."""
    environment = {**os.environ, "DATABASE_URL": url, "C": f"{sys.executable} -m chat_schema"}
    command = ["bash", "-o", "pipefail", "-c", script]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    return done


@pytest.mark.parametrize("words", ["history", "heads", "upgrade head --sql", "--help", "--version"])
def test_a_full_disk_is_one_message(words: str) -> None:
    done = shell(f"$C {words} > /dev/full")
    assert done.returncode == 1
    assert done.stderr.endswith(
        "chat-schema: the output could not be written whole: [Errno 28] No space left on device\n"
    )


def test_a_full_disk_hides_nothing_of_a_verification_that_fails(database_url: str) -> None:
    assert shell("$C verify > /dev/full", database_url).returncode == 1


def test_a_script_whose_reader_leaves_ends_as_other_programs_do() -> None:
    done = shell("$C upgrade head --sql | head -1")
    assert done.returncode == 141
    assert "chat-schema:" not in done.stderr
    assert done.stdout == "SET search_path = pg_catalog, pg_temp;\n"


def test_an_upgrade_goes_on_where_nobody_reads_what_it_says(database_url: str) -> None:
    done = shell("$C upgrade head 2>&1 | head -1", database_url)
    assert done.returncode == 0
    with connect(database_url) as client:
        assert client.execute("SELECT version_num FROM chat_internal.alembic_version").fetchone() == (HEAD,)


@pytest.mark.parametrize("words", ["history >&-", "heads >&-", "upgrade head --sql >&-"])
def test_an_output_that_is_closed_is_not_missed(words: str) -> None:
    assert shell(f"$C {words}").returncode == 0
