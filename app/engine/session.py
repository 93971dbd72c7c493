"""What a run's session is told before it does anything: a search_path that nobody else writes to, short lock waits.

Where a project names its search_path, the login's and the database's own change nothing. With ``public`` on the path a
function or an operator that a stranger made there can be a better match than PostgreSQL's own (``lower(varchar)``,
``=(varchar, varchar)``), and would run as the login; in a database from before PostgreSQL 15 everybody may make one.
``pg_temp`` comes last, because a path that does not name it has it first.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from .options import Options
from .project import Project

SEARCH_PATH = "pg_catalog, pg_temp"
READING = {  # how our statements, and what the server says of its objects, are read
    "search_path": SEARCH_PATH,
    "quote_all_identifiers": "off",
    "standard_conforming_strings": "on",
}

_READ = sa.text(
    "SELECT n.key, pg_catalog.current_setting(n.key, true)"
    " FROM pg_catalog.jsonb_each_text(CAST(:settings AS pg_catalog.jsonb)) AS n"
)
_SET = sa.text(
    "SELECT pg_catalog.set_config(n.key, n.value, false)"
    " FROM pg_catalog.jsonb_each_text(CAST(:settings AS pg_catalog.jsonb)) AS n"
)


@contextlib.contextmanager
def session_settings(connection: sa.Connection, options: Options, project: Project) -> Iterator[None]:
    """Give our session the name and search_path of ``project``, a short lock timeout and no other one, while entered.

    The application's own name, which a given engine can have, would make it look like one of the application's
    sessions. Committed before ``context.configure()``: an open transaction there makes Alembic persist nothing.
    """
    timeouts = {
        "lock_timeout": f"{options.lock_timeout * 1000:.0f}ms",
        "statement_timeout": "0",
        "idle_in_transaction_session_timeout": "0",
        "idle_session_timeout": "0",
        "transaction_timeout": "0",  # since PostgreSQL 17
    }
    name = {"application_name": str(connection.engine.url.query.get("application_name", project.command))}
    with _settings(connection, {**reading(project.search_path), **timeouts, **name}):
        yield


def reading(search_path: str | None) -> dict[str, str]:
    """Return :data:`READING` with this search_path, or without one: then the login's stays."""
    return {name: value for name, value in {**READING, "search_path": search_path}.items() if value is not None}


@contextlib.contextmanager
def safe_search_path(connection: sa.Connection) -> Iterator[None]:
    """Give a session :data:`READING` alone, while entered."""
    with _settings(connection, READING):
        yield


@contextlib.contextmanager
def read_as(connection: sa.Connection, search_path: str | None) -> Iterator[None]:
    """Give a session that was handed over what :func:`keep_reading` gives one of ours, while entered."""
    with _settings(connection, reading(search_path)):
        yield


def keep_reading(connection: sa.Connection, search_path: str | None) -> None:
    """Give ``connection``, and every other one that its engine opens from now on, :func:`reading` for good.

    It may idle as long as it likes as well: Python reads the revisions meanwhile.

    Not before it is known that no pooler in transaction mode hands the session to other clients.
    """
    settings = {**reading(search_path), "idle_session_timeout": "0"}
    calls = (f"pg_catalog.set_config('{name}', '{value}', false)" for name, value in settings.items())
    statement = "SELECT " + ", ".join(calls)

    @event.listens_for(connection.engine, "connect")
    def set_path(driver: sa.engine.interfaces.DBAPIConnection, _: object) -> None:
        with contextlib.closing(driver.cursor()) as cursor:
            cursor.execute(statement)
        driver.commit()

    connection.exec_driver_sql(statement)
    connection.commit()


@contextlib.contextmanager
def _settings(connection: sa.Connection, wanted: Mapping[str, str]) -> Iterator[None]:
    known = connection.execute(_READ, {"settings": json.dumps(dict(wanted))}).all()
    before: dict[str, str] = {name: value for name, value in known if value is not None}
    _apply(connection, {name: wanted[name] for name in before})
    try:
        yield
    finally:
        if not connection.closed and not connection.invalidated:
            with contextlib.suppress(DBAPIError):
                connection.rollback()
                _apply(connection, before)


def _apply(connection: sa.Connection, settings: Mapping[str, str]) -> None:
    connection.execute(_SET, {"settings": json.dumps(dict(settings))})
    connection.commit()
