"""Indexes on tables that are in use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from alembic.operations import Operations
from alembic.util import CommandError
from sqlalchemy.exc import IntegrityError

from .registry import (
    identifier,
    is_conditional,
    is_offline,
    literal,
    operation,
    options_of,
    quoted,
    scalar,
    statement,
)


@operation
def create_index_online(
    operations: Operations,
    name: str,
    table: str,
    columns: Sequence[str],
    unique: bool = False,
    where: str | None = None,
    using: str | None = None,
    storage: str | None = None,
    include: Sequence[str] = (),
) -> None:
    """Build an index CONCURRENTLY, outside a transaction, and see to it that it is valid.

    An INVALID index that a killed run left is dropped first (``IF NOT EXISTS`` alone would take it for done); a valid
    one stays, so the revision can be run again. Locks: ShareUpdateExclusive; waits for transactions older than itself.
    Raises :class:`alembic.util.CommandError` when rows are not unique.
    """
    key, included = ", ".join(columns), f" INCLUDE ({', '.join(include)})" if include else ""
    condition = f" WHERE {where}" if where else ""
    index = _beside(operations, table, name)
    build = (
        f"CREATE {'UNIQUE ' if unique else ''}INDEX CONCURRENTLY {identifier(operations, name)}"
        f" ON {quoted(operations, table)}{f' USING {using}' if using else ''} ({key}){included}"
        f"{f' WITH ({storage})' if storage else ''}{condition}"
    )
    if is_conditional(operations):
        statement(operations, build.replace(" CONCURRENTLY", "", 1))
        return
    with outside_transaction(operations):
        if is_offline(operations):
            statement(operations, f"DROP INDEX CONCURRENTLY IF EXISTS {index}")
            statement(operations, build)
            return
        valid = _is_valid(operations, index)
        if valid:
            return
        if valid is False:
            statement(operations, f"DROP INDEX CONCURRENTLY {index}")
        try:
            statement(operations, build)
        except IntegrityError as error:
            statement(operations, f"DROP INDEX CONCURRENTLY IF EXISTS {index}")
            raise CommandError(
                f"{table} holds rows that are not unique in ({key}), so {name} could not be built. "
                f"Find them with: SELECT {key}, count(*) FROM {quoted(operations, table)}{condition} "
                f"GROUP BY {key} HAVING count(*) > 1; mend them and run the upgrade again."
            ) from error
        if not _is_valid(operations, index):
            raise CommandError(f"{name} was built INVALID. Run the upgrade again.")


@operation
def drop_index_online(operations: Operations, name: str) -> None:
    """Drop an index CONCURRENTLY, outside a transaction; fine where none of that name is there, but another object."""
    if is_conditional(operations):
        statement(operations, f"DROP INDEX IF EXISTS {quoted(operations, name)}")
        return
    index = quoted(operations, name)
    if not is_offline(operations) and _is_valid(operations, index) is None:
        return
    with outside_transaction(operations):
        statement(operations, f"DROP INDEX CONCURRENTLY IF EXISTS {index}")


@contextmanager
def outside_transaction(operations: Operations) -> Iterator[None]:
    """Leave the transaction, and the short lock timeout: a concurrent build blocks nobody while it waits."""
    with operations.get_context().autocommit_block():
        statement(operations, "SET lock_timeout = 0")
        try:
            yield
        finally:
            if is_offline(operations) or not operations.get_bind().invalidated:  # a session that is gone has none
                statement(operations, f"SET lock_timeout = '{options_of(operations).lock_timeout * 1000:.0f}ms'")


def _beside(operations: Operations, table: str, name: str) -> str:
    """Return the quoted name of an index of ``table``, in its schema; a script may leave that to the search_path."""
    schema, _, _ = table.rpartition(".")
    if not schema and not is_offline(operations):
        schema = scalar(
            operations,
            "SELECT relnamespace::pg_catalog.regnamespace::text FROM pg_catalog.pg_class"
            f" WHERE oid = pg_catalog.to_regclass({literal(quoted(operations, table))})",
        )
        if schema:
            return f"{schema}.{identifier(operations, name)}"
    return quoted(operations, f"{schema}.{name}" if schema else name)


def _is_valid(operations: Operations, index: str) -> bool | None:
    found = scalar(
        operations,
        f"SELECT indisvalid FROM pg_catalog.pg_index WHERE indexrelid = to_regclass({literal(index)})",
    )
    return None if found is None else bool(found)
