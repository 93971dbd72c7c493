"""docs/engine.md: every good snippet runs as a revision, in their order, and every bad one does what it says."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy.exc import StatementError

import app.engine.operations  # noqa: F401  registers them
from app.engine.options import Options
from tests.engine.conftest import Project
from tests.postgres_binaries import ROOT

PAGE = (ROOT / "docs" / "engine.md").read_text("utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
REVISIONS = [snippet for snippet in SNIPPETS if snippet.startswith("# ")]
ENVIRONMENTS = [snippet for snippet in SNIPPETS if "run(context" in snippet]


@pytest.fixture
def connection(database_url: str) -> Iterator[sa.Connection]:
    engine = sa.create_engine(database_url.replace("postgresql://", "postgresql+psycopg://", 1), poolclass=sa.NullPool)
    with engine.connect() as connection:
        [table] = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
        connection.exec_driver_sql(table)
        connection.exec_driver_sql(
            "INSERT INTO invoices (customer_id, cents) SELECT 1, n FROM generate_series(1, 1000) AS n;"
            " CREATE ROLE billing_reader NOLOGIN"
        )
        connection.commit()
        yield connection
        connection.rollback()
        connection.exec_driver_sql("DROP OWNED BY billing_reader; DROP ROLE billing_reader")
        connection.commit()


def test_every_snippet_of_a_revision(connection: sa.Connection) -> None:
    said = set()
    for snippet in REVISIONS:
        kind = snippet.splitlines()[0]
        context = MigrationContext.configure(
            connection,
            opts={"transaction_per_migration": True, "engine_options": Options(allow_data_loss=True)},
        )
        code = compile(snippet, "docs/engine.md", "exec")
        names = {"op": Operations(context), "sa": sa}
        if kind == "# good":
            with context.begin_transaction(_per_migration=True):
                exec(code, names)  # noqa: S102  our own page
        elif kind == "# bad":
            exec(code, names)  # noqa: S102
        else:
            with pytest.raises(StatementError):
                exec(code, names)  # noqa: S102
        connection.rollback()
        said.update(re.findall(r"\bop\.(\w+)", snippet if kind == "# good" else ""))
    from app.engine.plugin import OPERATIONS

    assert {name for names in OPERATIONS.values() for name in names} - said <= {"drop_not_null_check"}
    assert connection.scalar(sa.text("SELECT count(*) FROM invoices")) == 1000
    may = "pg_catalog.has_table_privilege('billing_reader', 'invoices', '{}')"
    assert connection.scalar(sa.text(f"SELECT {may.format('SELECT')}"))
    assert not connection.scalar(sa.text(f"SELECT {may.format('INSERT, UPDATE, DELETE, TRUNCATE')}"))


@pytest.mark.parametrize("number", range(len(ENVIRONMENTS)))
def test_every_environment(billing: Project, number: int) -> None:
    """On the project of the tests, whose tables are in a schema of their own."""
    text = ENVIRONMENTS[number].replace("Base.metadata", 'Base.metadata, version_table_schema="billing"')
    billing.write("migrations/env.py", text)
    billing.succeeds("upgrade", "01")
