"""Which revision a database is at, asked with the rights of a service's login, and whether that is what it needs.

The login of a service sees nothing by itself. From revision 0046 on the roles that it may become read the revision, so
it is read as the first of them that can; a login that reads it by itself, the owner's, switches to none. Settings last
for a savepoint that is rolled back: the transaction of a caller goes on as it was.

Nothing is read before the catalog says that it is a plain table: a view, a rule or a policy that somebody put there
before the first upgrade would run code with the rights of whoever asks.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from .database import project_folder
from .engine.session import SEARCH_PATH

READABLE_FROM = "0046"

_SAFE_PATH = sa.text("SELECT pg_catalog.set_config('search_path', :path, true)")
_BECOME = sa.text("SELECT pg_catalog.set_config('role', :role, true)")
_STANDS = sa.text(
    """
    WITH stands AS (
      SELECT n.oid AS schema, c.oid AS relation, c.relowner AS owner, a.attnum AS attribute,
        c.relkind = 'r' AND NOT c.relhasrules AND NOT c.relhassubclass AND a.atttypid = 'varchar'::regtype
          AND NOT EXISTS (SELECT FROM pg_policy AS p WHERE p.polrelid = c.oid
                          AND pg_get_expr(p.polqual, p.polrelid) NOT IN ('true', 'false')) AS is_plain
      FROM pg_namespace AS n
      JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = 'alembic_version'
      LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'version_num'
      WHERE n.nspname = 'chat_internal'
    ), opened AS (
      SELECT p.polroles FROM stands AS s JOIN pg_policy AS p ON p.polrelid = s.relation
      WHERE p.polcmd IN ('r', '*') AND pg_get_expr(p.polqual, p.polrelid) = 'true'
    ), reader AS (
      SELECT r.rolname::text AS name
      FROM stands AS s CROSS JOIN pg_roles AS r
      CROSS JOIN LATERAL (
        SELECT r.rolsuper OR r.rolbypassrls OR pg_has_role(r.oid, s.owner, 'USAGE') AS bypasses,
               EXISTS (SELECT FROM opened AS o CROSS JOIN unnest(o.polroles) AS u (oid)
                       WHERE pg_has_role(r.oid, u.oid, 'USAGE')) AS covered
      ) AS rows
      WHERE (r.rolname = current_user OR pg_has_role(session_user, r.oid,
              CASE WHEN current_setting('server_version_num')::integer >= 160000 THEN 'SET' ELSE 'MEMBER' END))
        AND has_schema_privilege(r.oid, s.schema, 'USAGE')
        AND has_column_privilege(r.oid, s.relation, s.attribute, 'SELECT')
        AND (rows.bypasses OR rows.covered)
      ORDER BY r.rolname <> current_user, rows.bypasses, r.rolname LIMIT 1
    )
    SELECT session_user::text AS login, current_user::text AS role, s.relation IS NOT NULL AS exists, s.is_plain,
           EXISTS (SELECT FROM opened) AS is_opened, (SELECT r.name FROM reader AS r) AS reader
    FROM (SELECT) AS always LEFT JOIN stands AS s ON true
    """
)
_READ = sa.text("SELECT v.version_num::text FROM chat_internal.alembic_version AS v ORDER BY 1")


class RevisionError(RuntimeError):
    """The database is not at the revision that is needed: where it is and what follows (``says``), and what to run.

    ``may_pass`` tells whether an upgrade of this package's would mend it, so that waiting makes sense.
    """

    def __init__(self, says: str, mend: str, *, may_pass: bool = False) -> None:
        super().__init__(f"{says} {mend}")
        self.says = says
        self.may_pass = may_pass


def require_head(bind: sa.Engine | sa.Connection, *, or_newer: bool = False) -> None:
    """Raise :class:`RevisionError` unless the database is at the head of the installed package.

    Called at the start of a service, with its own login. With ``or_newer`` a database that a newer package has migrated
    is welcome too: an older release of a service that is started again while its successor is rolled out.
    """
    if isinstance(bind, AsyncEngine | AsyncConnection):
        raise TypeError(f"{type(bind).__name__} is asynchronous: await require_head_async(...) instead.")
    if isinstance(bind, sa.Engine):
        with bind.connect() as connection:
            require(connection, or_newer=or_newer)
    else:
        require(bind, or_newer=or_newer)


async def require_head_async(bind: AsyncEngine | AsyncConnection, *, or_newer: bool = False) -> None:
    """Do as :func:`require_head` does, for an asynchronous engine or connection."""
    if isinstance(bind, AsyncEngine):
        async with bind.connect() as connection:
            await connection.run_sync(require, or_newer=or_newer)
    else:
        await bind.run_sync(require, or_newer=or_newer)


def require(connection: sa.Connection, wanted: str = "head", *, or_newer: bool = False) -> str:
    """Return the revision that the database is at; raise :class:`RevisionError` where it is not ``wanted``.

    A number is what the database must at least be at; ``head`` is exact, unless ``or_newer``.
    """
    needed = chain()[-1] if wanted == "head" else wanted
    needs = f"and {needed}" + (" is the head of the installed chat-schema" if wanted == "head" else " is needed")
    found = read_revision(connection)
    if found is None:
        raise RevisionError(
            f"The database has no chat-schema, {needs}: no table of it is there yet.",
            "Run `chat-schema upgrade head`, or check that the address leads to the right database.",
            may_pass=True,
        )
    if found in behind(needed):
        raise RevisionError(
            f"The database is at revision {found}, {needs}: what came since is not there yet.",
            f"Run `chat-schema upgrade {wanted}`, or let `chat-schema wait --for {wanted}` wait for whoever does.",
            may_pass=True,
        )
    if wanted == "head" and found != needed and not or_newer:
        raise RevisionError(
            f"The database is at revision {found}, which the installed chat-schema does not have, {needs}: a newer "
            "version has migrated it, and may have changed what this one relies on.",
            "Install that version here. Where an older release is to run beside a newer one, allow it: or_newer=True, "
            "`chat-schema wait --or-newer`.",
        )
    return found


def behind(revision: str) -> list[str]:
    """Return the revisions below ``revision``; one that this package does not have is above all that it has."""
    known = chain()
    return known[: known.index(revision)] if revision in known else known


@functools.cache
def chain() -> list[str]:
    """Return the revisions of the installed package, the first one first."""
    script = ScriptDirectory.from_config(Config(project_folder() / "alembic.ini"))
    return [revision.revision for revision in reversed(list(script.walk_revisions()))]


def read_revision(connection: sa.Connection) -> str | None:
    """Return the revision that the database is at, None where there is none, and leave the transaction as it was.

    Raises :class:`RevisionError` where the login may not read it, or where what is there is not chat-schema's.
    """
    with _savepoint(connection):
        connection.execute(_SAFE_PATH, {"path": SEARCH_PATH})
        stands = connection.execute(_STANDS).one()
        if not stands.exists:
            return None
        if not stands.is_plain:
            raise RevisionError(
                "chat_internal.alembic_version is no table as chat-schema makes it, so it was not read: that could run "
                "what somebody else has put there.",
                "Have the owner of the database look who made it (\\dt+ chat_internal.* in psql).",
            )
        if stands.reader is None:
            raise _unreadable(stands, connection)
        if stands.reader != stands.role:
            connection.execute(_BECOME, {"role": stands.reader})
        found = list(connection.scalars(_READ))
    if len(found) > 1:
        raise RevisionError(
            f"The version table holds {len(found)} revisions ({', '.join(found)}), so the database is at none that "
            "anybody could name.",
            "Run `chat-schema verify`: it says how that is mended.",
        )
    return found[0] if found else None


def _unreadable(stands: sa.Row[Any], connection: sa.Connection) -> RevisionError:
    """Explain why the login reads no revision: before 0046 the owner alone does."""
    login = connection.dialect.identifier_preparer.quote(stands.login)
    if not stands.is_opened:
        return RevisionError(
            f"The database is at a revision before {READABLE_FROM}, which the login {login} cannot read: what came "
            "since is not there yet.",
            "Run `chat-schema upgrade head`.",
            may_pass=True,
        )
    return RevisionError(
        f"The login {login} may not read which revision the database is at, so it cannot tell whether that fits.",
        "Have an administrator make it a member of the role for users, or of the one for services:\n"
        f"  GRANT authenticated TO {login};",
        may_pass=True,
    )


@contextmanager
def _savepoint(connection: sa.Connection) -> Iterator[None]:
    """Let what is set within end with it, and the caller's transaction be as it was, or none where it had none."""
    driver = connection.connection.dbapi_connection
    if driver is not None and connection.dialect.detect_autocommit_setting(driver):
        raise RevisionError(
            "This connection is in autocommit (isolation level AUTOCOMMIT), so nothing was read: the role that reads "
            "the revision is set for one transaction.",
            "Hand over an engine or connection without it.",
        )
    had_one = connection.in_transaction()
    savepoint = connection.begin_nested()
    try:
        yield
    finally:
        if not connection.closed and not connection.invalidated:
            if savepoint.is_active:
                savepoint.rollback()
            if not had_one:
                connection.rollback()
