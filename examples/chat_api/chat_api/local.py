"""The database of one's own machine: brought to head by chat-schema's own code, and a login that policies bind."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from chat_schema import database, embedded

LOGIN = "chat_api"


@contextlib.contextmanager
def running(data: Path | None) -> Iterator[sa.URL]:
    """Run the embedded server, migrate it, and yield the address for the service's login.

    ``data`` is the folder of its data; None: the one that `chat-schema` uses. Raises
    :class:`alembic.util.CommandError`.
    """
    with _server(data) as owner:
        yield prepare(owner)


def prepare(owner: sa.URL) -> sa.URL:
    """Migrate to head as the owner, make the login where missing, and return the address for it."""
    config = Config(database.project_folder() / "alembic.ini")
    config.attributes.update(url=owner.render_as_string(hide_password=False), configure_logging=False)
    command.upgrade(config, "head")
    with database.create_engine(owner).begin() as connection:
        if connection.scalar(sa.text("SELECT to_regrole(:login)"), {"login": LOGIN}) is None:
            # NOINHERIT: what it does outside acting_as() is refused, rather than done with the rights of service_role.
            connection.exec_driver_sql(f"CREATE ROLE {LOGIN} LOGIN NOINHERIT")
            connection.exec_driver_sql(f"GRANT authenticated, service_role TO {LOGIN}")
    return owner.set(username=LOGIN)


@contextlib.contextmanager
def _server(data: Path | None) -> Iterator[sa.URL]:
    if data is None:
        with database.database_url() as url:
            yield url
        return
    try:
        with embedded.running(data) as server:
            yield server.url()
    except embedded.EmbeddedServerError as error:
        raise CommandError(str(error)) from error
