"""What revisions would do to the database they would run on, told before they are run.

A revision's locks are those that its docstring declares after ``Locks:`` (a project's tests can hold the two together),
else those of the statements that it would write. What takes long is read from its statements, the rows are those of the
server's statistics.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.migration import RevisionStep
from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError

from . import unfinished
from .databases import Database, visit
from .obstacles import BATCH, Lock, Obstacle, worth_knowing, would_stop
from .options import Options
from .project import Project, VersionTable
from .statements import MODES, named
from .written import Step, written

FASTEST, SLOWEST = 19e-6, 95e-6
"""Seconds a row that a backfill with its index and validation took: idle with two workers, and one beside clients.
`python -m benchmarks.backfill` measures both again; a test holds them against what it has written to the docs."""
MARGIN = 5
"""How many times slower than there a machine, or a step that does more to a row, may be, for the end of the range."""
ROW = 128
"""Bytes that count as one row at least: a row can be a session with an array of a thousand messages."""

_STRONG = MODES.index("ShareUpdateExclusive")

_NAME = r"(?:(\w+)\.)?(\w+)"
_LOCKS = re.compile(r"^Locks:(.*?)(?=^\w+:|\Z)", re.MULTILINE | re.DOTALL)
_MODES = re.compile(r"\b(" + "|".join(sorted(MODES, key=len, reverse=True)) + r")\b")
_LENGTHS = ("an instant", "while building", "for one scan", "for two scans", "one scan", "two scans", "a scan")


@dataclass(frozen=True)
class Work:
    """What takes long: ``does`` is backfills, builds an index or reads; ``rows`` is None where nobody knows."""

    does: str
    table: str
    name: str
    rows: int | None = None
    seconds: tuple[float, float] | None = None


@dataclass(frozen=True)
class Planned:
    """A revision that would be run, and what it would do here."""

    revision: str
    phase: str
    does: str
    locks: tuple[Lock, ...]
    work: tuple[Work, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON document's part."""
        return {
            "revision": self.revision,
            "phase": self.phase,
            "does": self.does,
            "locks": [{"table": each.table, "mode": each.mode, "lasts": each.lasts} for each in self.locks],
            "work": [
                {
                    "does": each.does,
                    "table": each.table,
                    "name": each.name,
                    "rows": each.rows,
                    "seconds": each.seconds and [round(second, 1) for second in each.seconds],
                }
                for each in self.work
            ],
        }


@dataclass
class Plan:
    """The revisions, what would stop them here, and what is worth knowing."""

    current: str
    target: str
    direction: str = "upgrade"
    revisions: list[Planned] = field(default_factory=list)
    would_stop: list[Obstacle] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_json(self, database: str | None) -> dict[str, Any]:
        """Return it as one JSON document."""
        return {
            "version": 1,  # of this format
            "database": database,
            "current": self.current,
            "target": self.target,
            "direction": self.direction,
            "revisions": [each.as_json() for each in self.revisions],
            "would_stop": [{"says": each.says, "mends": each.mends} for each in self.would_stop],
            "notes": self.notes,
            "clear": not self.would_stop,
        }


def revisions(script: ScriptDirectory, target: str, heads: tuple[str, ...]) -> tuple[str, list[Script]]:
    """Return the direction from ``heads`` to ``target``, and the revisions on the way, in their order."""
    name = "heads" if target == "head" and len(script.get_heads()) > 1 else target
    below = {each.revision for each in script.iterate_revisions(heads, "base")} - {*heads} if heads else set()
    goes_down = name == "base" or name.startswith("-")
    if not goes_down and not name.startswith("+"):
        goes_down = any(each is not None and each.revision in below for each in script.get_revisions(name))
    here = cast("str", heads)  # Alembic hands its own functions a tuple here as well
    steps = script._downgrade_revs(name, here) if goes_down else script._upgrade_revs(name, here)
    found = [step.revision for step in steps if isinstance(step, RevisionStep)]
    return ("downgrade" if goes_down else "upgrade"), found


def docstring(script: Script) -> str:
    """Return a revision's docstring, from the file: Python forgets it where PYTHONOPTIMIZE=2 is set."""
    return ast.get_docstring(ast.parse(Path(script.path).read_text("utf-8"))) or ""


