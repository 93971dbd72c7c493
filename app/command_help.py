"""What ``chat-schema --help`` prints: our commands by what they are for, Alembic's own, then the options."""

from __future__ import annotations

import textwrap
from argparse import SUPPRESS, Action, ArgumentParser, RawDescriptionHelpFormatter
from functools import partial

from .engine import terminal
from .options import Options

COMMANDS = {
    "Upgrade": {
        "plan": "what an upgrade would do to this database, with its locks, and what would stop it",
        "upgrade": "run the revisions: chat-schema upgrade head",
        "downgrade": "undo revisions: chat-schema downgrade -1",
        "verify": "check revision, catalog, roles and data",
        "wait": "wait until the database is at a revision, as an init container does",
    },
    "While a deployment runs": {
        "stats": "size, dead rows and scans of each table, indexes, oldest transactions",
        "status": "where the database stands, what runs there, and what that waits for",
        "pause": "pause it; clients notice nothing",
        "resume": "let it go on",
        "throttle": "let backfills work a share of the time",
    },
    "Data": {
        "purge": "delete what the retention rules say may go",
        "export": "write everything of a user as JSON Lines",
        "import": "read such a file into this database",
        "erase": "remove a user with everything it owns",
        "rotate-keys": "encrypt stored keys of model providers anew",
    },
    "Revisions and servers": {
        "sql": "write the upgrade as SQL, one file a revision",
        "lint": "check revisions for what would stop clients or lose rows",
        "embedded": "list or remove the data of the embedded server",
    },
}
"""Every command of ours, and those of Alembic that are used most."""


def arrange(parser: ArgumentParser, subparsers: Action) -> None:
    """Let ``parser`` print its commands in groups, in lines as wide as the terminal."""
    columns = min(terminal.width(), 100)
    named = {name for group in COMMANDS.values() for name in group}
    lines = [_entry("", "The schema of a chat product, and what brings a database to it.", columns), ""]
    for title, commands in COMMANDS.items():
        lines += [f"{title}:", *(_entry(f"  {name:<12} ", told, columns) for name, told in commands.items()), ""]
    others = ", ".join(sorted(name for name in subparsers.choices or () if name not in named))
    lines += ["Alembic's own:", _entry("  ", others, columns), ""]
    lines += [_entry("", "`chat-schema COMMAND --help` tells the options of one.", columns)]
    parser.usage = "chat-schema [options] COMMAND ..."
    parser.description = "\n".join(lines)
    parser.epilog = "\n".join(["options of -x:", *(_option(line, columns) for line in Options.describe().splitlines())])
    parser.formatter_class = partial(RawDescriptionHelpFormatter, width=columns, max_help_position=24)
    subparsers.help = SUPPRESS


def _entry(head: str, text: str, columns: int) -> str:
    blank = " " * (len(head) if columns >= 60 else 4)
    return textwrap.fill(text, columns, initial_indent=head, subsequent_indent=blank, break_on_hyphens=False)


def _option(line: str, columns: int) -> str:
    """Break a line of the table of options where it is too wide."""
    written, _, told = line.strip().removeprefix("-x ").partition(" ")
    head = f"  {written:<30} "
    return (
        _entry(head, told.strip(), columns)
        if columns >= 80
        else f"  {written}\n{_entry('    ', told.strip(), columns)}"
    )
