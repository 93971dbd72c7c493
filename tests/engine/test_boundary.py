"""The engine stands by itself: it imports nothing else of this package and speaks of nothing that is the chat's."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import app.engine
from app.models import Base

ENGINE = Path(app.engine.__path__[0])
FILES = sorted(ENGINE.rglob("*.py"))


def files() -> list[pytest.ParameterSet]:
    return [pytest.param(file, id=str(file.relative_to(ENGINE))) for file in FILES]


def imported(file: Path) -> Iterator[str]:
    """Yield what ``file`` imports, ``.`` for the folder of the engine."""
    depth = len(file.relative_to(ENGINE).parts)
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield f"{'.' if node.level <= depth else '..'}{node.module or ''}" if node.level else str(node.module)


@pytest.mark.parametrize("file", files())
def test_it_imports_nothing_else_of_ours(file: Path) -> None:
    names = [name for name in imported(file) if name != "chat_schema.engine"]  # as a template's env.py has it
    assert not [name for name in names if name.startswith("..") or name.split(".")[0] in ("app", "chat_schema")]


@pytest.mark.parametrize("file", files())
def test_it_names_nothing_of_the_chat(file: Path) -> None:
    own_name = "chat_schema.engine"
    assert not re.findall(r"chat\w*", file.read_text("utf-8").replace(own_name, "").lower())


@pytest.mark.parametrize("file", files())
def test_its_sql_names_no_table_of_ours_and_no_schema_public(file: Path) -> None:
    ours = "|".join(sorted(Base.metadata.tables))
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert not re.search(rf"\bpublic\.|\b(FROM|JOIN|INTO|UPDATE|TABLE|ON) ({ours})\b", node.value), node.value