def declared(text: str) -> list[Lock]:
    """Read the Locks: paragraph of a docstring: each mode speaks of the tables named until the next mode."""
    paragraph = _LOCKS.search(text)
    parts = _MODES.split(paragraph[1]) if paragraph else []
    found: dict[str, Lock] = {}
    for mode, said in zip(parts[1::2], parts[2::2], strict=True):
        lasts = _lasts(said) or _lasts(" ".join(parts[2:]))
        for schema, table in re.findall(r"\b(?!\d)([a-z_]\w*)\.([a-z_]\w*)", said):
            _keep(found, Lock(f"{schema}.{table}", mode, lasts))
    return list(found.values())


def _keep(found: dict[str, Lock], lock: Lock) -> None:
    before = found.get(lock.table)
    if before is None or MODES.index(lock.mode) > MODES.index(before.mode):
        found[lock.table] = lock


def _lasts(text: str) -> str:
    return next((length for length in _LENGTHS if length in " ".join(text.split())), "")


@dataclass(frozen=True)
class Hooks:
    """What a project's own operations mean for a plan."""

    adopts: Callable[[Step], str | None] = lambda step: None
    """Return the table that a step changes as a whole, if it stands."""
    holds: Callable[[Step], bool] = lambda step: True
    """Tell whether a conditional step would be run on this database."""
    refuses: Callable[[sa.Connection, Step], str | None] = lambda connection, step: None
    """Return why an operation of the project's own would refuse to run here."""
    reads_rows: bool = True
    """Whether rows may be read, and not the catalog alone."""


