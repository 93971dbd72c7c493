"""Every message of an error, by its words, gathered from the code: docs/messages.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
APP = ROOT / "app"

# Which errors reach a user, each with its words as the first argument that is text.
ERRORS = {
    "CommandError", "UnfitServerError", "StopsBeforeBackfillError", "StoppedError", "EmbeddedServerError",
    "ActingError", "LoginError", "RevisionError", "KeyRingError", "Obstacle",
}  # fmt: skip

# Sections in the order of a newcomer's way; a module is in the first whose pattern its path matches.
SECTIONS = {
    "Which database, which login": r"database|destination|project|roles|unprivileged|engine/server|engine/environment",
    "The embedded server": r"embedded",
    "Options and arguments": r"options|cli|output|engine/control|engine/metrics",
    "Before an upgrade: what is in the way": r"look|rehearsal|obstacles|engine/plan|^plan|operations/|dependents",
    "While it runs: locks, other deployments, steering": r"lock|batches|steering|hooks|reasons|progress",
    "The revision of a database": r"revision|waiting|version_table",
    "What `verify` and `lint` say": r"verification|catalog|lint",
    "In a service": r"acting_as|check_login|queries|autogenerate|testing",
    "Hand over, erase, keep": r"handover|retention",
    "Keys of model providers": r"provider_keys",
}


RAISED = re.compile(r"RAISE EXCEPTION\s+('(?:[^']|'')+'(?:\s*\n\s*'(?:[^']|'')+')*)")  # in one literal or several


class Message(NamedTuple):
    """One message: its section, its words, and the lines to run that it prints."""

    section: str
    words: str


def messages_page() -> str:
    """Return docs/messages.md."""
    sections: dict[str, list[str]] = {title: [] for title in SECTIONS}
    for message in messages():
        if message.words not in sections[message.section]:
            sections[message.section].append(message.words)
    revisions = sorted(set(_of_revisions()))
    lines = [
        "# Every message, and what to do",
        "",
        "What does a message mean, and what mends it? Search this page for its words.",
        "",
        "A message has three parts: the problem, the consequence, and the command that mends it. What stands in `<…>`",
        "here is a name or a figure there. Gathered from the code by `python -m docs.generate`; a test keeps it so.",
        "",
    ]
    for title, words in sections.items():
        if words:
            lines += [f"## {title}", ""]
            for each in sorted(words, key=lambda said: re.sub(r"^\W*(<…>)?\W*", "", said).lower()):
                lines += [*_entry(each), ""]
    lines += [
        "## What a revision or a trigger refuses",
        "",
        "These come from the database itself, so a client can meet them too.",
        "",
    ]
    for each in revisions:
        lines += [*_entry(each), ""]
    return "\n".join(lines)


def messages() -> Iterator[Message]:
    """Yield the messages of the package, file by file."""
    for file in sorted(APP.rglob("*.py")):
        name = file.relative_to(APP).with_suffix("").as_posix()
        section = next((title for title, pattern in SECTIONS.items() if re.search(pattern, name)), None)
        if section is None or "template" in name:
            continue
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and _called(node) in ERRORS and node.args:
                words = _words(node.args[0]).strip()
                if len(re.sub(r"<…>|\W", "", words)) > 12:
                    yield Message(section, words)


def _called(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")


def _words(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_words(each) for each in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _words(node.left) + _words(node.right)
    return "<…>"


def _of_revisions() -> Iterator[str]:
    for file in sorted((ROOT / "alembic" / "versions").glob("*.py")):
        for found in RAISED.finditer(file.read_text("utf-8")):
            words = re.sub(r"'\s*\n\s*'", "", found[1])[1:-1].replace("''", "'")
            words = " ".join(words.split())
            yield words.replace("%%", "\0").replace("%", "<…>").replace("\0", "%")


def _entry(words: str) -> Iterator[str]:
    words = re.sub(r"(<…>)+", "<…>", words)
    first_line, *others = words.split("\n")
    first = re.match(r".+?[.:](?=\s|$)", first_line)
    head = first[0] if first else first_line
    yield f"**{_text(head)}**"
    for line in (first_line[len(head) :], *others):
        if line.startswith(("  ", "- ")) or not line.strip(" <…>"):
            shown = line.strip()
            if shown.strip("<…>- "):
                yield f"<br>`{shown}`"
        else:
            yield _text(line)


def _text(said: str) -> str:
    said = " ".join(said.split())
    parts = re.split(r"(`[^`]*`)", said)  # what is code already stays as it is
    return "".join(
        part if part.startswith("`") else re.sub(r"([*\[\]\\])", r"\\\1", part).replace("<", "&lt;") for part in parts
    )
