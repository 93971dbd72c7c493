"""Compare two snapshots: what the package expects, and what a database has."""

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from .remedies import Context, Mend, mend
from .snapshot import Snapshot

_CLIENTS = frozenset({"PUBLIC", "anon", "authenticated", "service_role"})
_WORKING = frozenset({"authenticated", "service_role"})
_SINGULAR = {
    "indexes": "index",
    "policies": "policy",
    "definers": "SECURITY DEFINER function",
    "inheritance": "inheritance",
    "default privileges": "default privileges",
    "comments": "comment on",
}


@dataclass(frozen=True)
class Difference:
    """One object that is not as expected, with those of its properties that differ.

    `expected` is None where no such object should be, `found` is None where it is missing. `says` is what is wrong
    with an object that is not ours. `str()` tells an operator what to change, and the statements that do it.
    """

    kind: str
    identity: str
    expected: Mapping[str, Any] | None
    found: Mapping[str, Any] | None
    says: str = ""
    context: Context = field(default=Context(), compare=False, repr=False)

    @property
    def name(self) -> str:
        """What it is and what it is called."""
        return f"{_SINGULAR.get(self.kind, self.kind.removesuffix('s'))} {self.identity}"

    @property
    def mend(self) -> Mend:
        """What brings it into the shape that is expected."""
        return mend(self.kind, self.identity, self.expected, self.found, self.context)

    def __str__(self) -> str:
        if self.found is None:
            heading, details = f"{self.name} is missing", _told(self.expected or {})
        elif self.says:
            heading, details = f"{self.name}: {self.says}", iter(())
        elif self.expected is None:
            heading, details = f"{self.name} is not part of the package", _told(self.found)
        else:
            heading, details = f"{self.name} differs", _changes(self.expected, self.found)
        cure = self.mend
        who = f" as {cure.by}" if cure.by else ""
        lines = [line for statement in cure.statements for line in statement.splitlines()]
        told = [f"mend{who} with:", *(f"  {line}" for line in lines)] if lines else []
        return "\n  ".join([heading, *details, *told, *([cure.note] if cure.note else [])])


@dataclass(frozen=True)
class Comparison:
    """What sets a database apart from the package.

    `missing`, `changed` and `dangerous` (additions that open or break our tables) are faults; `extras` are
    what the database's own people added, for information.
    """

    missing: tuple[Difference, ...]
    changed: tuple[Difference, ...]
    dangerous: tuple[Difference, ...]
    extras: tuple[Difference, ...]

    @property
    def differences(self) -> tuple[Difference, ...]:
        """Every fault: empty when the database is what the package expects, extras aside."""
        return self.missing + self.changed + self.dangerous


def compare(expected: Snapshot, found: Snapshot, context: Context = Context()) -> Comparison:  # noqa: B008  frozen
    """Compare `found` with `expected`; `context` is what statements that mend need to know.

    What stands on a missing table or in a missing schema is not reported again, nor what stands on a table of
    the database's own. A comment on an object of ours that is not ours is an extra: it says what the team wants it to.
    """
    missing: list[Difference] = []
    changed: list[Difference] = []
    dangerous: list[Difference] = []
    extras: list[Difference] = []
    for kind in sorted({*expected, *found}):
        ours, theirs = expected.get(kind, {}), found.get(kind, {})
        if kind == "comments":
            theirs = {identity: theirs[identity] for identity in ours if identity in theirs}
        for identity in sorted({*ours, *theirs}):
            if identity not in theirs:
                if _holder_is_in(found, kind, identity):
                    missing.append(Difference(kind, identity, ours[identity], None, context=context))
            elif identity not in ours:
                if _holder_is_in(expected, kind, identity):
                    additions = dangerous if _is_dangerous(kind, theirs[identity]) else extras
                    additions.append(Difference(kind, identity, None, theirs[identity], context=context))
            else:
                wish, here = ours[identity], theirs[identity]
                if kind == "tables":
                    here = _without_own_columns(identity, here, expected)
                elif kind == "views":
                    wish = _with_own_columns(wish, here)
                wanted, had, strangers = _apart(wish, here)
                if wanted and kind == "comments":
                    own = Difference(kind, identity, wanted, had, "your own", context)
                    extras.append(own)
                elif wanted:
                    changed.append(Difference(kind, identity, wanted, had, context=context))
                if strangers:
                    nothing: dict[str, list[str]] = {role: [] for role in strangers}
                    extras.append(
                        Difference(kind, identity, {"grants": nothing}, {"grants": strangers}, context=context)
                    )
    return Comparison(tuple(missing), tuple(changed), tuple(dangerous), tuple(extras))


def load_expected(*, auth_users: bool = False) -> Snapshot:
    """The catalog at head, as shipped in the package; with what differs where a platform has `auth_users`."""
    snapshot = _shipped("head.json")
    for kind, objects in (_shipped("auth_users.json") if auth_users else {}).items():
        there = snapshot[kind] | objects
        snapshot[kind] = {identity: each for identity, each in there.items() if each is not None}
    return snapshot