class Reader:
    """Reads revisions for one database; ``options`` are those of the run."""

    def __init__(self, connection: sa.Connection, options: Options, project: Project, hooks: Hooks) -> None:
        self.connection, self.options, self.project, self.hooks = connection, options, project, hooks
        self.unread: dict[str, str] = {}
        """The revisions that ask a database while they are written, with the name of the error."""
        self._read: dict[tuple[str, str, Options], list[Step]] = {}
        self._default = project.default_schema or str(connection.scalar(_SCHEMA))
        self._sizes: dict[str, tuple[int, int] | None] = {}
        self._now: dict[str, str] = {}

    def planned(self, script: Script, direction: str) -> Planned:
        """Return what ``script`` would do here."""
        text = docstring(script)
        steps = self.steps(script, direction)
        found: dict[str, Lock] = {}
        if direction == "upgrade" and _LOCKS.search(text):
            for lock in declared(text):
                if self.rows(lock.table) is not None:
                    _keep(found, replace(lock, table=self.called(lock.table)))
        else:
            found = self._taken(steps)
        work = [*self._work(steps)]
        for step in steps:
            if (table := self.hooks.adopts(step)) and (rows := self.rows(table)) is not None:
                table = self.called(table)
                _keep(found, Lock(table, "AccessExclusive", "an instant"))
                missing = Work("reads", table, "indexes and constraints that it lacks", rows)
                work += [missing] if rows and direction == "upgrade" and missing not in work else []
        for each in work:
            if each.does == "backfills":
                found.setdefault(each.table, Lock(each.table, BATCH, "until its commit"))
        self._follow(steps)
        first = text.partition("\n\n")[0]
        phase = Path(script.path).stem.partition("_")[2].partition("_")[0]
        return Planned(script.revision, phase, " ".join(first.split()), tuple(found.values()), tuple(work))

    def steps(self, script: Script, direction: str, options: Options | None = None) -> list[Step]:
        """Return what a revision would write, read once; nothing where it asks a database meanwhile."""
        options = options or self.options
        key = script.revision, direction, options
        if key not in self._read:
            try:
                function = getattr(script.module, direction)
                self._read[key] = written(function, options, engine_project=self.project)
            except Exception as error:  # whatever a revision of somebody else's raises
                self._read[key] = []
                self.unread[script.revision] = type(error).__name__
        return self._read[key]

    def count(self, query: str) -> int | None:
        """Return what ``query`` counts; None where what it asks for is not there yet, or not any more."""
        return count(self.connection, query)

    def rows(self, table: str) -> int | None:
        """Return how many rows the statistics give a table that stands; None where it does not."""
        size = self.size(table)
        return None if size is None else size[0]

    def size(self, table: str) -> tuple[int, int] | None:
        """Return rows and bytes of a table that stands."""
        table = self.called(table)
        if table not in self._sizes:
            schema, _, name = table.rpartition(".")
            row = self.connection.execute(_SIZE, {"schema": schema, "name": name.strip('"')}).first()
            self._sizes[table] = None if row is None else (row.rows, row.bytes)
        return self._sizes[table]

    def _seconds(self, table: str) -> tuple[float, float]:
        rows, size = self.size(table) or (0, 0)
        rows = max(rows, size // ROW)
        return rows * FASTEST, rows * SLOWEST * MARGIN

    def called(self, table: str) -> str:
        """Return what a table is called now that a revision before will have renamed."""
        table = self._full(table)
        return self._now.get(table, table)

    def _full(self, table: str) -> str:
        return table if "." in table else f"{self._default}.{table}"

    def _follow(self, steps: Iterable[Step]) -> None:
        """Remember what a later revision calls a table that stands."""
        for step in steps:
            for effect in step.effects:
                if effect.kind == "rename" and self.rows(effect.name) is None and self.rows(effect.table) is not None:
                    self._now[self._full(effect.name)] = self.called(effect.table)

    def _taken(self, steps: Iterable[Step]) -> dict[str, Lock]:
        found: dict[str, Lock] = {}
        for step in steps:
            for effect in step.effects:
                table = self._full(effect.table) if effect.table else ""
                if table and effect.lock and MODES.index(effect.lock) >= _STRONG and self.rows(table) is not None:
                    _keep(found, Lock(self.called(table), effect.lock, "for one scan" if effect.work else "an instant"))
        return found

    def _work(self, steps: Iterable[Step]) -> Iterator[Work]:
        told = set()
        for step in steps:
            if (call := step.by("backfill")) is not None:
                table, name = self.called(named(str(call.arguments["table"]))), str(call.arguments["name"])
                rows = self.rows(table)
                if name not in told and rows:
                    told.add(name)
                    yield Work("backfills", table, name, rows, self._seconds(table))
                continue
            for effect in step.effects:
                table = self.called(effect.table) if effect.table else ""
                rows = self.rows(table) if table else None
                if not rows or not effect.work:
                    continue
                if effect.kind == "create index":
                    yield Work("builds an index", table, effect.name, rows)
                elif effect.kind == "set not null" and step.by("set_not_null"):
                    continue  # by the proof of a validated CHECK
                elif effect.kind != "referenced":
                    yield Work("rewrites" if effect.work == "rewrites" else "reads", table, effect.name, rows)


_SCHEMA = sa.text("SELECT coalesce(pg_catalog.current_schema(), 'public')")
_SIZE = sa.text(
    """
    SELECT CASE
             WHEN c.relpages > 0 AND c.reltuples >= 0
               THEN (c.reltuples / c.relpages * (s.bytes / b.size))::pg_catalog.int8
             ELSE s.bytes / 128
           END AS rows, pg_catalog.pg_table_size(c.oid) AS bytes
    FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    CROSS JOIN LATERAL (SELECT pg_catalog.pg_relation_size(c.oid) AS bytes) AS s
    CROSS JOIN LATERAL (SELECT pg_catalog.current_setting('block_size')::pg_catalog.int8 AS size) AS b
    WHERE n.nspname = :schema AND c.relname = :name AND c.relkind IN ('r', 'p')
    """
)


def make(
    connection: sa.Connection,
    script: ScriptDirectory,
    target: str,
    heads: tuple[str, ...],
    options: Options,
    project: Project,
    versions: VersionTable,
    hooks: Hooks = Hooks(),
) -> Plan:
    """Return what leads from ``heads`` to ``target``, and what of the server would stop it; change nothing."""
    plan = Plan(", ".join(heads), target)
    plan.direction, pending = revisions(script, target, heads)
    if not pending:
        return plan
    last = pending[-1]
    below = last.down_revision if isinstance(last.down_revision, str) else ", ".join(last.down_revision or ())
    plan.target = last.revision if plan.direction == "upgrade" else below or "base"
    reader = Reader(connection, options, project, hooks)
    plan.revisions = [reader.planned(revision, plan.direction) for revision in pending]
    locks = [lock for revision in plan.revisions for lock in revision.locks]
    work = [work for revision in plan.revisions for work in revision.work]
    backfilled = {each.table for each in work if each.does == "backfills"}
    builds = any(each.does == "builds an index" for each in work)
    plan.would_stop += would_stop(connection, locks, backfilled, options, project, versions)
    if plan.direction == "upgrade":
        steps = [step for revision in pending for step in reader.steps(revision, "upgrade")]
        refused = (hooks.refuses(connection, step) for step in steps)
        plan.would_stop += [Obstacle(says) for says in dict.fromkeys(refused) if says]
    if plan.direction == "downgrade":
        _losses(plan, pending, reader)
    elif hooks.reads_rows:
        plan.would_stop += _next_counts(pending[0], reader)
        plan.would_stop += _twins(pending, backfilled, reader)
    plan.notes += [
        f"{revision} was not read ({error}): it asks a database while it is written."
        for revision, error in reader.unread.items()
    ]
    plan.notes += worth_knowing(connection, backfilled, builds, options)
    left = unfinished.noted_in(connection, versions.schema)
    if left is not None:
        ends = "goes on with it" if left.direction == plan.direction else "undoes it first"
        plan.notes.append(f"A run has left {left} unfinished: this {plan.direction} {ends}.")
    connection.rollback()
    return plan


def of_project(config: Config, target: str, hooks: Hooks = Hooks()) -> Plan:
    """Return the plan for the project of ``config``, on the database that its env.py connects to."""
    script = ScriptDirectory.from_config(config)
    plans: list[Plan] = []

    def planning(at: Database) -> None:
        plans.append(make(at.connection, script, target, at.heads, at.options, at.project, at.versions, hooks))

    visit(config, planning)
    if len(plans) != 1:
        raise CommandError(
            f"env.py has run the revisions of {len(plans)} databases, so there is no plan: it is made for one."
        )
    return plans[0]


def _next_counts(revision: Script, reader: Reader) -> Iterator[Obstacle]:
    """Count what the next revision would count at its end and stop at: the ones behind it come to other rows."""
    asked: set[str] = set()
    for step in reader.steps(revision, "upgrade"):
        call = step.by("verify")
        for what, query in (call.arguments["none_of"] if call else {}).items():
            if what not in asked and reader.hooks.holds(step):
                asked.add(what)
                if found := reader.count(query):
                    yield Obstacle(f"{revision.revision} would find {found:,} {what}.")


def _twins(pending: list[Script], backfilled: set[str], reader: Reader) -> Iterator[Obstacle]:
    """Look for rows that a unique index would refuse, in tables that no backfill changes before; reads each once."""
    for revision in pending:
        for step in reader.steps(revision, "upgrade"):
            call = step.by("create_index_online")
            if call is None or not call.arguments["unique"] or not step.statement.starts("CREATE"):
                continue
            table = reader.called(named(str(call.arguments["table"])))
            key, where = ", ".join(call.arguments["columns"]), call.arguments["where"]
            if table in backfilled or not reader.rows(table):
                continue
            twins = f"SELECT {key} FROM {table}{f' WHERE {where}' if where else ''} GROUP BY {key} HAVING count(*) > 1"
            if found := reader.count(f"SELECT count(*) FROM ({twins}) AS twins"):
                says = (
                    f"{table} has {found:,} values of ({key}) more than once, and {call.arguments['name']} is unique."
                )
                yield Obstacle(says, f"{twins};  -- finds them")


def _losses(plan: Plan, pending: list[Script], reader: Reader) -> None:
    """Count what each guard of the way back counts, where its condition holds."""
    asking = replace(reader.options, allow_data_loss=False)
    for revision in pending:
        asked: set[str] = set()
        for step in reader.steps(revision, "downgrade", asking):
            guard = step.by("refuse_data_loss")
            if guard is None or guard.arguments["what"] in asked or not reader.hooks.holds(step):
                continue
            asked.add(guard.arguments["what"])
            lost = reader.count(guard.arguments["count"])
            says = f"{revision.revision} would destroy {lost or 0:,} {guard.arguments['what']}, as they stand now."
            if lost and reader.options.allow_data_loss:
                plan.notes.append(says)
            elif lost:
                plan.would_stop.append(Obstacle(says, "-- to destroy them: -x allow-data-loss=yes"))


def count(connection: sa.Connection, query: str) -> int | None:
    """Return what ``query`` counts; None where what it asks for is not there yet, or not any more."""
    with connection.begin_nested() as aside:
        try:
            return int(connection.execution_options(no_parameters=True).exec_driver_sql(query).scalar() or 0)
        except sa.exc.ProgrammingError:
            aside.rollback()
            return None
