"""Each rule of the linter: what it finds, where, and that what its recipe says is no finding."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.util import CommandError

from app.cli import main
from app.engine.lint import RULES, assert_clean, lint
from app.options import Options
from tests.conftest import alembic_config

REVISION = """
import sqlalchemy as sa
from alembic import context, op
revision = {revision!r}
down_revision = {below!r}


def upgrade():
{upgrade}


def downgrade():
{downgrade}
"""

Project = Callable[..., Path]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Make a script folder of revisions, each given by its upgrade and perhaps (a tuple) its downgrade."""

    def make(*revisions: str | tuple[str, str]) -> Path:
        (tmp_path / "versions").mkdir()
        (tmp_path / "env.py").write_text("")
        for number, each in enumerate(revisions, start=1):
            upgrade, downgrade = each if isinstance(each, tuple) else (each, "pass")
            text = REVISION.format(
                revision=f"{number:04}",
                below=f"{number - 1:04}" if number > 1 else None,
                upgrade=indented(upgrade),
                downgrade=indented(downgrade),
            )
            (tmp_path / "versions" / f"{number:04}.py").write_text(text)
        return tmp_path

    return make


def indented(body: str) -> str:
    return "\n".join("    " + line for line in body.strip().splitlines())


def sql(text: str) -> str:
    return f'op.sql("""{text}""")'


def rules(folder: Path) -> list[str]:
    return [finding.rule for finding in lint(folder)]


NOTES = 'op.sql("CREATE TABLE app.notes (id bigint); ALTER TABLE app.notes ENABLE ROW LEVEL SECURITY;'
NOTES += ' CREATE POLICY own ON app.notes USING (true)")'
PATH = "LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp"
BODY = "AS $$ BEGIN RETURN NEW; END; $$"
TRIGGER = sql(
    f"CREATE FUNCTION app.fill() RETURNS trigger {PATH} {BODY};"
    "CREATE TRIGGER notes_fill BEFORE INSERT ON app.notes FOR EACH ROW EXECUTE FUNCTION app.fill()"
)
BACKFILL = (
    'op.backfill("notes", table="app.notes", alias="n", pending="n.owner IS NULL",'
    ' batch="UPDATE app.notes AS n SET owner = 1 WHERE {batch} AND n.owner IS NULL")'
)
CHECK = sql("ALTER TABLE app.notes ADD CONSTRAINT ck_notes_owner CHECK (owner IS NOT NULL) NOT VALID")
VALIDATE = 'op.validate_constraint("ck_notes_owner", "app.notes")'
ADD_KEY = "ALTER TABLE app.notes ADD CONSTRAINT fk_notes_owner FOREIGN KEY (owner) REFERENCES app.owners (id)"
GUARD = 'op.refuse_data_loss("notes", "SELECT count(*) FROM app.notes")\n'

