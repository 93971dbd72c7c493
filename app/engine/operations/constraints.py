"""Constraints on tables that are in use: added without a scan, validated without blocking writers."""

from __future__ import annotations

from alembic.operations import Operations

from .registry import identifier, operation, quoted, statement


@operation
def add_not_null_check(operations: Operations, table: str, column: str) -> None:
    """Add ``ck_<table>_<column>_present``, a CHECK that binds new rows at once and the old ones not yet.

    Lock: AccessExclusive for an instant; no scan.
    """
    statement(
        operations,
        f"ALTER TABLE {quoted(operations, table)} ADD CONSTRAINT"
        f" {identifier(operations, _not_null_check(table, column))}"
        f" CHECK ({identifier(operations, column)} IS NOT NULL) NOT VALID",
    )


@operation
def drop_not_null_check(operations: Operations, table: str, column: str) -> None:
    """Drop what :func:`add_not_null_check` added. Lock: AccessExclusive for an instant."""
    statement(
        operations,
        f"ALTER TABLE {quoted(operations, table)} DROP CONSTRAINT"
        f" {identifier(operations, _not_null_check(table, column))}",
    )


@operation
def validate_constraint(operations: Operations, name: str, table: str) -> None:
    """Check the old rows against a NOT VALID constraint.

    Lock: ShareUpdateExclusive for the length of one scan (a key takes RowShare on its target too); writers go on.
    """
    statement(operations, f"ALTER TABLE {quoted(operations, table)} VALIDATE CONSTRAINT {identifier(operations, name)}")


@operation
def validate_not_null_check(operations: Operations, table: str, column: str) -> None:
    """Validate what :func:`add_not_null_check` added."""
    validate_constraint(operations, _not_null_check(table, column), table)


@operation
def set_not_null(operations: Operations, table: str, column: str) -> None:
    """Set NOT NULL by the proof of the validated CHECK, then drop the CHECK.

    Lock: AccessExclusive for an instant; PostgreSQL trusts the CHECK and does not scan. In one ALTER TABLE it would
    drop the CHECK first, whatever the order, and scan.
    """
    statement(
        operations,
        f"ALTER TABLE {quoted(operations, table)} ALTER COLUMN {identifier(operations, column)} SET NOT NULL",
    )
    drop_not_null_check(operations, table, column)


def _not_null_check(table: str, column: str) -> str:
    bare = table.rpartition(".")[2]
    return f"ck_{bare}_{column}_present"  # <table>_<column>_not_null is what PostgreSQL 18 calls NOT NULL itself
