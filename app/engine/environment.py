"""The order in which a run goes: options, address, checks, one deployer at a time, then each revision by itself.

``env.py`` of a project is one call of :func:`run`. A project that does more at some step overrides it in a subclass of
:class:`Run`.
"""

from __future__ import annotations

import configparser
import contextlib
import logging.config
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext, MigrationInfo
from alembic.util import CommandError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from . import server
from .control import Control
from .deployer_lock import deployer_lock
from .json_log import write_json
from .metrics import Metrics
from .options import Options
from .project import Project, VersionTable
from .revisions import about_to_undo, live
from .session import read_as, reading, session_settings
from .steering import Steering

log = logging.getLogger("alembic.engine")

_DRIVERS = re.compile(r"postgres(ql)?(\+(psycopg|psycopg_async|psycopg2|psycopg2cffi|pg8000|asyncpg))?")
_LookFirst = Callable[[sa.Connection, MigrationContext, Options], None]


def run(
    context: Any,
    target_metadata: Any = None,
    *,
    url: str | sa.URL | None = None,
    connectable: Any = None,
    project: Project | None = None,
    options: type[Options] | Options = Options,
    look_first: _LookFirst | None = None,
    **settings: Any,
) -> None:
    """Run Alembic's command on the database of the project, or write it as a script.

    ``context`` is ``alembic.context``. The database is ``config.attributes["connection"]`` if a caller has put one
    there, else ``connectable``, else ``url``, else ``sqlalchemy.url`` of the section. ``connectable`` is an engine or a
    connection, synchronous or not. ``options`` is the class that says what ``-x`` may say, or what it has said already.
    ``look_first`` is called before the first change, and raises what is in the way. Every other setting is one of
    ``context.configure()``.

    Where the section names ``databases``, as ``alembic init -t multidb`` writes it, each of them is migrated in turn,
    and ``target_metadata`` maps their names to the metadata of each.
    """
    command = Run(context, target_metadata, url=url, connectable=connectable, project=project, **settings)
    if isinstance(options, type):
        options = options.parse(context.get_x_argument(as_dictionary=True))
    command.options = options
    command.asked_first = look_first
    command.go()