def write_expected(snapshot: Snapshot, with_auth_users: Snapshot) -> list[Path]:
    """Make `snapshot` the catalog that the package expects, in a checkout of its source.

    Of `with_auth_users`, the catalog on a platform that has them, only what differs is written: an object that is
    added or another one in full, null for one that is not there.
    """
    apart: Snapshot = {}
    for kind, there in with_auth_users.items():
        here = snapshot[kind]
        differing = {each: there.get(each) for each in {**here, **there} if there.get(each) != here.get(each)}
        if differing:
            apart[kind] = differing
    written = []
    for name, content in (("head.json", snapshot), ("auth_users.json", apart)):
        path = Path(__file__).with_name(name)
        path.write_text(json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")
        written.append(path)
    return written


def _shipped(name: str) -> Snapshot:
    snapshot: Snapshot = json.loads(resources.files(__package__).joinpath(name).read_text("utf-8"))
    return snapshot


def _holder_is_in(snapshot: Snapshot, kind: str, identity: str) -> bool:
    if kind == "comments":
        return _is_there(snapshot, identity)
    table = identity.rpartition(" on ")[2]
    if table.startswith("auth."):
        return True  # the platform's own, which a snapshot does not describe
    if table != identity and table not in {**snapshot.get("tables", {}), **snapshot.get("views", {})}:
        return False
    return kind == "schemas" or table.partition(".")[0] in snapshot.get("schemas", {})


def _is_there(snapshot: Snapshot, named: str) -> bool:
    """Tell whether the object of a comment is there: without it, it is the object that is missing."""
    kind, _, name = named.partition(" ")
    if kind != "COLUMN":
        return name in snapshot.get(f"{kind.lower()}s", {})
    table, _, column = name.rpartition(".")
    of_view = snapshot.get("views", {}).get(table, {}).get("columns", ())
    return f"{column} on {table}" in snapshot.get("columns", {}) or any(
        each.startswith(f"{column} ") for each in of_view
    )


def _is_dangerous(kind: str, properties: Mapping[str, Any]) -> bool:
    """Whether an addition to one of our tables lets others at its rows or makes our writes fail."""
    if kind == "columns":
        filled = properties["default"] or properties["identity"] or properties["generated"]
        return bool(properties["not_null"]) and not filled
    return (
        kind in {"policies", "rules"}
        or (kind == "constraints" and (not properties["validated"] or properties["disabled_triggers"] != []))
        or (kind == "indexes" and not properties["valid"])
    )


def _without_own_columns(table: str, properties: Mapping[str, Any], expected: Snapshot) -> Mapping[str, Any]:
    """Leave out what the two working roles may do with columns of the database's own, where rights are by column."""

    def is_ours(privilege: str) -> bool:
        _, by_column, column = privilege.partition(" (")
        return not by_column or f"{column.removesuffix(')')} on {table}" in expected.get("columns", {})

    grants = {
        role: [each for each in privileges if is_ours(each)] if role in _WORKING else privileges
        for role, privileges in properties.get("grants", {}).items()
    }
    return {**properties, "grants": grants}


def _with_own_columns(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Expect after ours what the database's own columns of the same table add to a view: their plain names."""
    more = theirs["columns"][len(ours["columns"]) :]
    names = [found[0] for column in more if (found := re.match(r'"(?:[^"]|"")+"|\S+', column))]
    head, sep, tail = ours["definition"].rpartition(" FROM ")
    definition = head + "".join(f", {name}" for name in names) + sep + tail
    return {**ours, "columns": [*ours["columns"], *more], "definition": definition}


def _apart(
    ours: Mapping[str, Any], theirs: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, list[str]]]:
    """Give what differs, ours and theirs, and what is granted to roles the package does not know."""
    keys = [key for key in sorted({*ours, *theirs}) if key != "grants" and ours.get(key) != theirs.get(key)]
    expected, found = {key: ours.get(key) for key in keys}, {key: theirs.get(key) for key in keys}
    granted, has = ours.get("grants", {}), theirs.get("grants", {})
    strangers = {role: has[role] for role in has if role not in granted and role not in _CLIENTS}
    roles = [role for role in sorted({*granted, *has} - {*strangers}) if granted.get(role) != has.get(role)]
    if roles:
        expected["grants"] = {role: granted.get(role, []) for role in roles}
        found["grants"] = {role: has.get(role, []) for role in roles}
    return expected, found, strangers


def _told(properties: Mapping[str, Any]) -> Iterator[str]:
    """Describe an object by what is set in it; a body would fill the screen."""
    for name, value in properties.items():
        if value and name not in {"body", "grants", "owner", "columns", "defaults"}:
            yield f"{name}: {_short(value)}"


def _changes(expected: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    for name, wanted in expected.items():
        value = found[name]
        if name == "grants":
            for role in sorted(wanted):
                yield f"grants to {role}: expected {_short(wanted[role])}, found {_short(value[role])}"
        elif isinstance(wanted, str) and isinstance(value, str) and max(len(wanted), len(value)) > 40:
            yield f"{name}: expected (-) and found (+)"
            diff = difflib.unified_diff(wanted.splitlines(), value.splitlines(), lineterm="", n=0)
            yield from (f"  {line}" for line in diff if not line.startswith(("---", "+++", "@@")))
        else:
            yield f"{name}: expected {_short(wanted)}, found {_short(value)}"


def _short(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
