"""What the database says of its objects is what the models say, and what a team says of them stays."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from alembic import command
from app import verification
from app.catalog import load_expected, take_snapshot
from app.models import TABLES, Base
from tests.conftest import alembic_config

EXPECTED = load_expected()
COMMENTS = EXPECTED["comments"]
BEFORE = "0071"  # the revision before the first comments

OF_THE_TEAM = """
    COMMENT ON TABLE tenants IS '@graphql({"totalCount": {"enabled": true}})';
    COMMENT ON COLUMN tasks.title IS E'it''s ours: 100 %\n@omit';
    COMMENT ON FUNCTION update_updated_at() IS 'ours';
    COMMENT ON VIEW daily_message_volume IS 'ours';
    CREATE TABLE notes (id int); COMMENT ON TABLE notes IS 'ours'; COMMENT ON COLUMN notes.id IS 'ours'
"""


def test_every_table_column_view_and_function_has_a_comment() -> None:
    assert set(COMMENTS) == {
        *(f"TABLE {name}" for name in EXPECTED["tables"]),
        *(f"COLUMN {table}.{column}" for column, table in (name.split(" on ") for name in EXPECTED["columns"])),
        *(f"VIEW {name}" for name in EXPECTED["views"]),
        *(f"COLUMN {name}.{each.split()[0]}" for name, view in EXPECTED["views"].items() for each in view["columns"]),
        *(f"FUNCTION {name}" for name in EXPECTED["functions"]),
    }


def test_the_comments_of_tables_are_the_words_of_the_models() -> None:
    said = {}
    for table in (Base.metadata.tables[name] for name in TABLES):
        said[f"TABLE public.{table.name}"] = table.comment
        said |= {f"COLUMN public.{table.name}.{column.name}": column.comment for column in table.columns}
    assert said == {name: COMMENTS[name]["text"] for name in said}


@pytest.fixture
def commented(migrated_url: str) -> Iterator[sa.Connection]:
    """A database at the revision before the comments, where a team has some of its own."""
    engine = sa.create_engine(migrated_url, poolclass=sa.NullPool)
    command.downgrade(alembic_config(migrated_url), BEFORE)
    with engine.connect().execution_options(no_parameters=True) as connection:
        assert not take_snapshot(connection)["comments"]
        connection.exec_driver_sql(OF_THE_TEAM)
        connection.commit()
        yield connection


def test_a_comment_of_the_team_stays_is_no_fault_and_is_there_after_the_way_back(
    commented: sa.Connection, migrated_url: str
) -> None:
    config = alembic_config(migrated_url)
    own = take_snapshot(commented)["comments"]
    command.upgrade(config, "head")
    at_head = take_snapshot(commented)["comments"]
    assert {name: at_head[name] for name in own} == own
    assert {name: at_head[name] for name in COMMENTS if name not in own} == {
        name: comment for name, comment in COMMENTS.items() if name not in own
    }
    command.check(config)  # raises where models and database differ
    checks = list(verification.verify(commented, config))
    assert all(check.passed for check in checks)
    noted = next(check.notes for check in checks if check.name == "objects of your own")
    assert [each for each in noted if "comment" in each] == [
        f"comment on {name}: your own; ours:\n  COMMENT ON {name} IS '{COMMENTS[name]['text']}';"
        for name in sorted(own)
        if "notes" not in name
    ]
    commented.rollback()
    command.downgrade(config, BEFORE)
    assert take_snapshot(commented)["comments"] == own


def test_a_script_leaves_the_same_comments(
    commented: sa.Connection, migrated_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    own = take_snapshot(commented)["comments"]
    command.upgrade(alembic_config(migrated_url), f"{BEFORE}:head", sql=True)
    commented.exec_driver_sql(capsys.readouterr().out)
    assert take_snapshot(commented)["comments"] == {**COMMENTS, **own}


def test_the_words_of_a_model_that_no_revision_has_written_are_told(
    migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Base.metadata.tables["tasks"].c.title, "comment", "Something else.")
    with pytest.raises(Exception, match="Something else"):
        command.check(alembic_config(migrated_url))
