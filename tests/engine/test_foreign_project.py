"""A project without a chat table runs its own revisions on the engine: live, killed, undone, as a script."""

from __future__ import annotations

import os
import random
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
import pytest

from tests.conftest import libpq
from tests.engine.conftest import MakeProject, Project, rows
from tests.live.command_line import connect, value, wait_for
from tests.postgres_binaries import binaries

KILLS = int(os.environ.get("CHAT_SCHEMA_TEST_KILLS", "3"))
ROWS = 200_000
HOW_FAR = "SELECT position FROM billing.alembic_version_backfills"
STANDS = "SELECT pg_catalog.to_regclass('billing.alembic_version_backfills') IS NOT NULL"
CATALOG = """
    SELECT c.relname, a.attname, a.attnotnull, pg_catalog.format_type(a.atttypid, a.atttypmod)
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
    WHERE c.relnamespace = 'billing'::regnamespace AND NOT a.attisdropped
    UNION ALL SELECT c.relname, x.conname, x.convalidated, pg_catalog.pg_get_constraintdef(x.oid)
    FROM pg_catalog.pg_constraint AS x JOIN pg_catalog.pg_class AS c ON c.oid = x.conrelid
    WHERE x.connamespace = 'billing'::regnamespace AND x.contype <> 'n'
    UNION ALL SELECT c.relname, 'valid', i.indisvalid, '' FROM pg_catalog.pg_index AS i
    JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid WHERE c.relnamespace = 'billing'::regnamespace
    ORDER BY 1, 2
"""


def fill(client: psycopg.Connection[Any], invoices: int) -> None:
    client.execute("INSERT INTO billing.customers (name) SELECT 'customer ' || n FROM generate_series(1, 100) AS n")
    client.execute(
        "INSERT INTO billing.invoices (customer_id, cents) SELECT 1 + n %% 100, n FROM generate_series(1, %s) AS n",
        [invoices],
    )


@contextmanager
def writers(url: str, count: int = 2) -> Iterator[list[BaseException]]:
    """Let clients insert and change invoices as they did before any of this; yield what went wrong for them."""
    stop, errors = threading.Event(), list[BaseException]()

    def write() -> None:
        try:
            with connect(url, "billing") as client:
                while not stop.wait(0.005):
                    client.execute("INSERT INTO billing.invoices (customer_id, cents) VALUES (7, 1234)")
                    client.execute(
                        "UPDATE billing.invoices SET cents = cents + 1 WHERE id = %s",
                        [random.randint(1, ROWS)],  # noqa: S311
                    )
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield errors
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_killed_at_any_point_it_goes_on_and_no_client_notices(billing: Project, client: psycopg.Connection) -> None:
    """200,000 rows, two writers, no schema public, and no table of the engine's before or after."""
    billing.succeeds("upgrade", "01")
    fill(client, ROWS)
    with writers(billing.url) as errors:
        with billing.alembic("-x", "batch-time=5ms", "upgrade", "head") as killed:
            wait_for(lambda: value(client, STANDS) and value(client, HOW_FAR), "the backfill")
            killed.kill()
        for _ in range(KILLS):
            with billing.alembic("-x", "batch-time=5ms", "upgrade", "head") as killed:
                time.sleep(random.uniform(0, 4))  # noqa: S311  not a secret
                killed.kill()
        went_on = bool(value(client, STANDS))
        said = billing.succeeds("-x", "full-speed=yes", "upgrade", "head")
    assert errors == []
    assert ("amounts of invoices: goes on at" in said) == went_on
    assert rows(client, "SELECT version_num FROM billing.alembic_version") == ["07"]
    assert value(client, "SELECT count(*) FROM billing.invoices WHERE amount IS DISTINCT FROM cents / 100.0") == 0
    assert rows(client, "SELECT relname FROM pg_class JOIN pg_index ON indexrelid = pg_class.oid"
                " WHERE NOT indisvalid") == []  # fmt: skip
    assert rows(client, "SELECT c.relname FROM pg_class AS c WHERE c.relkind = 'r'"
                " AND c.relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)"
                " ORDER BY 1") == ["alembic_version", "customers", "invoices"]  # fmt: skip
    assert "No new upgrade operations detected" in billing.succeeds("check")


def test_rows_are_destroyed_only_for_somebody_who_says_so(billing: Project, client: psycopg.Connection) -> None:
    billing.succeeds("upgrade", "head")
    fill(client, 3)
    said = billing.fails("downgrade", "base")
    assert "This downgrade would destroy 3 invoices." in said
    assert rows(client, "SELECT version_num FROM billing.alembic_version") == ["01"]
    billing.succeeds("-x", "allow-data-loss=yes", "downgrade", "base")
    assert value(client, "SELECT pg_catalog.to_regclass('billing.invoices') IS NULL")


