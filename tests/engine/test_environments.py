"""Every kind of env.py that Alembic's own templates have, by the same one line; and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.util import CommandError

from alembic import command
from tests.conftest import libpq
from tests.engine.conftest import MakeProject, Project, rows
from tests.live.command_line import connect

ASYNC = """
from alembic import context
from models import Base
from sqlalchemy.ext.asyncio import create_async_engine

from chat_schema.engine import run

url = context.config.get_main_option("sqlalchemy.url").replace("postgresql", "postgresql+psycopg")
engine = create_async_engine(url)
run(context, target_metadata=Base.metadata, connectable=engine, version_table_schema="billing", include_schemas=True)
"""


def test_an_asynchronous_engine(billing: Project, client: psycopg.Connection) -> None:
    billing.write("migrations/env.py", ASYNC)
    billing.succeeds("upgrade", "01")
    client.execute("INSERT INTO billing.customers (name) VALUES ('one')")
    client.execute("INSERT INTO billing.invoices (customer_id, cents) SELECT 1, n FROM generate_series(1, 1000) AS n")
    billing.succeeds("-x", "backfill-workers=3", "upgrade", "head")
    assert rows(client, "SELECT count(*) FROM billing.invoices WHERE amount = cents / 100.0") == [1000]


@pytest.mark.parametrize("name", ["postgresql+asyncpg", "postgresql+psycopg2", "postgresql+psycopg_async"])
def test_an_address_for_another_driver(billing: Project, client: psycopg.Connection, name: str) -> None:
    billing.change("alembic.ini", "postgresql://", f"{name}://")
    billing.succeeds("upgrade", "01")
    assert rows(client, "SELECT version_num FROM billing.alembic_version") == ["01"]


TWO = """
from alembic import context

from chat_schema.engine import run

run(context)
"""
REVISION_OF_TWO = '''
"""Create a table in each database."""

from alembic import op

revision = "01"
down_revision = None


def upgrade(engine_name):
    globals()[f"upgrade_{engine_name}"]()


def downgrade(engine_name):
    globals()[f"downgrade_{engine_name}"]()


def upgrade_first():
    op.sql("CREATE TABLE ones (id int PRIMARY KEY, n int)")
    op.sql("INSERT INTO ones SELECT g FROM generate_series(1, 100) AS g")
    op.backfill("n of ones", "ones", "o", "UPDATE ones AS o SET n = id WHERE {batch} AND n IS NULL", "o.n IS NULL")


def downgrade_first():
    op.sql("DROP TABLE IF EXISTS ones")


def upgrade_second():
    op.sql("CREATE TABLE twos (id int)")
    op.create_index_online("idx_twos_id", "twos", ["id"])


def downgrade_second():
    op.sql("DROP TABLE IF EXISTS twos")
'''


def test_two_databases(make_project: MakeProject, database_url: str, second_url: str) -> None:
    project = make_project(database_url)
    for file in (project.folder / "migrations/versions").glob("*.py"):
        file.unlink()
    project.write("migrations/env.py", TWO)
    project.write("migrations/versions/01_two.py", REVISION_OF_TWO)
    first_address, second_address = (libpq(url).replace("%", "%%") for url in (database_url, second_url))
    sections = f"\n[first]\nsqlalchemy.url = {first_address}\n\n[second]\nsqlalchemy.url = {second_address}\n"
    project.change("alembic.ini", "\n[loggers]", f"databases = first, second\n{sections}\n[loggers]")
    project.succeeds("upgrade", "head")
    with connect(database_url) as first, connect(second_url) as second:
        assert rows(first, "SELECT count(*) FROM ones WHERE n = id") == [100]
        assert rows(second, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'idx_twos_id'::regclass") == [True]
        project.script("upgrade", "head")
        assert "CREATE TABLE ones" in (project.folder / "first.sql").read_text()
        assert "CREATE TABLE ones" not in (project.folder / "second.sql").read_text()
        project.succeeds("downgrade", "base")
        assert rows(first, "SELECT to_regclass('ones') IS NULL") == [True]
        assert rows(second, "SELECT to_regclass('twos') IS NULL") == [True]


BRANCH = '''
"""Create what the branch of reports needs."""

from alembic import op

revision = "r1"
down_revision = {down!r}
branch_labels = ("reports",)


def upgrade():
    op.sql("CREATE TABLE billing.reports (id int)")
    op.create_index_online("idx_reports_id", "billing.reports", ["id"])


def downgrade():
    op.sql("DROP TABLE billing.reports")
'''


@pytest.mark.parametrize("down", [None, "01"])
def test_a_branch_with_a_label(billing: Project, client: psycopg.Connection, down: str | None) -> None:
    """One of its own base, and one that leaves the chain: each revision is undone where it failed, on its branch."""
    billing.write("migrations/versions/r1_reports.py", BRANCH.format(down=down))
    billing.succeeds("upgrade", "04")
    client.execute("CREATE TABLE billing.idx_reports_id ()")
    assert "Revision r1 had committed a part, which its downgrade has undone" in billing.fails(
        "upgrade", "reports@head"
    )
    client.execute("DROP TABLE billing.idx_reports_id")
    billing.succeeds("upgrade", "heads")
    versions = "SELECT version_num FROM billing.alembic_version ORDER BY 1"
    assert rows(client, versions) == ["07", "r1"]
    billing.succeeds("downgrade", "reports@base" if down is None else "reports@01")
    assert "07" in rows(client, versions)
    assert rows(client, "SELECT to_regclass('billing.reports') IS NULL") == [True]


OWN_ENVIRONMENT = """
import sqlalchemy as sa
from alembic import context

