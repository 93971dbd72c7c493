"""The server that revisions run on: reached or explained, fit for it or refused, and no secret in any message."""

from __future__ import annotations

import contextlib
import logging
import re
import signal
import threading
from collections.abc import Iterator, Sequence
from types import FrameType
from urllib.parse import quote_plus

import sqlalchemy as sa
from alembic.util import CommandError
from sqlalchemy.exc import ArgumentError, DBAPIError, PendingRollbackError

from .project import Project
from .session import keep_reading
from .unfinished import StopsBeforeBackfillError

log = logging.getLogger("alembic.engine")

OLDEST_SUPPORTED = 15

# Parameters of an address that hold nothing secret. The value of any other is never printed: a password has many names
# there (password, sslpassword, scram_client_key, options=-c my.token=...), and a misspelt one has any.
_PRINTED = {
    "application_name", "channel_binding", "client_encoding", "connect_timeout", "dbname", "fallback_application_name",
    "gssencmode", "host", "hostaddr", "keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval",
    "load_balance_hosts", "port", "sslmode", "sslnegotiation", "target_session_attrs", "tcp_user_timeout", "user",
}  # fmt: skip


def create_engine(url: sa.URL, project: Project) -> sa.Engine:
    """Return an engine for ``url`` that keeps no connection of its own."""
    arguments = {
        "application_name": project.command,
        "client_encoding": "utf8",  # the driver reads no text of a server that does not say how it is encoded
        "keepalives_idle": 60,  # the deployer lock's connection is idle through a backfill: no router must forget it
        "prepare_threshold": None,  # behind a pooler in transaction mode that fails before we can say that it is one
    }
    own = {name: value for name, value in arguments.items() if name not in url.query}
    # looking up hstore, which nothing here uses, SQLAlchemy calls by the login's search_path: before we can set ours
    return sa.create_engine(url, poolclass=sa.NullPool, connect_args=own, use_native_hstore=False)


@contextlib.contextmanager
def connect(url: sa.URL, project: Project) -> Iterator[sa.Connection]:
    """Yield a connection to a server that is fit for migrations, and turn what a user can cause into one message.

    Its search_path is the project's, if that names one, whatever the login's is.

    Raises :class:`alembic.util.CommandError` when the server cannot be reached, is older than PostgreSQL 15, or is
    reached through a pooler in transaction mode.
    """
    with explained_connection(url, project), opened(url, project) as connection:
        fit(connection, project)
        keep_reading(connection, project.search_path)
        log.info("Database: %s", described(connection))
        yield connection


def fit(connection: sa.Connection, project: Project) -> None:
    """Refuse a server that is too old, one that knows no characters, and a pooler in transaction mode."""
    _refuse_old_server(connection, project)
    _refuse_unknown_encoding(connection)
    _refuse_transaction_pooler(connection, project)
    connection.rollback()


@contextlib.contextmanager
def explained_connection(url: sa.URL, project: Project) -> Iterator[None]:
    """Say in one message why there is no connection to ``url``, or none any more."""
    try:
        yield
    except (DBAPIError, PendingRollbackError) as error:
        cause: BaseException = error
        while isinstance(cause, PendingRollbackError) and cause.__context__ is not None:
            cause = cause.__context__  # Alembic could not tidy up on a connection that is gone: this is why it is gone
        if isinstance(cause, DBAPIError) and _is_unreachable(cause):
            said = first_line(cause, url)  # the driver's text holds secrets
            raise _unreachable(url, said, project, _notes(error)) from None
        raise cause from None


def opened(url: sa.URL, project: Project) -> sa.Connection:
    """Return a connection that nothing is known of yet; :class:`alembic.util.CommandError` for no address at all."""
    try:
        return create_engine(url, project).connect()
    except (ArgumentError, TypeError, ValueError) as error:  # a parameter that the driver cannot read
        raise _unreachable(url, _without_secrets(f"{type(error).__name__}: {error}", url), project) from None


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


def _unreachable(url: sa.URL, reason: str, project: Project, notes: Sequence[str] = ()) -> CommandError:
    if "password authentication failed" in reason:
        reason += "\nIn a password @ : / ? # % are written %40 %3A %2F %3F %23 %25."
    stands = "\n".join(notes) or "What was committed before stays; the rest was not done."
    return CommandError(
        f"Cannot reach PostgreSQL at {shown(url)}: {reason}\n{stands}\nCheck that the server runs and that "
        f"{project.address} is right, then run the command again{project.without_address}."
    )


