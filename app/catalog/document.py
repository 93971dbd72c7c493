"""The schema as a page to read, printed from its catalog: docs/schema.md."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..models import Base
from .snapshot import Snapshot


def as_markdown(snapshot: Snapshot) -> str:
    """Return the tables of schema public, then its views and functions, with columns in the order of the models."""
    lines = [
        "# The schema at head",
        "",
        "Printed from a migrated database by `make catalog`; a test keeps it so. What is said of tables, columns,",
        "views and functions is their `COMMENT ON`: psql shows it with `\\d+`. Every table has row level security;",
        "what is granted to nobody is not listed.",
        "",
    ]
    for table in Base.metadata.sorted_tables:
        lines += _table(snapshot, f"public.{table.name}", [column.name for column in table.columns])
    lines += ["## Views", "", "All run as the caller.", ""]
    for name, view in sorted(snapshot["views"].items()):
        lines += [f"### {name.removeprefix('public.')}", "", _said(snapshot, f"VIEW {name}"), ""]
        lines += ["| column | type | what it holds |", "|---|---|---|"]
        for column, _, kind in (each.partition(" ") for each in view["columns"]):
            lines.append(f"| `{column}` | {kind} | {_said(snapshot, f'COLUMN {name}.{column}')} |")
        lines += ["", f"Granted: {_grants(view['grants'])}.", ""]
    lines += ["## Functions for clients", "", "| function | what it does | runs as | granted |", "|---|---|---|---|"]
    for name, function in sorted(snapshot["functions"].items()):
        if granted := _grants(function["grants"]):
            runs_as = "its owner" if function["security_definer"] else "the caller"
            said = _said(snapshot, f"FUNCTION {name}")
            lines.append(f"| `{name.removeprefix('public.')}` | {said} | {runs_as} | {granted} |")
    return "\n".join(lines) + "\n"


def _table(snapshot: Snapshot, table: str, columns: list[str]) -> Iterator[str]:
    yield from (f"## {table.removeprefix('public.')}", "", _said(snapshot, f"TABLE {table}"), "")
    yield from ("| column | type | null | default | what it holds |", "|---|---|---|---|---|")
    for name in columns:
        column = snapshot["columns"][f"{name} on {table}"]
        default = f"`{column['default']}`" if column["default"] else column["identity"] or ""
        said = _said(snapshot, f"COLUMN {table}.{name}")
        yield f"| `{name}` | {column['type']} | {'' if column['not_null'] else 'null'} | {default} | {said} |"
    yield ""
    for _, constraint in _of(snapshot, "constraints", table):
        yield f"- {constraint['definition'].replace('public.', '')}"
    yield ""
    for name, index in _of(snapshot, "indexes", table):
        shape = re.sub(r"^CREATE (UNIQUE )?INDEX .* USING btree ", "", index["definition"])
        yield f"- {'unique index' if index['unique'] else 'index'} `{name}` {shape}"
    for name, trigger in _of(snapshot, "triggers", table):
        when = re.search(r"(BEFORE|AFTER) ([A-Z ]+?) ON", trigger["definition"])
        called = re.search(r"EXECUTE FUNCTION (\S+)", trigger["definition"])
        if when and called:
            yield f"- trigger `{name}`: {when[0].removesuffix(' ON').lower()}, calls `{called[1]}`"
    yield ""
    yield "| policy | for | to | rows | new rows |"
    yield "|---|---|---|---|---|"
    for name, policy in _of(snapshot, "policies", table):
        using, check = (_condition(policy[key]) for key in ("using", "check"))
        yield f"| `{name}` | {policy['command']} | {', '.join(policy['roles'])} | {using} | {check} |"
    yield ""
    yield f"Granted: {_grants(snapshot['tables'][table]['grants'])}."
    yield ""


def _said(snapshot: Snapshot, name: str) -> str:
    return str(snapshot["comments"][name]["text"]).replace("|", "\\|") if name in snapshot["comments"] else ""


def _of(snapshot: Snapshot, kind: str, table: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for identity, properties in sorted(snapshot[kind].items()):
        name, _, holder = identity.rpartition(" on ")
        if holder == table:
            yield name, properties


def _grants(grants: Mapping[str, list[str]]) -> str:
    return "; ".join(f"{role}: {', '.join(_by_verb(rights))}" for role, rights in grants.items() if role != "owner")


def _by_verb(rights: list[str]) -> Iterator[str]:
    """Write ["INSERT (a)", "INSERT (b)", "SELECT"] as "INSERT (a, b)" and "SELECT"."""
    columns: dict[str, list[str]] = {}
    for right in rights:
        verb, _, column = right.partition(" (")
        columns.setdefault(verb, []).extend([column.removesuffix(")")] * bool(column))
    yield from (f"{verb} ({', '.join(names)})" if names else verb for verb, names in columns.items())


def _condition(text: str | None) -> str:
    if text is None:
        return ""
    plain = re.sub(r" AS \w+\)", ")", text).replace("( SELECT", "(SELECT").replace("chat_internal.", "")
    return f"`{plain}`"