BAD = {
    "a type that is changed": ("strong-lock-scan", sql("ALTER TABLE app.notes ALTER COLUMN id TYPE numeric")),
    "a type that Alembic changes": (
        "strong-lock-scan",
        'op.alter_column("notes", "id", type_=sa.Numeric(), schema="app")',
    ),
    "a CHECK that is checked at once": ("strong-lock-scan", sql("ALTER TABLE app.notes ADD CHECK (id > 0)")),
    "a CHECK of Alembic": ("strong-lock-scan", 'op.create_check_constraint("ck", "notes", "id > 0", schema="app")'),
    "a volatile default": (
        "strong-lock-scan",
        sql("ALTER TABLE app.notes ADD COLUMN token uuid DEFAULT gen_random_uuid()"),
    ),
    "a generated column": (
        "strong-lock-scan",
        sql("ALTER TABLE app.notes ADD twice bigint GENERATED ALWAYS AS (id * 2) STORED"),
    ),
    "a serial column": ("strong-lock-scan", sql("ALTER TABLE app.notes ADD number bigserial")),
    "a scan under a lock that is held": (
        "strong-lock-scan",
        sql(
            "ALTER TABLE app.notes ADD CONSTRAINT c CHECK (id > 0) NOT VALID;"
            "ALTER TABLE app.notes VALIDATE CONSTRAINT c"
        ),
    ),
    "a table that is written anew": ("strong-lock-scan", sql("ALTER TABLE app.notes SET LOGGED")),
    "VACUUM FULL": ("strong-lock-scan", sql("VACUUM FULL app.notes")),
    "a materialized view": ("strong-lock-scan", sql("REFRESH MATERIALIZED VIEW app.sums")),
    "a partition that is attached": (
        "strong-lock-scan",
        sql("ALTER TABLE app.parts ATTACH PARTITION app.notes FOR VALUES IN (1)"),
    ),
    "an index": ("index-not-online", sql("CREATE UNIQUE INDEX ix ON app.notes (id)")),
    "an index of Alembic": ("index-not-online", 'op.create_index("ix", "notes", ["id"], schema="app")'),
    "an index that is dropped": ("index-not-online", sql("DROP INDEX app.ix")),
    "an index that is built anew": ("index-not-online", sql("REINDEX TABLE app.notes")),
    "an update of all rows": ("update-in-one-step", sql("UPDATE app.notes SET id = id + 1")),
    "an update by Alembic": ("update-in-one-step", 'op.execute("UPDATE app.notes SET id = 1 WHERE id = 0")'),
    "an update behind WITH": (
        "update-in-one-step",
        sql("WITH old AS (SELECT 1) UPDATE app.notes AS n SET id = 1 FROM old"),
    ),
    "a delete": ("update-in-one-step", sql("DELETE FROM app.notes WHERE id = 1")),
    "a backfill without a trigger": ("backfill-without-trigger", BACKFILL),
    "NOT NULL": ("not-null-in-one-step", sql("ALTER TABLE app.notes ALTER owner SET NOT NULL")),
    "NOT NULL of Alembic": ("not-null-in-one-step", 'op.alter_column("notes", "owner", nullable=False, schema="app")'),
    "NOT NULL by our operation, unproven": ("not-null-in-one-step", 'op.set_not_null("app.notes", "owner")'),
    "a column that must have a value": ("not-null-in-one-step", sql("ALTER TABLE app.notes ADD owner bigint NOT NULL")),
    "NOT NULL by a CHECK that is not validated": (
        "not-null-in-one-step",
        sql(
            "ALTER TABLE app.notes ADD CONSTRAINT c CHECK (owner IS NOT NULL) NOT VALID;"
            "ALTER TABLE app.notes ALTER owner SET NOT NULL"
        ),
    ),
    "a foreign key": ("key-in-one-step", sql(ADD_KEY)),
    "a foreign key of Alembic": (
        "key-in-one-step",
        'op.create_foreign_key("fk", "notes", "owners", ["owner"], ["id"], source_schema="app", referent_schema="app")',
    ),
    "a primary key": ("key-in-one-step", sql("ALTER TABLE app.notes ADD PRIMARY KEY (id)")),
    "a unique constraint": ("key-in-one-step", 'op.create_unique_constraint("uq", "notes", ["id"], schema="app")'),
    "a function on the caller's path": (
        "function-search-path",
        sql(f"CREATE FUNCTION app.f() RETURNS trigger LANGUAGE plpgsql {BODY}"),
    ),
    "an empty path, which has pg_temp first": (
        "function-search-path",
        sql(f"CREATE OR REPLACE FUNCTION app.f() RETURNS trigger LANGUAGE plpgsql SET search_path = '' {BODY}"),
    ),
    "a path without pg_temp": (
        "function-search-path",
        sql("CREATE PROCEDURE app.p() LANGUAGE sql SET search_path TO pg_catalog, app AS 'SELECT 1'"),
    ),
    "a table": ("table-without-policies", sql("CREATE TABLE app.open (id bigint)")),
    "a table of Alembic": (
        "table-without-policies",
        'op.create_table("open", sa.Column("id", sa.Integer), schema="app")',
    ),
    "row level security without a policy": (
        "table-without-policies",
        sql("CREATE TABLE app.open (id bigint); ALTER TABLE app.open ENABLE ROW LEVEL SECURITY"),
    ),
    "a revision that reads": ("needs-a-database", 'op.get_bind().execute(sa.text("SELECT 1")).scalar()'),
}