with sa.create_engine(
    context.config.get_main_option("sqlalchemy.url").replace("postgresql", "postgresql+psycopg")
).connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""
OWN_REVISION = '''
"""Create, fill and index in one revision, which nobody would do live."""

from alembic import op

revision = "01"
down_revision = None


def upgrade():
    op.sql("CREATE TABLE notes (id int, n int)")
    op.sql("INSERT INTO notes SELECT g FROM generate_series(1, 100) AS g")
    op.backfill("n of notes", "notes", "o", "UPDATE notes AS o SET n = id WHERE {batch} AND n IS NULL", "o.n IS NULL")
    op.create_index_online("idx_notes_n", "notes", ["n"])


def downgrade():
    op.drop_index_online("idx_notes_n")
    op.sql("DROP TABLE notes")
'''


def test_an_environment_of_its_own_has_the_operations_as_a_plugin(make_project: MakeProject, database_url: str) -> None:
    project = make_project(database_url)
    for file in (project.folder / "migrations/versions").glob("*.py"):
        file.unlink()
    project.write("migrations/env.py", OWN_ENVIRONMENT)
    project.write("migrations/versions/01_notes.py", OWN_REVISION)
    project.succeeds("upgrade", "head")
    with connect(database_url) as client:
        assert rows(client, "SELECT count(*) FROM notes WHERE n = id") == [100]
        assert rows(client, "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1") == [
            "alembic_version",
            "notes",
        ]
    project.succeeds("downgrade", "base")


def test_every_operation_is_registered_by_the_plugin() -> None:
    """In a process that has imported nothing of the engine but what Alembic loads by itself."""
    names = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, alembic.config\n"
            "from alembic.operations import Operations\n"
            "assert not [name for name in sys.modules if name.startswith('chat_schema.engine.operations')]\n"
            "from chat_schema.engine.plugin import OPERATIONS\n"
            "named = {name for names in OPERATIONS.values() for name in names}\n"
            "before = set(dir(Operations))\n"
            "import chat_schema.engine.operations\n"
            "print(named <= before, set(dir(Operations)) - before)",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert names.split() == ["True", "set()"]


def test_the_template_makes_a_project(tmp_path: Path, database_url: str) -> None:
    template = subprocess.run(
        [sys.executable, "-m", "chat_schema.engine"], capture_output=True, text=True, check=True
    ).stdout.strip()
    project = Project(tmp_path, database_url)
    project.succeeds("init", "-t", template, "migrations")
    project.change(
        "alembic.ini", "postgresql://USER:PASSWORD@HOST:5432/DATABASE", libpq(database_url).replace("%", "%%")
    )
    project.succeeds("revision", "--rev-id", "01", "-m", "create notes")
    project.change("migrations/versions/01_create_notes.py", "raise NotImplementedError", 'op.sql("SELECT 1")')
    project.succeeds("upgrade", "head")
    project.succeeds("downgrade", "base")


def configured(project: Project, connection: sa.Engine | sa.Connection) -> Config:
    config = Config(project.ini)
    config.attributes.update(connection=connection, configure_logging=False)
    return config


def test_a_connection_that_is_handed_over(billing: Project, client: psycopg.Connection) -> None:
    url = billing.url.replace("postgresql://", "postgresql+psycopg://", 1)
    with sa.create_engine(url, poolclass=sa.NullPool).connect() as connection:
        command.upgrade(configured(billing, connection), "head")
        assert connection.exec_driver_sql("SHOW lock_timeout").scalar() == "0"
    assert rows(client, "SELECT version_num FROM billing.alembic_version") == ["07"]


def test_a_connection_in_a_transaction_is_refused(billing: Project, client: psycopg.Connection) -> None:
    url = billing.url.replace("postgresql://", "postgresql+psycopg://", 1)
    with (
        sa.create_engine(url, poolclass=sa.NullPool).begin() as connection,
        pytest.raises(CommandError, match="is in a transaction, so nothing was run"),
    ):
        command.upgrade(configured(billing, connection), "head")
    assert rows(client, "SELECT to_regnamespace('billing') IS NULL") == [True]
