"""How the tables are: size, dead rows, vacuums, bloat, how indexes are used, which are missing, who holds vacuum up.

Everything is read from the server's own statistics, for the tables of the chat schema and for keys of other tables that
point at them. Nothing is scanned, so it costs milliseconds whatever is stored. No superuser is needed: where a login
sees less than the owner of the tables with ``pg_monitor``, the report says what is hidden.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from alembic.util import CommandError

from .models import Base
from .project import INTERNAL_SCHEMA

LARGE = 10_000  # rows; a smaller table is read from end to end in no time
OFTEN = 20  # such scans of a large table
SHARE = 0.05  # of all its scans
_PATIENCE = "5s"  # for a table that is locked; its size cannot be read meanwhile

# Widths are those that ANALYZE has found. A heap row has a header of 24 bytes, or 32 where more than 8 columns may be
# NULL, and a pointer of 4; a page of 8 kB a header of 24. An index row has 8 and 4, and a page is filled to 90 %.
_TABLES = """
    WITH ours AS (
      SELECT c.oid, n.nspname, c.relname, c.reltuples, c.reltoastrelid
      FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
      WHERE c.relkind = 'r'
        AND (n.nspname = 'public' AND c.relname = ANY(:tables) OR n.nspname = :internal)
    ), sizes AS (
      SELECT o.*, pg_catalog.pg_relation_size(o.oid) AS heap, pg_catalog.pg_indexes_size(o.oid) AS indexes,
             pg_catalog.pg_total_relation_size(o.oid) AS total,
             pg_catalog.current_setting('block_size')::bigint AS page
      FROM ours AS o
    ), widths AS (
      SELECT o.oid, count(s.attname) AS known, count(*) AS columns,
             sum((1 - s.null_frac) * s.avg_width) AS bytes, bool_or(s.null_frac > 0) AS nulls
      FROM ours AS o JOIN pg_catalog.pg_attribute AS a ON a.attrelid = o.oid AND a.attnum > 0 AND NOT a.attisdropped
      LEFT JOIN pg_catalog.pg_stats AS s
        ON s.schemaname = o.nspname AND s.tablename = o.relname AND s.attname = a.attname AND NOT s.inherited
      GROUP BY o.oid
    )
    SELECT CASE s.nspname WHEN 'public' THEN s.relname ELSE s.nspname || '.' || s.relname END AS name,
           coalesce(t.n_live_tup, 0) AS rows, coalesce(t.n_dead_tup, 0) AS dead_rows,
           s.total, s.heap, s.indexes, s.total - s.heap - s.indexes AS toast,
           CASE
             WHEN s.heap = 0 OR s.reltuples = 0 THEN s.heap
             WHEN w.known = w.columns AND s.reltuples >= 0 THEN greatest(0, s.heap - s.page * ceil(s.reltuples * (
               ceil((w.bytes + CASE WHEN w.nulls AND w.columns > 8 THEN 32 ELSE 24 END) / 8) * 8 + 4
             ) / (s.page - 24)))::bigint
           END AS bloat,
           coalesce(t.seq_scan, 0) AS sequential_scans, coalesce(t.idx_scan, 0) AS index_scans,
           greatest(t.last_vacuum, t.last_autovacuum) AS vacuumed,
           greatest(t.last_analyze, t.last_autoanalyze) AS analyzed
    FROM sizes AS s JOIN widths AS w USING (oid) LEFT JOIN pg_catalog.pg_stat_all_tables AS t ON t.relid = s.oid
    WHERE s.nspname = 'public' OR s.heap > 0
    ORDER BY s.total DESC, name
