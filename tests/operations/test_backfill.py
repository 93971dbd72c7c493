"""``op.backfill`` on a table of any kind; with real clients and kills it is tested in tests/live."""

from __future__ import annotations

from itertools import pairwise

import pytest
import sqlalchemy as sa
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError

from app.engine.batches import Backfill
from app.engine.operations.backfill import backfill
from app.engine.operations.sql import sql
from app.engine.project import Project
from app.options import Options
from tests.live.command_line import connect
from tests.operations.conftest import Revision, Script, value

NUMBERED = "INSERT INTO notes (id, body) SELECT n, repeat('x', n % 500) FROM generate_series(1, 5000) AS n"
NEGATED = "UPDATE public.notes AS n SET id = -n.id WHERE {batch} AND n.id > 0"


def number(operations: Operations, statement: str = NEGATED) -> None:
    backfill(operations, "numbers of notes", "notes", "n", statement, "n.id > 0")


@pytest.mark.parametrize("workers", [1, 4])
def test_every_row_is_changed_exactly_once(connection: sa.Connection, revision: Revision, workers: int) -> None:
    connection.exec_driver_sql(NUMBERED)
    connection.commit()
    with revision(Options(batch_time=0.001, backfill_workers=workers)) as operations:
        number(operations, "UPDATE public.notes AS n SET id = n.id - 10000 WHERE {batch} AND n.id > 0")
    assert value(connection, "SELECT count(*) FROM notes WHERE id BETWEEN -9999 AND -5000") == 5000
    assert value(connection, "SELECT count(DISTINCT id) FROM notes") == 5000


def test_it_sees_what_its_revision_did_before(connection: sa.Connection, revision: Revision) -> None:
    with revision() as operations:
        sql(operations, NUMBERED)
        number(operations)
    assert value(connection, "SELECT max(id) FROM notes") == -1


def test_holes_and_moved_rows_are_no_obstacle(connection: sa.Connection, revision: Revision) -> None:
    connection.exec_driver_sql(NUMBERED)
    connection.exec_driver_sql("DELETE FROM notes WHERE id % 7 > 2")
    connection.exec_driver_sql("UPDATE notes SET body = body || 'moved' WHERE id % 7 = 1")
    connection.commit()
    with revision() as operations:
        number(operations)
    assert value(connection, "SELECT count(*) FROM notes WHERE id > 0") == 0


def test_rows_that_stay_pending_stop_the_revision(connection: sa.Connection, revision: Revision) -> None:
    connection.exec_driver_sql("INSERT INTO notes (id) VALUES (1)")
    connection.commit()
    with (
        pytest.raises(CommandError, match=r"numbers of notes: rows of public.notes still wait .* after 10 sweeps"),
        revision() as operations,
    ):
        number(operations, "UPDATE public.notes AS n SET id = n.id WHERE {batch}")


RESTS = """
    SELECT sum(r.rest) / sum(r.work) FROM (
      SELECT max(ended) - min(began) AS work, lead(min(began)) OVER (ORDER BY min(began)) - max(ended) AS rest
      FROM (
        SELECT xmin::text AS batch, split_part(body, ' ', 1)::float AS began, split_part(body, ' ', 2)::float AS ended
        FROM notes
      ) AS row
      GROUP BY batch
    ) AS r
"""


def test_it_rests_as_long_as_it_works_while_others_are_at_work(
    connection: sa.Connection, migrated_url: str, revision: Revision
) -> None:
    share: dict[bool, float] = {}
    with connect(migrated_url) as other, other.transaction():  # in a transaction, and so at work
        other.execute("SELECT")
        for full_speed in (False, True):
            connection.exec_driver_sql(f"TRUNCATE notes; {NUMBERED}")
            connection.commit()
            with revision(Options(batch_time=0.2, full_speed=full_speed)) as operations:
                number(
                    operations,
                    "UPDATE public.notes AS n SET id = -n.id,"
                    " body = extract(epoch FROM now()) || ' ' || extract(epoch FROM clock_timestamp())"
                    " FROM (SELECT pg_sleep(0.03)) AS at_least WHERE {batch} AND n.id > 0",
                )
            share[full_speed] = float(str(value(connection, RESTS)))
    assert share[False] > 0.9
    assert share[True] < share[False] / 2


