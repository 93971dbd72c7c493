"""The revisions as files, and the checks that every Alembic chain should pass."""

import ast
import hashlib
import re
from pathlib import Path

import pytest
from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError

from tests.conftest import alembic_config
from tests.migrations.chain import REVISIONS, Chain
from tests.postgres_binaries import ROOT

PHASES = ("create", "expand", "backfill", "index", "validate", "contract")
FILES = sorted((ROOT / "alembic" / "versions").glob("*.py"))
FROZEN = Path(__file__).with_name("frozen.sha256")
LONGEST = 350  # lines; most of the longest are SQL functions that are frozen there

each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def number(file: Path) -> str:
    return file.stem.partition("_")[0]


def script(file: Path) -> Script:
    found = ScriptDirectory.from_config(alembic_config("unused")).get_revision(number(file))
    assert Path(found.path) == file
    return found


@each_file
def test_a_file_is_named_by_its_number_its_phase_and_what_it_is_about(file: Path) -> None:
    assert re.fullmatch(rf"\d{{4}}_({'|'.join(PHASES)})_[a-z0-9]+(_[a-z0-9]+)*", file.stem)


def test_each_file_is_a_revision_of_the_chain_and_the_frozen_ones_are_numbered_without_gap() -> None:
    assert [number(file) for file in FILES] == sorted(REVISIONS)
    frozen = len(FROZEN.read_text("utf-8").splitlines())
    assert REVISIONS[:frozen] == [f"{place + 1:04}" for place in range(frozen)], "a release numbers what it adds"


def test_a_frozen_revision_is_as_it_was_and_none_comes_before_it() -> None:
    lines = (line.split() for line in FROZEN.read_text("utf-8").splitlines())
    frozen = {name: digest for digest, name in lines}
    first = {file.name: hashlib.sha256(file.read_text("utf-8").encode()).hexdigest() for file in FILES[: len(frozen)]}
    assert first == frozen, "databases have run these: what they lack comes as a new revision"


@each_file
def test_a_docstring_says_what_why_which_locks_and_how_it_is_undone(file: Path) -> None:
    text = script(file).longdoc
    headings = [word for word in re.findall(r"^(\w+): +\S", text, re.MULTILINE) if word != "Revises"]
    assert headings == ["What", "Why", "Locks", "Undone"]
    phase = file.stem.split("_")[1]
    assert script(file).doc.lower().startswith(phase), "its first line begins with its phase"


@each_file
def test_a_revision_imports_nothing_that_may_change_under_it(file: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or ".").partition(".")[0])
    assert imported <= {"alembic", "sqlalchemy"}


@each_file
def test_a_revision_is_short(file: Path) -> None:
    assert len(file.read_text("utf-8").splitlines()) <= LONGEST


@each_file
def test_a_revision_can_be_undone(file: Path) -> None:
    functions = [node for node in ast.parse(file.read_text("utf-8")).body if isinstance(node, ast.FunctionDef)]
    assert {"upgrade", "downgrade"} <= {function.name for function in functions}


def test_models_and_database_are_the_same_at_head(chain: Chain) -> None:
    chain.upgrade()
    chain.check()


def test_a_command_that_only_looks_leaves_nothing_in_an_empty_database(chain: Chain) -> None:
    with pytest.raises(CommandError, match="not up to date"):
        chain.check()
    assert chain.value("SELECT to_regnamespace('chat_internal')") is None