"""
_INDEXES = """
    SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) AS name,
           pg_catalog.format('%I.%I', n.nspname, t.relname) AS table,
           pg_catalog.pg_relation_size(i.indexrelid) AS size, coalesce(s.idx_scan, 0) AS scans,
           i.indisunique OR EXISTS (
             SELECT FROM pg_catalog.pg_constraint AS k WHERE k.conindid = i.indexrelid
           ) AS holds, i.indisvalid AND i.indisready AS valid,
           CASE WHEN m.amname = 'btree' AND i.indpred IS NULL AND w.known = i.indnatts AND c.reltuples >= 0 THEN
             greatest(0, pg_catalog.pg_relation_size(i.indexrelid) - p.page * (1 + ceil(c.reltuples * (
               ceil((w.bytes + 8) / 8) * 8 + 4) / ((p.page - 40) * 0.9))))::bigint
           END AS bloat, pg_catalog.pg_get_indexdef(i.indexrelid) AS definition,
           c.relname AS bare, n.nspname AS schema
    FROM pg_catalog.pg_index AS i
    JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
    JOIN pg_catalog.pg_am AS m ON m.oid = c.relam
    JOIN pg_catalog.pg_class AS t ON t.oid = i.indrelid
    JOIN pg_catalog.pg_namespace AS n ON n.oid = t.relnamespace
    CROSS JOIN (SELECT pg_catalog.current_setting('block_size')::bigint AS page) AS p
    LEFT JOIN pg_catalog.pg_stat_all_indexes AS s ON s.indexrelid = i.indexrelid
    CROSS JOIN LATERAL (
      SELECT count(w.attname) AS known, sum((1 - w.null_frac) * w.avg_width) AS bytes
      FROM pg_catalog.pg_attribute AS a
      JOIN pg_catalog.pg_stats AS w ON w.schemaname = n.nspname AND w.tablename = t.relname
        AND w.attname = a.attname AND NOT w.inherited
      WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
    ) AS w
    WHERE t.relkind = 'r'
      AND (n.nspname = 'public' AND t.relname = ANY(:tables) OR n.nspname = :internal)
    ORDER BY pg_catalog.pg_relation_size(i.indexrelid) DESC, 1
"""
# Of our tables, and of those of others that point at ours: a row that is deleted here is looked for there. An index
# serves where it begins with the columns, in whatever order, and has every row in which they are not NULL.
_KEYS_WITHOUT_INDEX = """
    SELECT k.conname::text AS name, pg_catalog.format('%I.%I', s.nspname, f.relname) AS table, (
             SELECT pg_catalog.array_agg(pg_catalog.quote_ident(a.attname) ORDER BY x.place)
             FROM pg_catalog.unnest(k.conkey) WITH ORDINALITY AS x (attnum, place)
             JOIN pg_catalog.pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = x.attnum
           ) AS columns
    FROM pg_catalog.pg_constraint AS k
    JOIN pg_catalog.pg_class AS f ON f.oid = k.conrelid
    JOIN pg_catalog.pg_namespace AS s ON s.oid = f.relnamespace
    WHERE k.contype = 'f' AND k.conparentid = 0
      AND EXISTS (
        SELECT FROM pg_catalog.pg_class AS t JOIN pg_catalog.pg_namespace AS n ON n.oid = t.relnamespace
        WHERE t.oid IN (k.conrelid, k.confrelid)
          AND (n.nspname = 'public' AND t.relname = ANY(:tables) OR n.nspname = :internal)
      )
      AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_index AS i
        WHERE i.indrelid = k.conrelid AND i.indisvalid
          AND (i.indkey::smallint[])[0:pg_catalog.cardinality(k.conkey) - 1] @> k.conkey
          AND (i.indpred IS NULL OR EXISTS (
            SELECT FROM pg_catalog.pg_attribute AS a
            WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)
              AND pg_catalog.pg_get_expr(i.indpred, i.indrelid)
                = pg_catalog.format('(%I IS NOT NULL)', a.attname)
          ))
      )
    ORDER BY 2, 1
"""
# A snapshot of any database holds up vacuum of none but its own; a prepared transaction and a slot likewise, but for
# the catalog.
_HOLDERS = """
    SELECT pg_catalog.format('pid %s, login %s, %s', a.pid, a.usename, coalesce(a.state, 'of the server')) AS what,
           pg_catalog.clock_timestamp() - a.xact_start AS age
    FROM pg_catalog.pg_stat_activity AS a
    WHERE a.datname = pg_catalog.current_database() AND a.pid <> pg_catalog.pg_backend_pid()
      AND a.xact_start IS NOT NULL AND a.backend_type <> 'autovacuum worker'
    UNION ALL
    SELECT pg_catalog.format('prepared transaction %L of %s', p.gid, p.owner),
           pg_catalog.clock_timestamp() - p.prepared
    FROM pg_catalog.pg_prepared_xacts AS p WHERE p.database = pg_catalog.current_database()
    ORDER BY age DESC
"""
_SLOTS = """
    SELECT s.slot_name::text AS name, greatest(pg_catalog.age(s.xmin), pg_catalog.age(s.catalog_xmin)) AS transactions
    FROM pg_catalog.pg_replication_slots AS s
    WHERE NOT s.active AND (s.xmin IS NOT NULL OR s.catalog_xmin IS NOT NULL)
    ORDER BY 2 DESC
"""
_REST = """
    SELECT pg_catalog.now() AS at, current_user::text AS login,
           pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE') AS sees_sessions,
           (SELECT d.stats_reset FROM pg_catalog.pg_stat_database AS d
            WHERE d.datname = pg_catalog.current_database()) AS since
