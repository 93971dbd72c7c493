"""Who may do what: roles, row level security, policies, grants."""

from __future__ import annotations

from collections.abc import Sequence

from alembic.operations import Operations
from alembic.util import CommandError

from ..engine.operations.access import create_policy, grant_to
from ..engine.operations.registry import (
    identifier,
    is_offline,
    literal,
    operation,
    options_of,
    quoted,
    quoted_role,
    scalar,
    statement,
)

_LOGICAL_ROLES = ("anon", "authenticated", "service_role")
_COMMANDS = ("SELECT", "INSERT", "UPDATE", "DELETE")


@operation
def create_missing_roles(operations: Operations) -> None:
    """Create the three NOLOGIN roles where the server has them not.

    Roles belong to the whole server, so a downgrade leaves them. Raises :class:`alembic.util.CommandError` with the
    statements for an administrator when the login may not create roles.
    """
    preparer = operations.get_context().dialect.identifier_preparer
    names = [options_of(operations).role(logical) for logical in _LOGICAL_ROLES]
    creations = {name: f"CREATE ROLE {preparer.quote_identifier(name)} NOLOGIN" for name in names}
    if is_offline(operations):
        for name, creation in creations.items():
            statement(
                operations,
                f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {literal(name)})"
                f" THEN {creation}; END IF; END $$",
            )
        return
    missing = [
        name for name in names if not scalar(operations, f"SELECT true FROM pg_roles WHERE rolname = {literal(name)}")
    ]
    if missing and not scalar(
        operations, "SELECT rolcreaterole OR rolsuper FROM pg_roles WHERE rolname = current_user"
    ):
        raise CommandError(
            "The login may not create roles and these are missing, so nothing was changed. "
            "Have an administrator run:\n  "
            + "\n  ".join(creations[name] + ";" for name in missing)
            + "\nthen run the upgrade again. (Other names: -x anon-role=, authenticated-role=, service-role=.)"
        )
    for name in missing:  # the deployment of another database of the server can be creating it too
        statement(
            operations,
            f"DO $$ BEGIN {creations[name]}; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$",
        )


@operation
def create_owner_policies(operations: Operations, table: str, owner: str, insert: str | None = None) -> None:
    """Create the five policies of a table whose rows have an owner.

    ``<table>_select_own``, ``_insert_own``, ``_update_own``, ``_delete_own`` let role authenticated at the rows that
    meet ``owner``, a new row only if it meets ``insert`` as well; ``<table>_service`` lets service_role at all of them.
    """
    checks = {"INSERT": owner if insert is None else f"{owner} AND {insert}", "UPDATE": owner}
    for command in _COMMANDS:
        create_policy(
            operations,
            f"{_bare(table)}_{command.lower()}_own",
            table,
            command,
            to="authenticated",
            using=None if command == "INSERT" else owner,
            check=checks.get(command),
        )
    create_service_policy(operations, table)


@operation
def alter_owner_policies(operations: Operations, table: str, owner: str) -> None:
    """Replace the condition of the four ``_own`` policies that :func:`create_owner_policies` made."""
    for command in _COMMANDS:
        policy = identifier(operations, f"{_bare(table)}_{command.lower()}_own")
        using = "" if command == "INSERT" else f" USING ({owner})"
        check = f" WITH CHECK ({owner})" if command in ("INSERT", "UPDATE") else ""
        statement(operations, f"ALTER POLICY {policy} ON {quoted(operations, table)}{using}{check}")


@operation
def create_service_policy(operations: Operations, table: str) -> None:
    """Let service_role at every row: the database role is asked, because a claim can be forged."""
    create_policy(operations, f"{_bare(table)}_service", table, "ALL", to="service_role", using="true", check="true")


@operation
def grant_only(
    operations: Operations, target: str, authenticated: str | None = None, service_role: str | None = None
) -> None:
    """Take every right on ``target`` from PUBLIC and the three roles, then grant what is named.

    ``target`` is ``"tasks"``, ``"SEQUENCE messages_seq_seq"``, ``"FUNCTION get_session_cost(uuid)"`` and so on. Hosted
    platforms grant rights by default privileges (TRUNCATE to anon among them), hence the revocation first.
    """
    rights = {"authenticated": authenticated, "service_role": service_role}
    grant_to(
        operations,
        target,
        {role: privileges for role, privileges in rights.items() if privileges},
        revoke_from=("PUBLIC", *_LOGICAL_ROLES),
    )


@operation
def grant_more(operations: Operations, table: str, authenticated: str, service_role: str) -> None:
    """Grant the rights to columns that come to a table whose columns have each their own, beside what is granted there.

    :func:`grant_only` would take from the application's clients the columns that it has added itself.
    """
    for role, privileges in (("authenticated", authenticated), ("service_role", service_role)):
        on, to = quoted(operations, table), quoted_role(operations, role)
        statement(operations, f"GRANT {privileges} ON TABLE {on} TO {to}")


@operation
def grant_schema_usage(operations: Operations, schema: str, to: Sequence[str]) -> None:
    """Let the logical roles ``to`` name objects of ``schema``; no right on any object comes with it."""
    names = ", ".join(quoted_role(operations, role) for role in to)
    statement(operations, f"GRANT USAGE ON SCHEMA {identifier(operations, schema)} TO {names}")


@operation
def revoke_schema_usage(operations: Operations, schema: str, of: Sequence[str]) -> None:
    """Undo :func:`grant_schema_usage`."""
    names = ", ".join(quoted_role(operations, role) for role in of)
    statement(operations, f"REVOKE USAGE ON SCHEMA {identifier(operations, schema)} FROM {names}")


@operation
def record_role_names(operations: Operations, table: str) -> None:
    """Write into ``table`` (logical, actual) what the three roles are called here: later runs need not be told."""
    actual = options_of(operations).role
    rows = ", ".join(f"({literal(logical)}, {literal(actual(logical))})" for logical in _LOGICAL_ROLES)
    statement(operations, f"INSERT INTO {quoted(operations, table)} (logical, actual) VALUES {rows}")


def _bare(table: str) -> str:
    return table.rpartition(".")[2]
