"""What ``chat-schema status``, ``pause``, ``resume`` and ``throttle`` do to the deployment of a database."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic.util import CommandError

from .engine.control import FULL, PAUSE, THROTTLE, Control, percent
from .engine.status import Status, status
from .project import PROJECT, VERSIONS

__all__ = ["pause", "percent", "resume", "throttle", "told"]

_PATIENCE = 3.0  # seconds for a deployment to answer; it reads what is wished four times a second
_MAY_STEER = sa.text(
    """
    SELECT pg_catalog.pg_has_role(c.relowner, 'USAGE') AS owns, pg_catalog.pg_get_userbyid(c.relowner) AS owner,
           current_user::text AS login
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = :schema AND c.relname = :name
    """
)


def told(connection: sa.Connection, head: str | None, *, as_json: bool, watch: bool) -> Iterator[str]:
    """Yield the status as it is to be printed: once, or once a second without end."""
    while True:
        seen = _seen(connection)
        if as_json:
            yield json.dumps({"version": 1, "head": head, **seen.as_json()}, indent=None if watch else 1)
        elif watch and not sys.stdout.isatty():
            yield f"{datetime.now(UTC):%H:%M:%S}Z {seen.line()}"
        else:
            cleared = "\x1b[H\x1b[J" if watch else ""
            yield cleared + "\n".join([f"head        {head}", *seen.lines()])
        if not watch:
            return
        time.sleep(1)


def pause(connection: sa.Connection) -> str:
    """Pause, and return what the deployment answers."""
    wish = _control(connection).write(connection, PAUSE, True)
    deadline = time.monotonic() + _PATIENCE
    while True:
        seen = _seen(connection)
        if seen.deployer is None:
            return "Paused. No deployment runs; the next one will wait. `chat-schema resume` lets it go on."
        if seen.run is not None and seen.run["acknowledged"] == wish.token:
            return "Paused. No batch runs, no lock is held. `chat-schema resume` goes on."
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    revision = seen.run["revision"] if seen.run is not None else None
    return (
        f"Asked. The deployment (pid {seen.deployer.pid}) is in the middle of "
        f"{f'revision {revision}' if revision else 'what it begins with'}, which cannot be left halfway: it pauses "
        "after it, and `chat-schema status` shows when. `chat-schema resume` takes the pause back."
    )


def resume(connection: sa.Connection) -> str:
    """Take a pause back, and return what to say."""
    wish = _control(connection).take_back(connection, PAUSE)
    return "Nothing was paused." if wish is None else f"Resumed; it was paused {wish}."


def throttle(connection: sa.Connection, share: int) -> str:
    """Let backfills work ``share`` percent of the time, and return what to say."""
    control = _control(connection)
    if share < FULL:
        control.write(connection, THROTTLE, share)
        return f"Backfills work {share} % of the time, in this deployment and in the next ones."
    was = control.take_back(connection, THROTTLE)
    return "Nothing was throttled." if was is None else f"No longer throttled to {was.value} %."


def _seen(connection: sa.Connection) -> Status:
    space = VERSIONS.lock_space if PROJECT.lock_space is None else PROJECT.lock_space
    return status(connection, VERSIONS, space, PROJECT.command)


def _control(connection: sa.Connection) -> Control:
    """Return the table of wishes. Raises :class:`alembic.util.CommandError` where this login may not write it."""
    may = connection.execute(_MAY_STEER, {"schema": VERSIONS.schema, "name": VERSIONS.name}).one_or_none()
    connection.rollback()
    if may is None:
        raise CommandError(
            "Nothing was changed: no revision of chat-schema has been run in this database, so there is nothing to "
            "steer. `chat-schema upgrade head` begins."
        )
    if not may.owns:
        raise CommandError(
            f"Nothing was changed: the login {may.login!r} may not steer deployments here. Run the command as "
            f"{may.owner!r}, which owns the schema, or as a member of it."
        )
    return Control.beside(connection, VERSIONS)
