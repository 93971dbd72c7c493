"""NOT NULL on a table in use: no step holds a strong lock through a scan. PostgreSQL says itself when it scans."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
import sqlalchemy as sa

from app.engine.operations.constraints import (
    add_not_null_check,
    drop_not_null_check,
    set_not_null,
    validate_constraint,
    validate_not_null_check,
)
from tests.operations.conftest import Revision, Script, value

LOCKS = (
    "SELECT string_agg(DISTINCT mode, ' ') FROM pg_locks"
    " WHERE pid = pg_backend_pid() AND relation = 'public.notes'::regclass AND mode <> 'AccessShareLock'"
)


@pytest.fixture
def scans(connection: sa.Connection) -> Iterator[list[str]]:
    """What the server says of the scans that it makes; on the way there, ``notes`` gets a row."""
    said: list[str] = []
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)

    def listen(diagnostic: psycopg.errors.Diagnostic) -> None:
        message = diagnostic.message_primary or ""
        if message.startswith(("verifying table", "rewriting table")):
            said.append(message)

    driver.add_notice_handler(listen)
    connection.exec_driver_sql("INSERT INTO notes (id, body) VALUES (1, 'a')")
    connection.exec_driver_sql("SET client_min_messages = debug1")
    connection.commit()
    yield said
    driver.remove_notice_handler(listen)


def test_not_null_comes_without_a_scan_under_a_strong_lock(
    connection: sa.Connection, revision: Revision, scans: list[str]
) -> None:
    with revision() as operations:
        add_not_null_check(operations, "notes", "body")
        assert connection.exec_driver_sql(LOCKS).scalar() == "AccessExclusiveLock"
    assert scans == []

    with revision() as operations:
        validate_not_null_check(operations, "notes", "body")
        assert connection.exec_driver_sql(LOCKS).scalar() == "ShareUpdateExclusiveLock"
    assert scans == ['verifying table "notes"']

    with revision() as operations:
        set_not_null(operations, "notes", "body")
        assert connection.exec_driver_sql(LOCKS).scalar() == "AccessExclusiveLock"
    assert scans == ['verifying table "notes"'], "it trusts the CHECK"
    assert value(
        connection, "SELECT attnotnull FROM pg_attribute WHERE attrelid = 'notes'::regclass AND attname = 'body'"
    )
    assert not value(connection, "SELECT count(*) FROM pg_constraint WHERE conname = 'ck_notes_body_present'")


def test_new_rows_are_bound_before_the_old_ones_are_looked_at(
    connection: sa.Connection, revision: Revision, scans: list[str]
) -> None:
    connection.exec_driver_sql("INSERT INTO notes (id) VALUES (2)")
    connection.commit()
    with revision() as operations:
        add_not_null_check(operations, "notes", "body")
    with pytest.raises(sa.exc.IntegrityError, match="ck_notes_body_present"):
        connection.exec_driver_sql("INSERT INTO notes (id) VALUES (3)")
    connection.rollback()
    with pytest.raises(sa.exc.IntegrityError, match="ck_notes_body_present"), revision() as operations:
        validate_not_null_check(operations, "notes", "body")
    with revision() as operations:
        drop_not_null_check(operations, "notes", "body")
    connection.exec_driver_sql("INSERT INTO notes (id) VALUES (3)")


def test_a_key_is_validated_while_others_write(connection: sa.Connection, revision: Revision, scans: list[str]) -> None:
    connection.exec_driver_sql(
        "ALTER TABLE notes ADD CONSTRAINT fk_notes_owner FOREIGN KEY (owner) REFERENCES users NOT VALID"
    )
    connection.commit()
    with revision() as operations:
        validate_constraint(operations, "fk_notes_owner", "notes")
        with connection.engine.connect() as writer:
            writer.exec_driver_sql("SET lock_timeout = '5s'")
            writer.exec_driver_sql("UPDATE notes SET id = 2")
            writer.exec_driver_sql("INSERT INTO users DEFAULT VALUES")
            writer.commit()
    assert value(connection, "SELECT convalidated FROM pg_constraint WHERE conname = 'fk_notes_owner'")


def test_the_script(script: Script) -> None:
    operations = script.operations()
    add_not_null_check(operations, "notes", "body")
    validate_not_null_check(operations, "notes", "body")
    set_not_null(operations, "notes", "body")
    drop_not_null_check(operations, "notes", "body")
    validate_constraint(operations, "fk_notes_owner", "notes")
    assert script.lines == [
        "ALTER TABLE public.notes ADD CONSTRAINT ck_notes_body_present CHECK (body IS NOT NULL) NOT VALID;",
        "ALTER TABLE public.notes VALIDATE CONSTRAINT ck_notes_body_present;",
        "ALTER TABLE public.notes ALTER COLUMN body SET NOT NULL;",
        "ALTER TABLE public.notes DROP CONSTRAINT ck_notes_body_present;",
        "ALTER TABLE public.notes DROP CONSTRAINT ck_notes_body_present;",
        "ALTER TABLE public.notes VALIDATE CONSTRAINT fk_notes_owner;",
    ]