"""


@dataclasses.dataclass(frozen=True)
class Table:
    """One table: sizes in bytes, ``bloat`` what its heap has beyond what its rows need, None where that is hidden."""

    name: str
    rows: int
    dead_rows: int
    total: int
    heap: int
    indexes: int
    toast: int
    bloat: int | None
    sequential_scans: int
    index_scans: int
    vacuumed: datetime | None
    analyzed: datetime | None

    @property
    def misses_an_index(self) -> bool:
        """Whether it is large and was often read from end to end."""
        scans = self.sequential_scans + self.index_scans
        return self.rows >= LARGE and self.sequential_scans >= max(OFTEN, SHARE * scans)


@dataclasses.dataclass(frozen=True)
class Index:
    """One index. ``holds``: it makes rows unique or serves a constraint, so that it is of use without a scan."""

    name: str
    table: str
    size: int
    scans: int
    holds: bool
    valid: bool
    bloat: int | None
    definition: str
    ours: bool

    @property
    def unused(self) -> bool:
        """Whether nothing has read it since statistics began, and nothing else needs it."""
        return self.valid and not self.scans and not self.holds


@dataclasses.dataclass(frozen=True)
class Key:
    """A foreign key that no index serves."""

    name: str
    table: str
    columns: tuple[str, ...]

    @property
    def mends(self) -> str:
        """The statement that gives it one."""
        return f"CREATE INDEX CONCURRENTLY ON {self.table} ({', '.join(self.columns)});"


@dataclasses.dataclass(frozen=True)
class Holder:
    """A transaction that is open: vacuum keeps every row that was deleted since it began."""

    what: str
    age: timedelta


@dataclasses.dataclass(frozen=True)
class Stats:
    """The report; ``since`` is when the server began to count, None for since the database was made or a crash."""

    at: datetime
    since: datetime | None
    tables: tuple[Table, ...]
    indexes: tuple[Index, ...]
    keys_without_index: tuple[Key, ...]
    holders: tuple[Holder, ...]
    slots: Mapping[str, int]
    hidden: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it as what JSON can hold: times in ISO 8601, ages in seconds."""
        return {
            "at": self.at.isoformat(),
            "statistics_since": self.since and self.since.isoformat(),
            "tables": [
                {
                    **dataclasses.asdict(each),
                    "vacuumed": each.vacuumed and each.vacuumed.isoformat(),
                    "analyzed": each.analyzed and each.analyzed.isoformat(),
                    "misses_an_index": each.misses_an_index,
                }
                for each in self.tables
            ],
            "indexes": [{**dataclasses.asdict(each), "unused": each.unused} for each in self.indexes],
            "keys_without_index": [
                {**dataclasses.asdict(each), "mends": each.mends} for each in self.keys_without_index
            ],
            "transactions": [{"what": each.what, "seconds": each.age.total_seconds()} for each in self.holders],
            "inactive_slots": dict(self.slots),
            "hidden": list(self.hidden),
        }

    def lines(self) -> Iterator[str]:
        """Yield it as lines for a terminal."""
        yield from _table(
            ["table", "rows", "dead", "size", "indexes", "bloat", "seq scans", "index scans", "vacuumed", "analyzed"],
            [
                [
                    each.name,
                    f"{each.rows:,}",
                    f"{each.dead_rows:,}",
                    _size(each.total),
                    _size(each.indexes),
                    "?" if each.bloat is None else _size(each.bloat),
                    f"{each.sequential_scans:,}",
                    f"{each.index_scans:,}",
                    self._ago(each.vacuumed),
                    self._ago(each.analyzed),
                ]
                for each in self.tables
            ],
        )
        began = f"{self.since:%Y-%m-%d %H:%M}" if self.since else "the database was made, or its server crashed"
        yield f"Scans are counted since {began}."
        yield ""
        yield from _section("Oldest transactions", [f"{_age(each.age)}  {each.what}" for each in self.holders[:3]])
        yield from _section(
            "Replication slots that nobody reads and that hold rows back",
            [f"{name}, since {transactions:,} transactions" for name, transactions in self.slots.items()],
        )
        yield from _section("Invalid indexes", [_invalid(each) for each in self.indexes if not each.valid])
        yield from _section(
            "Missing indexes",
            [
                *(f"{key.name} of {_short(key.table)}: a foreign key\n{key.mends}" for key in self.keys_without_index),
                *(
                    f"{each.name}: read from end to end {each.sequential_scans:,} times, by index"
                    f" {each.index_scans:,} times; pg_stat_statements knows the queries"
                    for each in self.tables
                    if each.misses_an_index
                ),
            ],
        )
        yield from _section("Unused indexes", [_unused(each) for each in self.indexes if each.unused])
        bloated = [each for each in self.indexes if each.bloat and each.bloat > 2**20 and each.bloat * 2 > each.size]
        yield from _section(
            "Indexes of more than twice the size that they need",
            [
                f"{_short(each.name)} on {_short(each.table)}, {_size(each.size)}\n"
                f"REINDEX INDEX CONCURRENTLY {each.name};"
                for each in bloated
            ],
        )
        yield from (f"hidden: {what}" for what in self.hidden)

    def _ago(self, then: datetime | None) -> str:
        return "never" if then is None else f"{_age(self.at - then)} ago"


