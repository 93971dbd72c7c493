"""What depends on the objects that a downgrade is about to drop: looked for before its first change, and named.

The server would refuse such a drop in the middle of the way, with some revisions undone. So the statements of all the
revisions are written first, as an offline script is, what they drop is read from them, and the catalog is asked who
depends on that. Nothing is changed and no lock is waited for.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError

from .catalog import Snapshot
from .engine.operations.registry import written_by
from .options import Options
from .project import PROJECT

_NAME = r'(?:"(?:[^"]|"")+"|\w+)(?:\.(?:"(?:[^"]|"")+"|\w+))?'
# What op.when() writes; the condition decides whether the statements within are run.
_WHEN = re.compile(
    r"\A\s*DO \$do(\d+)\$ BEGIN IF (.*?) THEN EXECUTE \$when\1\$\n(.*)\n\$when\1\$; END IF; END \$do\1\$\s*\Z",
    re.DOTALL,
)
_RELEASE = re.compile(r"chat_internal\.release\('((?:[^']|'')*)'\)")
_READERS = re.compile(rf"chat_internal\.drop_readers\('({_NAME})'")
_REPLACED = re.compile(rf"\bCREATE OR REPLACE VIEW ({_NAME})")
_DROP = re.compile(r"\bDROP (TABLE|VIEW|FUNCTION|INDEX|SEQUENCE) (?:CONCURRENTLY )?(?:IF EXISTS )?(.+)", re.DOTALL)
_DROP_FROM = re.compile(rf"\bDROP (TRIGGER|POLICY) (?:IF EXISTS )?({_NAME}) ON ({_NAME})")
_ALTER = re.compile(rf"\bALTER TABLE (?:IF EXISTS )?(?:ONLY )?({_NAME}) (.+)", re.DOTALL)
_PART = re.compile(rf"\bDROP (COLUMN|CONSTRAINT) (?:IF EXISTS )?({_NAME})")
_RENAME = re.compile(rf"\ARENAME TO ({_NAME})")

_DEPENDENTS = sa.text(
    """
    WITH RECURSIVE target AS (
      SELECT t.kind, t.name, nullif(t.holder, '') AS holder, t.place
      FROM ROWS FROM (unnest(CAST(:kinds AS text[])), unnest(CAST(:names AS text[])), unnest(CAST(:holders AS text[])))
        WITH ORDINALITY AS t (kind, name, holder, place)
    ), dropped (classid, objid, objsubid, place) AS (
      SELECT 'pg_class'::regclass::oid, to_regclass(t.name)::oid, 0, t.place FROM target AS t
      WHERE t.kind IN ('TABLE', 'VIEW', 'INDEX', 'SEQUENCE')
      UNION ALL
      SELECT 'pg_proc'::regclass, to_regprocedure(t.name), 0, t.place FROM target AS t WHERE t.kind = 'FUNCTION'
      UNION ALL
      SELECT 'pg_class'::regclass, a.attrelid, a.attnum, t.place FROM target AS t
      JOIN pg_attribute AS a ON a.attrelid = to_regclass(t.holder) AND quote_ident(a.attname) = t.name
      WHERE t.kind = 'COLUMN'
      UNION ALL
      SELECT 'pg_constraint'::regclass, k.oid, 0, t.place FROM target AS t
      JOIN pg_constraint AS k ON k.conrelid = to_regclass(t.holder) AND quote_ident(k.conname) = t.name
      WHERE t.kind = 'CONSTRAINT'
      UNION ALL
      SELECT 'pg_trigger'::regclass, g.oid, 0, t.place FROM target AS t
      JOIN pg_trigger AS g ON g.tgrelid = to_regclass(t.holder) AND quote_ident(g.tgname) = t.name
      WHERE t.kind = 'TRIGGER'
      UNION ALL
      SELECT 'pg_policy'::regclass, p.oid, 0, t.place FROM target AS t
      JOIN pg_policy AS p ON p.polrelid = to_regclass(t.holder) AND quote_ident(p.polname) = t.name
      WHERE t.kind = 'POLICY'
    ), gone (classid, objid, objsubid, place) AS (  -- what a drop takes along goes with it
      SELECT * FROM dropped WHERE objid IS NOT NULL
      UNION
      SELECT d.classid, d.objid, d.objsubid, g.place
      FROM gone AS g JOIN pg_depend AS d
        ON d.refclassid = g.classid AND d.refobjid = g.objid AND (g.objsubid = 0 OR d.refobjsubid = g.objsubid)
      WHERE d.deptype IN ('a', 'i', 'P', 'S')
    ), dependent AS (
      SELECT DISTINCT coalesce(w.refclassid, d.classid) AS classid, coalesce(w.refobjid, d.objid) AS objid,
        coalesce(w.refobjsubid, d.objsubid) AS objsubid,
        d.refclassid, d.refobjid, d.refobjsubid, g.place
      FROM gone AS g JOIN pg_depend AS d
        ON d.refclassid = g.classid AND d.refobjid = g.objid AND (g.objsubid = 0 OR d.refobjsubid = g.objsubid)
      LEFT JOIN LATERAL (  -- the rule of a view is a part of it, and what generates a column one of that column
        SELECT i.refclassid, i.refobjid, i.refobjsubid FROM pg_depend AS i
        WHERE i.classid = d.classid AND i.objid = d.objid AND i.deptype = 'i' LIMIT 1
      ) AS w ON true
      WHERE d.deptype = 'n'
    )
    SELECT DISTINCT concat(pg_describe_object(d.classid, d.objid, d.objsubid),
             ' of domain ' || nullif(k.contypid, 0)::regtype) AS dependent,
           pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid) AS referenced,
           c.relkind AS kind, c.relname AS name, n.nspname AS schema,
           coalesce(h.oid, c.oid)::regclass::text AS stands_on,
           coalesce(p.polname, g.tgname, k.conname, a.attname)::text AS part,
           h.oid::regclass::text AS holder,
           CASE WHEN d.refclassid = 'pg_class'::regclass THEN d.refobjid::regclass::text END AS relation
    FROM dependent AS d
    LEFT JOIN pg_class AS c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
    LEFT JOIN pg_proc AS r ON d.classid = 'pg_proc'::regclass AND r.oid = d.objid
    LEFT JOIN pg_policy AS p ON d.classid = 'pg_policy'::regclass AND p.oid = d.objid
    LEFT JOIN pg_trigger AS g ON d.classid = 'pg_trigger'::regclass AND g.oid = d.objid
    LEFT JOIN pg_constraint AS k ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
    LEFT JOIN pg_attrdef AS f ON d.classid = 'pg_attrdef'::regclass AND f.oid = d.objid
    LEFT JOIN pg_attribute AS a ON a.attrelid = f.adrelid AND a.attnum = f.adnum
    LEFT JOIN pg_class AS h ON h.oid = coalesce(p.polrelid, g.tgrelid, k.conrelid, f.adrelid)
    LEFT JOIN pg_namespace AS n ON n.oid = coalesce(c.relnamespace, r.pronamespace, h.relnamespace)
    WHERE NOT EXISTS (  -- it is gone by then
      SELECT FROM gone AS x WHERE x.classid = d.classid AND x.objid = d.objid AND x.objsubid IN (0, d.objsubid)
        AND x.place <= d.place)
    ORDER BY 1, 2
    """
)

Target = tuple[str, str, str]
"""The kind of an object, its name, and for a part of a table the table's name."""


