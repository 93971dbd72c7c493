"""What the chat schema does at each step of a run; their order is the engine's (app/engine/environment.py)."""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

import sqlalchemy as sa
from alembic.operations.ops import AlterColumnOp, CreateTableCommentOp, ModifyTableOps
from alembic.runtime.migration import MigrationContext, MigrationInfo, RevisionStep
from alembic.util import to_tuple

from alembic import context
from chat_schema import database, look
from chat_schema.destination import refuse_no_revision
from chat_schema.engine import terminal
from chat_schema.engine.environment import Run
from chat_schema.options import Options
from chat_schema.project import INTERNAL_SCHEMA, PROJECT
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
if (asked := getattr(config.cmd_opts, "revision", None)) is not None:
    refuse_no_revision(context.script, asked)


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


def leave_own_comments(context: object, revision: object, directives: list[Any]) -> None:
    """Leave out of `alembic check` comments of a team's own on our tables, which the chain leaves too."""
    for table in (table for each in directives for table in each.upgrade_ops.ops if isinstance(table, ModifyTableOps)):
        table.ops = [each for each in table.ops if not is_only_own_comment(f"public.{table.table_name}", each)]


def is_only_own_comment(table: str, change: Any) -> bool:
    """Tell whether nothing differs but a comment that is there and is not the package's."""
    if not isinstance(change, AlterColumnOp | CreateTableCommentOp):
        return False
    of_column = isinstance(change, AlterColumnOp)
    name = f"COLUMN {table}.{change.column_name}" if of_column else f"TABLE {table}"
    if change.existing_comment in (None, expected()["comments"].get(name, {}).get("text")):
        return False
    if of_column:
        change.modify_comment = False
    return not of_column or not change.has_changes()


def is_public(name: str | None, kind: str, parents: object) -> bool:
    """Leave every other schema to whoever made it."""
    return kind != "schema" or name == "public"


SETTINGS = {
    "include_schemas": True,
    "include_name": is_public,
    "version_table_schema": INTERNAL_SCHEMA,  # a changed search_path must not find another history
    "compare_server_default": True,
    "include_object": is_ours,
    "process_revision_directives": leave_own_comments,
    "autogenerate_plugins": ["alembic.autogenerate.*", "alembic.ext.checkconstraint_byname"],
}


