"""Plant a drift, see it reported by name, run what the report prints as the role that it names, see nothing left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import sqlalchemy as sa

from app.catalog import Difference, Examination, examine, load_expected, take_snapshot
from app.catalog.remedies import SUPERUSER
from app.roles import Roles

OWNER = "Drift Owner"  # a login that owns its database and nothing else, with a name that needs quotes


@dataclass(frozen=True)
class Drift:
    """Planted by a superuser. ``identity`` is the beginning of the name that the report must have."""

    sql: str
    kind: str
    identity: str
    says: str
    mends: bool = True  # whether a statement can bring it back
    also: int | None = 0  # faults that come with it; None: as many as there are

    def in_database(self, name: str) -> Drift:
        return replace(self, sql=self.sql.replace("{database}", f'"{name}"'))

    @property
    def id(self) -> str:
        return " ".join(self.sql.split())[:80]


def examined(connection: sa.Connection) -> Examination:
    return examine(connection, load_expected(), Roles())


def examined_as(connection: sa.Connection, authenticated: str) -> Examination:
    """Examine a database whose role of users has another name."""
    return examine(connection, load_expected(), Roles(authenticated=authenticated))


def check_drift(connection: sa.Connection, drift: Drift, *, concurrently: bool = False) -> None:
    before = take_snapshot(connection)
    connection.exec_driver_sql(drift.sql)
    if concurrently:
        connection.commit()
    found = examined(connection)
    faults = [
        each
        for each in found.faults
        if (each.kind, each.identity[: len(drift.identity)]) == (drift.kind, drift.identity)
    ]
    assert len(faults) == 1, told(found)
    assert drift.says in str(faults[0]), told(found)
    assert drift.also is None or len(found.faults) == 1 + drift.also, told(found)

    statements = [statement for each in found.faults for statement in each.mend.statements]
    assert bool(statements) == drift.mends, told(found)
    if not drift.mends:
        assert faults[0].mend.note in str(faults[0])
        assert faults[0].mend.note
        return
    for fault in found.faults:
        with acting_for(connection, fault):
            for statement in fault.mend.statements:
                assert statement in str(fault).replace("\n    ", "\n")
                run(connection, statement, concurrently=concurrently)
    left = examined(connection)
    assert not left.faults, told(left)
    if not left.own and all(each.expected is not None for each in found.faults):
        assert take_snapshot(connection) == before


def run(connection: sa.Connection, statement: str, *, concurrently: bool) -> None:
    """Run it as it is printed; within a test's transaction nothing can be CONCURRENTLY."""
    if concurrently:
        connection.commit()
        connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.exec_driver_sql(statement)
        connection.commit()
        connection.execution_options(isolation_level="READ COMMITTED")
    else:
        options = connection.execution_options(no_parameters=True)
        options.exec_driver_sql(statement.replace(" CONCURRENTLY", "", 1))


@contextmanager
def acting_for(connection: sa.Connection, fault: Difference) -> Iterator[None]:
    """Be the role that the report says may run the statements, and no superuser where it names none."""
    by = fault.mend.by
    if by in (SUPERUSER, "the owner of the schema", "the owner of that table"):
        yield
        return
    role = OWNER if by in ("", "the owner of the database", "the owner of schema public") else by.strip('"')
    connection.exec_driver_sql(f'SET ROLE "{role}"')
    yield
    connection.exec_driver_sql("RESET ROLE")


def told(found: Examination) -> str:
    return "\n".join(str(each) for each in found.faults)
