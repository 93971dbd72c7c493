"""Acting as somebody, and what comes of a statement: a number of rows, or a refusal."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from enum import Enum
from typing import Any
from uuid import UUID

import psycopg
import pytest


class Refusal(Enum):
    """Why a statement was refused: the SQLSTATE, and for 42501 which of the guards raised it."""

    NO_GRANT = "42501 permission denied"
    BY_POLICY = "42501 row-level security"
    BY_BRAND = "42501 sees no brand"
    BY_KEY = "23503 foreign key"
    NOT_A_TABLE = "42809 not a table"


def claims_of(user: UUID | None) -> str:
    """Return the claims that a service sets for a request of ``user``."""
    return json.dumps({"sub": str(user)}) if user else ""


@contextlib.contextmanager
def acting(
    connection: psycopg.Connection, user: UUID | None = None, *, role: str = "authenticated", claims: str | None = None
) -> Iterator[None]:
    """Act as services do: role and claims by set_config, for this transaction alone.

    ``claims`` replaces the JSON text that ``user`` would give. Statements that are refused belong in :func:`refused` or
    :func:`outcome`, so that the transaction goes on.
    """
    switch = "SELECT set_config('role', %s, true), set_config('request.jwt.claims', %s, true)"
    connection.execute(switch, [role, claims_of(user) if claims is None else claims])
    yield
    connection.execute(switch, ["none", ""])


def outcome(
    connection: psycopg.Connection, statement: str, parameters: dict[str, Any] | None = None, *, undo: bool = False
) -> int | Refusal:
    """Run ``statement`` and return how many rows it saw or touched, or why it was refused; ``undo`` what it did."""
    try:
        with connection.transaction(force_rollback=undo):
            return connection.execute(statement, parameters).rowcount
    except psycopg.Error as error:
        return _refusal(error)


@contextlib.contextmanager
def refused(connection: psycopg.Connection, why: Refusal) -> Iterator[None]:
    """Expect the statements within to be refused for this reason; what they did before is undone."""
    with pytest.raises(psycopg.Error) as caught, connection.transaction():
        yield
    assert _refusal(caught.value) is why


def values(connection: psycopg.Connection, query: str, *parameters: Any) -> list[Any]:
    """Return the first column of what ``query`` finds."""
    return [row[0] for row in connection.execute(query, parameters or None)]


def _refusal(error: psycopg.Error) -> Refusal:
    message = error.diag.message_primary or ""
    for refusal in Refusal:
        state, _, words = refusal.value.partition(" ")
        if error.sqlstate == state and words in message:
            return refusal
    raise error
