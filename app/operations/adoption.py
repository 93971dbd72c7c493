"""Tables, views and functions that may stand already: made where they do not, brought into shape where they do.

The work is done by functions in chat_internal (revisions 0002 to 0005), so that it is the same online and offline.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

from alembic.operations import Operations
from sqlalchemy.sql.schema import SchemaItem

from .. import look
from ..engine.operations.backfill import backfill
from ..engine.operations.data_loss import refuse_data_loss
from ..engine.operations.indexes import outside_transaction
from ..engine.operations.registry import (
    is_offline,
    literal,
    operation,
    options_of,
    quoted,
    rows,
    scalar,
    statement,
    written_by,
)
from ..options import Options

log = logging.getLogger("chat_schema")

_ASIDE = "chat_internal"
_BACKFILLS = _VALUES, _OWNERS = "values", "owners"


@operation
def stage_table(operations: Operations, table: str, *parts: SchemaItem) -> None:
    """Create ``table`` aside, in chat_internal, where indexes, triggers, policies and grants are put on it as well.

    :func:`adopt_table` makes it the table of schema public.
    """
    if not is_offline(operations):  # a script's revision is one transaction, which leaves nothing behind
        statement(operations, f"DROP TABLE IF EXISTS {quoted(operations, f'{_ASIDE}.{table}')}")
    operations.create_table(table, *parts, schema=_ASIDE)


@operation
def adopt_table(operations: Operations, table: str) -> None:
    """Move the staged ``table`` to schema public, or bring the one that stands there into its shape.

    What is changed is journalled, for :func:`release_table`, and logged. What takes long, and what is left of the
    staged table, is :func:`finish_table`'s. Lock: AccessExclusive on the table that stands, an instant.
    """
    with _logged(operations, table):
        statement(operations, f"SELECT chat_internal.adopt_table({literal(table)})")


@operation
def order_adopted(operations: Operations, table: str, query: str) -> None:
    """Keep the order of rows in chat_internal.<table>_order: ``query`` gives (id, place).

    One sort of the whole table, which blocks nobody: what was locked before is let go of first.
    """
    order = quoted(operations, f"{_ASIDE}.{table}_order")
    # one that a killed run has left is whole, and some rows have their places by it
    kept = f"CREATE TABLE IF NOT EXISTS {order} AS {query}"
    indexed = f"CREATE UNIQUE INDEX IF NOT EXISTS {table}_order_id ON {order} (id)"
    if is_offline(operations):
        _when_adopted(operations, table, lambda: statement(operations, f"{kept};\n{indexed}"))
    elif _stands_aside(operations, table):
        with outside_transaction(operations):
            statement(operations, kept)
            statement(operations, indexed)


@operation
def fill_adopted(
    operations: Operations,
    table: str,
    values: Mapping[str, str],
    derived: Mapping[str, str] = MappingProxyType({}),
    key: Sequence[str] = ("id",),
    times: Sequence[str] = (),
    note: bool = False,
) -> None:
    """Replace the NULLs of an adopted ``table``: ``values`` is column -> expression on the row ``t``.

    In the columns ``times`` a time that no driver can read (infinite, before year 1, after 9999) counts as NULL. What
    was there is kept for the downgrade; with ``note`` metadata.legacy.was_null names the columns that were NULL. NULLs
    of ``derived`` columns, which adoption has added, are not worth keeping.
    Locks: the rows of one batch, until its commit.
    """

    def lacks(column: str, row: str = "t") -> str:
        value = f"{row}.{column}"
        if column not in times:
            return f"{value} IS NULL"
        first, end = (f"timestamp '{day}' AT TIME ZONE 'UTC'" for day in ("0001-01-02", "9999-12-31"))
        return f"({value} >= {first} AND {value} < {end}) IS NOT TRUE"

    name = quoted(operations, table)
    pending = " OR ".join(lacks(column) for column in (*values, *derived))
    is_kept = " OR ".join(lacks(column) for column in values)
    changes = {
        column: f"CASE WHEN {lacks(column)} THEN {value} ELSE t.{column} END"
        for column, value in (*values.items(), *derived.items())
    }
    kept = dict.fromkeys([*key, *values, *(["metadata"] if note else [])])
    before, after = (
        [
            f"CASE WHEN {lacks(column, 'former')} THEN pg_catalog.jsonb_build_object('{column}', {row}.{column})"
            " ELSE '{}' END"
            for column in values
        ]
        for row in ("former", "t")
    )
    if note:
        was_null = " OR ".join(f"t.{column} IS NULL" for column in values)
        names = ", ".join(f"CASE WHEN t.{column} IS NULL THEN '{column}' END" for column in values)
        changes["metadata"] = (
            f"CASE WHEN {was_null} THEN coalesce(t.metadata, '{{}}') || pg_catalog.jsonb_build_object('legacy',"
            " coalesce(t.metadata -> 'legacy', '{}') || pg_catalog.jsonb_build_object('was_null',"
            f" pg_catalog.array_remove(ARRAY[{names}], NULL))) ELSE t.metadata END"
        )
        before.append("pg_catalog.jsonb_build_object('metadata', former.metadata)")
        after.append("pg_catalog.jsonb_build_object('metadata', t.metadata)")
    key_of = ", ".join(f"'{each}', t.{each}" for each in key)
    batch = f"""
        WITH quiet AS MATERIALIZED (
          SELECT pg_catalog.set_config('chat_internal.adopting', 'yes', true)
        ), former AS MATERIALIZED (
          SELECT {", ".join(f"t.{column}" for column in kept)}, {is_kept} AS is_kept
          FROM {name} AS t WHERE {{batch}} AND ({pending})
          FOR NO KEY UPDATE
        ), changed AS (
          UPDATE {name} AS t SET {", ".join(f"{column} = {value}" for column, value in changes.items())}
          FROM former, quiet
          WHERE {" AND ".join(f"t.{column} = former.{column}" for column in key)}
          RETURNING former.is_kept, pg_catalog.jsonb_build_object({key_of}) AS key,
            {" || ".join(before)} AS before, {" || ".join(after)} AS after
        ), kept AS (
          INSERT INTO chat_internal.adopted_values AS v (object, key, before, after)
          SELECT {literal(table)}, c.key, c.before, c.after FROM changed AS c WHERE c.is_kept
          ON CONFLICT (object, key) DO UPDATE
          SET before = EXCLUDED.before || v.before, after = v.after || EXCLUDED.after
        )
        SELECT FROM changed
    """
    _when_adopted(
        operations,
        table,
        lambda: backfill(operations, f"{_VALUES} of {table}", table=table, alias="t", batch=batch, pending=pending),
    )


@operation
def look_again(operations: Operations, query: str) -> None:
    """Ask a LOOK once more, now that nobody can change what it asks for; see :mod:`app.look`.

    Raises :class:`alembic.util.CommandError` that names every obstacle. Offline the script raises instead.
    """
    queries = [look.filled(query, _options(operations))]
    if is_offline(operations):
        statement(operations, look.as_script(queries))
    else:
        look.refuse(list(look.found(operations.get_bind(), queries)))


@operation
def keep_what_stood(operations: Operations) -> None:
    """Record what stood before the chain, is not ours and weakens our tables, and log each; a script raises notices."""
    settle = "SELECT chat_internal.settle_surroundings()"
    if is_offline(operations):
        statement(
            operations,
            f"DO $$ DECLARE kept text; BEGIN FOR kept IN {settle} LOOP RAISE NOTICE 'kept as yours: %', kept;"
            " END LOOP; END $$",
        )
        return
    for (kept,) in rows(operations, settle):
        log.info("kept as yours: %s", kept)


@operation
def move(operations: Operations, table: str, batch: str, pending: str) -> None:
    """Backfill rows ``t`` whose owner is not that of what they hang on, if ``-x on-owner-mismatch=move`` says so."""
    if _options(operations).moves_strays:
        backfill(operations, f"{_OWNERS} of {table}", table=table, alias="t", batch=batch, pending=pending)


@operation
def move_to_owner(operations: Operations, table: str, adopted: str) -> None:
    """Move messages that stand in somebody else's conversation to their writer's default one, if the option says so.

    Where they stood is kept under ``adopted``; a conversation that is made for them goes again with the downgrade.
    """
    name = quoted(operations, table)
    if not _options(operations).moves_strays:
        return
    empty = (
        "DELETE FROM public.conversations AS c WHERE c.id = chat_internal.default_conversation_id(c.user_id)"
        " AND c.title = 'Chat History' AND c.metadata = '{}'"
        f" AND NOT EXISTS (SELECT FROM {name} AS m WHERE m.conversation_id = c.id)"
    )
    statement(
        operations,
        f"SELECT chat_internal.change({literal(adopted)}, 'default conversations made', '', {literal(empty)})",
    )
    move(
        operations,
        table,
        f"""
        WITH stray AS MATERIALIZED (
          SELECT t.id, t.user_id, t.conversation_id, t.created_at
          FROM {name} AS t JOIN public.conversations AS c ON c.id = t.conversation_id
          WHERE {{batch}} AND c.user_id <> t.user_id
          FOR NO KEY UPDATE OF t
        ), owner AS MATERIALIZED (
          SELECT u.user_id, u.first_at, u.last_at, c.id
          FROM (
            SELECT s.user_id, min(s.created_at) AS first_at, max(s.created_at) AS last_at
            FROM stray AS s GROUP BY s.user_id
          ) AS u
          LEFT JOIN LATERAL (
            SELECT c.id FROM public.conversations AS c
            WHERE c.user_id = u.user_id AND c.tenant_id IS NULL
            ORDER BY c.created_at, c.id
            LIMIT 1
            FOR KEY SHARE
          ) AS c ON TRUE
        ), made AS (
          INSERT INTO public.conversations AS c (id, user_id, title, created_at, updated_at)
          SELECT chat_internal.default_conversation_id(o.user_id), o.user_id, 'Chat History',
                 coalesce(o.first_at, now()), coalesce(o.last_at, now())
          FROM owner AS o WHERE o.id IS NULL
          ORDER BY o.user_id
          ON CONFLICT (id) DO UPDATE SET title = c.title
          RETURNING id, user_id
        ), moved AS (
          UPDATE {name} AS t SET conversation_id = coalesce(o.id, n.id)
          FROM stray AS s JOIN owner AS o USING (user_id) LEFT JOIN made AS n USING (user_id)
          WHERE t.id = s.id
          RETURNING t.id, s.conversation_id AS former, t.conversation_id AS present
        ), kept AS (
          INSERT INTO chat_internal.adopted_values AS v (object, key, before, after)
          SELECT {literal(adopted)}, pg_catalog.jsonb_build_object('id', m.id),
                 pg_catalog.jsonb_build_object('conversation_id', m.former),
                 pg_catalog.jsonb_build_object('conversation_id', m.present)
          FROM moved AS m
          ON CONFLICT (object, key) DO UPDATE
          SET before = EXCLUDED.before || v.before, after = v.after || EXCLUDED.after
        )
        SELECT FROM moved
        """,
        pending="EXISTS (SELECT FROM public.conversations AS c WHERE c.id = t.conversation_id"
        " AND c.user_id <> t.user_id)",
    )


@operation
def finish_table(operations: Operations, table: str) -> None:
    """Build what indexes an adopted ``table`` lacks, validate its constraints, drop what has been replaced.

    Nothing to do for a table that the chain made. Locks: ShareUpdateExclusive while building and validating, and
    AccessExclusive for an instant before and after that. A script builds within its transaction instead, and blocks
    writers meanwhile.
    """
    if not is_offline(operations):
        if not _stands_aside(operations, table):
            return
        steps = [step for (step,) in rows(operations, f"SELECT chat_internal.adoption_steps({literal(table)})")]
        with outside_transaction(operations):
            for step in steps:
                log.info("%s", step)
                # others would queue behind it if it waited for its lock as a build may
                short = _options(operations).lock_timeout if " ADD CONSTRAINT " in step else 0
                statement(operations, f"SET lock_timeout = '{short * 1000:.0f}ms'")
                statement(operations, step)
    with _logged(operations, table):
        statement(operations, f"SELECT chat_internal.finish_adoption({literal(table)})")
    # Its keys lock the tables they point at. A client that has locked one of those may be waiting for this table, and
    # whoever goes on to the next table with this one locked waits for clients that wait for it.
    _commit(operations)
    aside = quoted(operations, f"{_ASIDE}.{table}")
    statement(operations, f"DO $$ BEGIN DROP TABLE IF EXISTS {aside}; END $$")  # linters need not look at it
    _commit(operations)


@operation
def entitle(operations: Operations, adopted: str, table: str, command: str, rights: Sequence[str]) -> None:
    """Give the team's own roles that hold ``command`` on ``table`` the ``rights`` that their old statements now need.

    A right is written ``UPDATE (updated_at) ON TABLE public.conversations``; what a role has already it keeps. What is
    given is journalled under ``adopted``, for :func:`release`. Lock: AccessExclusive, an instant, on a table whose
    policies let such a role in.
    """
    with _logged(operations, adopted):
        asked = ", ".join(literal(right) for right in rights)
        statement(
            operations,
            f"SELECT chat_internal.entitle({literal(adopted)}, {literal(table)}, {literal(command)}, ARRAY[{asked}])",
        )


@operation
def release_table(operations: Operations, table: str, what: str, lost: str = "true") -> None:
    """Undo :func:`adopt_table`: drop the table that the chain made, or give back the shape that it found.

    Refused as :func:`refuse_data_loss` is, for rows of a made table that meet ``lost`` and for those that the older
    shape cannot hold; ``what`` names them.
    """
    refuse_data_loss(operations, what, f"SELECT chat_internal.adoption_losses({literal(table)}, {literal(lost)})")
    if not is_offline(operations):  # what an upgrade has left that did not come to its end
        for left in (table, f"{table}_order"):
            statement(operations, f"DROP TABLE IF EXISTS {quoted(operations, f'{_ASIDE}.{left}')}")
        begun = ", ".join(literal(f"{backfilled} of {table}") for backfilled in _BACKFILLS)
        statement(operations, f"DELETE FROM chat_internal.backfill_progress WHERE name IN ({begun})")
    release(operations, table)


@operation
def release(operations: Operations, adopted: str) -> None:
    """Undo every journalled change of one object, the last first."""
    statement(operations, f"SELECT chat_internal.release({literal(adopted)})")


@operation
def adopt_function(operations: Operations, signature: str, definition: str) -> None:
    """Run ``definition``, a CREATE OR REPLACE FUNCTION; one that stands in public is kept for :func:`release`."""
    statement(operations, f"SELECT chat_internal.adopt_function({literal(signature)}, {literal(definition)})")


@operation
def adopt_view(operations: Operations, name: str, definition: str) -> None:
    """Run ``definition``, a CREATE OR REPLACE VIEW; one that stands in public is kept for :func:`release`."""
    statement(operations, f"SELECT chat_internal.adopt_view({literal(name)}, {literal(definition)})")


@operation
def when(
    operations: Operations,
    condition: str,
    then: Callable[[], Any],
    otherwise: Callable[[], Any] | None = None,
) -> None:
    """Call ``then`` where the SQL ``condition`` holds, else ``otherwise``.

    Offline both are written: each of their statements looks at the condition itself. What they do must not change
    the answer.
    """
    if not is_offline(operations):
        chosen = then if scalar(operations, f"SELECT {condition}") else otherwise
        if chosen is not None:
            chosen()
        return
    for answer, branch in ((condition, then), (f"NOT ({condition})", otherwise)):
        if branch is None:
            continue
        for text in written_by(operations, branch):
            depth = next(number for number in itertools.count() if f"$when{number}$" not in text)
            statement(
                operations,
                f"DO $do{depth}$ BEGIN IF {answer} THEN EXECUTE $when{depth}$\n{text}\n$when{depth}$;"
                f" END IF; END $do{depth}$",
            )


def _when_adopted(operations: Operations, table: str, then: Callable[[], Any]) -> None:
    when(operations, f"pg_catalog.to_regclass('{_ASIDE}.{table}') IS NOT NULL", then)


def _stands_aside(operations: Operations, table: str) -> bool:
    return bool(scalar(operations, f"SELECT pg_catalog.to_regclass('{_ASIDE}.{table}') IS NOT NULL"))


def _commit(operations: Operations) -> None:
    if not is_offline(operations):
        with operations.get_context().autocommit_block():
            pass


@contextlib.contextmanager
def _logged(operations: Operations, table: str) -> Iterator[None]:
    """Log what is journalled meanwhile; a script raises it as notices."""
    if is_offline(operations):
        yield
        return
    last = scalar(operations, "SELECT coalesce(max(ordinal), 0) FROM chat_internal.adopted")
    yield
    changes = f"FROM chat_internal.adopted WHERE ordinal > {last} AND undo <> '' AND what <> 'values kept'"
    for (what,) in rows(operations, f"SELECT what {changes} AND what <> 'created' ORDER BY ordinal"):
        log.info("%s: %s", table, what)


def _options(operations: Operations) -> Options:
    return cast(Options, options_of(operations))
