"""The three database roles that policies and grants speak of, and what this database calls them."""

from __future__ import annotations

import dataclasses

import sqlalchemy as sa

_RECORDED = sa.table("role_names", sa.column("logical"), sa.column("actual"), schema="chat_internal")


@dataclasses.dataclass(frozen=True)
class Roles:
    """The actual name of each logical role."""

    anon: str = "anon"
    authenticated: str = "authenticated"
    service_role: str = "service_role"

    def actual(self, logical: str) -> str:
        """Return the server's name of the role that the package calls ``logical``."""
        return str(getattr(self, logical))

    def logical_names(self) -> dict[str, str]:
        """Map each actual name to its logical one, as the comparison of catalogs needs it."""
        return {actual: logical for logical, actual in dataclasses.asdict(self).items()}


def recorded_roles(connection: sa.Connection) -> Roles | None:
    """Return the names that the first revision wrote down, or None where it has not run."""
    if connection.scalar(sa.text("SELECT to_regclass('chat_internal.role_names')")) is None:
        return None
    return Roles(**{row.logical: row.actual for row in connection.execute(sa.select(_RECORDED))})