class Run:
    """One command of Alembic, in the order of its steps; each can be overridden."""

    def __init__(
        self,
        context: Any,
        target_metadata: Any = None,
        *,
        url: str | sa.URL | None = None,
        connectable: Any = None,
        project: Project | None = None,
        options: Options | None = None,
        **settings: Any,
    ) -> None:
        self.context, self.config = context, context.config
        self.project = project or Project()
        self.options = options or Options()
        self.asked_first: _LookFirst | None = None
        self._metadata, self._url, self._connectable, self._settings = target_metadata, url, connectable, settings
        self._metrics: Metrics | None = None
        self._steering = Steering()
        self._database: str | None = None
        """The section of the database that is migrated, where there are several."""

    def go(self) -> None:
        """Run the command."""
        self._configure_logging()
        self._metrics = Metrics(Path(self.options.metrics)) if self.options.metrics else None
        if self.options.log_format == "json":
            write_json(lambda: self._steering.named())
        for name in self._databases():
            self._database, self._steering = name, Steering(self._metrics)
            if self.context.is_offline_mode():
                self._offline()
            else:
                self._online()

    # What a project may say otherwise

    def settings(self) -> dict[str, Any]:
        """Return what ``context.configure()`` is told; asked for only where there is something to do."""
        metadata = self._metadata
        if self._database is not None and isinstance(metadata, Mapping):
            metadata = metadata.get(self._database)
        return {"target_metadata": metadata, **self._settings}

    @contextmanager
    def connected(self) -> Iterator[sa.Connection]:
        """Yield the connection that the command runs on, checked."""
        given = self.config.attributes.get("connection", self._connectable)
        given = getattr(given, "sync_connection", None) or getattr(given, "sync_engine", None) or given
        if given is None:
            with server.connect(self._address(), self.project) as connection:
                yield connection
            return
        engine = given.engine
        if (
            engine.dialect.is_async or engine.dialect.driver != "psycopg"
        ):  # one thread each works on several connections
            with server.connect(address(engine.url, self.project), self.project) as connection:
                yield connection
            return
        with contextlib.nullcontext(given) if isinstance(given, sa.Connection) else given.connect() as connection:
            if connection.in_transaction():
                raise CommandError(
                    "The connection that was handed over is in a transaction, so nothing was run: each revision, and "
                    "each batch of a backfill, is a transaction of its own. Hand over an engine, or a connection of "
                    "engine.connect() that has not begun."
                )
            with server.explained_connection(engine.url, self.project):
                server.fit(connection, self.project)
                with read_as(connection, self.project.search_path):
                    yield connection

    def finds_nothing_to_do(self, connection: sa.Connection) -> bool:
        """Tell whether the command is through already, before anything is locked or looked at closer."""
        return False

    def check(self, connection: sa.Connection) -> Options:
        """Refuse a database that no command should run on, and return the options as it settles them."""
        return self.options

    def look_first(self, connection: sa.Connection, migration: MigrationContext, options: Options) -> None:
        """Refuse what an upgrade would fail on, before it has changed anything."""
        if self.asked_first is not None:
            self.asked_first(connection, migration, options)

    def before_undoing(self, connection: sa.Connection, downgrades: list[Callable[..., Any]], options: Options) -> None:
        """Refuse what a downgrade would fail on, before it has undone anything."""

    @contextmanager
    def version_schema(self, connection: sa.Connection) -> Iterator[None]:
        """Have the schema of the version table while the command runs."""
        schema = self.settings().get("version_table_schema")
        if schema and not sa.inspect(connection).has_schema(schema):
            connection.execute(sa.schema.CreateSchema(schema))
        connection.commit()
        yield

    def finished(self, connection: sa.Connection, applied: list[MigrationInfo]) -> None:
        """Do what comes after the last revision."""

    def begin_script(self, options: Options) -> None:
        """Write what a script does before its first revision."""
        if schema := self.settings().get("version_table_schema"):
            self.context.execute(sa.schema.CreateSchema(schema, if_not_exists=True))

    def end_script(self) -> None:
        """Write what a script does after its last revision."""

    def changes_the_database(self) -> bool:
        """Tell upgrade, downgrade and stamp, which have a destination, from current, check and history."""
        try:
            self.context.get_revision_argument()
        except KeyError:
            return False
        return True

    # The order

    def _online(self) -> None:
        with ExitStack() as stack:
            stack.enter_context(server.explained_errors(self.project))
            connection = stack.enter_context(self.connected())
            if self.finds_nothing_to_do(connection):
                if self._metrics:
                    self._metrics.had_nothing_to_do()
                return
            stack.enter_context(self._no_default_schema(connection))
            settings = self.settings()
            changes = self.changes_the_database()
            if changes:
                stack.enter_context(session_settings(connection, self.options, self.project))
                versions = VersionTable.found_by(
                    connection,
                    settings.get("version_table_schema"),
                    settings.get("version_table", VersionTable.name),
                )
                connection.commit()
                wait = self.options.deployer_wait
                stack.enter_context(deployer_lock(connection, wait, versions, self.project.lock_space))
            settled = self.check(connection)
            connection.rollback()  # an open transaction here would make Alembic persist nothing
            applied: list[MigrationInfo] = []
            told = settings.get("on_version_apply") or ()
            self.context.configure(
                connection=connection,
                dont_mutate=not changes,  # check on an empty database leaves no version table there
                **self._common(settings, settled),
                on_version_apply=[
                    lambda step, **_: applied.append(step),
                    *(told if isinstance(told, list | tuple) else (told,)),
                ],
            )
            migration = self.context.get_context()
            if downgrades := about_to_undo(migration):
                self.before_undoing(connection, downgrades, settled)
                connection.rollback()
            if changes:
                self.look_first(connection, migration, settled)
                connection.rollback()
                stack.enter_context(self.version_schema(connection))
                migration._ensure_version_table()  # not in the first revision, which takes it back with each attempt
                connection.commit()
                control = Control.beside(connection, versions)
                stack.enter_context(self._steering.attached(connection, control, settled, self.project))
            # the one seam around a single revision
            migration._migrations_fn = live(migration._migrations_fn, self.options, self._arguments())
            with self.context.begin_transaction():
                self.context.run_migrations(**self._arguments())
            self.finished(connection, applied)

    def _offline(self) -> None:
        """Write the command as a script for psql, which cannot retry: it waits longer for a lock, then stops."""
        patient = replace(self.options, lock_timeout=max(self.options.lock_timeout, 5.0))
        with self._script() as buffer:
            self.context.configure(
                url="postgresql+psycopg://",
                literal_binds=True,
                dialect_opts={"paramstyle": "named"},  # any other would double each % in the script
                output_buffer=buffer,
                **self._common(self.settings(), patient),
            )
            session = {
                **reading(self.project.search_path),  # nothing that somebody made in public is called
                "lock_timeout": f"'{patient.lock_timeout:.0f}s'",
                "statement_timeout": "0",
            }
            for name, value in session.items():
                self.context.execute(f"SET {name} = {value}")
            self.begin_script(patient)
            with self.context.begin_transaction():
                self.context.run_migrations(**self._arguments())
            self.end_script()
            for name in session:  # what a tool runs next in this session is not ours
                self.context.execute(f"RESET {name}")

    def _common(self, settings: Mapping[str, Any], options: Options) -> dict[str, Any]:
        of_database = {}
        if self._database is not None:
            of_database = {
                "upgrade_token": f"{self._database}_upgrades",
                "downgrade_token": f"{self._database}_downgrades",
            }
        return {
            **of_database,
            "engine_before_revision": self.config.attributes.get("before_revision"),
            "engine_after_revision": self.config.attributes.get("after_revision"),
            "engine_steering": self._steering,
            **{name: value for name, value in settings.items() if name != "on_version_apply"},
            "transaction_per_migration": True,  # a lock ends with its revision
            "engine_options": options,
            "engine_project": self.project,
        }

    def _arguments(self) -> dict[str, Any]:
        return {} if self._database is None else {"engine_name": self._database}

    @contextmanager
    def _no_default_schema(self, connection: sa.Connection) -> Iterator[None]:
        """Let SQLAlchemy take nobody's schema for the one that need not be named, where the search_path has none."""
        dialect = connection.dialect
        before = dialect.default_schema_name
        if self.project.search_path is not None:
            dialect.default_schema_name = connection.scalar(sa.text("SELECT pg_catalog.current_schema()"))
            connection.rollback()
        try:
            yield
        finally:
            dialect.default_schema_name = before

    # Where the database is

    def _databases(self) -> list[str | None]:
        named = self.config.get_main_option("databases")
        return [name.strip() for name in named.split(",") if name.strip()] if named else [None]

    def _address(self) -> sa.URL:
        given: str | sa.URL | None = self.config.attributes.get("url") or self._url
        if self._database is not None:
            given = self.config.get_section(self._database, {}).get("sqlalchemy.url") or given
        given = given or self.config.get_main_option("sqlalchemy.url")
        if not given:
            raise CommandError(
                f"No database is named, so nothing was run. Set {self.project.address} in "
                f"[{self._database or self.config.config_ini_section}], or give run() a url or a connectable."
            )
        return address(given, self.project)

    @contextmanager
    def _script(self) -> Iterator[IO[str] | None]:
        """Yield where a script is written: the output, or a file for each of several databases."""
        if self._database is None:
            yield self.config.output_buffer  # None: standard output
            return
        file = Path(f"{self._database}.sql")
        log.info("Writing %s", file)
        with file.open("w", encoding="utf-8") as buffer:
            yield buffer

    def _configure_logging(self) -> None:
        file = self.config.config_file_name
        if file is None or not self.config.attributes.get("configure_logging", True):
            return
        ini = configparser.RawConfigParser()
        ini.read(file, encoding="utf-8")
        if ini.has_section("loggers"):
            logging.config.fileConfig(file, disable_existing_loggers=False)


def address(given: str | sa.URL, project: Project) -> sa.URL:
    """Return ``given`` for the driver of the engine, whichever driver it names.

    Raises :class:`alembic.util.CommandError`, without the password, for what is no address of PostgreSQL.
    """
    wanted = "Expected postgresql://USER:PASSWORD@HOST:5432/DATABASE."
    try:
        url = make_url(given)
    except (ArgumentError, ValueError):
        raise CommandError(f"{project.address} is not an address, so nothing was run. {wanted}") from None
    if not _DRIVERS.fullmatch(url.drivername):
        raise CommandError(
            f"{project.address} speaks of {url.drivername!r}, so nothing was run: these revisions are for PostgreSQL. "
            f"{wanted}"
        )
    if url.drivername.endswith("+asyncpg"):
        query = {name: value for name, value in url.query.items() if name in ("host", "port", "user", "database")}
        if (mode := url.query.get("ssl")) is not None:
            query["sslmode"] = mode
        url = url.set(query=query)
    return url.set(drivername="postgresql+psycopg")
