"""The order in which a run goes: options, address, checks, one deployer at a time, then each revision by itself."""

import logging.config
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext, MigrationInfo, RevisionStep
from alembic.util import to_tuple

from alembic import context
from chat_schema import database, look
from chat_schema.destination import refuse_no_revision
from chat_schema.engine.deployer_lock import deployer_lock
from chat_schema.engine.revisions import about_to_undo, live
from chat_schema.engine.session import READING, safe_search_path, session_settings
from chat_schema.options import Options
from chat_schema.project import INTERNAL_SCHEMA, PROJECT, VERSIONS
from chat_schema.roles import recorded_roles
from chat_schema.version_table import (
    STRANGERS_SCRIPT,
    refuse_strangers,
    refuse_wrong_revision,
    roles_where_at,
    version_table,
)

log = logging.getLogger("chat_schema")
config = context.config
options = Options.parse(context.get_x_argument(as_dictionary=True))
if (asked := getattr(config.cmd_opts, "revision", None)) is not None:
    refuse_no_revision(context.script, asked)

if config.config_file_name and config.attributes.get("configure_logging", True):
    logging.config.fileConfig(config.config_file_name, disable_existing_loggers=False)


def is_ours(part: sa.schema.SchemaItem, name: str | None, kind: str, reflected: bool, compare_to: object) -> bool:
    """Leave out of `alembic check` what only the database has and the package does not know: the user's own."""
    if not reflected or compare_to is not None:
        return True
    table = getattr(part, "table", None)
    kinds = {"column": "columns", "index": "indexes"}
    return table is not None and f"{name} on public.{table.name}" in expected()[kinds.get(kind, "constraints")]


@cache
def expected() -> Mapping[str, Any]:
    """Return the catalog at head, which only `alembic check` and a downgrade ask for."""
    from chat_schema.catalog import load_expected

    return load_expected()


def in_schema_public(metadata: sa.MetaData, names: Collection[str]) -> sa.MetaData:
    """Return a copy whose tables name their schema: no run has ``public`` on its search_path.

    Only of those with these ``names``: a service that calls this may have put tables of its own beside them.
    """
    qualified = sa.MetaData(naming_convention=metadata.naming_convention)
    for name in sorted(names):
        metadata.tables[name].to_metadata(qualified, schema="public")
    return qualified


def is_public(name: str | None, kind: str, parents: object) -> bool:
    """Leave every other schema to whoever made it."""
    return kind != "schema" or name == "public"


SETTINGS = {
    "include_schemas": True,
    "include_name": is_public,
    "version_table_schema": INTERNAL_SCHEMA,  # a changed search_path must not find another history
    "transaction_per_migration": True,  # a lock ends with its revision
    "compare_server_default": True,
    "include_object": is_ours,
    "engine_project": PROJECT,
    "autogenerate_plugins": ["alembic.autogenerate.*", "alembic.ext.checkconstraint_byname"],
}


def settings_of_a_run() -> dict[str, Any]:
    """Return them with the models, and let revisions say op.create_policy and the like.

    Both are loaded here and not above: a command that finds nothing to do needs neither, and is through in less time.
    """
    import chat_schema.operations  # noqa: F401
    from chat_schema import models

    return {"target_metadata": in_schema_public(models.Base.metadata, models.TABLES), **SETTINGS}


def changes_the_database() -> bool:
    """Tell upgrade, downgrade and stamp, which have a destination, from current, check and history."""
    try:
        context.get_revision_argument()
    except KeyError:
        return False
    return True


def finds_nothing_to_do(connection: sa.Connection) -> bool:
    """Tell whether the command leads to head and the database is there: nothing need be locked or looked at closer."""
    heads = context.script.get_heads()
    if not changes_the_database() or sorted(to_tuple(context.get_revision_argument(), default=())) != sorted(heads):
        return False
    roles = roles_where_at(connection, heads)
    if roles is None:
        return False
    options.settle_roles(roles)
    log.info("The database is at %s, the head: there is nothing to do.", ", ".join(heads))
    return True


@contextmanager
def connected() -> Iterator[sa.Connection]:
    """Yield the caller's connection (tests hand over their own) or a checked one of ours, on the safe search_path."""
    given = config.attributes.get("connection")
    if isinstance(given, sa.Connection):
        with safe_search_path(given):
            yield given
    elif isinstance(given, sa.Engine):
        with given.connect() as connection, safe_search_path(connection):
            yield connection
    else:
        with database.database_url(config.attributes.get("url")) as url, database.connect(url) as connection:
            yield connection


@contextmanager
def no_default_schema(connection: sa.Connection) -> Iterator[None]:
    """Let SQLAlchemy take nobody's schema for the one that need not be named, as the search_path does."""
    dialect = connection.dialect
    before, dialect.default_schema_name = dialect.default_schema_name, "pg_catalog"
    try:
        yield
    finally:
        dialect.default_schema_name = before


