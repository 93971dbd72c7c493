"""What a hostile role makes so that somebody else's SQL finds it: types, relations, functions, operators, aggregates.

Everything in the kit calls one function, the trap. The trap does nothing for the role that made it. For any other role
it raises a warning, which the server writes to its log whatever becomes of the transaction; :class:`Log` reads that.

PostgreSQL looks for types and relations in pg_temp, and never for functions and operators, so those are made in
``public`` alone. A shadow passes on to what it hides, so that a run which springs the trap goes on and springs others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import product
from pathlib import Path

import alembic.ddl.postgresql
import psycopg
import sqlalchemy.dialects.postgresql

from app.catalog import load_expected
from tests.postgres_binaries import ROOT

Columns = Mapping[str, str]
Relations = Mapping[str, Columns]
"""relation -> column -> type."""

_SPRUNG = re.compile(r"WARNING:  trap sprung: (.+)$", re.MULTILINE)
_MORE = ("varchar", "name")  # each a better match than text for a column of that type
_ANY = ("varchar", "text", "uuid", "jsonb", "timestamptz", "int8", "bool", "name")
_OPERANDS = (
    *("text", "varchar", "name", '"char"', "json", "jsonb", "uuid", "int2", "int4", "int8", "numeric", "bool"),
    *("oid", "regclass", "timestamptz", "interval", "anyarray", "anyelement"),
)


class Log:
    """The server's log, from now on."""

    def __init__(self, admin: psycopg.Connection) -> None:
        [[data]] = admin.execute("SELECT pg_catalog.current_setting('data_directory')").fetchall()
        self._file = Path(data).with_name(Path(data).name + ".log")
        self._read = self._file.stat().st_size

    def sprung(self) -> list[str]:
        """Return what was sprung since the last call, and as whom: ``type uuid as postgres``."""
        with self._file.open("rb") as log:
            log.seek(self._read)
            text = log.read()
        self._read += len(text)
        return sorted(set(_SPRUNG.findall(text.decode(errors="replace"))))


def our_relations() -> dict[str, dict[str, str]]:
    """Return the relations of head with their columns, and what tables are called on the way there."""
    found: dict[str, dict[str, str]] = {}
    for identity, column in load_expected()["columns"].items():
        name, _, relation = identity.rpartition(" on ")
        found.setdefault(relation.partition(".")[2], {})[name.strip('"')] = str(column["type"])
    found["chat_sessions"] = {**found["conversations"], **found.get("chat_sessions", {}), "messages": "jsonb"}
    for table, column in (("conversations", "messages"), ("messages", "place")):
        found[table] = {**found[table], column: "jsonb"}
    found["messages_order"] = found["chat_messages_order"] = {"id": "uuid", "place": "bigint"}
    return found


def make(session: psycopg.Connection, schema: str, relations: Relations) -> int:
    """Make the kit in ``schema``, ``pg_temp`` or ``public``, as the role that acts; return how much it is."""
    [[owners]] = session.execute("SELECT ARRAY[session_user, current_user]::text").fetchall()
    statements = [*_trap(schema, owners), *_relations(schema, relations), *_types(session, schema)]
    if schema == "public":
        statements += [*_functions(session), *_aggregates(session), *_operators(session)]
    with session.transaction():
        session.execute("SET LOCAL search_path = pg_catalog, pg_temp")
        session.execute("SELECT set_config('shadows.kit', %s, true)", [json.dumps(statements)])
        session.execute(_MAKE)
        [[made]] = session.execute("SELECT current_setting('shadows.made')::int").fetchall()
    return int(made)


def make_trap(session: psycopg.Connection, schema: str) -> None:
    """Make only what the kit calls: ``trap(text)`` and ``trap_trigger()``."""
    [[owners]] = session.execute("SELECT ARRAY[session_user, current_user]::text").fetchall()
    for statement in _trap(schema, owners):
        session.execute(statement.encode())


# What PostgreSQL does not allow (a domain over a pseudo-type, a function of the kind) is left out.
_MAKE = """
    DO $do$
    DECLARE
      statement text;
      made int := 0;
    BEGIN
      FOR statement IN SELECT * FROM jsonb_array_elements_text(current_setting('shadows.kit')::jsonb) LOOP
        BEGIN
          EXECUTE statement;
          made := made + 1;
        EXCEPTION WHEN OTHERS THEN
          NULL;
        END;
      END LOOP;
      PERFORM set_config('shadows.made', made::text, true);
    END
    $do$
"""