class UnfitServerError(CommandError):
    """The server was reached, and no migration can run on it or on the way to it."""


class InterruptedRunError(CommandError):
    """Ctrl-C or SIGTERM ended the run; ``status`` is what the command exits with."""

    def __init__(self, interrupt: KeyboardInterrupt, message: str) -> None:
        super().__init__(message)
        self.status = 128 + (interrupt.args[0] if interrupt.args else signal.SIGINT)


@contextlib.contextmanager
def explained_errors(project: Project) -> Iterator[None]:
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
        told = _with_notes(str(error), error)
        if isinstance(error, StopsBeforeBackfillError):  # which is what was asked for, and has a status of its own
            raise StopsBeforeBackfillError(told) from error
        raise CommandError(told) from error
    except DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None) or "no SQLSTATE"
        full = "could not extend file" in first_line(error)  # a quota has no SQLSTATE of its own, a full disk has 53100
        mends = {
            "2BP01": "Drop what depends on it, run the command again, then create it again.",
            "42501": "Run it as the owner of the tables. Only if that is who ran it, have an administrator grant what "
            "is missing: to the login of a service it would give too much.",
            "57014": "A statement_timeout or a cancel ended the statement; run the command again to go on.",
            "53100": "The server's disk or its quota is full; make room and run the command again to go on.",
            "25006": "The server is a replica, or default_transaction_read_only is on. Point "
            f"{project.address} at a server and a login that write, then run the command again.",
        }
        mend = mends.get("53100" if full else state) or _mend_of_own_function(error, project)
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


def _mend_of_own_function(error: DBAPIError, project: Project) -> str | None:
    """Return what to do where a function of the application's own, fired by our statement, raised or found no name."""
    state = getattr(error.orig, "sqlstate", None)
    if project.search_path is None or state not in ("42P01", "42883", "42704", "3F000", "P0001"):
        return None
    context = str(getattr(getattr(error.orig, "diag", None), "context", None) or "")
    ours = f"(?!{re.escape(project.home)}\\.)" if project.home else ""
    called = re.search(rf"^(?:PL/pgSQL|SQL) function \"?{ours}(\w+\.[^()\"]+)(\([^()]*\))?", context, re.MULTILINE)
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


def _refuse_old_server(connection: sa.Connection, project: Project) -> None:
    version = connection.dialect.server_version_info
    if version is not None and int(version[0]) < OLDEST_SUPPORTED:
        raise UnfitServerError(
            f"This server is PostgreSQL {version[0]}, so nothing was run: {project.command} needs "
            f"{OLDEST_SUPPORTED} or newer. Upgrade the server, then run the command again."
        )


def _refuse_unknown_encoding(connection: sa.Connection) -> None:
    """Refuse SQL_ASCII, in which a byte above 127 is no character: nothing here could compare or convert a text."""
    driver = connection.connection.driver_connection
    if driver is not None and driver.info.parameter_status("server_encoding") == "SQL_ASCII":
        quote = connection.dialect.identifier_preparer.quote_identifier
        name = str(driver.info.dbname)
        raise UnfitServerError(
            f"The encoding of the database {name!r} is SQL_ASCII, so nothing was run: it does not say which characters "
            "its bytes are. Copy it into one of UTF8, which names each byte that is none (then --encoding=LATIN1 or "
            "another one), and migrate that copy:\n"
            f"  CREATE DATABASE {quote(name + '_utf8')} ENCODING 'UTF8' TEMPLATE template0;\n"
            f"  pg_dump --encoding=UTF8 {name} | psql -v ON_ERROR_STOP=1 {name}_utf8"
        )


def _refuse_transaction_pooler(connection: sa.Connection, project: Project) -> None:
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
                raise UnfitServerError(
                    f"{shown(connection.engine.url)} leads to a pooler in transaction mode, so nothing was run: locks "
                    "and settings of a migration would reach other clients' sessions. Point "
                    f"{project.address} at the server "
                    'itself or at a session-mode port (on hosted platforms the "direct connection").'
                )
