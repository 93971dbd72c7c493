"""A project that has nothing of ours but the operations is planned on the database that its own env.py connects to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from alembic.config import Config

from alembic import command
from app.cli import main
from app.engine.plan import declared, of_project
from tests.conftest import alembic_config
from tests.live.command_line import connect

ENV = """
import sqlalchemy as sa
from alembic import context

engine = sa.create_engine(context.config.get_main_option("sqlalchemy.url"), poolclass=sa.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
"""
REVISION = '''"""{doc}"""
import sqlalchemy as sa
from alembic import op
revision = {revision!r}
down_revision = {below!r}


def upgrade():
    {upgrade}


def downgrade():
    {downgrade}
'''
REVISIONS = [
    ("Create notes.", 'op.sql("CREATE SCHEMA app; CREATE TABLE app.notes (id int, owner int)")', "pass"),
    ("Expand notes.", 'op.sql("ALTER TABLE app.notes ADD COLUMN done bool")', 'op.drop_column("notes", "done", "app")'),
    (
        "Backfill notes.",
        'op.backfill("done", table="app.notes", alias="n", pending="n.done IS NULL",'
        ' batch="UPDATE app.notes AS n SET done = true WHERE {batch} AND n.done IS NULL")',
        'op.refuse_data_loss("notes", "SELECT count(*) FROM app.notes")',
    ),
    ("Index notes.", 'op.create_index_online("ix_notes", "app.notes", ["owner"])', "pass"),
    (
        "Rename notes.\\n\\nLocks: ShareRowExclusive on app.notes while\\nit looks, an instant.",
        'op.sql("ALTER TABLE app.notes RENAME TO papers")',
        "pass",
    ),
    ("Rewrite papers.", 'op.sql("ALTER TABLE app.papers ALTER id TYPE bigint")', "pass"),
]


@pytest.fixture
def project(tmp_path: Path, database_url: str) -> Config:
    """A project of six revisions at its first, with 2,000 rows."""
    (tmp_path / "versions").mkdir()
    (tmp_path / "env.py").write_text(ENV)
    for number, (doc, upgrade, downgrade) in enumerate(REVISIONS, start=1):
        below = str(number - 1) if number > 1 else None
        text = REVISION.format(doc=doc, revision=str(number), below=below, upgrade=upgrade, downgrade=downgrade)
        (tmp_path / "versions" / f"{number}_notes.py").write_text(text)
    escaped = database_url.replace("%", "%%")
    (tmp_path / "alembic.ini").write_text(f"[alembic]\nscript_location = %(here)s\nsqlalchemy.url = {escaped}\n")
    config = Config(tmp_path / "alembic.ini")
    command.upgrade(config, "1")
    with connect(database_url) as client:
        client.execute("INSERT INTO app.notes SELECT n, n % 10 FROM generate_series(1, 2000) AS n; ANALYZE app.notes")
    return config


@pytest.fixture
def client(database_url: str) -> Iterator[psycopg.Connection]:
    with connect(database_url) as connection:
        yield connection


def test_what_a_docstring_does_not_say_is_read_from_the_statements(project: Config) -> None:
    plan = of_project(project, "head")
    assert (plan.current, plan.target, plan.would_stop) == ("1", "6", [])
    locks = {each.revision: [(lock.table, lock.mode, lock.lasts) for lock in each.locks] for each in plan.revisions}
    assert locks == {
        "2": [("app.notes", "AccessExclusive", "an instant")],
        "3": [("app.notes", "the rows of one batch", "until its commit")],
        "4": [("app.notes", "ShareUpdateExclusive", "for one scan")],
        "5": [("app.notes", "ShareRowExclusive", "an instant")],
        "6": [("app.notes", "AccessExclusive", "for one scan")],
    }, "a table that will be renamed is told by the name that it has now"
    work = [(each.revision, work.does, work.rows) for each in plan.revisions for work in each.work]
    assert work == [("3", "backfills", 2000), ("4", "builds an index", 2000), ("6", "rewrites", 2000)]


def test_nothing_is_changed_and_the_upgrade_goes_through(project: Config, client: psycopg.Connection) -> None:
    of_project(project, "head")
    assert client.execute("SELECT version_num FROM alembic_version").fetchall() == [("1",)]
    command.upgrade(project, "4")
    assert client.execute("SELECT count(*) FROM app.notes WHERE done").fetchone() == (2000,)
    assert [each.revision for each in of_project(project, "head").revisions] == ["5", "6"]


def test_the_command_prints_it_and_exits_with_2_where_a_session_is_in_the_way(
    project: Config, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-c", str(project.config_file_name), "plan"]
    main(words)
    assert "Nothing is in the way." in capsys.readouterr().out
    with connect(database_url, application_name="report") as report:
        report.autocommit = False
        report.execute("SELECT FROM app.notes")
        with pytest.raises(SystemExit) as ended:
            main([*words, "--json", "2"])
    document = json.loads(capsys.readouterr().out)
    assert ended.value.code == 2
    assert [each["revision"] for each in document["revisions"]] == ["2"]
    assert "(report, idle in transaction, " in document["would_stop"][0]["says"]


def test_what_a_service_requires_of_our_schema_is_asked_before(
    project: Config, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = Path(str(project.config_file_name)).parent / "versions" / "4_notes.py"
    file.write_text(file.read_text().replace("op.create", 'op.require_chat_schema("0003"); op.create'))
    words = ["-c", str(project.config_file_name), "plan"]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "chat-schema upgrade" in capsys.readouterr().out
    command.upgrade(alembic_config(database_url), "0003")
    main(words)


def test_the_way_back_counts_what_its_guards_count(project: Config) -> None:
    command.upgrade(project, "4")
    plan = of_project(project, "1")
    assert (plan.direction, plan.target) == ("downgrade", "1")
    assert [each.says for each in plan.would_stop] == ["3 would destroy 2,000 notes, as they stand now."]


def test_rows_that_a_unique_index_would_refuse_are_counted(project: Config, client: psycopg.Connection) -> None:
    command.upgrade(project, "3")
    file = Path(str(project.config_file_name)).parent / "versions" / "4_notes.py"
    file.write_text(file.read_text().replace('["owner"]', '["owner"], unique=True'))
    [told] = of_project(project, "4").would_stop
    assert told.says == "app.notes has 10 values of (owner) more than once, and ix_notes is unique."
    assert client.execute(told.mends.encode()).rowcount == 10
    client.execute("DELETE FROM app.notes WHERE id > 10")
    assert of_project(project, "4").would_stop == []


def test_the_strongest_mode_of_each_table_counts() -> None:
    text = (
        "Create.\n\nLocks:  RowShare on app.a; ShareRowExclusive on app.a and app.b, an instant. Share\n    on app.c."
    )
    assert [(each.table, each.mode, each.lasts) for each in declared(text)] == [
        ("app.a", "ShareRowExclusive", "an instant"),
        ("app.b", "ShareRowExclusive", "an instant"),
        ("app.c", "Share", "an instant"),
    ]