def look_first(connection: sa.Connection, migration: MigrationContext, settled: Options) -> None:
    """Refuse what an upgrade would fail on, before it has changed anything."""
    heads = migration.get_current_heads()
    steps = migration._migrations_fn(heads, migration) if migration._migrations_fn else ()
    upgrades = any(isinstance(step, RevisionStep) and step.is_upgrade for step in steps)
    connection.rollback()
    if upgrades:
        look.refuse(look.obstacles(connection, look.looks(context.script, heads, settled)))
        from chat_schema import rehearsal

        if rehearsal.is_needed(connection, heads, settled):
            log.info("Rehearsing on a copy of the catalog and some rows (-x rehearse=no leaves it out).")
            rehearsed = rehearsal.rehearse(connection.engine.url, settled)
            for note in rehearsed.notes:
                log.info("%s", note)
            look.refuse(rehearsed.obstacles)


def ended_at_head(applied: list[MigrationInfo]) -> bool:
    """Tell whether an upgrade has run a revision, and the last one was the head."""
    last = applied[-1] if applied else None
    return (
        last is not None
        and not last.is_stamp
        and last.is_upgrade
        and last.up_revision_id == context.get_head_revision()
    )


def run_online() -> None:
    """Run the command on a live database."""
    with ExitStack() as stack:
        stack.enter_context(database.explained_errors())
        connection = stack.enter_context(connected())
        if finds_nothing_to_do(connection):
            return
        stack.enter_context(no_default_schema(connection))
        if changes_the_database():
            stack.enter_context(session_settings(connection, options, PROJECT.search_path))
            stack.enter_context(deployer_lock(connection, options.deployer_wait, VERSIONS, PROJECT.lock_space))
        refuse_strangers(connection)
        if changes_the_database():
            database.require_rights(connection)
        gets_away = getattr(config.cmd_opts, "purge", False)  # stamp --purge, from a revision that is none of ours
        if not gets_away:
            refuse_wrong_revision(connection, context.script)
        settled = options.settle_roles(recorded_roles(connection))
        connection.rollback()  # an open transaction here would make Alembic persist nothing
        only_looks = not changes_the_database()  # check on an empty database leaves no version table there
        applied: list[MigrationInfo] = []
        context.configure(
            connection=connection,
            engine_options=settled,
            dont_mutate=only_looks,
            on_version_apply=lambda step, **_: applied.append(step),
            **settings_of_a_run(),
        )
        migration = context.get_context()
        if downgrades := about_to_undo(migration):
            from chat_schema.dependents import refuse_dependents

            refuse_dependents(connection, downgrades, settled, expected())
            connection.rollback()
        if changes_the_database():
            if not gets_away:
                look_first(connection, migration, settled)
            stack.enter_context(version_table(connection))
        migration._migrations_fn = live(migration._migrations_fn, options)  # the one seam around a single revision
        with context.begin_transaction():
            context.run_migrations()
        if ended_at_head(applied) and config.attributes.get("compare_catalog", True):
            from chat_schema.verification import refuse_differences

            refuse_differences(connection)


def run_offline() -> None:
    """Write the command as a script for psql, which cannot retry: it waits longer for a lock, then stops."""
    patient = replace(options, lock_timeout=max(options.lock_timeout, 5.0))
    context.configure(
        url="postgresql+psycopg://",
        literal_binds=True,
        dialect_opts={"paramstyle": "named"},  # any other would double each % in the script
        engine_options=patient,
        **settings_of_a_run(),
    )
    settings = {
        **READING,  # nothing that somebody made in public is called
        "lock_timeout": f"'{patient.lock_timeout:.0f}s'",
        "statement_timeout": "0",
    }
    for name, value in settings.items():
        context.execute(f"SET {name} = {value}")
    if changes_the_database() and context.get_starting_revision_argument() is None:
        context.execute(STRANGERS_SCRIPT)
        context.get_context().impl.static_output(look.as_script(look.looks(context.script, (), patient)) + ";\n")
    context.execute(f"CREATE SCHEMA IF NOT EXISTS {INTERNAL_SCHEMA}")
    with context.begin_transaction():
        context.run_migrations()
    if changes_the_database() and context.get_revision_argument() is None:  # downgrade base leaves nothing behind
        context.execute(f"DROP TABLE {INTERNAL_SCHEMA}.alembic_version")
        context.execute(f"DROP SCHEMA {INTERNAL_SCHEMA}")
    for name in settings:  # what a tool runs next in this session is not ours
        context.execute(f"RESET {name}")


if context.is_offline_mode():
    run_offline()
else:
    run_online()
