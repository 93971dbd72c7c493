"""What `chat-schema verify` asks of a catalog: our objects, our roles, and what others have made around them.

What stands around our tables is listed by chat_internal.surroundings(), which the chain makes; so adoption records by
the same function what the team had before. It is called only where the comparison has found it to be ours.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import Connection, text

from ..roles import Roles
from . import deparsed, queries
from .comparison import Comparison, Difference, compare
from .remedies import Context
from .snapshot import Snapshot, reading, take_snapshot

# A migrating role of a hosted platform gives service_role BYPASSRLS: its policies let it at every row anyway.
_ATTRIBUTES = ("superuser", "bypassrls", "createrole", "createdb", "replication", "login")
_OURS = {"readers": "views", "definers": "functions", "foreign keys": "constraints"}
_LISTING = (
    "our_relations()",
    "table_owner()",
    "is_administrator(oid)",
    "sees_all(oid)",
    "reached_by(aclitem[], oid, text[])",
    "objects_around()",
    "rights_around()",
    "surroundings()",
)
_NEEDED = {
    *(("functions", f"chat_internal.{name}") for name in _LISTING),
    ("tables", "chat_internal.kept"),
    ("tables", "chat_internal.role_names"),
    ("schemas", "chat_internal"),
}


@dataclass(frozen=True)
class Examination:
    """What was found. `kept`, `own` and `noted` are no faults; `seen` is False where nobody looked around."""

    catalog: tuple[Difference, ...]
    roles: tuple[Difference, ...]
    surroundings: tuple[Difference, ...]
    kept: tuple[Difference, ...]
    own: tuple[Difference, ...]
    noted: tuple[Difference, ...]
    seen: bool
    anon: str

    @property
    def faults(self) -> tuple[Difference, ...]:
        """Every fault."""
        return self.catalog + self.roles + self.surroundings

    @property
    def open(self) -> tuple[Difference, ...]:
        """What is kept as the team's own and lets PUBLIC or anon at something."""
        return tuple(each for each in self.kept if {"PUBLIC", self.anon} & _reach(each))


def examine(connection: Connection, expected: Snapshot, roles: Roles) -> Examination:
    """Compare the catalog with `expected`, and look at the roles and around the tables. Reads only."""
    named = asdict(roles)
    snapshot = take_snapshot(connection, role_names=roles.logical_names())
    with reading(connection):
        owner = connection.scalar(text(queries.TABLE_OWNER))
        context = Context(owner, named, expected)
        comparison = compare(expected, snapshot, context)
        tables = [identity.removeprefix("public.") for identity in expected["tables"]]
        parameters = {"logical": [*named], "actual": [*named.values()], "owner": owner, "tables": tables}
        attributes = {row[0]: row[1] for row in connection.execute(text(queries.ROLES), parameters)}
        memberships = [
            Difference("memberships", identity, None, found, _membership(found), context)
            for identity, found in connection.execute(text(queries.MEMBERSHIPS), parameters)
        ]
        seen = not any((each.kind, each.identity) in _NEEDED for each in comparison.missing) and not any(
            (each.kind, each.identity) in _NEEDED and each.kind == "functions" for each in comparison.changed
        )
        around = list(connection.execute(text(queries.SURROUNDINGS))) if seen else []
        recorded = (
            {(kind, identity): properties for kind, identity, properties in connection.execute(text(queries.KEPT))}
            if seen
            else {}
        )
    others = [
        (Difference(kind, identity, None, properties, says, context), weakens)
        for kind, identity, says, properties, weakens in around
        if identity not in expected.get(_OURS.get(kind, kind), {})
    ]
    return _sorted_out(
        comparison, [*_attributes(attributes, context), *memberships], others, recorded, seen, roles.anon
    )


