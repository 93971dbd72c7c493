"""Every command that the README or a page shows can be called like that: it parses, its program and target exist."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.cli import _CommandLine
from app.options import Options
from tests.postgres_binaries import ROOT

PAGES = [
    *sorted((ROOT / "docs").glob("*.md")),
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY")),
]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
PLACEHOLDERS = {"ID": "7c1f6f0e-3a52-4f0a-9a57-0d6e5b1c2a11", "DAYS": "90", "DIR": ".", "FILE": "f", "REVISION": "0030"}
FOREIGN = ("init", "revision", "stamp", "merge", "edit")  # Alembic's own, of a project of the reader's


def shown(page: Path) -> Iterator[str]:
    """Yield each line of a block of commands, each code in a sentence, and each list of words in YAML."""
    text = page.read_text("utf-8")
    for language, block in re.findall(r"^ *```(\w*)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL):
        if language in ("", "console", "yaml"):
            yield from re.sub(r"\\\n\s*", " ", block).splitlines()
        if language == "yaml":
            yield from (words.replace(",", " ") for words in re.findall(r"command: \[(.*)\]", block))
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    yield from (re.sub(r"\s+", " ", code) for code in re.findall(r"`([^`]+)`", prose))


def commands(program: str) -> list[tuple[str, str]]:
    found = {}
    for page in PAGES:
        if not page.exists() or page.name in ("commands.md", "messages.md"):  # written from the parser, from the code
            continue
        for line in shown(page):
            for part in re.split(r"&&|\s\|\s|;", line.partition(" #")[0]):
                words = part.strip().removeprefix("- run: ")
                words = re.sub(r"^(\w+=\S+ )+", "", words).removeprefix(".venv/bin/")
                if re.match(rf"{program}\s+\S", words):
                    found[words.strip()] = page.name
    return [(page, command) for command, page in found.items()]


@pytest.mark.parametrize(("page", "command"), commands("chat-schema"))
def test_a_command_of_the_pages_parses(page: str, command: str) -> None:
    words = [PLACEHOLDERS.get(word, word) for word in shlex.split(re.sub(r"\s>\s*[\w./-]+$", "", command))][1:]
    if "..." in words or any("NAME=VALUE" in word for word in words):
        return
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        given = _CommandLine().parser.parse_args(words)
        Options.parse(dict(each.partition("=")[::2] for each in given.x or []))
    assert said.getvalue() == "", f"{page}: {command}"


@pytest.mark.parametrize(("page", "command"), commands("make"))
def test_a_target_of_the_pages_exists(page: str, command: str) -> None:
    assert command.split()[1] in TARGETS, f"{page}: {command}"


@pytest.mark.parametrize(("page", "command"), commands("python -m"))
def test_a_program_of_the_pages_exists(page: str, command: str) -> None:
    module = command.split()[2]
    folder = ROOT / "examples" / "chat_api" if module.startswith(("chat_api", "tests.screenshots")) else ROOT
    path = folder.joinpath(*module.split("."))
    beside = importlib.util.find_spec(module) if module.startswith("chat_schema") else None
    assert beside or path.with_suffix(".py").exists() or (path / "__main__.py").exists(), f"{page}: {command}"


@pytest.mark.parametrize(("page", "command"), commands("pytest"))
def test_a_path_of_the_pages_exists(page: str, command: str) -> None:
    paths = [word for word in command.split()[1:] if word.startswith("tests")]
    assert [path for path in paths if not (ROOT / path).exists()] == [], f"{page}: {command}"


def test_every_link_leads_somewhere_on_the_hosting_site_and_on_ours() -> None:
    broken = []
    for page in [*PAGES, ROOT / "CHANGELOG.md", ROOT / "examples" / "chat_api" / "README.md"]:
        if page.exists():
            text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
            links = [*re.findall(r"\]\(([^)\s]+)\)", text), *re.findall(r'src(?:set)?="([^"]+)"', text)]
            for target in links:
                file, _, anchor = target.partition("#")
                if re.match(r"\w+:", target):
                    continue
                at = (page.parent / file).resolve() if file else page
                outside = page.parent.name == "docs" and page.parent not in at.parents  # the site has the pages alone
                if outside or not at.exists() or (anchor and at.suffix == ".md" and anchor not in anchors(at)):
                    broken.append(f"{page.name}: {target}")
    assert broken == []


def anchors(page: Path) -> set[str]:
    """Return what the headings of a page are linked by."""
    titles = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}
