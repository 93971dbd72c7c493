"""The look: what of a database stands in the way of an upgrade, found before the first change and without one.

A revision that asks something of what stands has a query in ``LOOK``. It reads the catalog alone and returns rows
``(says, mends, rows, unsafe)``:

* ``says`` is the obstacle, ``mends`` the statements that mend it (NULL: none that we know).
* ``rows`` is NULL where the obstacle is one as it stands; else a query for the keys of rows that would be in the way.
  It is run, and where it finds any, ``{count}`` and ``{first}`` in ``says`` become how many and the first of them.
* ``unsafe`` says that reading rows could run the code of others, so no query of any look is run.

In the query ``{roles}`` stands for an array of the names of the three roles, ``{moves}`` for what
``-x on-owner-mismatch=move`` says, ``{leaves}`` for what ``-x chats-elsewhere=leave`` says.

The looks of all revisions that an upgrade has before it are asked together, so a look must be true of every state of
the database before its revision. A script asks all of them where it begins with the first revision.
"""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from .engine.obstacles import Obstacle
from .options import Options

HEADING = "This database cannot be upgraded as it is, so nothing was changed. In the way:"
_UNREAD = "Rows were not looked at yet: to read them could run the code of others that is named above."


def looks(script: ScriptDirectory, heads: tuple[str, ...], options: Options) -> list[str]:
    """Return the queries of every revision between ``heads`` and the head of the chain, the first revision's first."""
    ahead = [*script.iterate_revisions("head", heads or "base")]
    queries = [query for revision in reversed(ahead) if (query := getattr(revision.module, "LOOK", None))]
    return [filled(query, options) for query in queries]


def obstacles(connection: sa.Connection, queries: list[str]) -> list[Obstacle]:
    """Ask ``queries`` in one read-only transaction and return every obstacle that they find."""
    connection.rollback()
    try:
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        connection.exec_driver_sql("SET LOCAL lock_timeout = 0")  # it waits for AccessShare, and nobody waits for it
        return list(found(connection, queries))
    finally:
        connection.rollback()


def refuse(standing: list[Obstacle]) -> None:
    """Raise :class:`alembic.util.CommandError` that names every obstacle of ``standing``, if there is any."""
    if standing:
        raise CommandError(told(standing))


def told(standing: list[Obstacle]) -> str:
    """Return the message that names every obstacle of ``standing``."""
    return "\n- ".join([HEADING, *map(str, standing)])


def found(connection: sa.Connection, queries: list[str]) -> Iterator[Obstacle]:
    """Yield what ``queries`` find within the transaction that is open."""
    ask = connection.execution_options(no_parameters=True).exec_driver_sql
    asked = [row for query in queries for row in ask(query)]
    unsafe = any(row.unsafe for row in asked)
    for row in asked:
        if row.rows is None:
            yield Obstacle(row.says, row.mends or "")
        elif not unsafe and (count := ask(f"SELECT count(*) FROM ({row.rows}) AS r (key)").scalar()):
            first = ask(f"SELECT r.key::text FROM ({row.rows}) AS r (key) ORDER BY 1 LIMIT 3").scalars()
            yield Obstacle(_counted(row.says, f"{count:,}", ", ".join(map(str, first))), row.mends or "")
    if unsafe:
        yield Obstacle(_UNREAD)


def as_script(queries: list[str]) -> str:
    """Return the same look as a statement for psql, which raises what it finds."""
    asked = " UNION ALL ".join(f"SELECT * FROM ({query}) AS look (says, mends, rows, unsafe)" for query in queries)
    return f"""
        DO $look$
        DECLARE
          v_row record;
          v_found text := '';
          v_count bigint;
          v_first text;
          v_unsafe boolean := false;
        BEGIN
          FOR v_row IN SELECT * FROM ({asked}) AS asked ORDER BY (asked.unsafe IS TRUE) DESC LOOP
            v_unsafe := v_unsafe OR v_row.unsafe IS TRUE;
            v_count := 1;
            v_first := NULL;
            CONTINUE WHEN v_row.rows IS NOT NULL AND v_unsafe;
            IF v_row.rows IS NOT NULL THEN
              EXECUTE 'SELECT count(*) FROM (' || v_row.rows || ') AS r (key)' INTO v_count;
              EXECUTE 'SELECT string_agg(f.key, '', '') FROM (SELECT r.key::text FROM (' || v_row.rows
                || ') AS r (key) ORDER BY 1 LIMIT 3) AS f' INTO v_first;
            END IF;
            CONTINUE WHEN v_count = 0;
            v_found := v_found || E'\\n- ' || replace(replace(v_row.says, '{{count}}', v_count::text), '{{first}}',
              coalesce(v_first, '')) || coalesce(E'\\n    ' || replace(v_row.mends, E'\\n', E'\\n    '), '');
          END LOOP;
          IF v_found <> '' THEN
            RAISE EXCEPTION '{HEADING}%', v_found || CASE WHEN v_unsafe THEN E'\\n- {_UNREAD}' ELSE '' END;
          END IF;
        END
        $look$
    """


def filled(query: str, options: Options) -> str:
    """Return ``query`` with what the options say in it."""
    names = (options.anon_role, options.authenticated_role, options.service_role)
    array = "ARRAY[" + ", ".join("'" + name.replace("'", "''") + "'" for name in names) + "]::text[]"
    leaves = options.chats_elsewhere == "leave"
    query = query.replace("{roles}", array)
    return query.replace("{moves}", str(options.moves_strays).lower()).replace("{leaves}", str(leaves).lower())


def _counted(says: str, count: str, first: str) -> str:
    return says.replace("{count}", count).replace("{first}", first)
