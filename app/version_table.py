"""The schema that holds Alembic's version table: there before the first revision, gone after the last is undone."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence

import sqlalchemy as sa
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from .engine.unfinished import TABLE as UNFINISHED
from .project import INTERNAL_SCHEMA
from .roles import Roles

_VERSION = sa.Table("alembic_version", sa.MetaData(schema=INTERNAL_SCHEMA), sa.Column("version_num", sa.String))
_EMPTY_AND_OURS = sa.text(
    "SELECT pg_has_role(n.nspowner, 'USAGE')"
    " AND NOT EXISTS (SELECT FROM pg_depend WHERE refclassid = 'pg_namespace'::regclass AND refobjid = n.oid)"
    " FROM pg_namespace AS n WHERE n.nspname = :name"
)

# Whoever owns the database, or administers the server or its roles, can do as it likes anyway. A superuser is a member
# of every role: that says nothing of whom it trusts.
_STRANGERS = f"""
    WITH me AS MATERIALIZED (
      SELECT r.oid, r.rolsuper, d.datdba FROM pg_catalog.pg_roles AS r, pg_catalog.pg_database AS d
      WHERE r.rolname = current_user AND d.datname = pg_catalog.current_database()
    ), thing AS (
      SELECT 'the schema itself' AS name, n.nspowner AS role, n.oid AS schema
      FROM pg_catalog.pg_namespace AS n
      UNION ALL
      SELECT 'CREATE on it', a.grantee, n.oid
      FROM pg_catalog.pg_namespace AS n, pg_catalog.aclexplode(n.nspacl) AS a WHERE a.privilege_type = 'CREATE'
      UNION ALL
      SELECT 'the relation ' || c.relname, c.relowner, c.relnamespace FROM pg_catalog.pg_class AS c
      UNION ALL
      SELECT 'the function ' || p.proname, p.proowner, p.pronamespace FROM pg_catalog.pg_proc AS p
    )
    SELECT coalesce(r.rolname, 'PUBLIC') AS role, pg_catalog.string_agg(t.name, ', ' ORDER BY t.name) AS has
    FROM thing AS t CROSS JOIN me LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = t.role
    WHERE t.schema = pg_catalog.to_regnamespace('{INTERNAL_SCHEMA}') AND t.role NOT IN (me.oid, me.datdba)
      AND NOT coalesce(r.rolsuper OR r.rolcreaterole, false)
      AND NOT coalesce(NOT me.rolsuper AND pg_catalog.pg_has_role(me.oid, r.oid, 'USAGE'), false)
    GROUP BY 1 ORDER BY 1
"""
STRANGERS_SCRIPT = f"""
    DO $$
    DECLARE
      found text := (SELECT pg_catalog.string_agg(s.role || ': ' || s.has, '; ') FROM ({_STRANGERS}) AS s);
    BEGIN
      IF found IS NOT NULL THEN
        RAISE EXCEPTION 'The schema {INTERNAL_SCHEMA} is not this login''s alone, so nothing was run (%). Look what is '
          'in it, and have an administrator run: DROP SCHEMA {INTERNAL_SCHEMA} CASCADE;', found;
      END IF;
    END
    $$
"""

# Nothing of a stranger's is read before it is known that there is none: a rule or a policy of theirs would run.
_IS_OURS = f"""
    SELECT CASE WHEN pg_catalog.has_schema_privilege(pg_catalog.to_regnamespace('{INTERNAL_SCHEMA}'), 'USAGE') THEN
      pg_catalog.has_table_privilege(pg_catalog.to_regclass('{INTERNAL_SCHEMA}.alembic_version'), 'SELECT')
      AND pg_catalog.has_table_privilege(pg_catalog.to_regclass('{INTERNAL_SCHEMA}.role_names'), 'SELECT')
      AND pg_catalog.to_regclass('{INTERNAL_SCHEMA}.{UNFINISHED}') IS NULL
      AND NOT EXISTS ({_STRANGERS})
    END
"""
_STANDS = f"""
    SELECT ARRAY(SELECT v.version_num::text FROM {INTERNAL_SCHEMA}.alembic_version AS v) AS revisions,
           (SELECT pg_catalog.json_object_agg(r.logical, r.actual) FROM {INTERNAL_SCHEMA}.role_names AS r) AS roles