def test_an_index_that_fails_is_undone_and_the_backfill_kept(billing: Project, client: psycopg.Connection) -> None:
    billing.succeeds("upgrade", "03")
    client.execute("CREATE TABLE billing.idx_invoices_customer_id ()")
    said = billing.fails("upgrade", "head")
    assert "Revision 04 had committed a part, which its downgrade has undone: the database is at 03." in said
    client.execute("DROP TABLE billing.idx_invoices_customer_id")
    billing.succeeds("upgrade", "head")


def test_who_blocks_a_revision_is_named(billing: Project, client: psycopg.Connection) -> None:
    billing.succeeds("upgrade", "01")
    with connect(billing.url, "nightly report") as blocker:
        blocker.execute("BEGIN")
        blocker.execute("SELECT FROM billing.invoices")
        with billing.alembic("-x", "lock-timeout=50ms", "upgrade", "02") as upgrade:
            upgrade.says("(nightly report, idle in transaction")
            blocker.execute("ROLLBACK")
            upgrade.succeeds()


def test_the_first_revision_is_retried_like_any_other(billing: Project, client: psycopg.Connection) -> None:
    client.execute("CREATE SCHEMA own; CREATE TABLE own.theirs ()")
    billing.change(
        "migrations/versions/01_create_invoices.py",
        "def upgrade() -> None:\n",
        'def upgrade() -> None:\n    op.sql("ALTER TABLE own.theirs ADD COLUMN n int")\n',
    )
    with connect(billing.url, "nightly report") as blocker:
        blocker.execute("BEGIN")
        blocker.execute("SELECT FROM own.theirs")
        with billing.alembic("-x", "lock-timeout=50ms", "upgrade", "01") as upgrade:
            upgrade.says("attempt 2")
            blocker.execute("ROLLBACK")
            upgrade.succeeds()
    assert rows(client, "SELECT version_num FROM billing.alembic_version") == ["01"]


def test_a_script_makes_the_same_database(
    billing: Project, client: psycopg.Connection, request: pytest.FixtureRequest
) -> None:
    psql = [str(binaries(request.config.getoption("--postgres")) / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1"]
    script = billing.script("upgrade", "head")
    ran = subprocess.run([*psql, "-d", libpq(billing.url)], input=script, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    by_script = rows(client, CATALOG)
    billing.succeeds("downgrade", "base")
    billing.succeeds("upgrade", "head")
    assert by_script == rows(client, CATALOG)


def test_two_projects_in_one_database_do_not_wait_for_each_other(
    billing: Project, make_project: MakeProject, client: psycopg.Connection
) -> None:
    other = make_project(billing.url, "other")
    for file in ("env.py", *(f"versions/{each.name}" for each in (other.folder / "migrations/versions").glob("*.py"))):
        text = (other.folder / "migrations" / file).read_text("utf-8")
        other.write(f"migrations/{file}", text.replace("billing", "other"))
    billing.succeeds("upgrade", "01")
    with connect(billing.url, "reader") as blocker:
        blocker.execute("BEGIN")
        blocker.execute("SELECT FROM billing.invoices")
        with ExitStack() as stack:
            waiting = stack.enter_context(billing.alembic("upgrade", "head"))
            waiting.says("Running upgrade 01 -> 02")
            queued = stack.enter_context(billing.alembic("upgrade", "head"))
            queued.says("Another deployment is running")
            other.succeeds("upgrade", "head")
            assert waiting.goes_on
            blocker.execute("ROLLBACK")
            waiting.succeeds()
            queued.succeeds()
    for schema in ("billing", "other"):
        assert rows(client, f"SELECT version_num FROM {schema}.alembic_version") == ["07"]


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("sqlalchemy.url", "# sqlalchemy.url", "No database is named, so nothing was run. Set sqlalchemy.url"),
        ("postgresql://", "mysql://", "sqlalchemy.url speaks of 'mysql', so nothing was run"),
        ("postgresql://", "driver//", "sqlalchemy.url is not an address, so nothing was run"),
    ],
)
def test_an_address_that_is_none_is_one_message(billing: Project, before: str, after: str, message: str) -> None:
    billing.change("alembic.ini", before, after)
    assert message in billing.fails("upgrade", "head")


def test_a_misspelt_option_is_refused(billing: Project) -> None:
    assert "Did you mean -x lock-timeout=...?" in billing.fails("-x", "lock-timout=1s", "upgrade", "head")
