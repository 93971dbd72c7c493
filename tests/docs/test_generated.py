"""Pages and pictures that a program writes are as it would write them now."""

from __future__ import annotations

import argparse
import xml.etree.ElementTree as ElementTree

import pytest

from app.cli import _CommandLine
from app.models import Base
from docs.generate import DOCS, generated
from docs.generate.commands import commands_page
from docs.generate.messages import messages_page

PAGES = generated()


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_file_is_fresh(name: str) -> None:
    assert (DOCS / name).read_text("utf-8") == PAGES[name], "run `python -m docs.generate`"


@pytest.mark.parametrize("name", [name for name in PAGES if name.endswith(".svg")])
def test_a_picture_is_well_formed_and_has_a_dark_form(name: str) -> None:
    ElementTree.fromstring(PAGES[name])  # noqa: S314  our own
    assert "prefers-color-scheme: dark" in PAGES[name]


def test_the_picture_of_the_schema_shows_every_table_and_column() -> None:
    picture = PAGES["images/schema_columns.svg"]
    shown = {node.text for node in ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")}  # noqa: S314
    names = {text.split()[0] for text in shown if text}
    for table in Base.metadata.sorted_tables:
        assert {table.name, *(column.name for column in table.columns)} <= names


def test_every_command_is_on_its_page() -> None:
    [sub] = [action for action in _CommandLine().parser._actions if isinstance(action, argparse._SubParsersAction)]
    page = commands_page()
    assert [name for name in sub.choices if f"### {name}\n" not in page] == []


@pytest.mark.parametrize(
    "words",
    [
        "leads to a pooler in transaction mode, so nothing was run",
        "Another deployment still holds the deployer lock",
        "no lock within",
        "inherits the rights of",
        "The query has <…> characters, and 1000 are allowed.",
    ],
)
def test_a_message_is_found_by_its_words(words: str) -> None:
    assert words.replace("<", "&lt;") in messages_page()
