"""The statements that mend a difference, where they can be told from the catalog alone.

Roles stand under the package's names for them, as in `-x authenticated-role`. What cannot be restored by
a safe statement or two, as a changed type or body, has none: its difference says what to restore.
"""

from collections.abc import Mapping
from typing import Any

Properties = Mapping[str, Any]

_TARGETS = {
    "schemas": "SCHEMA",
    "tables": "TABLE",
    "views": "TABLE",
    "sequences": "SEQUENCE",
    "functions": "ROUTINE",
    "types": "TYPE",
}


def remedies(kind: str, identity: str, expected: Properties | None, found: Properties | None) -> list[str]:
    """Give the statements for an object that is missing (no `found`), unwanted (no `expected`) or changed."""
    name, _, table = identity.rpartition(" on ")
    if found is None:
        return _to_create(kind, name, table, expected or {})
    if expected is None:
        return _to_neutralise(kind, name, table, found)
    return _to_alter(kind, identity, expected, found) + _to_grant(kind, identity, expected, found)


def _to_create(kind: str, name: str, table: str, expected: Properties) -> list[str]:
    if kind == "constraints":
        not_valid = " NOT VALID" if expected["type"] in ("check", "foreign key") else ""
        added = f"ALTER TABLE {table} ADD CONSTRAINT {name} {expected['definition']}{not_valid};"
        return [added, *([f"ALTER TABLE {table} VALIDATE CONSTRAINT {name};"] if not_valid else [])]
    if kind == "indexes":
        return [expected["definition"].replace("INDEX ", "INDEX CONCURRENTLY ", 1) + ";"]
    if kind == "triggers":
        return [f"{expected['definition']};"]
    if kind == "policies":
        permissive = "PERMISSIVE" if expected["permissive"] else "RESTRICTIVE"
        clauses = _policy_clauses(expected)
        return [f"CREATE POLICY {name} ON {table} AS {permissive} FOR {expected['command']} {clauses};"]
    return []


def _to_neutralise(kind: str, name: str, table: str, found: Properties) -> list[str]:
    if kind == "policies":
        return [f"DROP POLICY {name} ON {table};"]
    if kind == "rules":
        return [f"DROP RULE {name} ON {table};"]
    if kind == "indexes" and not found["valid"]:
        return [f"DROP INDEX CONCURRENTLY {table.partition('.')[0]}.{name};"]
    if kind == "constraints" and not found["validated"]:
        return [f"ALTER TABLE {table} VALIDATE CONSTRAINT {name};"]
    return _to_enable(found["disabled_triggers"]) if kind == "constraints" else []


def _to_alter(kind: str, identity: str, expected: Properties, found: Properties) -> list[str]:
    name, _, table = identity.rpartition(" on ")
    if kind == "policies" and not {"command", "permissive"} & {*found}:
        return [f"ALTER POLICY {name} ON {table} {_policy_clauses(expected)};"]
    statements = {
        ("tables", "row_security", True): f"ALTER TABLE {identity} ENABLE ROW LEVEL SECURITY;",
        ("tables", "row_security_forced", False): f"ALTER TABLE {identity} NO FORCE ROW LEVEL SECURITY;",
        ("constraints", "validated", True): f"ALTER TABLE {table} VALIDATE CONSTRAINT {name};",
        ("indexes", "valid", True): f"REINDEX INDEX CONCURRENTLY {table.partition('.')[0]}.{name};",
        ("triggers", "enabled", "yes"): f"ALTER TABLE {table} ENABLE TRIGGER {name};",
        ("functions", "security_definer", True): f"ALTER ROUTINE {identity} SECURITY DEFINER;",
        ("functions", "security_definer", False): f"ALTER ROUTINE {identity} SECURITY INVOKER;",
        ("columns", "not_null", False): f"ALTER TABLE {table} ALTER COLUMN {name} DROP NOT NULL;",
    }
    mending = [text for (of, key, value), text in statements.items() if of == kind and expected.get(key) == value]
    if expected.get("owner") == "owner":
        mending.append(f"ALTER {_TARGETS[kind]} {identity} OWNER TO CURRENT_USER;")
    mending += _to_enable(found.get("disabled_triggers", []))
    if kind == "views" and "options" in found:
        lost = sorted({*expected["options"]} - {*found["options"]})
        mending += [f"ALTER VIEW {identity} SET ({', '.join(lost)});"] if lost else []
    return mending


def _to_enable(triggers: list[str]) -> list[str]:
    return [
        f"ALTER TABLE {table} ENABLE TRIGGER {name};"
        for name, _, table in (each.rpartition(" on ") for each in triggers)
    ]


def _to_grant(kind: str, identity: str, expected: Properties, found: Properties) -> list[str]:
    return [
        f"{verb} {', '.join(surplus)} ON {_TARGETS[kind]} {identity} {preposition} {_grantee(role)};"
        for verb, preposition, more, less in (
            ("REVOKE", "FROM", found, expected),
            ("GRANT", "TO", expected, found),
        )
        for role, privileges in more.get("grants", {}).items()
        if (surplus := [each for each in privileges if each not in less["grants"].get(role, [])])
    ]


def _grantee(role: str) -> str:
    return "CURRENT_USER" if role == "owner" else role


def _policy_clauses(properties: Properties) -> str:
    clauses = [f"TO {', '.join(properties['roles'])}"] if "roles" in properties else []
    clauses += [f"USING ({properties['using']})"] if properties.get("using") else []
    clauses += [f"WITH CHECK ({properties['check']})"] if properties.get("check") else []
    return " ".join(clauses)
