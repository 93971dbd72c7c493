"""What a user can write after ``chat-schema``: it is done, or one message says what was meant instead."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import alembic
from app.cli import main
from tests.migrations.chain import HEAD, REVISIONS
from tests.postgres_binaries import ROOT

NOWHERE = {"DATABASE_URL": "postgresql://nowhere.invalid/db"}


@dataclass(frozen=True)
class Done:
    """What a run of the command has come to."""

    status: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def chat_schema(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run the command within this process: ``chat_schema("upgrade", "head")``."""
    monkeypatch.setenv("DATABASE_URL", NOWHERE["DATABASE_URL"])

    def run(*words: str) -> Done:
        status: Any = 0
        try:
            main(words)
        except SystemExit as end:
            status = end.code
        return Done(status, *capfd.readouterr())

    return run


def optimized(*words: str, url: str = NOWHERE["DATABASE_URL"]) -> Done:
    """Run the command as a process of its own, by a Python that has forgotten docstrings and assertions."""
    environment = {"DATABASE_URL": url, "PYTHONOPTIMIZE": "2"}
    command = [sys.executable, "-m", "chat_schema", *words]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


def test_the_version_is_our_own_with_alembics_beside_it(chat_schema: Run) -> None:
    expected = f"chat-schema {importlib.metadata.version('chat-schema')} (Alembic {alembic.__version__})\n"
    assert chat_schema("--version").stdout == expected


FOREIGN = '[tool.alembic]\nscript_location = "nowhere"\nversion_locations = ["nowhere"]\nfile_template = "x"\n'


def test_the_configuration_of_another_project_in_the_current_folder_changes_nothing(
    chat_schema: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text(FOREIGN)
    (tmp_path / "alembic.ini").write_text("[alembic]\nscript_location = nowhere\n")
    assert chat_schema("heads") == Done(0, f"{HEAD} (head)\n", "")
    monkeypatch.setenv("ALEMBIC_CONFIG", str(tmp_path / "pyproject.toml"))
    assert chat_schema("heads") == Done(0, f"{HEAD} (head)\n", "")


def test_a_configuration_that_is_named_is_taken(chat_schema: Run, tmp_path: Path) -> None:
    (tmp_path / "own.ini").write_text(f"[alembic]\nscript_location = {ROOT}/alembic\n")
    assert chat_schema("-c", str(tmp_path / "own.ini"), "heads").stdout == f"{HEAD} (head)\n"


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (["missing.ini"], "there is no file missing.ini"),
        (["alembic.ini", "alembic.ini"], "one file of each kind can be given"),
    ],
)
def test_a_configuration_that_cannot_be_meant_is_refused(
    chat_schema: Run, monkeypatch: pytest.MonkeyPatch, files: list[str], says: str
) -> None:
    monkeypatch.chdir(ROOT)
    done = chat_schema(*(word for file in files for word in ("-c", file)), "heads")
    assert done.status == 2
    assert says in done.stderr


PAST_THE_END = f"leads past the end of the chain, so nothing was run: it goes from base to {HEAD}."


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["upgrade", "head+1"], f"'head+1' {PAST_THE_END}"),
        (["upgrade", "heads+2"], f"'heads+2' {PAST_THE_END}"),
        (["upgrade", "0001+99"], f"'0001+99' {PAST_THE_END}"),
        (["upgrade", "base-1"], f"'base-1' {PAST_THE_END}"),
        (["downgrade", "0001-2"], f"'0001-2' {PAST_THE_END}"),
        (["downgrade", f"{HEAD}-99"], f"'{HEAD}-99' {PAST_THE_END}"),
        (["stamp", "head+1"], f"'head+1' {PAST_THE_END}"),
        (["upgrade", "--sql", "0019:head+3"], f"'head+3' {PAST_THE_END}"),
        (["upgrade", ""], "'' names no revision, so nothing was run. Name one, as in `chat-schema upgrade head`"),
        (["downgrade", " "], "' ' names no revision"),
        (["show", ""], "'' names no revision"),
        (["upgrade", "--sql", "0019:"], "'0019:' names no revision"),
        (["upgrade", "--sql", "0001:0013:0017"], "'0001:0013:0017' names no revision"),
        (["history", "-r", "0001:0013:0017"], "A range of revisions is two names with one : between them"),
        (["show", "nothing"], "Can't locate revision identified by 'nothing'"),
        (["upgrade", "--sql", "nothing"], "Can't locate revision identified by 'nothing'"),
        (["upgrade", "nothing+1", "--sql"], "Can't locate revision identified by 'nothing'"),
    ],
)
def test_a_revision_that_is_none_is_named_before_anything_is_run(chat_schema: Run, words: list[str], says: str) -> None:
    done = chat_schema(*words)
    assert done.status == 1
    assert f"chat-schema: {says}" in done.stderr


def test_python_without_assertions_refuses_it_too() -> None:
    done = optimized("upgrade", "head+1")
    assert (done.status, f"chat-schema: 'head+1' {PAST_THE_END}" in done.stderr) == (1, True)


def test_alembics_own_command_line_refuses_it_too() -> None:
    command = [sys.executable, "-m", "alembic", "upgrade", "head+1"]
    done = subprocess.run(command, cwd=ROOT, env=NOWHERE, capture_output=True, text=True, check=False)
    assert done.returncode > 0
    assert f"FAILED: 'head+1' {PAST_THE_END}" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [["upgrade", "0001+1", "--sql"], ["upgrade", "base+2", "--sql"]])
def test_a_revision_may_be_counted_from_another(chat_schema: Run, words: list[str]) -> None:
    done = chat_schema(*words)
    assert done.status == 0, done.stderr
    assert f"VALUES ('{REVISIONS[0]}')" in done.stdout
    assert f"SET version_num='{REVISIONS[1]}'" in done.stdout


@pytest.mark.parametrize(
    ("place", "says"), [("", "say where"), ("a file", "File exists"), ("a file/below", "Not a directory")]
)
def test_what_no_files_can_be_written_to_is_one_message(
    chat_schema: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a file").write_text("mine")
    done = chat_schema("sql", "--split", place)
    assert done.status == 1
    assert says in done.stderr
    assert "`chat-schema sql --split supabase/migrations`" in done.stderr
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a file", "mine")]


def test_plan_names_locks_where_python_forgets_docstrings(database_url: str) -> None:
    assert optimized("upgrade", "0031", url=database_url).status == 0
    done = optimized("plan", url=database_url)
    assert done.status == 0, done.stderr
    assert "Expand chat_messages by the conversation each message belongs" in done.stdout
    assert re.search(r"^ +AccessExclusive +chat_messages +an instant$", done.stdout, re.MULTILINE)
