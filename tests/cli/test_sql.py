"""``chat-schema sql --split``: the upgrade as a folder of files."""

import re
from pathlib import Path

import pytest

from app.catalog import compare, load_expected
from app.cli import main
from tests.migrations.chain import HEAD, REVISIONS, Chain


def test_the_files_run_in_their_order_by_anything_that_speaks_sql_and_end_at_head(
    database_url: str, tmp_path: Path
) -> None:
    main(["sql", "--split", str(tmp_path / "migrations")])
    files = sorted((tmp_path / "migrations").iterdir())
    assert len(files) == len(REVISIONS)
    assert all(re.fullmatch(r"\d{4}_[a-z0-9_]+\.sql", file.name) for file in files)
    with Chain.on(database_url) as chain:
        for file in files:
            script = file.read_text("utf-8")
            assert not re.search(r"^\\", script, re.MULTILINE), f"{file.name} is for psql alone"
            done = chain.run_script(script)
            assert done.returncode == 0, f"{file.name}: {done.stderr}"
        assert chain.revision() == HEAD
        assert compare(load_expected(), chain.snapshot()).differences == ()


def test_it_says_what_is_missing_where_no_folder_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["sql"])
    assert "--split" in capsys.readouterr().err