"""


@contextlib.contextmanager
def version_table(connection: sa.Connection) -> Iterator[None]:
    """Create schema ``chat_internal`` where it is missing and commit; afterwards leave nothing behind at base.

    Base is where ``downgrade base`` ends, and where a first revision that failed leaves the database. Raises
    :class:`alembic.util.CommandError` when a schema of that name is somebody else's by now: a rehearsal takes a while.
    """
    refuse_strangers(connection)
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


def roles_where_at(connection: sa.Connection, revisions: Collection[str]) -> Roles | None:
    """Return the recorded roles where the database stands at these revisions, None where a run has to look closer.

    Asks twice, takes no lock that anybody waits for, and leaves no transaction open.
    """
    stands = connection.execute(sa.text(_STANDS)).one() if connection.scalar(sa.text(_IS_OURS)) else None
    connection.rollback()
    return Roles(**stands.roles) if stands and stands.roles and sorted(stands.revisions) == sorted(revisions) else None


def refuse_strangers(connection: sa.Connection) -> None:
    """Refuse a schema in which others own or create things: a trigger of theirs would run with our rights."""
    found = connection.execute(sa.text(_STRANGERS)).all()
    if not found:
        return
    quote = connection.dialect.identifier_preparer.quote
    held = "\n".join(f"  {row.role}: {row.has}" for row in found)
    if all(row.has == "CREATE on it" for row in found):
        mend = "Have its owner run:" + "".join(
            f"\n  REVOKE CREATE ON SCHEMA {INTERNAL_SCHEMA} FROM"
            f" {row.role if row.role == 'PUBLIC' else quote(row.role)};"
            for row in found
        )
    else:
        mend = (
            "If one of these roles migrates this database, run the command as that role. Otherwise look what is in the "
            f"schema, and have an administrator run:\n  DROP SCHEMA {INTERNAL_SCHEMA} CASCADE;"
        )
    raise CommandError(
        f"The schema {INTERNAL_SCHEMA} is not this login's alone, so nothing was run: what others put there would run "
        f"with the rights of whoever migrates. It has\n{held}\n{mend}"
    )


def refuse_wrong_revision(connection: sa.Connection, script: ScriptDirectory) -> None:
    """Raise :class:`alembic.util.CommandError` at two revisions, or at one that this package does not have."""
    found = current_revisions(connection)
    if len(found) > 1:
        raise CommandError(f"Nothing was run: {several_revisions(found)}")
    known = {revision.revision for revision in script.walk_revisions()}
    unknown = [revision for revision in found if revision not in known]
    if unknown:
        raise CommandError(
            f"The database is at revision {', '.join(unknown)}, which this version of chat-schema does not have, so "
            "nothing was run. A newer version has migrated it: install that one, then run the command again."
        )


def current_revisions(connection: sa.Connection) -> list[str]:
    """Return what the version table holds: one revision, none where there is no such table, or too many."""
    if not sa.inspect(connection).has_table(_VERSION.name, INTERNAL_SCHEMA):
        return []
    return sorted(connection.scalars(sa.select(_VERSION.c.version_num)))


def several_revisions(found: Sequence[str]) -> str:
    """Say what is wrong with a version table that holds all these revisions, and how it is mended."""
    return (
        f"the version table {INTERNAL_SCHEMA}.alembic_version holds {len(found)} rows ({', '.join(found)}), and a "
        "database is at one revision: no command can tell which. Find out which one it is, then run `chat-schema stamp "
        "--purge REVISION`."
    )


def _drop_at_base(connection: sa.Connection) -> None:
    connection.rollback()
    # longer than deadlock_timeout, after which autovacuum gives way: each revision has written to the version table
    connection.execute(sa.text("SELECT pg_catalog.set_config('lock_timeout', '10s', true)"))
    if sa.inspect(connection).has_table(_VERSION.name, INTERNAL_SCHEMA):
        if connection.scalar(sa.select(sa.func.count()).select_from(_VERSION)):
            connection.rollback()
            return
        _VERSION.drop(connection)
    if connection.scalar(_EMPTY_AND_OURS, {"name": INTERNAL_SCHEMA}):
        connection.execute(sa.schema.DropSchema(INTERNAL_SCHEMA))
    connection.commit()