class ChatRun(Run):
    """A run of the chat schema's chain."""

    options: Options
    gets_away = getattr(config.cmd_opts, "purge", False)
    """Whether this is stamp --purge, from a revision that is none of ours."""

    def settings(self) -> dict[str, Any]:
        """Return them with the models, and let revisions say op.create_owner_policies and the like.

        Both are loaded here and not above: a command that finds nothing to do needs neither, and is through in less
        time.
        """
        import chat_schema.operations  # noqa: F401
        from chat_schema import models

        return {"target_metadata": in_schema_public(models.Base.metadata, models.TABLES), **SETTINGS}

    @contextmanager
    def connected(self) -> Iterator[sa.Connection]:
        """Yield the caller's connection (tests hand over their own) or that of DATABASE_URL or the embedded server."""
        is_read = self.changes_the_database() and self.options.log_format == "plain"
        with terminal.working("connecting") if is_read else nullcontext(), self._connected() as connection:
            yield connection

    @contextmanager
    def _connected(self) -> Iterator[sa.Connection]:
        if config.attributes.get("connection") is not None:
            with super().connected() as connection:
                yield connection
        else:
            with database.database_url(config.attributes.get("url")) as url, database.connect(url) as connection:
                yield connection

    def finds_nothing_to_do(self, connection: sa.Connection) -> bool:
        """Tell whether the command leads to head and the database is there."""
        heads = context.script.get_heads()
        if not self.changes_the_database():
            return False
        if sorted(to_tuple(context.get_revision_argument(), default=())) != sorted(heads):
            return False
        roles = roles_where_at(connection, heads)
        if roles is None:
            return False
        self.options.settle_roles(roles)
        log.info("The database is at %s, the head: there is nothing to do.", ", ".join(heads))
        return True

    def check(self, connection: sa.Connection) -> Options:
        """Refuse a schema that others write to, a login without rights, and a revision of another version."""
        refuse_strangers(connection)
        if self.changes_the_database():
            database.require_rights(connection)
        if not self.gets_away:
            refuse_wrong_revision(connection, context.script)
        return self.options.settle_roles(recorded_roles(connection))

    def look_first(self, connection: sa.Connection, migration: MigrationContext, options: Any) -> None:
        """Refuse what an upgrade would fail on, before it has changed anything."""
        if self.gets_away:
            return
        heads = migration.get_current_heads()
        steps = migration._migrations_fn(heads, migration) if migration._migrations_fn else ()
        upgrades = any(isinstance(step, RevisionStep) and step.is_upgrade for step in steps)
        connection.rollback()
        if upgrades:
            terminal.doing("looking for what is in the way")
            look.refuse(look.obstacles(connection, look.looks(context.script, heads, options)))
            from chat_schema import rehearsal

            if rehearsal.is_needed(connection, heads, options):
                log.info("Rehearsing on a copy of the catalog and some rows (-x rehearse=no leaves it out).")
                terminal.doing("rehearsing on a copy")
                rehearsed = rehearsal.rehearse(connection.engine.url, options)
                for note in rehearsed.notes:
                    log.info("%s", note)
                look.refuse(rehearsed.obstacles)

    def before_undoing(self, connection: sa.Connection, downgrades: list[Callable[..., Any]], options: Any) -> None:
        """Refuse a downgrade that would drop what objects of the application's own depend on."""
        from chat_schema.dependents import refuse_dependents

        refuse_dependents(connection, downgrades, options, expected())

    @contextmanager
    def version_schema(self, connection: sa.Connection) -> Iterator[None]:
        """Have schema chat_internal, and leave nothing behind at base."""
        with version_table(connection):
            yield

    def finished(self, connection: sa.Connection, applied: list[MigrationInfo]) -> None:
        """Compare the catalog with the expected one after an upgrade that has run a revision and ended at the head."""
        last = applied[-1] if applied else None
        if last is None:
            if self.changes_the_database():
                log.info("There was nothing to do.")
            return
        if last.is_stamp:
            log.info("Done: the revision is recorded; nothing was run. Next: chat-schema verify")
            return
        at_head = last.is_upgrade and last.up_revision_id == context.get_head_revision()
        if at_head and config.attributes.get("compare_catalog", True):
            from chat_schema.verification import refuse_differences

            terminal.doing("comparing the catalog with what the package expects")
            refuse_differences(connection)
        log.info("Done: %s", self._told(applied, at_head))

    def _told(self, applied: list[MigrationInfo], at_head: bool) -> str:
        """Return what was done and what comes next."""
        last = applied[-1]
        count = f"{len(applied)} revision{'s were' if len(applied) > 1 else ' was'}"
        if last.is_upgrade:
            if at_head:
                return f"{count} run, and the database is at {last.up_revision_id}, the head. Next: chat-schema verify"
            return f"{count} run, and the database is at {last.up_revision_id}. Next: chat-schema upgrade head"
        if not last.down_revision_ids:
            return f"{count} undone, and nothing of chat-schema is left in the database."
        at = ", ".join(last.down_revision_ids)
        return f"{count} undone, and the database is at {at}. Next: chat-schema upgrade head brings them back"

    def begin_script(self, options: Any) -> None:
        """Ask in the script what a run asks, where it begins with the first revision."""
        if self.changes_the_database() and context.get_starting_revision_argument() is None:
            context.execute(STRANGERS_SCRIPT)
            context.get_context().impl.static_output(look.as_script(look.looks(context.script, (), options)) + ";\n")
        context.execute(f"CREATE SCHEMA IF NOT EXISTS {INTERNAL_SCHEMA}")

    def end_script(self) -> None:
        """Leave nothing behind at base."""
        if self.changes_the_database() and context.get_revision_argument() is None:
            context.execute(f"DROP TABLE {INTERNAL_SCHEMA}.alembic_version")
            context.execute(f"DROP SCHEMA {INTERNAL_SCHEMA}")


options = Options.parse(context.get_x_argument(as_dictionary=True))
ChatRun(context, project=PROJECT, options=options).go()
