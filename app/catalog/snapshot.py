"""Take what the catalog says of our schemas as plain data that reads alike on PostgreSQL 15 to 18."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, text

from . import deparsed, queries

Snapshot = dict[str, dict[str, Any]]
"""kind -> identity -> properties: `snapshot["tables"]["public.messages"]["row_security"]`. JSON-able."""

# Every setting that the text of a deparsed expression depends on.
_SETTINGS = {
    "search_path": "pg_catalog, pg_temp",
    "quote_all_identifiers": "off",
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
}

# What steers a deployment comes and goes, and is no part of the schema. A column is identified as `on` its table.
_PASSING = re.compile(r"(?:^| on )chat_internal\.alembic_version_control$")
_EXPRESSIONS = frozenset({"definition", "default", "using", "check"})


def take_snapshot(
    connection: Connection,
    schemas: Sequence[str] = ("public", "chat_internal"),
    role_names: Mapping[str, str] = {},
) -> Snapshot:
    """Read the catalog of `schemas`, with one query for each kind of object.

    Writes nothing, takes AccessShare locks alone and leaves the connection's settings as they were. Outside a
    transaction it opens one of its own (REPEATABLE READ READ ONLY), inside one it works in a savepoint; an
    AUTOCOMMIT connection raises sqlalchemy.exc.DBAPIError. What belongs to an extension is left out.

    `role_names`: the package's name of a role that is called otherwise here, {"app_user": "authenticated"}.
    """
    parameters = {"schemas": list(schemas)}
    with reading(connection):
        table_owner = connection.scalar(text(queries.TABLE_OWNER))
        # On PostgreSQL 15+ schema public belongs to pg_database_owner: whoever owns the database.
        names = {table_owner: "owner", "pg_database_owner": "owner", **role_names}
        return {
            kind: {
                identity: _readable(kind, identity, properties, names)
                for identity, properties in connection.execute(text(query), parameters)
                if not _PASSING.search(identity)
            }
            for kind, query in queries.BY_KIND.items()
        }


def has_auth_users(connection: Connection) -> bool:
    """Tell whether the platform keeps the accounts, in a table auth.users that public.users mirrors."""
    return bool(connection.scalar(text(queries.HAS_AUTH_USERS)))


@contextmanager
def reading(connection: Connection) -> Iterator[None]:
    """Read one state of the catalog, with the settings that deparsed texts depend on."""
    outer = None if connection.in_transaction() else connection.begin()
    try:
        if outer is not None:
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
        savepoint = connection.begin_nested()  # rolling back to it is what gives the settings back
        try:
            for name, value in _SETTINGS.items():
                connection.execute(text("SELECT set_config(:name, :value, true)"), {"name": name, "value": value})
            yield
        finally:
            savepoint.rollback()
    finally:
        if outer is not None:
            outer.rollback()


def _readable(kind: str, identity: str, properties: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    for name, value in properties.items():
        if name in _EXPRESSIONS and value is not None:
            properties[name] = deparsed.view(value) if kind == "views" else deparsed.expression(value)
    if "body" in properties:
        properties["body"] = properties["body"].replace("\r\n", "\n").strip()
    if "options" in properties:
        properties["options"] = sorted(re.sub("=(on|yes|1)$", "=true", each) for each in properties["options"])
    if "roles" in properties:
        properties["roles"] = sorted(_logical(role, names) for role in properties["roles"])
    if "grants" in properties:
        owner = properties["owner"]
        properties["grants"] = _grants(properties["grants"], {**names, owner: "owner"})
        properties["owner"] = _logical(owner, names)
    if (kind, identity) == ("schemas", "public"):
        del properties["owner"]  # the platform's choice, as the next lines
        properties["grants"] = _what_matters_in_public(properties["grants"])
    return properties


def _logical(role: str, names: Mapping[str, str]) -> str:
    """The package's name of a role; one that merely bears the name of a renamed role is told apart."""
    if role in names:
        return names[role]
    return f'role "{role}"' if role in names.values() else role


def _grants(acl: list[tuple[str, str, bool, str]], names: Mapping[str, str]) -> dict[str, list[str]]:
    """Privileges by grantee, `SELECT by bob` where somebody else than the owner granted it.

    MAINTAIN is new in PostgreSQL 17, where every owner has it.
    """
    grants: dict[str, set[str]] = {}
    for role, privilege, grantable, by in acl:
        grantee, grantor = _logical(role, names), _logical(by, names)
        if (grantee, privilege) != ("owner", "MAINTAIN"):
            granted = {privilege, *([f"GRANT OPTION FOR {privilege}"] if grantable else [])}
            suffix = "" if grantor == "owner" else f" by {grantor}"
            grants.setdefault(grantee, set()).update(each + suffix for each in granted)
    return {grantee: sorted(privileges) for grantee, privileges in sorted(grants.items())}


def _what_matters_in_public(grants: dict[str, list[str]]) -> dict[str, list[str]]:
    """Who may look into schema public differs by platform; that the two working roles can is all we need.

    They can through PUBLIC on a plain server, by a grant of their own on hosted and on hardened ones.
    """
    grants = {role: [re.sub("^USAGE by .*", "USAGE", each) for each in of] for role, of in grants.items()}
    usage = {
        role: {"USAGE"}
        for role in ("authenticated", "service_role")
        if "USAGE" in grants.get(role, []) + grants.get("PUBLIC", [])
    }
    others = {
        role: {each for each in privileges if each != "USAGE" or role not in ("PUBLIC", "anon")}
        for role, privileges in grants.items()
    }
    return {
        role: sorted(others.get(role, set()) | usage.get(role, set()))
        for role in sorted({*others, *usage})
        if others.get(role) or usage.get(role)
    }
