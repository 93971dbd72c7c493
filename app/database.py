"""Which database a command works on, and whether it may: address, version, pooler, rights, before anything changes."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from urllib.parse import quote_plus

import sqlalchemy as sa
from alembic.util import CommandError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, PendingRollbackError

from . import embedded
from .online.session import keep_search_path

INTERNAL_SCHEMA = "chat_internal"
_PACKAGE = Path(__file__).resolve().parent
OLDEST_SUPPORTED = 15

# Parameters of an address that hold nothing secret. The value of any other is never printed: a password has many names
# there (password, sslpassword, scram_client_key, options=-c my.token=...), and a misspelt one has any.
_PRINTED = {
    "application_name", "channel_binding", "client_encoding", "connect_timeout", "dbname", "fallback_application_name",
    "gssencmode", "host", "hostaddr", "keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval",
    "load_balance_hosts", "port", "sslmode", "sslnegotiation", "target_session_attrs", "tcp_user_timeout", "user",
}  # fmt: skip


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
    text = given or os.environ.get("DATABASE_URL")
    if text:
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
    try:
        url = make_url(written)
    except (ArgumentError, ValueError):
        raise CommandError(f"DATABASE_URL is not an address, so nothing was run. {expected}") from None
    if url.drivername not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise CommandError(f"DATABASE_URL speaks of {url.drivername!r}, so nothing was run. {expected}")
    if "@" in (url.host or ""):  # the rest of a password, which must not be taken, and printed, for a host
        raise CommandError(
            "DATABASE_URL is not an address, so nothing was run: in a password that has an @ beside a / or ?, write "
            f"them as %40, %2F and %3F. {expected}"
        )
    return url.set(drivername="postgresql+psycopg")


def create_engine(url: sa.URL) -> sa.Engine:
    """Return an engine for ``url`` that keeps no connection of its own."""
    arguments = {
        "application_name": "chat-schema",
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
        with _opened(url) as connection:
            _refuse_old_server(connection)
            _refuse_transaction_pooler(connection)
            connection.rollback()
            keep_search_path(connection)
            yield connection
    except (DBAPIError, PendingRollbackError) as error:
        cause: BaseException = error
        while isinstance(cause, PendingRollbackError) and cause.__context__ is not None:
            cause = cause.__context__  # Alembic could not tidy up on a connection that is gone: this is why it is gone
        if isinstance(cause, DBAPIError) and _is_unreachable(cause):
            raise _unreachable(url, first_line(cause, url), _notes(error)) from None  # the driver's text holds secrets
        raise cause from None


def _opened(url: sa.URL) -> sa.Connection:
    try:
        return create_engine(url).connect()
    except (ArgumentError, TypeError, ValueError) as error:  # a parameter that the driver cannot read
        raise _unreachable(url, _without_secrets(f"{type(error).__name__}: {error}", url)) from None


def _unreachable(url: sa.URL, reason: str, notes: Sequence[str] = ()) -> CommandError:
    stands = "\n".join(notes) or "What was committed before stays; the rest was not done."
    return CommandError(
        f"Cannot reach PostgreSQL at {shown(url)}: {reason}\n{stands}\nCheck that the server runs and that "
        "DATABASE_URL is right, then run the command again (unset DATABASE_URL to use the embedded server)."
    )


@contextlib.contextmanager
def explained_errors() -> Iterator[None]:
    """Turn an error of the database, Ctrl-C and SIGTERM into one message; notes on it say what stands now."""
    try:
        with _sigterm_interrupts():
            yield
    except KeyboardInterrupt as error:
        raise CommandError(_with_notes("Interrupted. Run the command again to go on.", error)) from None
    except CommandError as error:
        if not _notes(error):
            raise
        raise CommandError(_with_notes(str(error), error)) from error
    except DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None) or "no SQLSTATE"
        full = "could not extend file" in first_line(error)  # a quota has no SQLSTATE of its own, a full disk has 53100
        mends = {
            "2BP01": "Drop what depends on it, run the command again, then create it again.",
            "42501": "Run it as the owner of the tables, or have an administrator grant what is missing.",
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
    """Return what to do where a function of the application's own, fired by our statement, did not find a name."""
    if getattr(error.orig, "sqlstate", None) not in ("42P01", "42883", "42704", "3F000"):
        return None
    context = str(getattr(getattr(error.orig, "diag", None), "context", None) or "")
    called = re.search(
        r"^(?:PL/pgSQL|SQL) function \"?(?!chat_internal\.)(\w+\.[^()\"]+)(\([^()]*\))?", context, re.MULTILINE
    )
    if called is None:
        return None
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
        raise KeyboardInterrupt

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
            "   OR has_database_privilege(current_database(), 'CREATE') AS may_create_schema"
        ),
        {"schema": INTERNAL_SCHEMA},
    ).one()
    quote = connection.dialect.identifier_preparer.quote_identifier
    missing = []
    if not row.may_create_schema:
        missing.append(f"GRANT CREATE ON DATABASE {quote(row.database)} TO {quote(row.login)};")
    if not row.may_create_tables:
        missing.append(f"GRANT CREATE ON SCHEMA public TO {quote(row.login)};")
    if missing:
        raise CommandError(
            f"The login {row.login!r} may not create objects in the database {row.database!r}, so nothing was run. "
            "Have its owner run:\n  " + "\n  ".join(missing)
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