def refuse_dependents(
    connection: sa.Connection, downgrades: Sequence[Any], options: Options, expected: Snapshot
) -> None:
    """Raise :class:`alembic.util.CommandError` that names all that :func:`find_dependents` finds."""
    if found := find_dependents(connection, downgrades, options, expected):
        raise CommandError(
            "The downgrade would drop what objects of your own depend on, so nothing was undone:\n- "
            + "\n- ".join(found)
            + "\nDrop them or let them depend on nothing of this schema, then run the command again."
        )


def find_dependents(
    connection: sa.Connection, downgrades: Sequence[Any], options: Options, expected: Snapshot
) -> list[str]:
    """Return a line for each object of the team's own that depends on what ``downgrades`` drop; change nothing.

    ``downgrades`` are functions of revisions, in their order; ``expected`` tells what is ours, which they know of.
    """
    targets: list[Target] = []
    set_aside: set[str] = set()
    released: set[str] = set()
    replaced: set[str] = set()
    renamed: dict[str, str] = {}
    for written in _statements(connection, downgrades, options):
        replaced.update(_REPLACED.findall(written))
        text = _without_bodies(written)
        set_aside.update(_READERS.findall(text))
        released.update(_RELEASE.findall(text))
        targets += _targets(text, renamed)
    kinds, names, holders = zip(*targets, strict=True) if targets else ((), (), ())
    parameters = {"kinds": list(kinds), "names": list(names), "holders": list(holders)}
    ours = _names(expected)
    # its functions are ours, and so is a table of ours that an unfinished revision has left there
    internal = {None, *ours, *(name.replace("public.", "chat_internal.", 1) for name in ours)}
    return [
        f"{row.dependent} depends on {row.referenced}"
        for row in connection.execute(_DEPENDENTS, parameters)
        if not (row.schema == "chat_internal" and row.stands_on in internal)
        and not (row.part in ours and row.holder in ours)
        and not (row.kind == "v" and row.relation in set_aside)  # made again by the revision that sets it aside
        and not (row.kind == "v" and f"{row.schema}.{row.name}" in replaced)  # and no longer reads it by then
        and not (row.kind == "v" and row.schema == "public" and row.name in released)  # given back as it was found
    ]