GOOD = {
    "a CHECK in two steps": [
        sql("ALTER TABLE app.notes ADD CONSTRAINT c CHECK (id > 0) NOT VALID"),
        'op.validate_constraint("c", "app.notes")',
    ],
    "a column with a constant default": [sql("ALTER TABLE app.notes ADD COLUMN done boolean NOT NULL DEFAULT false")],
    "a column with the time of the transaction": [sql("ALTER TABLE app.notes ADD at timestamptz DEFAULT now()")],
    "an index online": ['op.create_index_online("ix", "app.notes", ["id"])'],
    "an index that is dropped online": ['op.drop_index_online("app.ix")'],
    "an index of a new table": [
        sql(
            "CREATE TABLE app.new (id bigint); CREATE INDEX ON app.new (id); INSERT INTO app.new VALUES (1);"
            "UPDATE app.new SET id = 2; ALTER TABLE app.new ALTER id SET NOT NULL, ADD PRIMARY KEY (id),"
            " ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON app.new USING (true)"
        )
    ],
    "a table for the transaction": [sql("CREATE TEMPORARY TABLE aside (id bigint)")],
    "an index CONCURRENTLY": [
        'with op.get_context().autocommit_block():\n    op.sql("CREATE INDEX CONCURRENTLY ix ON app.notes (id)")'
    ],
    "a backfill behind its trigger": [TRIGGER, BACKFILL],
    "a backfill of a column with a default": [sql("ALTER TABLE app.notes ADD owner int DEFAULT 1"), BACKFILL],
    "an upsert and a locked row": [
        sql("INSERT INTO app.notes VALUES (1) ON CONFLICT (id) DO UPDATE SET id = 1"),
        sql("SELECT FROM app.notes FOR UPDATE; GRANT UPDATE ON app.notes TO PUBLIC"),
    ],
    "NOT NULL by a CHECK": [CHECK, VALIDATE, sql("ALTER TABLE app.notes ALTER owner SET NOT NULL")],
    "NOT NULL by our operations": [
        'op.add_not_null_check("app.notes", "owner")',
        'op.validate_not_null_check("app.notes", "owner")',
        'op.set_not_null("app.notes", "owner")',
    ],
    "NOT NULL of a table that was renamed": [
        CHECK,
        VALIDATE,
        sql("ALTER TABLE app.notes RENAME TO papers"),
        sql("ALTER TABLE app.papers ALTER owner SET NOT NULL"),
    ],
    "a foreign key in two steps": [
        sql(ADD_KEY + " NOT VALID"),
        'op.validate_constraint("fk_notes_owner", "app.notes")',
    ],
    "a foreign key of a column without values": [sql("ALTER TABLE app.notes ADD owner bigint REFERENCES app.owners")],
    "a unique constraint by its index": [
        'op.create_index_online("uq", "app.notes", ["id"], unique=True)',
        sql("ALTER TABLE app.notes ADD CONSTRAINT uq UNIQUE USING INDEX uq"),
    ],
    "a function with a path": [
        sql(f"CREATE FUNCTION app.f() RETURNS trigger {PATH} {BODY}"),
        sql(
            "CREATE FUNCTION app.g() RETURNS int LANGUAGE sql"
            " SET search_path TO 'pg_catalog', \"pg_temp\" AS 'SELECT 1';"
            "CREATE FUNCTION app.h(n int) RETURNS int LANGUAGE sql"
            " BEGIN ATOMIC SELECT 1; SELECT CASE n WHEN 1 THEN 2 END; END"
        ),
    ],
    "words that stand in strings, bodies and comments": [
        sql(
            f"CREATE FUNCTION app.f() RETURNS trigger {PATH} AS"
            " $f$ BEGIN UPDATE app.notes SET id = 1; RETURN NEW; END; $f$;"
            "COMMENT ON FUNCTION app.f() IS 'CREATE INDEX ix ON app.notes (id); DROP TABLE app.notes';"
            "-- DROP TABLE app.notes; UPDATE app.notes SET id = 1\n/* TRUNCATE app.notes; */ SELECT 'it''s; fine'"
        )
    ],
    "a revision that reads while there is a database": [
        'if not context.is_offline_mode():\n    op.get_bind().execute(sa.text("SELECT 1")).scalar()'
    ],
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_bad_is_found_at_its_line_with_a_recipe(project: Project, case: str) -> None:
    rule, upgrade = BAD[case]
    folder = project(NOTES, f"x = 1\n{upgrade}")
    [finding] = lint(folder)
    assert (finding.rule, Path(finding.file).name) == (rule, "0002.py")
    assert Path(finding.file).read_text().splitlines().index("    x = 1") + 2 == finding.line
    assert finding.recipe
    assert str(finding).startswith(f"{finding.file}:{finding.line}: {rule}: ")


@pytest.mark.parametrize("case", GOOD)
def test_what_is_good_is_no_finding(project: Project, case: str) -> None:
    assert_clean(project(NOTES, *GOOD[case]))


def test_each_rule_has_a_bad_example() -> None:
    elsewhere = {"downgrade-destroys", "ignore-without-reason", "unused-ignore"}
    assert {rule for rule, _ in BAD.values()} | elsewhere == RULES.keys()


LOSSES = {
    "a table": 'op.drop_table("notes", schema="app")',
    "a column": 'op.drop_column("notes", "owner", schema="app")',
    "all rows": sql("TRUNCATE app.notes"),
    "a schema": sql("DROP SCHEMA app CASCADE"),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_downgrade_that_destroys_asks_first(project: Project, loss: str) -> None:
    folder = project(NOTES, ("pass", LOSSES[loss]), ("pass", GUARD + LOSSES[loss]), (LOSSES[loss], "pass"))
    [finding] = lint(folder)
    assert (finding.rule, Path(finding.file).name) == ("downgrade-destroys", "0002.py")
    assert "op.refuse_data_loss(" in finding.recipe


def test_a_guard_that_comes_after_the_loss_is_none(project: Project) -> None:
    assert rules(project(NOTES, ("pass", LOSSES["a table"] + "\n" + GUARD))) == ["downgrade-destroys"]


def test_rows_that_a_downgrade_deletes_are_asked_for_too(project: Project) -> None:
    delete = sql("DELETE FROM app.notes")
    assert rules(project(NOTES, ("pass", delete), ("pass", GUARD + delete))) == [
        "downgrade-destroys",
        "update-in-one-step",
        "update-in-one-step",
    ]


def test_a_finding_within_a_long_text_has_the_line_of_its_statement(project: Project) -> None:
    folder = project(NOTES, 'op.sql(\n    """\n    SELECT 1;\n    UPDATE app.notes\n    SET id = 1;\n    """\n)')
    [finding] = lint(folder)
    assert Path(finding.file).read_text().splitlines()[finding.line - 1].strip() == "UPDATE app.notes"


def test_a_statement_that_a_function_of_the_revision_writes_has_its_line(project: Project) -> None:
    folder = project(NOTES, "change()")
    with (folder / "versions" / "0002.py").open("a") as file:
        file.write('\n\ndef change():\n    op.sql("UPDATE app.notes SET id = 1")\n')
    [finding] = lint(folder)
    assert "UPDATE" in Path(finding.file).read_text().splitlines()[finding.line - 1]


UPDATE = sql("UPDATE app.notes SET id = 1")
IGNORED = {
    "above": f"# lint: ignore update-in-one-step -- ten rows\n{UPDATE}",
    "above, with more to say": f"# lint: ignore update-in-one-step -- ten rows\n# and no more\n{UPDATE}",
    "behind": f"{UPDATE}  # lint: ignore update-in-one-step -- ten rows",
    "within": 'op.sql(  # lint: ignore update-in-one-step -- ten rows\n    "UPDATE app.notes SET id = 1"\n)',
}


@pytest.mark.parametrize("place", IGNORED)
def test_a_comment_with_a_reason_leaves_a_finding_out(project: Project, place: str) -> None:
    assert rules(project(NOTES, IGNORED[place])) == []


@pytest.mark.parametrize(
    ("upgrade", "found"),
    [
        (f"# lint: ignore update-in-one-step\n{UPDATE}", ["ignore-without-reason"]),
        (f"# lint: ignore index-not-online -- no\n{UPDATE}", ["unused-ignore", "update-in-one-step"]),
        (f"# lint: ignore update-in-one-step -- of the first alone\n{UPDATE}\n{UPDATE}", ["update-in-one-step"]),
        (f"x = '# lint: ignore update-in-one-step -- no comment'\n{UPDATE}", ["update-in-one-step"]),
        ("# lint: ignore index-not-online -- nothing is here\npass", ["unused-ignore"]),
    ],
)
def test_a_comment_leaves_out_no_more_than_it_says(project: Project, upgrade: str, found: list[str]) -> None:
    assert rules(project(NOTES, upgrade)) == found


def test_a_project_can_do_without_a_rule(project: Project) -> None:
    folder = project(NOTES, sql("CREATE TABLE app.open (id bigint)"), UPDATE)
    assert [each.rule for each in lint(folder, ignore=["table-without-policies"])] == ["update-in-one-step"]
    with pytest.raises(CommandError, match="There is no rule tables, so nothing was checked"):
        lint(folder, ignore=["tables"])


def test_files_revisions_and_ranges_are_chosen(project: Project) -> None:
    folder = project(NOTES, UPDATE, UPDATE, UPDATE)
    file = folder / "versions" / "0003.py"

    def numbers(*only: str | Path) -> list[str]:
        return [Path(each.file).stem for each in lint(folder, only)]

    assert numbers() == ["0002", "0003", "0004"]
    assert numbers(file) == ["0003"]
    assert numbers("0002", "0004") == ["0002", "0004"]
    assert numbers("0003:head") == ["0003", "0004"]
    with pytest.raises(CommandError, match="0009 is neither a file nor a revision"):
        lint(folder, ["0009"])


def test_a_file_outside_the_chain_is_read_behind_it(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = project(NOTES, CHECK, VALIDATE)
    draft = tmp_path_factory.mktemp("drafts") / "draft.py"
    draft.write_text(
        REVISION.format(
            revision="draft",
            below="0003",
            upgrade=indented('op.set_not_null("app.notes", "owner")\n' + UPDATE),
            downgrade="    pass",
        )
    )
    assert [each.rule for each in lint(folder, [draft])] == ["update-in-one-step"]


def test_the_helper_prints_every_finding(project: Project) -> None:
    with pytest.raises(AssertionError, match=r"(?s)0002\.py:9: update-in-one-step: .*op\.backfill\("):
        assert_clean(project(NOTES, UPDATE))


@pytest.fixture
def within(project: Project, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = project(NOTES, UPDATE)
    (folder / "alembic.ini").write_text("[alembic]\nscript_location = %(here)s\n")
    monkeypatch.chdir(folder)
    return folder


def test_the_command_lints_any_project(within: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["-c", "alembic.ini", "lint"])
    said = capsys.readouterr()
    assert ended.value.code == 1
    assert said.out.startswith("versions/0002.py:9: update-in-one-step: The update of app.notes holds every row ")
    assert said.out.endswith("1 finding.\n")
    with pytest.raises(SystemExit):
        main(["-c", "alembic.ini", "lint", "--json", "0002"])
    [finding] = json.loads(capsys.readouterr().out)["findings"]
    assert (finding["file"], finding["line"], finding["rule"]) == ("versions/0002.py", 9, "update-in-one-step")
    main(["-c", "alembic.ini", "lint", "--ignore", "update-in-one-step"])
    assert capsys.readouterr().out == "Nothing was found.\n"


def test_our_own_chain_has_no_finding_without_a_reason() -> None:
    import app.operations  # noqa: F401

    assert_clean(alembic_config("unused"), options=Options())
