"""``op.verify`` and ``op.refuse_data_loss``: a revision that counts, and stops with the figure."""

from __future__ import annotations

import logging

import pytest
import sqlalchemy as sa
from alembic.util import CommandError

from app.engine.operations.data_loss import refuse_data_loss
from app.engine.operations.verify import verify
from app.options import Options
from tests.operations.conftest import Revision, Script

NOBODYS = "SELECT count(*) FROM public.notes WHERE owner IS NULL"
EMPTY = "SELECT count(*) FROM public.notes WHERE body = ''"
CHECKS = {"notes that are nobody's": NOBODYS, "empty notes": EMPTY}
ALL = "SELECT count(*) FROM public.notes"


def write(connection: sa.Connection, rows: int, body: str = "") -> None:
    connection.execute(
        sa.text("INSERT INTO notes (id, body) SELECT n, :body FROM generate_series(1, :rows) AS n"),
        {"rows": rows, "body": body},
    )
    connection.commit()


def run(connection: sa.Connection, script: Script) -> None:
    """Run what was written offline, as psql would."""
    connection.exec_driver_sql(str(script))


def test_verify_prints_its_figures_when_nothing_is_wrong(
    connection: sa.Connection, revision: Revision, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "alembic.engine"), revision() as operations:
        verify(operations, CHECKS, {"notes": ALL, "users": "SELECT count(*) FROM public.users"})
    assert caplog.messages[-1:] == ["Verified: 2 checks found nothing wrong in 0 notes, 0 users."]


def test_verify_names_every_count_that_is_wrong(connection: sa.Connection, revision: Revision) -> None:
    write(connection, 1234)
    with pytest.raises(CommandError) as failure, revision() as operations:
        verify(operations, CHECKS, {"notes": ALL})
    said = str(failure.value)
    assert said.startswith("Verification failed: 1,234 notes that are nobody's; 1,234 empty notes.\n")
    assert "run the upgrade again" in said


def test_a_script_verifies_too(connection: sa.Connection, script: Script) -> None:
    verify(script.operations(), CHECKS, {"notes": ALL})
    run(connection, script)
    connection.rollback()
    write(connection, 3, body="full")
    with pytest.raises(sa.exc.DBAPIError, match="Verification failed: 3 notes that are nobody's"):
        run(connection, script)


def test_a_downgrade_that_would_destroy_rows_says_how_many(connection: sa.Connection, revision: Revision) -> None:
    with revision() as operations:
        refuse_data_loss(operations, "notes", ALL)  # there are none
    write(connection, 1234)
    with (
        pytest.raises(CommandError, match=r"This downgrade would destroy 1,234 notes.*-x allow-data-loss=yes"),
        revision() as operations,
    ):
        refuse_data_loss(operations, "notes", ALL)
    with revision(Options(allow_data_loss=True)) as operations:
        refuse_data_loss(operations, "notes", ALL)


def test_a_script_refuses_to_destroy_rows_too(connection: sa.Connection, script: Script) -> None:
    refuse_data_loss(script.operations(), "notes", ALL)
    run(connection, script)
    connection.rollback()
    write(connection, 3)
    with pytest.raises(sa.exc.DBAPIError, match=r"would destroy 3 notes.*-x allow-data-loss=yes"):
        run(connection, script)


def test_a_script_that_may_destroy_rows_does_not_ask(script: Script) -> None:
    refuse_data_loss(script.operations(Options(allow_data_loss=True)), "notes", ALL)
    assert str(script) == ""