def _trap(schema: str, owners: str) -> Iterable[str]:
    yield f"""
        CREATE FUNCTION {schema}.trap(what text) RETURNS boolean LANGUAGE plpgsql AS $$
        BEGIN
          IF current_user OPERATOR(pg_catalog.<>) ALL ('{owners}'::pg_catalog.name[]) THEN
            RAISE WARNING 'trap sprung: % as %', what, current_user;
          END IF;
          RETURN true;
        END $$
    """
    yield f"""
        CREATE FUNCTION {schema}.trap_trigger() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          PERFORM {schema}.trap('trigger on ' OPERATOR(pg_catalog.||) TG_RELNAME::pg_catalog.text);
          RETURN CASE TG_OP::pg_catalog.text WHEN 'DELETE'::pg_catalog.text THEN OLD ELSE NEW END;
        END $$
    """


def _relations(schema: str, relations: Relations) -> Iterable[str]:
    for name, columns in {**{name: {} for name in _catalogs()}, **relations}.items():
        if columns:
            values = ", ".join(f'NULL::{type} AS "{column}"' for column, type in columns.items())
            yield f"CREATE VIEW {schema}.\"{name}\" AS SELECT {values} WHERE {schema}.trap('relation {name}')"
            yield (
                f'CREATE TRIGGER shadow INSTEAD OF INSERT OR UPDATE OR DELETE ON {schema}."{name}"'
                f" FOR EACH ROW EXECUTE FUNCTION {schema}.trap_trigger()"
            )
        else:
            source = "information_schema" if not name.startswith("pg_") else "pg_catalog"
            yield (
                f'CREATE VIEW {schema}."{name}" AS SELECT * FROM {source}."{name}"'
                f" WHERE {schema}.trap('relation {name}')"
            )


def _types(session: psycopg.Connection, schema: str) -> Iterable[str]:
    """A domain for each name of a type; for a pseudo-type, as ``record``, one of text."""
    for name, is_pseudo in session.execute(
        "SELECT t.typname, t.typtype = 'p' FROM pg_catalog.pg_type AS t"
        " WHERE t.typnamespace = 'pg_catalog'::pg_catalog.regnamespace AND t.typtype NOT IN ('c', 'd')"
        " AND t.typname !~ '^_' AND t.typname !~ '^pg_(ndistinct|dependencies|mcv_list|brin|node_tree)'"
    ):
        over = "text" if is_pseudo else f'"{name}"'
        yield f"CREATE DOMAIN {schema}.\"{name}\" AS pg_catalog.{over} CHECK ({schema}.trap('type {name}'))"


def _functions(session: psycopg.Connection) -> Iterable[str]:
    for name, arguments, defaults, variadic, result, sets, volatility in session.execute(
        "SELECT p.proname, p.proargtypes::pg_catalog.regtype[]::text[], p.pronargdefaults, p.provariadic <> 0,"
        " p.prorettype::pg_catalog.regtype::text, p.proretset, p.provolatile::text FROM pg_catalog.pg_proc AS p"
        " WHERE p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace AND p.prokind IN ('f', 'w')"
        " AND p.proname = ANY (%s) AND p.prorettype::pg_catalog.regtype::text NOT IN ('internal', 'trigger', 'cstring')"
        " ORDER BY p.oid",
        [sorted(_words())],
    ).fetchall():
        kind = {"i": "IMMUTABLE", "s": "STABLE", "v": "VOLATILE"}[volatility]
        for types in _better(arguments, variadic):
            written = ", ".join(
                f"{type}{' DEFAULT NULL' if place >= len(types) - defaults else ''}" for place, type in enumerate(types)
            )
            same = [types[place] for place, type in enumerate(arguments) if type == result and "any" in type]
            returned = same[0] if same else result
            values = ", ".join(f"${place + 1}" for place in range(len(types)))
            yield (
                f'CREATE FUNCTION public."{name}"({written}) RETURNS {"SETOF " if sets else ""}{returned}'
                f" LANGUAGE sql {kind} AS $shadow$ SELECT public.trap('function {name}({', '.join(types)})');"
                f' SELECT * FROM pg_catalog."{name}"({values}) $shadow$'
            )


