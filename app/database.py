"""Which database a command works on, and whether it may: address, version, pooler, rights, before anything changes."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import unquote_plus

import sqlalchemy as sa
from alembic.util import CommandError
from psycopg.pq import Conninfo
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from . import embedded
from .engine import server
from .engine.server import InterruptedRunError as InterruptedRunError
from .engine.server import described as described
from .engine.server import first_line as first_line
from .engine.server import shown as shown
from .project import INTERNAL_SCHEMA, PROJECT

_PACKAGE = Path(__file__).resolve().parent


_ADDRESS = re.compile(r"(\w[\w+]*://(?>(?:[^:/@]*(?::[^@]*)?@)?))([^/?]*)(.*)", re.DOTALL)
"""What stands before the hosts of an address, the hosts, and the rest; the login as SQLAlchemy reads it."""


def project_folder() -> Path:
    """Return the folder with ``alembic.ini`` and the revisions: the checkout, or the copy inside an installed wheel."""
    checkout = _PACKAGE.parent
    return checkout if (checkout / "alembic.ini").is_file() else _PACKAGE / "chain"


def embedded_data_dir() -> Path:
    """Return where the embedded server keeps the data of this project: the checkout, or the current folder.

    Raises :class:`alembic.util.CommandError` where there is no such server, or no folder that could be a project's.
    """
    root = project_folder()
    if root == _PACKAGE / "chain":
        try:
            root = Path.cwd()
        except FileNotFoundError:
            root = Path("/")
        if root == Path("/"):
            raise CommandError(
                "DATABASE_URL is unset, and the current folder is / or was deleted, so nothing was run: the embedded "
                "server keeps its data in the folder of a project. Go to one (cd ...), or set DATABASE_URL."
            )
    try:
        return embedded.default_data_dir(root)
    except embedded.EmbeddedServerError as error:
        raise CommandError(str(error)) from error


@contextlib.contextmanager
def database_url(given: str | None = None) -> Iterator[sa.URL]:
    """Yield the address to work on: ``given``, else ``DATABASE_URL``, else that of the embedded server while it runs.

    Its data lies in ``.pgdata`` of the checkout, or of the current folder where the package is installed as a wheel.
    Raises :class:`alembic.util.CommandError` for an address that is none of PostgreSQL's.
    """
    text = os.environ.get("DATABASE_URL") if given is None else given
    if text is not None:
        if not text.strip():
            raise CommandError(
                "DATABASE_URL is set and empty, so nothing was run: was it taken from a variable that is not set? Set "
                "it to an address, or unset it to use the embedded server."
            )
        yield parse_url(text)
        return
    try:
        with embedded.running(embedded_data_dir()) as server:
            yield server.url()
    except embedded.EmbeddedServerError as error:
        raise CommandError(str(error)) from error


def parse_url(text: str) -> sa.URL:
    """Read ``postgresql://`` or ``postgresql+psycopg://`` into the form our engine takes.

    Raises :class:`alembic.util.CommandError`, without the password, for anything else.
    """
    expected = "Expected postgresql://USER:PASSWORD@HOST:5432/DATABASE; unset DATABASE_URL to use the embedded server."
    # An @ inside a password is meant as one by whoever wrote it: the last one ends it.
    written = re.sub("(?<=://)[^/?]*(?=@)", lambda login: login[0].replace("@", "%40"), text, count=1)
    parts = _ADDRESS.fullmatch(written)
    try:
        url = _with_every_host(*parts.groups()) if parts else make_url(written)
    except (ArgumentError, ValueError):
        raise CommandError(f"DATABASE_URL is not an address, so nothing was run. {expected}") from None
    if url.drivername not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise CommandError(f"DATABASE_URL speaks of {url.drivername!r}, so nothing was run. {expected}")
    if parts and _has_rest_of_password(parts[2], parts[3]):
        raise CommandError(
            "DATABASE_URL is not an address, so nothing was run: in a password that has an @ beside a / or ?, write "
            f"them as %40, %2F and %3F. {expected}"
        )
    return url.set(drivername="postgresql+psycopg")


def _with_every_host(start: str, hosts: str, rest: str) -> sa.URL:
    """Read an address in which several hosts may stand, as libpq has them; SQLAlchemy wants them as parameters."""
    if "," not in hosts:
        return make_url(start + hosts + rest)
    names, ports = [], []
    for each in hosts.split(","):
        found = re.fullmatch(r"\[([^]]*)\](?::(\d+))?|([^]:[]*)(?::(\d+))?", each)
        if found is None:
            raise ValueError(each)
        names.append(found[1] or found[3] or "")
        ports.append(found[2] or found[4] or "5432")
    return make_url(start + rest).update_query_dict({"host": ",".join(names), "port": ",".join(ports)})


def _has_rest_of_password(hosts: str, rest: str) -> bool:
    """Tell whether a part of a password stands where host, database or parameters should; it must not be printed."""
    path, _, query = rest.partition("?")
    known = {option.keyword.decode() for option in Conninfo.get_defaults()}
    unknown = [
        each for each in query.split("&") if "=" not in each or unquote_plus(each.partition("=")[0]) not in known
    ]
    return any("@" in part for part in (hosts, path, *unknown))


def create_engine(url: sa.URL) -> sa.Engine:
    """Return an engine for ``url`` that keeps no connection of its own."""
    return server.create_engine(url, PROJECT)


def connect(url: sa.URL) -> AbstractContextManager[sa.Connection]:
    """Connect to a server that is fit for migrations, or say why not; see :func:`app.engine.server.connect`."""
    return server.connect(url, PROJECT)


def opened(url: sa.URL) -> sa.Connection:
    """Return a connection that nothing is known of yet; :class:`alembic.util.CommandError` for no address at all."""
    return server.opened(url, PROJECT)


def explained_errors() -> AbstractContextManager[None]:
    """Turn an error of the database, Ctrl-C and SIGTERM into one message; notes on it say what stands now."""
    return server.explained_errors(PROJECT)


def require_rights(connection: sa.Connection) -> None:
    """Raise :class:`alembic.util.CommandError`, with the statement to grant it, when the login may not migrate here."""
    row = connection.execute(
        sa.text(
            "SELECT current_user AS login, current_database() AS database,"
            " has_schema_privilege('public', 'CREATE') AS may_create_tables,"
            " to_regnamespace(:schema) IS NOT NULL"
            "   OR has_database_privilege(current_database(), 'CREATE') AS may_create_schema,"
            " (SELECT pg_get_userbyid(n.nspowner) FROM pg_namespace AS n"
            "  WHERE n.nspname = :schema AND NOT pg_has_role(n.nspowner, 'USAGE')) AS other_owner"
        ),
        {"schema": INTERNAL_SCHEMA},
    ).one()
    if row.other_owner:
        raise CommandError(
            f"The login {row.login!r} does not own the schema {INTERNAL_SCHEMA} of the database {row.database!r}, "
            f"{row.other_owner!r} does, so nothing was run. Run the command as that role; the login of a service needs "
            "no right of it."
        )
    quote = connection.dialect.identifier_preparer.quote_identifier
    missing = []
    if not row.may_create_schema:
        missing.append(f"GRANT CREATE ON DATABASE {quote(row.database)} TO {quote(row.login)};")
    if not row.may_create_tables:
        missing.append(f"GRANT CREATE ON SCHEMA public TO {quote(row.login)};")
    if missing:
        raise CommandError(
            f"The login {row.login!r} may not create objects in the database {row.database!r}, so nothing was run. "
            "Run the command as its owner; or, if this login is to own the tables, have that one run:\n  "
            + "\n  ".join(missing)
        )
