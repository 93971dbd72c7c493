"""The schema that holds Alembic's version table: there before the first revision, gone after the last is undone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import sqlalchemy as sa
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from .database import INTERNAL_SCHEMA, require_rights

_VERSION = sa.Table("alembic_version", sa.MetaData(schema=INTERNAL_SCHEMA), sa.Column("version_num", sa.String))
_EMPTY_AND_OURS = sa.text(
    "SELECT pg_has_role(n.nspowner, 'USAGE')"
    " AND NOT EXISTS (SELECT FROM pg_depend WHERE refclassid = 'pg_namespace'::regclass AND refobjid = n.oid)"
    " FROM pg_namespace AS n WHERE n.nspname = :name"
)


@contextlib.contextmanager
def version_table(connection: sa.Connection) -> Iterator[None]:
    """Create schema ``chat_internal`` where it is missing and commit; afterwards leave nothing behind at base.

    Base is where ``downgrade base`` ends, and where a first revision that failed leaves the database. Raises
    :class:`alembic.util.CommandError` when the login may not migrate this database.
    """
    require_rights(connection)
    if connection.scalar(sa.text("SELECT to_regnamespace(:name)"), {"name": INTERNAL_SCHEMA}) is None:
        connection.execute(sa.schema.CreateSchema(INTERNAL_SCHEMA))
    connection.commit()
    try:
        yield
    except BaseException:
        if not connection.closed and not connection.invalidated:
            with contextlib.suppress(sa.exc.DBAPIError):  # the error that is on its way says more
                _drop_at_base(connection)
        raise
    _drop_at_base(connection)


def refuse_unknown_revision(connection: sa.Connection, script: ScriptDirectory) -> None:
    """Raise :class:`alembic.util.CommandError` when the database stands at a revision that this package has not."""
    if not sa.inspect(connection).has_table(_VERSION.name, INTERNAL_SCHEMA):
        return
    known = {revision.revision for revision in script.walk_revisions()}
    unknown = sorted(set(connection.scalars(sa.select(_VERSION.c.version_num))) - known)
    if unknown:
        raise CommandError(
            f"The database is at revision {', '.join(unknown)}, which this version of chat-schema does not have, so "
            "nothing was run. A newer version has migrated it: install that one, then run the command again."
        )


def _drop_at_base(connection: sa.Connection) -> None:
    connection.rollback()
    if sa.inspect(connection).has_table(_VERSION.name, INTERNAL_SCHEMA):
        if connection.scalar(sa.select(sa.func.count()).select_from(_VERSION)):
            connection.rollback()
            return
        _VERSION.drop(connection)
    if connection.scalar(_EMPTY_AND_OURS, {"name": INTERNAL_SCHEMA}):
        connection.execute(sa.schema.DropSchema(INTERNAL_SCHEMA))
    connection.commit()
