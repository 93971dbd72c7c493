"""``op.sql``: a statement that says more as SQL than any wrapper would."""

from __future__ import annotations

from alembic.operations import Operations

from .registry import operation, statement


@operation
def sql(operations: Operations, text: str) -> None:
    """Execute one or more statements to the letter, online and offline.

    Unlike ``op.execute``, a ``:name`` in a function's body is not taken for a bind parameter and a ``%`` stays one.
    """
    statement(operations, text)
