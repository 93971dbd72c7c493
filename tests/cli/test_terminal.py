"""What somebody at a terminal sees: which database, what is done, what comes next; and what a pipe gets instead."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

import pytest

from app.cli import _CommandLine
from app.command_help import COMMANDS
from tests.cli.terminal import Terminal
from tests.cli.test_commands import chat_schema
from tests.migrations.chain import HEAD

COMMAND = [sys.executable, "-m", "chat_schema"]


def seen(url: str, *words: str, columns: int = 80, environment: Mapping[str, str] | None = None) -> Terminal:
    with Terminal([*COMMAND, *words], columns, {"DATABASE_URL": url, **(environment or {})}) as terminal:
        terminal.ends()
    return terminal


@pytest.mark.parametrize(
    ("words", "ends"),
    [
        (["verify"], "Verified: the database is what the package expects.\n"),
        (["plan"], "At {head}: there is nothing to do.\n"),
        (["purge", "--dry-run"], "Next: `chat-schema purge` deletes them.\n"),
        (["upgrade", "head"], "The database is at {head}, the head: there is nothing to do.\n"),
        (["downgrade", "-1"], "Next: chat-schema upgrade head brings them back\n"),
    ],
)
def test_the_database_comes_first_and_what_was_done_and_comes_next_last(
    migrated_url: str, words: list[str], ends: str
) -> None:
    terminal = seen(migrated_url, *words, columns=200)
    assert terminal.shown.startswith("Database: postgresql://postgres@/")
    assert terminal.shown.endswith(ends.format(head=HEAD))


def test_an_upgrade_names_its_revisions_and_says_what_comes_next(migrated_url: str) -> None:
    assert chat_schema(migrated_url, "downgrade", "-1").returncode == 0
    assert "Next: `chat-schema upgrade head` does it" in seen(migrated_url, "plan").shown.splitlines()[-2]
    lines = seen(migrated_url, "upgrade", "head", columns=120).shown.splitlines()
    assert any(line.startswith(f"{HEAD}  Create comments on views and functions") for line in lines)
    assert lines[-2:] == [
        f"Done: 1 revision was run, and the database is at {HEAD}, the head.",
        "Next: chat-schema verify",
    ]


def test_a_pipe_gets_the_lines_of_a_log(migrated_url: str) -> None:
    assert chat_schema(migrated_url, "downgrade", "-1").returncode == 0
    done = chat_schema(migrated_url, "upgrade", "head")
    assert done.stderr.startswith("INFO  [alembic.engine] Database: postgresql://postgres@/")
    assert done.stderr.endswith(f"is at {HEAD}, the head. Next: chat-schema verify\n")
    assert "\x1b" not in done.stderr + chat_schema(migrated_url, "verify").stdout


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_who_wants_no_colour_gets_none(migrated_url: str, environment: dict[str, str]) -> None:
    assert "\x1b[32mok" in seen(migrated_url, "verify").said
    plain = seen(migrated_url, "verify", environment=environment).said
    assert "\x1b" not in plain
    assert "ok    catalog " in plain


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_what_is_told_is_as_wide_as_the_terminal(migrated_url: str, columns: int) -> None:
    assert chat_schema(migrated_url, "downgrade", "-1").returncode == 0
    told = [seen(migrated_url, *words, columns=columns).shown for words in (["plan"], ["upgrade", "head"], ["--help"])]
    lines = [line for text in told for line in text.replace("\r", "\n").splitlines()]
    too_wide = [line for line in lines if len(line) > columns and " " in line.strip()]
    assert [line for line in too_wide if "Database: " not in line] == []  # a path is not broken


def test_our_own_commands_come_first_in_the_help_and_none_is_left_out() -> None:
    said = chat_schema("postgresql://nowhere.invalid/db", "--help").stdout
    own, _, others = said.partition("Alembic's own:")
    assert all(f"\n  {name} " in own for group in COMMANDS.values() for name in group)
    listed = {name for group in COMMANDS.values() for name in group}
    rest = others.partition("`chat-schema COMMAND")[0]
    assert {*rest.replace(",", " ").split()} == {*_CommandLine().subparsers.choices} - listed
    assert {"check", "stamp", "history"} <= {*rest.replace(",", " ").split()}


QUIET = """
import sys, time
from app.engine import terminal
terminal._QUIET = 0
with terminal.working("counting rows of a table with a long name"):
    time.sleep(1)
    with terminal.aside():
        print("found")
    time.sleep(1)
print("end")
"""


def test_a_quiet_step_shows_that_it_works_and_leaves_nothing_behind() -> None:
    with Terminal([sys.executable, "-c", QUIET], columns=40) as terminal:
        assert terminal.ends() == 0
    assert "counting rows of a table with... 0:0" in terminal.said
    for word in ("found", "end"):
        before = terminal.said.partition(word)[0].rpartition("\r")[0].rpartition("\r")[2]
        assert before
        assert not before.strip()  # written over with blanks, and begun again
    assert all(len(part) < 40 for line in terminal.said.splitlines() for part in line.split("\r"))


def test_a_pipe_is_not_told_that_a_step_works() -> None:
    done = subprocess.run([sys.executable, "-c", QUIET], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("found\nend\n", "")
