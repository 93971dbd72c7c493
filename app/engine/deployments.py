"""The deployments of a project in one database, seen and steered from another session."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic.config import Config
from alembic.util import CommandError

from .control import FULL, PAUSE, THROTTLE, Control
from .databases import Database, visit
from .project import Project, VersionTable
from .server import described
from .session import read_as
from .status import Status, status

_PATIENCE = 3.0  # seconds for a deployment to answer; it reads what is wished four times a second
_MAY_STEER = sa.text(
    """
    SELECT pg_catalog.pg_has_role(c.relowner, 'USAGE') AS owns, pg_catalog.pg_get_userbyid(c.relowner) AS owner,
           current_user::text AS login
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = :schema AND c.relname = :name
    """
)


@dataclass(frozen=True)
class Deployments:
    """Those of the chain with this version table; ``words`` are what is typed in front of ``pause`` or ``resume``."""

    connection: sa.Connection
    versions: VersionTable
    project: Project
    words: str

    @property
    def database(self) -> str:
        """Which database it is."""
        return described(self.connection)

    def seen(self) -> Status:
        """Return what can be seen of them now."""
        space = self.versions.lock_space if self.project.lock_space is None else self.project.lock_space
        return status(self.connection, self.versions, space, self.words)

    def pause(self) -> str:
        """Pause the one that runs, and each that is started; return what it answers."""
        wish = self._control().write(self.connection, PAUSE, True)
        deadline = time.monotonic() + _PATIENCE
        while True:
            seen = self.seen()
            if seen.deployer is None:
                return f"Paused. No deployment runs; the next one will wait. `{self.words} resume` lets it go on."
            if seen.run is not None and seen.run["acknowledged"] == wish.token:
                return f"Paused. No batch runs, no lock is held. `{self.words} resume` goes on."
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        revision = seen.run["revision"] if seen.run is not None else None
        return (
            f"Asked. The deployment (pid {seen.deployer.pid}) is in the middle of "
            f"{f'revision {revision}' if revision else 'what it begins with'}, which cannot be left halfway: it pauses "
            f"after it, and `{self.words} status` shows when. `{self.words} resume` takes the pause back."
        )

    def resume(self) -> str:
        """Take a pause back, and return what to say."""
        wish = self._control().take_back(self.connection, PAUSE)
        return "Nothing was paused." if wish is None else f"Resumed; it was paused {wish}."

    def throttle(self, share: int) -> str:
        """Let backfills work ``share`` percent of the time, and return what to say."""
        control = self._control()
        if share < FULL:
            control.write(self.connection, THROTTLE, share)
            return f"Backfills work {share} % of the time, in this deployment and in the next ones."
        was = control.take_back(self.connection, THROTTLE)
        return "Nothing was throttled." if was is None else f"No longer throttled to {was.value} %."

    def _control(self) -> Control:
        """Return the table of wishes. Raises :class:`alembic.util.CommandError` where this login may not write it."""
        versions = self.versions
        may = self.connection.execute(_MAY_STEER, {"schema": versions.schema, "name": versions.name}).one_or_none()
        self.connection.rollback()
        if may is None:
            raise CommandError(
                f"Nothing was changed: no revision has been run in this database, which has no {versions.schema}."
                f"{versions.name}, so there is nothing to steer. `{self.project.command} upgrade head` begins."
            )
        if not may.owns:
            raise CommandError(
                f"Nothing was changed: the login {may.login!r} may not steer deployments here. Run the command as "
                f"{may.owner!r}, which owns {versions.schema}.{versions.name}, or as a member of it."
            )
        return Control.beside(self.connection, versions)


def told(all_of: Sequence[Deployments], head: str | None, *, as_json: bool, watch: bool) -> Iterator[str]:
    """Yield the status of each database as it is to be printed: once, or once a second without end."""
    while True:
        for place, each in enumerate(all_of):
            seen = each.seen()
            if as_json:
                document = {"version": 1, "database": each.database, "head": head, **seen.as_json()}
                yield json.dumps(document, indent=None if watch or len(all_of) > 1 else 1)
                continue
            which = [f"database    {each.database}"] if len(all_of) > 1 else []
            if watch and not sys.stdout.isatty():
                yield f"{datetime.now(UTC):%H:%M:%S}Z {'; '.join([*which, seen.line()])}"
                continue
            cleared = "\x1b[H\x1b[J" if watch and not place else ""
            yield cleared + "\n".join([*which, f"head        {head}", *seen.lines()])
        if not watch:
            return
        time.sleep(1)


@contextlib.contextmanager
def of_project(config: Config, words: str) -> Iterator[list[Deployments]]:
    """Yield the deployments of the project of ``config``, in each database that its env.py connects to.

    Raises :class:`alembic.util.CommandError` where nothing of a run there would obey.
    """
    found: list[tuple[sa.Engine, VersionTable, Project]] = []

    def look(at: Database) -> None:
        if not at.obeys:
            raise CommandError(
                "The env.py of this project runs its revisions by itself, so there is nothing to steer, and nothing "
                "was changed. A run can be steered where env.py calls run() of the engine."
            )
        found.append((at.connection.engine, at.versions, at.project))

    visit(config, look)
    with contextlib.ExitStack() as stack:
        deployments = []
        for engine, versions, project in found:
            connection = stack.enter_context(engine.connect())
            stack.enter_context(read_as(connection, project.search_path))
            deployments.append(Deployments(connection, versions, project, words))
        yield deployments
