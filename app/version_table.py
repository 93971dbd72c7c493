"""The schema that holds Alembic's version table: there before the first revision, gone after the last is undone."""

from __future__ import annotations

import sqlalchemy as sa

from app.database import INTERNAL_SCHEMA, require_rights


def prepare_version_table(connection: sa.Connection) -> None:
    """Create schema ``chat_internal`` where it is missing, and commit.

    Raises :class:`alembic.util.CommandError` when the login may not migrate this database.
    """
    require_rights(connection)
    if connection.scalar(sa.text("SELECT to_regnamespace(:name)"), {"name": INTERNAL_SCHEMA}) is None:
        connection.execute(sa.schema.CreateSchema(INTERNAL_SCHEMA))
    connection.commit()


def drop_version_table_at_base(connection: sa.Connection) -> None:
    """After ``downgrade base`` leave nothing behind: drop the empty version table and its schema, unless it holds more."""
    version = sa.Table("alembic_version", sa.MetaData(schema=INTERNAL_SCHEMA), sa.Column("version_num", sa.String))
    if connection.scalar(sa.text("SELECT to_regclass(:name)"), {"name": f"{INTERNAL_SCHEMA}.alembic_version"}) is None:
        connection.rollback()
        return
    if connection.scalar(sa.select(sa.func.count()).select_from(version)) == 0:
        version.drop(connection)
        if not sa.inspect(connection).get_table_names(INTERNAL_SCHEMA):
            connection.execute(sa.schema.DropSchema(INTERNAL_SCHEMA))
    connection.commit()