TIMED = """
    UPDATE public.notes AS n SET id = -n.id,
    body = extract(epoch FROM now()) || ' ' || extract(epoch FROM clock_timestamp())
    FROM (SELECT pg_sleep(0.03)) AS at_least WHERE {batch} AND n.id > 0
"""
AT_THE_SAME_TIME = """
    SELECT count(*) FROM (
      SELECT min(began) < max(max(ended)) OVER (ORDER BY min(began) ROWS UNBOUNDED PRECEDING EXCLUDE CURRENT ROW)
             AS early
      FROM (
        SELECT xmin::text AS batch, split_part(body, ' ', 1)::float AS began, split_part(body, ' ', 2)::float AS ended
        FROM notes
      ) AS row
      GROUP BY batch
    ) AS batch
    WHERE early
"""


@pytest.mark.parametrize("full_speed", [False, True])
def test_of_several_workers_one_works_at_a_time_while_others_are_at_work(
    connection: sa.Connection, migrated_url: str, revision: Revision, full_speed: bool
) -> None:
    connection.exec_driver_sql(NUMBERED)
    connection.commit()
    with connect(migrated_url) as other, other.transaction():
        other.execute("SELECT")
        with revision(Options(batch_time=0.2, backfill_workers=3, full_speed=full_speed)) as operations:
            number(operations, TIMED)
    overlapping = value(connection, AT_THE_SAME_TIME)
    assert value(connection, "SELECT count(*) FROM notes WHERE id > 0") == 0
    assert overlapping if full_speed else overlapping == 0


def test_an_error_of_a_batch_is_the_error_of_the_revision(connection: sa.Connection, revision: Revision) -> None:
    connection.exec_driver_sql(NUMBERED)
    connection.commit()
    with pytest.raises(sa.exc.DataError, match="division by zero"), revision() as operations:
        number(operations, "UPDATE public.notes AS n SET id = -n.id / (n.id - 4000) WHERE {batch} AND n.id > 0")
    done = value(connection, "SELECT count(*) FROM notes WHERE id <= 0")
    assert isinstance(done, int)
    assert 0 < done < 5000, "what was committed stays"


def test_a_script_does_it_at_once(script: Script) -> None:
    number(script.operations())
    assert script.lines == ["UPDATE public.notes AS n SET id = -n.id WHERE TRUE AND n.id > 0;"]


def test_batches_join_without_a_gap() -> None:
    work = Backfill("b", "public.notes", "n", "DELETE FROM public.notes AS n WHERE {batch}", "true")
    tids = ["'(0,0)'::tid", "'(0,16)'::tid", "'(1,0)'::tid"]
    said = [work.batch(first, after) for first, after in pairwise(tids)]
    assert said == [
        "DELETE FROM public.notes AS n WHERE n.ctid >= '(0,0)'::tid AND n.ctid < '(0,16)'::tid",
        "DELETE FROM public.notes AS n WHERE n.ctid >= '(0,16)'::tid AND n.ctid < '(1,0)'::tid",
    ]


def test_where_no_revision_made_a_table_for_it_the_position_needs_none_afterwards(connection: sa.Connection) -> None:
    connection.exec_driver_sql("CREATE SCHEMA elsewhere; INSERT INTO notes (id) VALUES (1), (2)")
    connection.commit()
    standing = "SELECT pg_catalog.to_regclass('elsewhere.versions_backfills')"
    context = MigrationContext.configure(
        connection,
        opts={
            "engine_project": Project(home="elsewhere"),
            "version_table": "versions",
            "transaction_per_migration": True,
        },
    )
    with pytest.raises(CommandError, match="create or enable it"), context.begin_transaction(_per_migration=True):
        number(Operations(context), "UPDATE public.notes AS n SET body = '' WHERE {batch}")
    connection.rollback()
    assert value(connection, f"{standing} IS NOT NULL")
    with context.begin_transaction(_per_migration=True):
        number(Operations(context))
    assert value(connection, f"{standing} IS NULL")
    assert value(connection, "SELECT max(id) FROM notes") == -1
