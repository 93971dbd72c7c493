"""Row level security, policies and grants for roles by their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from alembic.operations import Operations

from .registry import identifier, operation, quoted, quoted_role, statement


@operation
def enable_row_level_security(operations: Operations, table: str) -> None:
    """Turn row level security on, not FORCE: the owner's own backfill must see every row."""
    statement(operations, f"ALTER TABLE {quoted(operations, table)} ENABLE ROW LEVEL SECURITY")


@operation
def create_policy(
    operations: Operations,
    name: str,
    table: str,
    command: str,
    to: str,
    using: str | None = None,
    check: str | None = None,
) -> None:
    """Create one permissive policy: ``command`` is SELECT, INSERT, UPDATE, DELETE or ALL, ``to`` a role."""
    text = (
        f"CREATE POLICY {identifier(operations, name)} ON {quoted(operations, table)}"
        f" AS PERMISSIVE FOR {command} TO {quoted_role(operations, to)}"
    )
    if using is not None:
        text += f" USING ({using})"
    if check is not None:
        text += f" WITH CHECK ({check})"
    statement(operations, text)


@operation
def drop_policy(operations: Operations, name: str, table: str) -> None:
    """Drop one policy; it must exist."""
    statement(operations, f"DROP POLICY {identifier(operations, name)} ON {quoted(operations, table)}")


@operation
def grant_to(
    operations: Operations, target: str, rights: Mapping[str, str], revoke_from: Sequence[str] = ("PUBLIC",)
) -> None:
    """Take every right on ``target`` from ``revoke_from`` and from the roles of ``rights``, then grant those.

    ``target`` is ``"invoices"``, ``"SEQUENCE billing.numbers"``, ``"FUNCTION billing.total(uuid)"`` and so on.
    ``rights`` maps a role to its privileges, as ``{"reporting": "SELECT"}``. Default privileges may have granted more:
    name in ``revoke_from`` the roles that have some.
    """
    kind, _, name = (
        target.rpartition(" ") if not target.startswith(("FUNCTION", "PROCEDURE")) else target.partition(" ")
    )
    signature = ""
    if "(" in name:
        name, _, arguments = name.partition("(")
        signature = "(" + arguments
    written = f"{kind or 'TABLE'} {quoted(operations, name)}{signature}"
    everyone = ", ".join(quoted_role(operations, role) for role in dict.fromkeys((*revoke_from, *rights)))
    statement(operations, f"REVOKE ALL ON {written} FROM {everyone}")
    for role, privileges in rights.items():
        statement(operations, f"GRANT {privileges} ON {written} TO {quoted_role(operations, role)}")