def stats(connection: sa.Connection) -> Stats:
    """Read how the tables of this database are.

    Raises :class:`alembic.util.CommandError` where none of them is there, or one stays locked.
    """
    connection.rollback()
    ours = {"tables": [table.name for table in Base.metadata.sorted_tables], "internal": INTERNAL_SCHEMA}
    try:
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_PATIENCE}'")
        rest = connection.execute(sa.text(_REST)).one()
        tables = [Table(**row._asdict()) for row in connection.execute(sa.text(_TABLES), ours)]
        indexes = tuple(_index(row._asdict()) for row in connection.execute(sa.text(_INDEXES), ours))
        keys = [
            Key(row.name, row.table, tuple(row.columns))
            for row in connection.execute(sa.text(_KEYS_WITHOUT_INDEX), ours)
        ]
        holders = [Holder(row.what, row.age) for row in connection.execute(sa.text(_HOLDERS)) if row.age]
        slots = {row.name: row.transactions for row in connection.execute(sa.text(_SLOTS))}
    except sa.exc.OperationalError as error:
        if getattr(error.orig, "sqlstate", None) != "55P03":
            raise
        raise CommandError(
            f"A table is locked, so its size could not be read within {_PATIENCE}. `chat-schema status` shows whether "
            "a deployment is at work; run the command again."
        ) from None
    finally:
        connection.rollback()
    if not any("." not in each.name for each in tables):
        raise CommandError("This database has no table of the chat schema yet: run `chat-schema upgrade head` first.")
    hidden = []
    if any(each.bloat is None for each in tables):
        hidden.append(
            "bloat (?): it shows to the owner of the tables and who may read them, once ANALYZE has looked at them"
        )
    if not rest.sees_sessions:
        hidden.append(f"transactions of other logins: GRANT pg_read_all_stats TO {rest.login}")
    return Stats(rest.at, rest.since, tuple(tables), indexes, tuple(keys), tuple(holders), slots, tuple(hidden))


def _index(row: Mapping[str, Any]) -> Index:
    names = {index.name for table in Base.metadata.sorted_tables for index in table.indexes}
    values = {field.name: row[field.name] for field in dataclasses.fields(Index) if field.name != "ours"}
    return Index(**values, ours=row["schema"] == INTERNAL_SCHEMA or row["bare"] in names)


def _invalid(index: Index) -> str:
    mends = (
        "`chat-schema verify` says how it is mended"
        if index.ours
        else f"DROP INDEX CONCURRENTLY {index.name};  -- its build was broken off: writes pay for it, no query uses it"
    )
    return f"{_short(index.name)} on {_short(index.table)}, {_size(index.size)}\n{mends}"


def _unused(index: Index) -> str:
    what = f"{_short(index.name)} on {_short(index.table)}, {_size(index.size)}"
    if index.ours:
        return f"{what}; the chat schema's own: `chat-schema verify` expects it"
    return f"{what}\nDROP INDEX CONCURRENTLY {index.name};  -- if replicas do not read it either: {index.definition}"


def _short(name: str) -> str:
    return name.removeprefix("public.")


def _section(title: str, found: Sequence[str]) -> Iterator[str]:
    yield f"{title}:" if found else f"{title}: none."
    for each in found:
        first, *rest = each.splitlines()
        yield f"  {first}"
        yield from (f"    {line}" for line in rest)


def _table(head: list[str], rows: list[list[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in [head, *rows]:
        name, *figures = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join([name.strip().ljust(widths[0]), *figures])


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TB"


def _age(age: timedelta) -> str:
    seconds = int(age.total_seconds())
    if seconds < 3600:
        return f"{seconds // 60}:{seconds % 60:02}"
    return f"{seconds // 3600} h" if seconds < 48 * 3600 else f"{seconds // 86400} d"
