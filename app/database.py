"""Which database a command works on, and whether it may: address, version, pooler, rights, before anything changes."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from urllib.parse import quote_plus, unquote_plus

import sqlalchemy as sa
from alembic.util import CommandError
from psycopg.pq import Conninfo
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, PendingRollbackError

from . import embedded
from .engine.session import keep_search_path
from .project import INTERNAL_SCHEMA

log = logging.getLogger("chat_schema")

_PACKAGE = Path(__file__).resolve().parent
OLDEST_SUPPORTED = 15

# Parameters of an address that hold nothing secret. The value of any other is never printed: a password has many names
# there (password, sslpassword, scram_client_key, options=-c my.token=...), and a misspelt one has any.
_PRINTED = {
    "application_name", "channel_binding", "client_encoding", "connect_timeout", "dbname", "fallback_application_name",
    "gssencmode", "host", "hostaddr", "keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval",
    "load_balance_hosts", "port", "sslmode", "sslnegotiation", "target_session_attrs", "tcp_user_timeout", "user",
}  # fmt: skip


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
    arguments = {
        "application_name": "chat-schema",
        "client_encoding": "utf8",  # the driver reads no text of a server that does not say how it is encoded
        "keepalives_idle": 60,  # the deployer lock's connection is idle through a backfill: no router must forget it
        "prepare_threshold": None,  # behind a pooler in transaction mode that fails before we can say that it is one
    }
    own = {name: value for name, value in arguments.items() if name not in url.query}
    # looking up hstore, which nothing here uses, SQLAlchemy calls by the login's search_path: before we can set ours
    return sa.create_engine(url, poolclass=sa.NullPool, connect_args=own, use_native_hstore=False)


@contextlib.contextmanager
def connect(url: sa.URL) -> Iterator[sa.Connection]:
    """Yield a connection to a server that is fit for migrations, and turn what a user can cause into one message.

    Its search_path is ``pg_catalog, pg_temp``, whatever the login's is: statements name the schema of every table.

    Raises :class:`alembic.util.CommandError` when the server cannot be reached, is older than PostgreSQL 15, or is
    reached through a pooler in transaction mode.
    """
    try:
        with opened(url) as connection:
            _refuse_old_server(connection)
            _refuse_unknown_encoding(connection)
            _refuse_transaction_pooler(connection)
            connection.rollback()
            keep_search_path(connection)
            log.info("Database: %s", described(connection))
            yield connection
    except (DBAPIError, PendingRollbackError) as error:
        cause: BaseException = error
        while isinstance(cause, PendingRollbackError) and cause.__context__ is not None:
            cause = cause.__context__  # Alembic could not tidy up on a connection that is gone: this is why it is gone
        if isinstance(cause, DBAPIError) and _is_unreachable(cause):
            raise _unreachable(url, first_line(cause, url), _notes(error)) from None  # the driver's text holds secrets
        raise cause from None


def opened(url: sa.URL) -> sa.Connection:
    """Return a connection that nothing is known of yet; :class:`alembic.util.CommandError` for no address at all."""
    try:
        return create_engine(url).connect()
    except (ArgumentError, TypeError, ValueError) as error:  # a parameter that the driver cannot read
        raise _unreachable(url, _without_secrets(f"{type(error).__name__}: {error}", url)) from None


def described(connection: sa.Connection) -> str:
    """Return which database this is: of the hosts of an address the one that answers, of a socket's server its data."""
    info = connection.connection.driver_connection.info  # type: ignore[union-attr]
    at = f"{info.user}@" if info.host.startswith("/") else f"{info.user}@{info.host}:{info.port}"
    said = f"postgresql://{at}/{info.dbname}"
    if not info.host.startswith("/"):
        return said
    data = connection.scalar(sa.text("SELECT setting FROM pg_catalog.pg_settings WHERE name = 'data_directory'"))
    connection.rollback()
    return f"{said} of the server " + (f"whose data lie in {data}" if data else f"at {info.host}, port {info.port}")


