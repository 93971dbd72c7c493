"""The statements that mend a difference, in an order in which they can be run, and who may run them.

Roles stand under their actual names. What no statement can bring back, as rows, has a note that says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from sqlalchemy.dialects import postgresql

Properties = Mapping[str, Any]

SUPERUSER = "a superuser"

_TARGETS = {
    "schemas": "SCHEMA",
    "tables": "TABLE",
    "views": "TABLE",
    "sequences": "SEQUENCE",
    "functions": "ROUTINE",
    "types": "TYPE",
}
_GONE = "No statement brings its rows back: restore it from a backup."
_quote = postgresql.dialect().identifier_preparer.quote  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Context:
    """What statements need to know: who owns the tables, what the roles are called here, the catalog at head."""

    owner: str = "owner"
    roles: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    expected: Mapping[str, Mapping[str, Properties]] = field(default_factory=lambda: MappingProxyType({}))

    def role(self, name: str) -> str:
        """Return the quoted, actual name of a role that a snapshot calls ``name``."""
        if name == "PUBLIC":
            return name
        if match := re.fullmatch(r'role "(.*)"', name):  # one that only bears the name of ours
            return str(_quote(match[1]))
        return str(_quote(self.owner if name == "owner" else self.roles.get(name, name)))

    def clients(self) -> str:
        """Return PUBLIC and the three roles, as a list."""
        return ", ".join(self.role(name) for name in ("PUBLIC", "anon", "authenticated", "service_role"))


@dataclass(frozen=True)
class Mend:
    """The statements, and who may run them: empty for the owner of the tables. A superuser may run them all."""

    statements: tuple[str, ...]
    by: str = ""
    note: str = ""


def mend(
    kind: str,
    identity: str,
    expected: Properties | None,
    found: Properties | None,
    context: Context = Context(),
) -> Mend:
    """Give the statements for an object that is missing (no `found`), unwanted (no `expected`) or changed."""
    if found is None:
        return _to_create(kind, identity, expected or {}, context)
    if expected is None:
        return _NEUTRALISE[kind](identity, found, context) if kind in _NEUTRALISE else Mend(())
    if kind == "roles":
        return _attributes(identity, expected, context)
    whole = context.expected.get(kind, {}).get(identity, expected)
    changed = (
        Mend((), note=_GONE)
        if kind == "tables" and "type" in expected
        else _to_alter(kind, identity, expected, found, whole, context)
    )
    grants, by = _to_grant(kind, identity, expected, found, whole, context)
    return Mend((*changed.statements, *grants), changed.by or by, changed.note)


# ---------------------------------------------------------------------------------------------------- what is missing


def _to_create(kind: str, identity: str, expected: Properties, context: Context) -> Mend:
    name, _, table = identity.rpartition(" on ")
    if kind == "constraints":
        not_valid = " NOT VALID" if expected["type"] in ("check", "foreign key") else ""
        added = f"ALTER TABLE {table} ADD CONSTRAINT {name} {expected['definition']}{not_valid};"
        return Mend((added, *([f"ALTER TABLE {table} VALIDATE CONSTRAINT {name};"] if not_valid else [])))
    if kind == "indexes":
        return Mend((_concurrently(expected["definition"]),))
    if kind == "triggers":
        return Mend((f"{expected['definition']};",))
    if kind == "policies":
        return Mend((_policy(name, table, expected, context),))
    if kind == "columns":
        if expected["not_null"] and expected["default"] is None and not expected["identity"]:
            return Mend((), note="No statement brings its values back: restore them from a backup.")
        added = f"ALTER TABLE {table} ADD COLUMN {name} {_column(expected)};"
        return Mend((added, *_comments(context, f"COLUMN {table}.{name}")))
    if kind == "functions":
        comment = _comments(context, f"FUNCTION {identity}")
        return Mend((_function(identity, expected), *_grants_of(kind, identity, expected, context), *comment))
    if kind == "views":
        return Mend(_view(identity, expected, context))
    if kind == "comments":
        return Mend((_comment(identity, expected),))
    if kind == "sequences":
        if expected["owned_by"]:
            return Mend((), note="It comes with its column, which is reported too.")
        return Mend((f"CREATE SEQUENCE {identity};", *_grants_of(kind, identity, expected, context)))
    if kind == "roles":
        return Mend(
            (f"CREATE ROLE {context.role(identity)} NOLOGIN;",),
            SUPERUSER,
            "What was granted to it went with it: verify again afterwards.",
        )
    return Mend((), note=_GONE)


def _comments(context: Context, *objects: str) -> Iterator[str]:
    """Give the comments of objects that are made anew: the old ones went with the old objects."""
    expected = context.expected.get("comments", {})
    yield from (_comment(each, expected[each]) for each in objects if each in expected)


def _comment(identity: str, comment: Properties) -> str:
    text = comment["text"].replace("'", "''")
    return f"COMMENT ON {identity} IS '{text}';"


def _column(column: Properties) -> str:
    text = str(column["type"])
    if column["collation"]:
        text += f" COLLATE {column['collation']}"
    if column["identity"]:
        return f"{text} GENERATED {column['identity'].upper()} AS IDENTITY"
    if column["default"] is not None:
        text += f" DEFAULT {column['default']}"
    return text + (" NOT NULL" if column["not_null"] else "")


def _concurrently(definition: str) -> str:
    return definition.replace("INDEX ", "INDEX CONCURRENTLY ", 1) + ";"


def _function(identity: str, function: Properties) -> str:
    kind = "PROCEDURE" if function["type"] == "procedure" else "FUNCTION"
    parts = [
        f"CREATE OR REPLACE {kind} {identity.partition('(')[0]}({function['arguments']})",
        *([f"RETURNS {function['result']}"] if kind == "FUNCTION" else []),
        f"LANGUAGE {function['language']}",
        *(_behaviour(function) if kind == "FUNCTION" else []),
        "SECURITY DEFINER" if function["security_definer"] else "SECURITY INVOKER",
        *(f"SET {_setting(each)}" for each in function["settings"]),
    ]
    if function["definition"]:
        return " ".join([*parts, function["definition"]]) + ";"
    tag = "$body$"
    while tag in function["body"]:
        tag = tag[:-1] + "_$"
    return " ".join(parts) + f" AS {tag}\n{function['body']}\n{tag};"


def _behaviour(function: Properties) -> list[str]:
    return [
        function["volatility"].upper(),
        f"PARALLEL {function['parallel'].upper()}",
        "STRICT" if function["strict"] else "CALLED ON NULL INPUT",
        "LEAKPROOF" if function["leakproof"] else "NOT LEAKPROOF",
    ]


def _setting(text: str) -> str:
    name, _, value = text.partition("=")
    return f"{name} TO {value}" if name == "search_path" else f"{name} TO '{value}'"


def _view(identity: str, view: Properties, context: Context) -> tuple[str, ...]:
    options = f" WITH ({', '.join(view['options'])})" if view["options"] else ""
    return (
        f"CREATE OR REPLACE VIEW {identity}{options} AS {view['definition'].rstrip(';')};",
        *(f"ALTER VIEW {identity} ALTER COLUMN {_default(each)};" for each in view["defaults"]),
        *(
            f"{trigger['definition'].replace('CREATE TRIGGER', 'CREATE OR REPLACE TRIGGER', 1)};"
            for name, trigger in context.expected.get("triggers", {}).items()
            if name.endswith(f" on {identity}")
        ),
        *_grants_of("views", identity, view, context),
        *_comments(context, f"VIEW {identity}", *(f"COLUMN {identity}.{each.split()[0]}" for each in view["columns"])),
    )


def _default(text: str) -> str:
    name, _, value = text.partition(": ")
    return f"{name} SET DEFAULT {value}"


def _policy(name: str, table: str, policy: Properties, context: Context) -> str:
    permissive = "PERMISSIVE" if policy["permissive"] else "RESTRICTIVE"
    clauses = _policy_clauses(policy, context)
    return f"CREATE POLICY {name} ON {table} AS {permissive} FOR {policy['command']} {clauses};"


def _policy_clauses(policy: Properties, context: Context) -> str:
    clauses = [f"TO {', '.join(context.role(role) for role in policy['roles'])}"] if "roles" in policy else []
    clauses += [f"USING ({policy['using']})"] if policy.get("using") else []
    clauses += [f"WITH CHECK ({policy['check']})"] if policy.get("check") else []
    return " ".join(clauses)


def _grants_of(kind: str, identity: str, expected: Properties, context: Context) -> Iterator[str]:
    yield f"REVOKE ALL ON {_TARGETS[kind]} {identity} FROM {context.clients()};"
    for role, privileges in expected["grants"].items():
        if role != "owner":
            yield f"GRANT {', '.join(privileges)} ON {_TARGETS[kind]} {identity} TO {context.role(role)};"


# ---------------------------------------------------------------------------------------------------- what is changed


def _to_alter(
    kind: str, identity: str, expected: Properties, found: Properties, whole: Properties, context: Context
) -> Mend:
    name, _, table = identity.rpartition(" on ")
    by = ""
    statements: list[str] = []
    if expected.get("owner") == "owner":
        target = {"views": "VIEW"}.get(kind, _TARGETS[kind])
        statements.append(f"ALTER {target} {identity} OWNER TO {context.role('owner')};")
        by = SUPERUSER
    if kind == "tables":
        statements += [
            statement
            for key, value, statement in (
                ("persistence", "permanent", f"ALTER TABLE {identity} SET LOGGED;"),
                ("row_security", True, f"ALTER TABLE {identity} ENABLE ROW LEVEL SECURITY;"),
                ("row_security_forced", False, f"ALTER TABLE {identity} NO FORCE ROW LEVEL SECURITY;"),
                ("replica_identity", "default", f"ALTER TABLE {identity} REPLICA IDENTITY DEFAULT;"),
            )
            if expected.get(key) == value
        ]
    elif kind == "policies":
        recreated = {"command", "permissive"} & {*found} or any(
            expected.get(key) is None and found.get(key) is not None for key in ("using", "check")
        )
        if recreated:
            statements += [f"DROP POLICY {name} ON {table};", _policy(name, table, whole, context)]
        elif clauses := _policy_clauses(expected, context):
            statements.append(f"ALTER POLICY {name} ON {table} {clauses};")
    elif kind == "constraints":
        if {"definition", "type"} & {*expected}:
            not_valid = whole["type"] in ("check", "foreign key")
            statements.append(
                f"ALTER TABLE {table} DROP CONSTRAINT {name}, ADD CONSTRAINT {name} {whole['definition']}"
                f"{' NOT VALID' if not_valid else ''};"
            )
            statements += [f"ALTER TABLE {table} VALIDATE CONSTRAINT {name};"] if not_valid else []
        elif expected.get("validated"):
            statements.append(f"ALTER TABLE {table} VALIDATE CONSTRAINT {name};")
        if found.get("disabled_triggers"):
            statements += _to_enable(found["disabled_triggers"])
            by = SUPERUSER  # they are the system's
    elif kind == "indexes":
        index = f"{table.partition('.')[0]}.{name}"
        if {"definition", "unique"} & {*expected}:
            statements += [f"DROP INDEX CONCURRENTLY {index};", _concurrently(whole["definition"])]
        else:
            statements.append(f"REINDEX INDEX CONCURRENTLY {index};")
    elif kind == "triggers":
        if "definition" in expected:
            statements.append(f"{whole['definition'].replace('CREATE TRIGGER', 'CREATE OR REPLACE TRIGGER', 1)};")
        if "enabled" in expected:
            statements.append(f"ALTER TABLE {table} ENABLE TRIGGER {name};")
            by = "" if table in _ours(context) else SUPERUSER  # auth.users is the platform's
    elif kind == "columns":
        statements += _column_changes(name, table, expected, found, whole)
    elif kind == "functions":
        statements += _function_changes(identity, expected, found, whole, context)
        by = by or (SUPERUSER if expected.get("leakproof") else "")
    elif kind == "views":
        statements += _view_changes(identity, expected, found, whole, context)
    elif kind == "comments":
        statements.append(_comment(identity, whole))
    elif kind == "sequences":
        statements += _sequence_changes(identity, expected)
    return Mend(tuple(statements), by)


def _to_enable(triggers: list[str]) -> list[str]:
    return [
        f"ALTER TABLE {table} ENABLE TRIGGER {name};"
        for name, _, table in (each.rpartition(" on ") for each in triggers)
    ]


def _column_changes(name: str, table: str, expected: Properties, found: Properties, whole: Properties) -> Iterator[str]:
    alter = f"ALTER TABLE {table} ALTER COLUMN {name}"
    if {"type", "collation"} & {*expected}:
        collation = whole["collation"] or ('pg_catalog."default"' if found.get("collation") else "")
        collate = f" COLLATE {collation}" if collation else ""
        yield f"{alter} TYPE {whole['type']}{collate} USING {name}::{whole['type']};"
    if "default" in expected:
        yield f"{alter} DROP DEFAULT;" if whole["default"] is None else f"{alter} SET DEFAULT {whole['default']};"
    if expected.get("not_null") is True:
        check = f"ck_{table.rpartition('.')[2]}_{name}_present"
        yield f"ALTER TABLE {table} ADD CONSTRAINT {check} CHECK ({name} IS NOT NULL) NOT VALID;"
        yield f"ALTER TABLE {table} VALIDATE CONSTRAINT {check};"
        yield f"{alter} SET NOT NULL;"
        yield f"ALTER TABLE {table} DROP CONSTRAINT {check};"
    elif expected.get("not_null") is False:
        yield f"{alter} DROP NOT NULL;"
    if expected.get("identity") and found.get("identity"):
        yield f"{alter} SET GENERATED {expected['identity'].upper()};"
    elif expected.get("identity"):
        yield f"{alter} ADD GENERATED {expected['identity'].upper()} AS IDENTITY;"
        yield (
            f"SELECT pg_catalog.setval(pg_catalog.pg_get_serial_sequence('{table}', '{name}'), last.value)"
            f" FROM (SELECT pg_catalog.max({name}) AS value FROM {table}) AS last WHERE last.value IS NOT NULL;"
        )
    elif "identity" in expected:
        yield f"{alter} DROP IDENTITY;"
    if "generated" in expected and expected["generated"] is None:
        yield f"{alter} DROP EXPRESSION;"


def _function_changes(
    identity: str, expected: Properties, found: Properties, whole: Properties, context: Context
) -> Iterator[str]:
    if {"arguments", "result", "type"} & {*expected}:
        yield f"DROP ROUTINE {identity};"
        yield _function(identity, whole)
        yield from _grants_of("functions", identity, whole, context)
        yield from _comments(context, f"FUNCTION {identity}")
    elif {"body", "definition", "language"} & {*expected}:
        yield _function(identity, whole)
    else:
        if "security_definer" in expected:
            yield f"ALTER ROUTINE {identity} SECURITY {'DEFINER' if expected['security_definer'] else 'INVOKER'};"
        if {"volatility", "parallel", "strict", "leakproof"} & {*expected}:
            yield f"ALTER FUNCTION {identity} {' '.join(_behaviour(whole))};"
        if "settings" in expected:
            yield f"ALTER ROUTINE {identity} RESET ALL;"
            yield from (f"ALTER ROUTINE {identity} SET {_setting(each)};" for each in whole["settings"])


def _view_changes(
    identity: str, expected: Properties, found: Properties, whole: Properties, context: Context
) -> Iterator[str]:
    if {"type", "columns"} & {*expected}:
        kind = "MATERIALIZED VIEW" if found.get("type") == "materialized view" else "VIEW"
        yield f"DROP {kind} {identity};"
        yield from _view(identity, whole, context)
        return
    if "definition" in expected:
        yield _view(identity, whole, context)[0]
    elif "options" in expected:
        surplus = sorted(
            {each.partition("=")[0] for each in found["options"]}
            - {each.partition("=")[0] for each in whole["options"]}
        )
        if surplus:
            yield f"ALTER VIEW {identity} RESET ({', '.join(surplus)});"
        yield f"ALTER VIEW {identity} SET ({', '.join(whole['options'])});"
    if "defaults" in expected:
        wanted = {each.partition(": ")[0] for each in expected["defaults"]}
        for each in found["defaults"]:
            if (column := each.partition(": ")[0]) not in wanted:
                yield f"ALTER VIEW {identity} ALTER COLUMN {column} DROP DEFAULT;"
        yield from (f"ALTER VIEW {identity} ALTER COLUMN {_default(each)};" for each in expected["defaults"])


def _sequence_changes(identity: str, expected: Properties) -> Iterator[str]:
    clauses = {
        "type": "AS {}",
        "increment": "INCREMENT BY {}",
        "minimum": "MINVALUE {}",
        "maximum": "MAXVALUE {}",
        "start": "START WITH {}",
        "cache": "CACHE {}",
    }
    words = [clause.format(expected[key]) for key, clause in clauses.items() if key in expected]
    if "cycle" in expected:
        words.append("CYCLE" if expected["cycle"] else "NO CYCLE")
    if words:
        yield f"ALTER SEQUENCE {identity} {' '.join(words)};"
    if expected.get("persistence") == "permanent":
        yield f"ALTER SEQUENCE {identity} SET LOGGED;"


def _attributes(role: str, expected: Properties, context: Context) -> Mend:
    words = [name.upper() if wanted else f"NO{name.upper()}" for name, wanted in expected.items()]
    return Mend((f"ALTER ROLE {context.role(role)} {' '.join(words)};",), SUPERUSER)


def _to_grant(
    kind: str, identity: str, expected: Properties, found: Properties, whole: Properties, context: Context
) -> tuple[list[str], str]:
    """Take what is too much, that of other grantors first, and give what is missing."""
    target = f"{_TARGETS.get(kind)} {identity}"
    by_others: list[str] = []
    by_owner: list[str] = []
    given: list[str] = []
    for role, privileges in found.get("grants", {}).items():
        surplus = [each for each in privileges if each not in expected["grants"].get(role, [])]
        for grantor in sorted({each.partition(" by ")[2] for each in surplus}):
            of_grantor = [each.partition(" by ")[0] for each in surplus if each.partition(" by ")[2] == grantor]
            revoked = f"ON {target} FROM {context.role(role)} CASCADE;"
            # taking a privilege takes its option too; one option can be taken in a statement of its own
            plain = [each for each in of_grantor if not each.startswith("GRANT OPTION FOR ")]
            options = [each for each in of_grantor if each.startswith("GRANT OPTION FOR ") and each[17:] not in plain]
            revocations = [f"REVOKE {', '.join(plain)} {revoked}"] if plain else []
            revocations += [f"REVOKE {option} {revoked}" for option in options]
            if grantor:
                by_others += [f"SET ROLE {context.role(grantor)};", *revocations, "RESET ROLE;"]
            else:
                by_owner += revocations
                wanted = whole.get("grants", {}).get(role, [])
                of_columns = [each for each in wanted if "(" in each and each.partition(" (")[0] in plain]
                if of_columns:  # which REVOKE on the table takes along
                    given.append(f"GRANT {', '.join(of_columns)} ON {target} TO {context.role(role)};")
    for role, privileges in expected.get("grants", {}).items():
        missing = [each for each in privileges if each not in found["grants"].get(role, [])]
        if missing:
            given.append(f"GRANT {', '.join(missing)} ON {target} TO {context.role(role)};")
    by = SUPERUSER if by_others else ""
    if identity == "public" and kind == "schemas" and by_owner + given:
        by = by or "the owner of schema public"
    return by_others + by_owner + given, by


# --------------------------------------------------------------------------------------------------- what is unwanted


def _as(owner: str, context: Context) -> str:
    return "" if owner == context.owner else str(_quote(owner))


def _policies(identity: str, found: Properties, context: Context) -> Mend:
    name, _, table = identity.rpartition(" on ")
    return Mend((f"DROP POLICY {name} ON {table};",))


def _rules(identity: str, found: Properties, context: Context) -> Mend:
    name, _, table = identity.rpartition(" on ")
    return Mend((f"DROP RULE {name} ON {table};",), "" if table in _ours(context) else "the owner of that table")


def _ours(context: Context) -> set[str]:
    return {*context.expected.get("tables", {}), *context.expected.get("views", {})}


def _indexes(identity: str, found: Properties, context: Context) -> Mend:
    if found["valid"]:
        return Mend(())
    name, _, table = identity.rpartition(" on ")
    return Mend((f"DROP INDEX CONCURRENTLY {table.partition('.')[0]}.{name};",))


def _constraints(identity: str, found: Properties, context: Context) -> Mend:
    name, _, table = identity.rpartition(" on ")
    if not found["validated"]:
        return Mend((f"ALTER TABLE {table} VALIDATE CONSTRAINT {name};",))
    return Mend(tuple(_to_enable(found["disabled_triggers"])), SUPERUSER)


def _columns(identity: str, found: Properties, context: Context) -> Mend:
    if not found["not_null"] or found["default"] or found["identity"] or found["generated"]:
        return Mend(())
    name, _, table = identity.rpartition(" on ")
    return Mend((f"ALTER TABLE {table} ALTER COLUMN {name} DROP NOT NULL;",))


def _triggers(identity: str, found: Properties, context: Context) -> Mend:
    if "function_trusted" not in found:  # an ordinary one
        return Mend(())
    name, _, table = identity.rpartition(" on ")
    if not found["function_trusted"]:
        return Mend((f"DROP TRIGGER {name} ON {table};",))
    path = f"ALTER FUNCTION {found['function']} SET search_path TO pg_catalog, public, pg_temp;"
    return Mend((path,), _as(found["function_owner"], context))


def _readers(identity: str, found: Properties, context: Context) -> Mend:
    if found["type"] == "view":
        statement = f"ALTER VIEW {identity} SET (security_invoker = true);"
    else:
        statement = f"REVOKE ALL ON TABLE {identity} FROM {', '.join(map(_role, found['reach']))};"
    return Mend((statement,), _as(found["owner"], context))


def _definers(identity: str, found: Properties, context: Context) -> Mend:
    if found["trigger"]:  # triggers call it all the same
        statement = f"REVOKE EXECUTE ON ROUTINE {identity} FROM {', '.join(map(_role, found['reach']))};"
    else:
        statement = f"ALTER ROUTINE {identity} SECURITY INVOKER;"
    return Mend((statement,), _as(found["owner"], context))


def _role(name: str) -> str:
    return name if name == "PUBLIC" else str(_quote(name))


def _strangers(identity: str, found: Properties, context: Context) -> Mend:
    what, _, name = found["target"].partition(" ")
    if "OWNER" in found["privileges"]:
        owner = "pg_database_owner" if what == "schema" else context.role("owner")
        return Mend((f"ALTER {what.upper()} {name} OWNER TO {owner};",), SUPERUSER)
    privileges = ["CREATE"] if what == "database" else found["privileges"]
    statement = f"REVOKE {', '.join(privileges)} ON {what.upper()} {name} FROM {_role(found['role'])} CASCADE;"
    by = {"database": "the owner of the database", "schema": "the owner of the schema"}.get(what, "")
    return Mend((statement,), by)


def _default_privileges(identity: str, found: Properties, context: Context) -> Mend:
    schema = f" IN SCHEMA {_quote(found['schema'])}" if found["schema"] else ""
    privileges = ", ".join(found["privileges"])
    return Mend(
        (
            f"ALTER DEFAULT PRIVILEGES FOR ROLE {_quote(found['owner'])}{schema}"
            f" REVOKE {privileges} ON {found['objects'].upper()} FROM {_role(found['role'])};",
        )
    )


def _settings(identity: str, found: Properties, context: Context) -> Mend:
    database = _quote(found["database"])
    if found["role"] is None:
        subject = f"DATABASE {database}" if found["in_database"] else "ROLE ALL"
    else:
        subject = f"ROLE {_quote(found['role'])}" + (f" IN DATABASE {database}" if found["in_database"] else "")
    return Mend((f"ALTER {subject} RESET {found['name']};",), SUPERUSER)


def _publications(identity: str, found: Properties, context: Context) -> Mend:
    publication, what = _quote(found["publication"]), found["what"]
    if what == "ALL TABLES":  # it cannot leave one out
        return Mend((f"DROP PUBLICATION {publication};",), _as(found["owner"], context))
    return Mend((f"ALTER PUBLICATION {publication} DROP {what};",), _as(found["owner"], context))


def _inheritance(identity: str, found: Properties, context: Context) -> Mend:
    if found["partition"]:
        statement = f"ALTER TABLE {found['parent']} DETACH PARTITION {found['child']};"
    else:
        statement = f"ALTER TABLE {found['child']} NO INHERIT {found['parent']};"
    return Mend((statement,), _as(found["owner"], context))


def _foreign_keys(identity: str, found: Properties, context: Context) -> Mend:
    name, _, table = identity.rpartition(" on ")
    return Mend((f"ALTER TABLE {table} DROP CONSTRAINT {name};",), _as(found["owner"], context))


def _memberships(identity: str, found: Properties, context: Context) -> Mend:
    member, role = _quote(found["member"]), _quote(found["role"])
    statements = []
    for grantor in found["grantors"]:  # since PostgreSQL 16 each grantor's membership stands for itself
        by = f" GRANTED BY {_quote(grantor)}" if grantor else ""
        if "gives" in found:
            statements.append(f"REVOKE {role} FROM {member}{by} CASCADE;")
            continue
        if found["inherits"] and grantor:
            statements.append(f"GRANT {role} TO {member} WITH INHERIT FALSE{by};")
        elif found["inherits"]:
            statements.append(f"ALTER ROLE {member} NOINHERIT;")
        if found["admin"]:
            statements.append(f"REVOKE ADMIN OPTION FOR {role} FROM {member}{by} CASCADE;")
    return Mend(tuple(statements), SUPERUSER)


_NEUTRALISE: Mapping[str, Callable[[str, Properties, Context], Mend]] = {
    "policies": _policies,
    "rules": _rules,
    "indexes": _indexes,
    "constraints": _constraints,
    "columns": _columns,
    "triggers": _triggers,
    "readers": _readers,
    "definers": _definers,
    "grants": _strangers,
    "default privileges": _default_privileges,
    "settings": _settings,
    "publications": _publications,
    "inheritance": _inheritance,
    "foreign keys": _foreign_keys,
    "memberships": _memberships,
}
