"""What the database says of its objects: ``COMMENT ON``, which psql, dashboards and generated documentation show."""

from __future__ import annotations

from collections.abc import Mapping

from alembic.operations import Operations

from ..engine.operations.registry import literal, operation, statement


@operation
def set_comments(
    operations: Operations, comments: Mapping[str, str | None], instead_of: Mapping[str, str] | None = None
) -> None:
    """Comment on each object that has no comment; with ``instead_of`` on each that has the one it names, and no other.

    So the comment of a team stays: tools take instructions from comments, as pg_graphql and PostGraphile do. An object
    is named as COMMENT ON names it: ``TABLE public.messages``, ``COLUMN public.messages.id``. None takes a comment
    away, which is how a downgrade undoes an upgrade: ``op.set_comments(dict.fromkeys(COMMENTS), instead_of=COMMENTS)``.
    Lock: ShareUpdateExclusive on each table and view, an instant.
    """
    before = instead_of or {}
    rows = ",\n              ".join(
        f"({', '.join([*_address(name), *(_text(each) for each in (before.get(name), comment))])})"
        for name, comment in comments.items()
    )
    statement(
        operations,
        f"""
        DO $comments$
        DECLARE
          c record;
        BEGIN
          FOR c IN
            SELECT n.kind, n.name, n.comment
            FROM (VALUES
              {rows}
            ) AS n (kind, name, relation, part, before, comment)
            WHERE n.before IS NOT DISTINCT FROM CASE n.kind
              WHEN 'FUNCTION' THEN pg_catalog.obj_description(pg_catalog.to_regprocedure(n.name), 'pg_proc')
              WHEN 'COLUMN' THEN (SELECT pg_catalog.col_description(a.attrelid, a.attnum)
                FROM pg_catalog.pg_attribute AS a
                WHERE a.attrelid = pg_catalog.to_regclass(n.relation) AND a.attname = n.part)
              ELSE pg_catalog.obj_description(pg_catalog.to_regclass(n.name), 'pg_class') END
          LOOP
            EXECUTE pg_catalog.format('COMMENT ON %s %s IS %L', c.kind, c.name, c.comment);
          END LOOP;
        END
        $comments$
        """,
    )


def _address(name: str) -> list[str]:
    """Return, as literals, what an object is, its name, and table and column of a column."""
    kind, _, rest = name.partition(" ")
    relation, _, part = rest.rpartition(".") if kind == "COLUMN" else ("", "", "")
    return [literal(each) for each in (kind, rest, relation, part)]


def _text(comment: str | None) -> str:
    return "NULL::text" if comment is None else literal(comment)