def _unreachable(url: sa.URL, reason: str, notes: Sequence[str] = ()) -> CommandError:
    if "password authentication failed" in reason:
        reason += "\nIn a password @ : / ? # % are written %40 %3A %2F %3F %23 %25."
    stands = "\n".join(notes) or "What was committed before stays; the rest was not done."
    return CommandError(
        f"Cannot reach PostgreSQL at {shown(url)}: {reason}\n{stands}\nCheck that the server runs and that "
        "DATABASE_URL is right, then run the command again (unset DATABASE_URL to use the embedded server)."
    )


class InterruptedRunError(CommandError):
    """Ctrl-C or SIGTERM ended the run; ``status`` is what the command exits with."""

    def __init__(self, interrupt: KeyboardInterrupt, message: str) -> None:
        super().__init__(message)
        self.status = 128 + (interrupt.args[0] if interrupt.args else signal.SIGINT)


@contextlib.contextmanager
def explained_errors() -> Iterator[None]:
    """Turn an error of the database, Ctrl-C and SIGTERM into one message; notes on it say what stands now."""
    try:
        with _sigterm_interrupts():
            yield
    except KeyboardInterrupt as interrupt:
        message = _with_notes("Interrupted. Run the command again to go on.", interrupt)
        raise InterruptedRunError(interrupt, message) from None
    except CommandError as error:
        if not _notes(error):
            raise
        raise CommandError(_with_notes(str(error), error)) from error
    except DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None) or "no SQLSTATE"
        full = "could not extend file" in first_line(error)  # a quota has no SQLSTATE of its own, a full disk has 53100
        mends = {
            "2BP01": "Drop what depends on it, run the command again, then create it again.",
            "42501": "Run it as the owner of the tables. Only if that is who ran it, have an administrator grant what "
            "is missing: to the login of a service it would give too much.",
            "57014": "A statement_timeout or a cancel ended the statement; run the command again to go on.",
            "53100": "The server's disk or its quota is full; make room and run the command again to go on.",
            "25006": "The server is a replica, or default_transaction_read_only is on. Point DATABASE_URL at a server "
            "and a login that write, then run the command again.",
        }
        mend = mends.get("53100" if full else state) or _mend_of_own_function(error)
        detail = getattr(getattr(error.orig, "diag", None), "message_detail", None) if state == "2BP01" else None
        raise CommandError(
            _with_notes(
                f"PostgreSQL refused a statement ({state}): {first_line(error)}\n"
                + (f"{detail}\n" if detail else "")
                + (mend or "Mend the cause and run the command again."),
                error,
            )
        ) from error


def _notes(error: BaseException) -> list[str]:
    return list(getattr(error, "__notes__", []))


def _with_notes(message: str, error: BaseException) -> str:
    return "\n".join([message, *_notes(error)])


def _mend_of_own_function(error: DBAPIError) -> str | None:
    """Return what to do where a function of the application's own, fired by our statement, raised or found no name."""
    state = getattr(error.orig, "sqlstate", None)
    if state not in ("42P01", "42883", "42704", "3F000", "P0001"):
        return None
    context = str(getattr(getattr(error.orig, "diag", None), "context", None) or "")
    called = re.search(
        r"^(?:PL/pgSQL|SQL) function \"?(?!chat_internal\.)(\w+\.[^()\"]+)(\([^()]*\))?", context, re.MULTILINE
    )
    if called is None:
        return None
    if state == "P0001":
        return (
            f"It was raised by {called[1]}, a function of your own that a trigger calls. Disable that trigger for the "
            "upgrade, run the command again, then enable it."
        )
    return (
        f"It was called by {called[1]}, a function of your own, which finds names by its caller's search_path. A "
        "migration has pg_catalog alone there, so that no stranger's function is called. Give it a path of its own, "
        f"then run the command again:\n  ALTER FUNCTION {called[1]}{called[2] or ''} SET search_path = public, pg_temp;"
    )


@contextlib.contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Let SIGTERM (a deployment that is told to end) stop the run as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():  # Python hands signals to no other
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt(number)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


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