def _aggregates(session: psycopg.Connection) -> Iterable[str]:
    found = session.execute(
        "SELECT p.oid::int, p.proname, p.proargtypes::pg_catalog.regtype[]::text[],"
        " p.prorettype::pg_catalog.regtype::text FROM pg_catalog.pg_proc AS p"
        " WHERE p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace"
        " AND p.prokind IN ('a', 'w') AND p.proname = ANY (%s)",
        [sorted(_words())],
    ).fetchall()
    for oid, name, arguments, result in found:
        for place, types in enumerate(_better(arguments, False)):
            state = types[0] if result.startswith("any") and types else "text[]" if result == "anyarray" else result
            step = f"public.shadow_step_{oid}_{place}"
            yield (
                f"CREATE FUNCTION {step}({', '.join([state, *types])}) RETURNS {state} LANGUAGE sql AS $shadow$"
                f" SELECT public.trap('aggregate {name}({', '.join(types)})'); SELECT $1 $shadow$"
            )
            yield f'CREATE AGGREGATE public."{name}"({", ".join(types) or "*"}) (SFUNC = {step}, STYPE = {state})'


def _operators(session: psycopg.Connection) -> Iterable[str]:
    found = session.execute(
        "SELECT o.oprname, o.oprleft::pg_catalog.regtype::text, o.oprright::pg_catalog.regtype::text,"
        " o.oprresult::pg_catalog.regtype::text FROM pg_catalog.pg_operator AS o"
        " WHERE o.oprkind = 'b' AND o.oprleft = ANY (%s::pg_catalog.regtype[])"
        " AND o.oprright = ANY (%s::pg_catalog.regtype[])",
        [list(_OPERANDS)] * 2,
    ).fetchall()
    shadowed = [
        (name, types[0], types[1], types[0] if "any" in result else result, f"$1 OPERATOR(pg_catalog.{name}) $2")
        for name, left, right, result in found
        for types in _better([left, right], False)
    ]
    # what pg_catalog has no operator for: it would cast one side, and an exact match needs no cast
    pairs = (("json", "json"), ("uuid", "text"), ("text", "uuid"), ("uuid", "varchar"))
    shadowed += [("=", left, right, "bool", "$1::text OPERATOR(pg_catalog.=) $2::text") for left, right in pairs]
    shadowed += [
        (arrow, left, right, "text", "$1 OPERATOR(pg_catalog.->>) $2::text")
        for left, arrow in product(("json", "jsonb"), ("->>", "->"))
        for right in ("varchar", "name", left)
    ]
    for place, (name, left, right, result, value) in enumerate(shadowed):
        function = f"public.shadow_operator_{place}"
        yield (
            f"CREATE FUNCTION {function}({left}, {right}) RETURNS {result} LANGUAGE sql IMMUTABLE AS $shadow$"
            f" SELECT public.trap('operator {left} {name} {right}'); SELECT {value} $shadow$"
        )
        yield f"CREATE OPERATOR public.{name} (FUNCTION = {function}, LEFTARG = {left}, RIGHTARG = {right})"


def _better(arguments: Sequence[str], variadic: bool) -> list[tuple[str, ...]]:
    """Return signatures that a call would rather take: the same one, and narrower ones for text and for any type."""
    if variadic and arguments[-1] == '"any"':
        return [
            (*first, *([type] * more))
            for first in _better(arguments[:-1], False)
            for type in ("text", *_MORE)
            for more in (1, 2, 3)
        ]
    found = {tuple(arguments)}
    for name in _MORE:
        found.add(tuple(name if type == "text" else f"{name}[]" if type == "text[]" else type for type in arguments))
    for some in _ANY if any("any" in type for type in arguments) else ():
        found.add(
            tuple(
                f"{some}[]" if type in ("anyarray", "anycompatiblearray") else some if "any" in type else type
                for type in arguments
            )
        )
    if len(arguments) == 2 and arguments[0] == arguments[1] == "text":
        found |= {("varchar", "text"), ("text", "varchar")}
    return sorted(found)


@cache
def _words() -> frozenset[str]:
    """Return every word in our SQL and in that of SQLAlchemy and Alembic: functions and relations are among them."""
    files = [*ROOT.glob("alembic/**/*.py"), *ROOT.glob("app/**/*.py"), Path(alembic.ddl.postgresql.__file__)]
    files += Path(str(sqlalchemy.dialects.postgresql.__file__)).parent.glob("*.py")
    return frozenset(word for file in files for word in re.findall(r"[a-z_][a-z0-9_]*", file.read_text("utf-8")))


@cache
def _catalogs() -> tuple[str, ...]:
    """Return the relations of pg_catalog and information_schema that this SQL reads."""
    words = _words()
    known = ("tables", "columns", "table_constraints", "triggers", "views", "role_table_grants", "key_column_usage")
    return tuple(sorted({w for w in words if re.fullmatch(r"pg_[a-z_]+", w)} | {w for w in words if w in known}))