def keep(connection: Connection, found: Examination, identities: Sequence[str]) -> list[Difference]:
    """Record what is found under these names as the team's own, within the caller's transaction; return it.

    Raises ValueError for a name that is that of no fault, or of an object of ours.
    """
    chosen: list[Difference] = []
    for identity in identities:
        of_name = [each for each in found.faults if each.identity == identity]
        if not of_name:
            raise ValueError(f"{identity} is the name of nothing that weakens this schema: verify prints the names")
        if any(each.expected is not None for each in of_name):
            raise ValueError(f"{identity} is an object of this schema: mend it by the statements that verify prints")
        chosen += of_name
    for each in chosen:
        values = {"kind": each.kind, "identity": each.identity, "properties": json.dumps(each.found)}
        connection.execute(text(queries.KEEP), values)
    return chosen


def _sorted_out(
    comparison: Comparison,
    roles: Iterable[Difference],
    others: Sequence[tuple[Difference, bool]],
    recorded: Mapping[tuple[str, str], Mapping[str, Any]],
    seen: bool,
    anon: str,
) -> Examination:
    catalog: list[Difference] = [*comparison.missing, *comparison.changed]
    of_roles: list[Difference] = []
    around: list[Difference] = []
    kept: list[Difference] = []

    def place(difference: Difference, faults: list[Difference]) -> None:
        before = recorded.get((difference.kind, difference.identity))
        if before is None or difference.expected is not None:
            faults.append(difference)
        elif _unchanged(difference, before):
            kept.append(difference)
        else:
            told = difference.says or "is not part of the package"
            faults.append(replace(difference, says=f"{told}; it has changed since it was recorded as yours"))

    for each in comparison.dangerous:
        place(each, catalog)
    for each in roles:
        place(each, of_roles)
    reported = {(each.kind, each.identity) for each in comparison.dangerous}
    for each, weakens in others:
        if weakens and (each.kind, each.identity) not in reported:
            place(each, around)
    named = {(_OURS.get(each.kind, each.kind), each.identity) for each, _ in others}
    extras = (each for each in comparison.extras if each.kind != "comments")
    own = tuple(each for each in extras if each.found is not None and not _is_named(each, named))
    comments = (each for each in comparison.extras if each.kind == "comments")
    noted = (*(each for each, weakens in others if not weakens), *comments)
    return Examination(tuple(catalog), tuple(of_roles), tuple(around), tuple(kept), own, noted, seen, anon)


def _is_named(extra: Difference, named: set[tuple[str, str]]) -> bool:
    return extra.expected is None and (extra.kind, extra.identity) in named


def _attributes(found: Mapping[str, Mapping[str, Any]], context: Context) -> Iterable[Difference]:
    for logical in context.roles:
        if logical not in found:
            yield Difference("roles", logical, dict.fromkeys(_ATTRIBUTES, False), None, context=context)
            continue
        allowed = {"bypassrls"} if logical == "service_role" else set()
        surplus = [name for name in _ATTRIBUTES if found[logical][name] and name not in allowed]
        if surplus:
            wanted, has = dict.fromkeys(surplus, False), dict.fromkeys(surplus, True)
            yield Difference("roles", logical, wanted, has, context=context)


def _membership(found: Mapping[str, Any]) -> str:
    if "gives" in found:
        return f"{found['member']} can do what {', '.join(found['gives'])} can"
    what = ["sees every row without switching its role"] if found["inherits"] else []
    what += [f"can make others members of {found['role']}"] if found["admin"] else []
    return f"{found['member']} {' and '.join(what)}"


def _unchanged(difference: Difference, recorded: Mapping[str, Any]) -> bool:
    found, before = (_readable(difference.kind, each) for each in (difference.found or {}, recorded))
    return all(found[name] == before[name] for name in before if name in found)


def _readable(kind: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    """Let texts that another version of PostgreSQL deparsed read alike."""
    read = dict(properties)
    for name in ("definition", "using", "check"):
        if read.get(name):
            read[name] = (deparsed.view if kind == "readers" else deparsed.expression)(read[name])
    return read


def _reach(difference: Difference) -> set[str]:
    """Who gets at something by it."""
    found = difference.found or {}
    if difference.kind == "default privileges":  # of these the chain leaves nothing on our objects
        return set()
    roles = (difference.context.roles.get(role, role) for role in found.get("roles", []))  # of a policy
    return {*found.get("reach", []), *roles, *([found["role"]] if "role" in found else [])}