def shown(url: sa.URL) -> str:
    """Return ``url`` as it may be printed: *** for its password and for every parameter that may hold a secret."""
    parameters = [
        f"{quote_plus(name)}={quote_plus(value) if name in _PRINTED else '***'}"
        for name, values in sorted(url.normalized_query.items())
        for value in values
    ]
    return url.set(query={}).render_as_string(hide_password=True) + ("?" if parameters else "") + "&".join(parameters)


def first_line(error: DBAPIError, url: sa.URL | None = None) -> str:
    """Return what the server or the driver said, without statement and parameters, which can hold user data.

    Where it speaks of the connection, name its ``url``: what is secret there is *** here too.
    """
    said = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
    return said if url is None else _without_secrets(said, url)


def _without_secrets(text: str, url: sa.URL) -> str:
    hidden = [url.password or ""]
    for name, values in url.normalized_query.items():
        if name not in _PRINTED:
            for value in values:  # a server quotes of options=-c name=value the name or the value
                hidden += [value, *re.split(r"[\s=\\]+", value)]
    for secret in sorted(filter(None, hidden), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "***", text)
    return text


def _is_unreachable(error: DBAPIError) -> bool:
    """Tell whether there was no connection, or is none any more; the server itself refuses with an SQLSTATE."""
    refused = getattr(error.orig, "sqlstate", None)
    return error.connection_invalidated or (error.statement is None and refused is None)


def _refuse_old_server(connection: sa.Connection) -> None:
    version = connection.dialect.server_version_info
    if version is not None and int(version[0]) < OLDEST_SUPPORTED:
        raise CommandError(
            f"This server is PostgreSQL {version[0]}, so nothing was run: chat-schema needs {OLDEST_SUPPORTED} or "
            "newer (security_invoker views). Upgrade the server, then run the command again."
        )


def _refuse_unknown_encoding(connection: sa.Connection) -> None:
    """Refuse SQL_ASCII, in which a byte above 127 is no character: nothing here could compare or convert a text."""
    driver = connection.connection.driver_connection
    if driver is not None and driver.info.parameter_status("server_encoding") == "SQL_ASCII":
        quote = connection.dialect.identifier_preparer.quote_identifier
        name = str(driver.info.dbname)
        raise CommandError(
            f"The encoding of the database {name!r} is SQL_ASCII, so nothing was run: it does not say which characters "
            "its bytes are. Copy it into one of UTF8, which names each byte that is none (then --encoding=LATIN1 or "
            "another one), and point DATABASE_URL there:\n"
            f"  CREATE DATABASE {quote(name + '_utf8')} ENCODING 'UTF8' TEMPLATE template0;\n"
            f"  pg_dump --encoding=UTF8 {name} | psql -v ON_ERROR_STOP=1 {name}_utf8"
        )


def _refuse_transaction_pooler(connection: sa.Connection) -> None:
    """Refuse a pooler that hands the server session to others between our transactions.

    Session locks exclude nobody there and SET reaches other clients. Behind a pooler the backend's own process id is
    not the one the driver was told at connect; if then two of our connections meet in one backend, or one of ours
    changes its backend, the pooler works by transaction. One look can miss it while other clients keep it busy.
    """
    backend = sa.text("SELECT pg_catalog.pg_backend_pid()")
    told = connection.connection.driver_connection.info.backend_pid  # type: ignore[union-attr]
    first = connection.scalar(backend)
    connection.commit()
    if first == told:
        return
    with connection.engine.connect() as other:
        for _ in range(20):
            second = other.scalar(backend)
            again = connection.scalar(backend)
            connection.commit()
            other.commit()
            if second == first or again != first:
                raise CommandError(
                    f"{shown(connection.engine.url)} leads to a pooler in transaction mode, so nothing was run: locks "
                    "and settings of a migration would reach other clients' sessions. Point DATABASE_URL at the server "
                    'itself or at a session-mode port (on hosted platforms the "direct connection").'
                )
