"""An index on a table in use ends valid, or not at all."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from alembic.util import CommandError

from app.engine.operations.indexes import create_index_online, drop_index_online
from app.options import Options
from tests.operations.conftest import Revision, Script, value

VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('public.idx_notes')"
TWICE = "INSERT INTO notes (id, body) VALUES (1, 'a'), (1, 'a'), (2, 'b')"


def write(connection: sa.Connection, statement: str) -> None:
    connection.exec_driver_sql(statement)
    connection.commit()


def test_it_is_built_once_and_kept_by_the_next_run(connection: sa.Connection, revision: Revision) -> None:
    with revision() as operations:
        create_index_online(operations, "idx_notes", "notes", ["owner", "id DESC"], where="owner IS NOT NULL")
    assert value(connection, VALID) is True
    definition = "SELECT pg_get_indexdef(to_regclass('public.idx_notes'))"
    built = "CREATE INDEX idx_notes ON public.notes USING btree (owner, id DESC) WHERE (owner IS NOT NULL)"
    assert value(connection, definition) == built

    number = value(connection, "SELECT to_regclass('public.idx_notes')::oid")
    with revision() as operations:
        create_index_online(operations, "idx_notes", "notes", ["owner", "id DESC"], where="owner IS NOT NULL")
    assert value(connection, "SELECT to_regclass('public.idx_notes')::oid") == number


def test_one_that_a_killed_build_left_invalid_is_built_anew(connection: sa.Connection, revision: Revision) -> None:
    write(connection, TWICE)
    autocommit = connection.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    with autocommit, pytest.raises(sa.exc.IntegrityError):
        autocommit.exec_driver_sql("CREATE UNIQUE INDEX CONCURRENTLY idx_notes ON notes (id)")
    assert value(connection, VALID) is False
    write(connection, "DELETE FROM notes WHERE ctid = (SELECT max(ctid) FROM notes WHERE id = 1)")

    with revision() as operations:
        create_index_online(operations, "idx_notes", "notes", ["id"], unique=True)
    assert value(connection, VALID) is True


@pytest.mark.parametrize("where", [None, "body <> 'b'"])
def test_rows_that_are_not_unique_are_refused_with_the_query_that_finds_them(
    connection: sa.Connection, revision: Revision, where: str | None
) -> None:
    write(connection, TWICE)
    write(connection, "INSERT INTO notes (id, body) VALUES (2, 'b')")
    with pytest.raises(CommandError, match="not unique in \\(id, body\\)") as refusal, revision() as operations:
        create_index_online(operations, "idx_notes", "notes", ["id", "body"], unique=True, where=where)
    assert value(connection, VALID) is None, "what the failed build left is gone"
    query = str(refusal.value).partition("Find them with: ")[2].partition(";")[0]
    found = connection.exec_driver_sql(query).fetchall()
    assert sorted(tuple(row) for row in found) == ([(1, "a", 2), (2, "b", 2)] if where is None else [(1, "a", 2)])


def test_the_short_lock_timeout_holds_again_afterwards(connection: sa.Connection, revision: Revision) -> None:
    with revision(Options(lock_timeout=0.25)) as operations:
        create_index_online(operations, "idx_notes", "notes", ["id"])
        assert operations.get_bind().exec_driver_sql("SHOW lock_timeout").scalar() == "250ms"
    assert value(connection, "SHOW lock_timeout") == "250ms"


def test_dropping_can_be_run_again(connection: sa.Connection, revision: Revision) -> None:
    write(connection, "CREATE INDEX idx_notes ON notes (id)")
    for _ in range(2):
        with revision() as operations:
            drop_index_online(operations, "idx_notes")
        assert value(connection, VALID) is None


def test_names_that_need_quotes_get_them(connection: sa.Connection, revision: Revision) -> None:
    write(connection, 'CREATE TABLE public."My Notes" (id int)')
    with revision() as operations:
        create_index_online(operations, "My Index", "My Notes", ["id"])
        create_index_online(operations, "My Index", "My Notes", ["id"])
    assert value(connection, """SELECT to_regclass('public."My Index"') IS NOT NULL""") is True


def test_the_script_leaves_its_transaction_for_it(script: Script) -> None:
    operations = script.operations(Options(lock_timeout=5))
    create_index_online(operations, "idx_notes", "notes", ["id"], unique=True, where="id > 0")
    drop_index_online(operations, "idx_notes")
    assert script.lines == [
        "COMMIT;",
        "SET lock_timeout = 0;",
        "DROP INDEX CONCURRENTLY IF EXISTS public.idx_notes;",
        "CREATE UNIQUE INDEX CONCURRENTLY idx_notes ON public.notes (id) WHERE id > 0;",
        "SET lock_timeout = '5000ms';",
        "BEGIN;",
        "COMMIT;",
        "SET lock_timeout = 0;",
        "DROP INDEX CONCURRENTLY IF EXISTS public.idx_notes;",
        "SET lock_timeout = '5000ms';",
        "BEGIN;",
    ]
