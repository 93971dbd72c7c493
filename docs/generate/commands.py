"""The commands and the options of ``-x`` as pages, written from the parser: docs/commands.md and docs/options.md."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Sequence

from app.cli import _CommandLine
from app.engine import options as engine
from app.options import Options

OWN = (
    "plan", "verify", "status", "pause", "resume", "throttle", "wait", "lint", "sql", "embedded",
    "purge", "export", "import", "erase", "rotate-keys",
)  # fmt: skip


def commands_page() -> str:
    """Return docs/commands.md."""
    parser = _CommandLine().parser
    [sub] = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    helps = {choice.dest: choice.help or "" for choice in sub._choices_actions}
    choices: dict[str, argparse.ArgumentParser] = dict(sub.choices)
    own = [name for name in OWN if name in choices]
    own += [name for name in choices if name not in own and name not in ALEMBIC]
    lines = [
        "# Commands",
        "",
        "What does each command take? Written by `python -m docs.generate` from the parser; a test keeps it so.",
        "",
        "`chat-schema` is Alembic's command line on the chain of chat-schema, with commands of its own.",
        "Every command works on the database of `DATABASE_URL`; unset, on the embedded server.",
        "",
        "## Before the command",
        "",
        *_table(parser._actions),
        "The options of `-x` have [a page of their own](options.md).",
        "",
        "## Commands of our own",
        "",
    ]
    for name in own:
        lines += _command(name, helps.get(name, ""), choices[name])
    lines += ["## Commands of Alembic", ""]
    for name in sorted(set(choices) - set(own)):
        lines += _command(name, helps.get(name, ""), choices[name])
    lines += [
        "## At a terminal",
        "",
        "Colour and bars are shown at a terminal alone; a pipe gets plain lines. `NO_COLOR=1` and `TERM=dumb` turn",
        "colour off.",
        "",
        "## Exit codes",
        "",
        "| code | meaning |",
        "|---|---|",
        "| 0 | it was done |",
        "| 1 | it could not be done, or `verify` or `lint` found something; the message says what and how to mend it |",
        "| 2 | the call does not parse, or `plan` found what would stop the run |",
        "| 3 | `-x stop-before-backfill=yes`: the upgrade ended before a backfill, as asked |",
        "| 130 | interrupted; run it again to go on |",
    ]
    return "\n".join(lines) + "\n"


ALEMBIC = frozenset(
    [
        "branches",
        "check",
        "current",
        "downgrade",
        "edit",
        "ensure_version",
        "heads",
        "history",
        "init",
        "list_templates",
        "merge",
        "revision",
        "show",
        "stamp",
        "upgrade",
    ]
)


def options_page() -> str:
    """Return docs/options.md."""
    ours = {field.name for field in dataclasses.fields(Options)} - {
        field.name for field in dataclasses.fields(engine.Options)
    }
    fields = engine._fields(Options)
    lines = [
        "# Options of a run",
        "",
        "What can `-x` change? Written by `python -m docs.generate` from the classes; a test keeps it so.",
        "",
        "```",
        "chat-schema -x lock-timeout=250ms -x backfill-workers=2 upgrade head",
        "```",
        "",
        "Options stand before the command. `alembic` takes the same ones. A name that is misspelt is refused.",
        "",
        "Durations are `250ms`, `10s`, `5min` or `1h`. Sizes are `500MB`, `10GB`, `2TB` or `none`.",
        "",
        "## For every project",
        "",
        "These are the engine's: they work in [a project of your own](engine.md) too.",
        "",
        *_options([field for field in fields if field.name not in ours]),
        "## For the chat schema",
        "",
        *_options([field for field in fields if field.name in ours]),
        "The three role names are said once, at the first upgrade. The database remembers them.",
        "",
        "## In the environment",
        "",
        "| variable | meaning |",
        "|---|---|",
        "| `DATABASE_URL` | the database; unset: the embedded server, with its data in `.pgdata` |",
        "| `CHAT_SCHEMA_PROVIDER_KEYS` | the keys that encrypt users' keys of model providers: [keeping](keeping.md) |",
        "| `CHAT_SCHEMA_TEST_URL` | a server for the [test fixtures](testing.md) instead of the embedded one |",
    ]
    return "\n".join(lines) + "\n"


def _options(fields: Sequence[dataclasses.Field[object]]) -> Iterator[str]:
    yield "| option | default | |"
    yield "|---|---|---|"
    for field in fields:
        default = field.default
        shown = ("yes" if default else "no") if isinstance(default, bool) else engine._shown(default)
        name = field.name.replace("_", "-")
        yield f"| `{name}` | {f'`{shown}`' if shown else ''} | {_cell(str(field.metadata['help']))} |"
    yield ""


def _command(name: str, about: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    said = (parser.description or about).strip()
    yield f"### {name}"
    yield ""
    yield _sentence(said)
    yield ""
    yield from _table(parser._actions)


def _sentence(said: str) -> str:
    said = " ".join(said.split())
    return said[:1].upper() + said[1:] + ("" if said.endswith(".") else ".")


def _table(actions: Sequence[argparse.Action]) -> Iterator[str]:
    shown = [
        action
        for action in actions
        if not isinstance(action, argparse._HelpAction | argparse._SubParsersAction)
        and action.help != argparse.SUPPRESS
    ]
    if not shown:
        return
    yield "| argument | |"
    yield "|---|---|"
    for action in shown:
        yield f"| {_names(action)} | {_cell(action.help or '')} |"
    yield ""


def _names(action: argparse.Action) -> str:
    metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    if not action.option_strings:
        name = metavar if isinstance(action.metavar, str) else action.dest
        return f"`{name}`" + (" (may be left out)" if action.nargs in ("?", "*") else "")
    if action.choices:
        metavar = "{" + ",".join(map(str, action.choices)) + "}"
    value = "" if action.nargs == 0 else f" {metavar}"
    return ", ".join(f"`{option}{value}`".replace("|", "\\|") for option in action.option_strings)


def _cell(said: str) -> str:
    return " ".join(said.split()).replace("|", "\\|").replace("<", "&lt;").replace("%%", "%")
