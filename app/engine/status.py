"""Where a database stands and what a deployment does there at the moment, seen from another session."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

import sqlalchemy as sa

from .blockers import Blocker, blockers_of
from .control import FULL, PAUSE, STATUS, THROTTLE, Control, Wish, share
from .deployer_lock import Deployer, deployers
from .project import VersionTable

# A concurrent build tells how far it is; another login's, only to members of pg_read_all_stats.
_BUILD = sa.text(
    """
    SELECT p.phase, p.index_relid::regclass::text AS name, p.blocks_done, p.blocks_total
    FROM pg_catalog.pg_stat_progress_create_index AS p WHERE p.pid = ANY (:pids)
    """
)
_SEES_SESSIONS = sa.text("SELECT pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')")
_READABLE = sa.text(
    """
    SELECT pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE')
             AND pg_catalog.has_column_privilege(c.oid, 'version_num', 'SELECT') AS revision,
           pg_catalog.pg_has_role(c.relowner, 'USAGE') AS progress
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = :schema AND c.relname = :name
    """
)


@dataclasses.dataclass(frozen=True)
class Status:
    """What was seen at one moment."""

    revisions: tuple[str, ...] | None
    """Where the database stands; None where this login may not read it."""
    deployer: Deployer | None
    """Who holds the deployer lock."""
    run: dict[str, Any] | None
    """What that deployment says of itself; None in its first half second, and where this login may not read it."""
    blockers: tuple[Blocker, ...]
    """The sessions that it waits for."""
    build: dict[str, Any] | None
    """The index that it builds."""
    pause: Wish | None
    throttle: Wish | None
    hidden: tuple[str, ...]
    """What this login cannot see, with what would show it."""

    @property
    def state(self) -> str:
        """One word for it: idle, running, waiting, pausing (asked to, and still at work) or paused."""
        if self.deployer is None:
            return "paused" if self.pause else "idle"
        if self.run is not None and self.run["state"] == "paused":
            return "paused"
        if self.pause is not None:
            return "pausing"
        return "waiting" if self.blockers or (self.run is not None and self.run["state"] == "waiting") else "running"

    def as_json(self) -> dict[str, Any]:
        """Return it for a program."""
        run = self.run or {}
        return {
            "state": self.state,
            "revisions": None if self.revisions is None else list(self.revisions),
            "deployment": None if self.deployer is None else dataclasses.asdict(self.deployer),
            **{name: run.get(name) for name in ("revision", "direction", "phase", "about", "step", "percent", "rows")},
            "rows_per_second": run.get("rate"),
            "seconds_left": run.get("seconds_left"),
            "waits_for": run.get("waits_for"),
            "blockers": [dataclasses.asdict(blocker) for blocker in self.blockers],
            "index": self.build,
            "paused": None if self.pause is None else _wish(self.pause),
            "throttle_percent": share({} if self.throttle is None else {THROTTLE: self.throttle}),
            "hidden": list(self.hidden),
        }

    def lines(self) -> list[str]:
        """Return it for a reader."""
        at = "hidden" if self.revisions is None else ", ".join(self.revisions) or "none"
        told = [f"revision    {at}"]
        if self.deployer is None:
            told.append("deployment  none is running")
        else:
            age = "" if self.deployer.age is None else f", for {_duration(self.deployer.age)}"
            told.append(f"deployment  {self.state}: pid {self.deployer.pid}, login {self.deployer.login}{age}")
        told += self._about_run()
        told += [f"blocked by  {blocker}" for blocker in self.blockers]
        if self.pause is not None:
            after = ", after what cannot be left halfway" if self.state == "pausing" else ""
            told.append(f"paused      {self.pause}{after}")
        if self.throttle is not None:
            told.append(f"throttled   to {self.throttle.value} % of the time, {self.throttle}")
        return told + [f"hidden      {what}" for what in self.hidden]

    def line(self) -> str:
        """Return it in one line, as a watcher's log has it."""
        return "; ".join(" ".join(line.split()) for line in self.lines())

    def _about_run(self) -> list[str]:
        told = []
        run = self.run
        if run is not None and run["revision"]:
            phase = f" ({run['phase']})" if run["phase"] else ""
            told.append(f"runs        {run['direction']} {run['revision']}{phase}: {run['about']}")
        if run is not None and run["step"]:
            told.append(f"step        {run['step']}: {run['percent']} %, {run['rows']:,} rows{self._pace(run)}")
        if self.build is not None:
            share_done = f", {self.build['percent']} %" if self.build["percent"] is not None else ""
            told.append(f"step        index {self.build['name']}: {self.build['phase']}{share_done}")
        if run is not None and run["waits_for"]:
            told.append(f"waits for   {run['waits_for']}")
        return told

    def _pace(self, run: dict[str, Any]) -> str:
        if self.state != "running" or run["seconds_left"] is None:
            return ""
        return f", {run['rate']:,.0f}/s, {_duration(run['seconds_left'])} left"


def status(connection: sa.Connection, versions: VersionTable, space: int, words: str) -> Status:
    """Return what ``connection`` can see of the chain of ``versions``, whose deployers lock in ``space``.

    ``words`` are what is typed in front of ``status``. Leaves no transaction open.
    """
    control = Control.beside(connection, versions)
    hidden = []
    may = connection.execute(_READABLE, {"schema": versions.schema, "name": versions.name}).one_or_none()
    revisions: tuple[str, ...] | None = ()
    wishes: dict[str, Wish] = {}
    if may is not None:
        table = sa.table(versions.name, sa.column("version_num"), schema=versions.schema)
        revisions = tuple(sorted(connection.scalars(sa.select(table.c.version_num)))) if may.revision else None
    connection.rollback()
    if revisions is None:
        hidden.append(f"the revision: that shows to who may read {versions.schema}.{versions.name}")
    if may is not None and not may.progress:
        hidden.append("how far a deployment is, and whether it is paused: that shows to the owner and its members")
    elif control.stands(connection):
        wishes = control.read(connection)
    deployer = next((each for each in deployers(connection, versions, space) if each.may_deploy), None)
    told = wishes.get(STATUS)
    run = told.value if told is not None and deployer is not None and told.value["pid"] == deployer.pid else None
    pids = run["pids"] if run is not None else [deployer.pid] if deployer is not None else []
    blockers = tuple(each for each in blockers_of(connection, pids) if each.pid not in pids)
    build = connection.execute(_BUILD, {"pids": pids}).mappings().first()
    if pids and not connection.scalar(_SEES_SESSIONS):
        hidden.append(f"what other logins do, which may block it: GRANT pg_monitor TO the login of `{words} status`")
    connection.rollback()
    throttle = wishes.get(THROTTLE)
    return Status(
        revisions,
        deployer,
        run,
        blockers,
        None if build is None else _build(dict(build)),
        wishes.get(PAUSE),
        throttle if throttle is not None and share(wishes) < FULL else None,
        tuple(hidden),
    )


def _build(row: dict[str, Any]) -> dict[str, Any]:
    total = row["blocks_total"]
    return {
        "name": row["name"],
        "phase": row["phase"],
        "percent": 100 * row["blocks_done"] // total if total else None,
    }


def _wish(wish: Wish) -> dict[str, str]:
    return {"since": wish.since.isoformat(), "login": wish.login}


def _duration(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(seconds)))