def _statements(connection: sa.Connection, downgrades: Iterable[Any], options: Options) -> Iterator[str]:
    """Yield the statements in the order in which they would be run, those of the journal among them."""
    opts = {
        "as_sql": True,
        "literal_binds": True,
        "output_buffer": io.StringIO(),
        "engine_options": options,
        "engine_project": PROJECT,
    }
    recorder = MigrationContext.configure(dialect=connection.dialect, opts=opts)
    with Operations.context(recorder) as operations:
        written = [text for downgrade in downgrades for text in written_by(operations, downgrade)]
    for text in written:
        chosen = _chosen(connection, text)
        if chosen is None:
            continue
        yield chosen
        for adopted in _RELEASE.findall(chosen):
            undo = "SELECT undo FROM chat_internal.adopted WHERE object = :object ORDER BY ordinal DESC"
            yield from connection.scalars(sa.text(undo), {"object": adopted.replace("''", "'")})


def _chosen(connection: sa.Connection, text: str) -> str | None:
    """Return what op.when() would run, None where its condition does not hold."""
    while (found := _WHEN.match(text)) is not None:
        if not connection.exec_driver_sql(f"SELECT {found[2]}").scalar():
            return None
        text = found[3]
    return text


def _without_bodies(text: str) -> str:
    text = re.sub(r"--[^\n]*", "", text)
    return re.sub(r"\$(\w*)\$.*?\$\1\$", "''", text, flags=re.DOTALL)


def _targets(text: str, renamed: dict[str, str]) -> Iterator[Target]:
    for statement in text.split(";"):
        if statement.rstrip().endswith("CASCADE"):
            continue
        if (drop := _DROP_FROM.search(statement)) is not None:
            yield drop[1], drop[2], _full(drop[3], renamed)
        elif (drop := _DROP.search(statement)) is not None:
            for name in re.split(r",\s*(?![^()]*\))", drop[2].strip()):
                yield drop[1], name if drop[1] == "VIEW" else _full(name, renamed), ""
        elif (altered := _ALTER.search(statement)) is not None:
            table = _full(altered[1], renamed)
            if (rename := _RENAME.match(altered[2])) is not None:
                renamed[f"{table.rpartition('.')[0]}.{rename[1]}"] = table
            for kind, name in _PART.findall(altered[2]):
                yield kind, name, table


def _full(name: str, renamed: dict[str, str]) -> str:
    """Return what the object is called now: a revision below may drop a table under its older name."""
    return renamed.get(name, name)


def _names(expected: Snapshot) -> set[str]:
    """Return what our tables, and what is on them, are called at head, and while conversations were chat_sessions."""
    names = {identity.partition(" on ")[0] for kind in expected.values() for identity in kind}
    return names | {name.replace("conversations", "chat_sessions") for name in names}
