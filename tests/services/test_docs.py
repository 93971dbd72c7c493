"""docs/services.md and the pages around it: their Python runs as one project, the SQL on a migrated database."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.orm import Session

from app.acting_as import acting_as
from app.autogenerate import include_object
from app.check_login import check_login
from app.models import Conversation
from tests.postgres_binaries import ROOT
from tests.services import people
from tests.services.test_testing import only_our_plugin, run

__all__ = ["only_our_plugin"]

pytest_plugins = ["pytester"]

PAGES = ("services", "poolers", "testing", "lists", "replies", "search", "attachments", "provider_keys")
BLOCKS = [
    (page, language, text)
    for page in PAGES
    for language, text in re.findall(
        r"^```(python|sql)\n(.*?)^```$", (ROOT / "docs" / f"{page}.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
]
MODULES = {text.splitlines()[0].removeprefix("# "): text for _, language, text in BLOCKS if language == "python"}


def test_the_service_of_the_pages_passes_its_tests(pytester: pytest.Pytester) -> None:
    for name, text in MODULES.items():
        (pytester.path / name).write_text(text)
    run(pytester, "--import-mode=prepend").assert_outcomes(passed=4)


def test_the_service_of_the_pages_is_typed(pytester: pytest.Pytester) -> None:
    for name, text in MODULES.items():
        if not name.startswith("test_"):
            (pytester.path / name).write_text(text.replace("from chat_schema", "from app"))  # as a checkout types it
    names = [name for name in MODULES if not name.startswith("test_")]
    mypy = [sys.executable, "-m", "mypy", "--strict", "--config-file", str(ROOT / "pyproject.toml"), *names]
    said = subprocess.run(
        mypy, cwd=pytester.path, env={"MYPYPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stdout + said.stderr


def test_the_login_of_the_page_is_fit_and_its_table_shows_a_user_its_own(
    migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "labels.py").write_text(MODULES["labels.py"])
    monkeypatch.syspath_prepend(tmp_path)
    labels: Any = importlib.import_module("labels")
    login, policies = (text for page, language, text in BLOCKS if (page, language) == ("services", "sql"))
    administrator = sa.create_engine(migrated_url, poolclass=sa.NullPool)
    with administrator.begin() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": include_object})
        differences = [difference[0] for difference in compare_metadata(context, labels.Base.metadata)]
        assert differences == ["add_table", "add_index"]
        labels.Base.metadata.create_all(connection)
        connection.exec_driver_sql(login + policies + people.ROWS)
    service = sa.create_engine(administrator.url.set(username="chat_service"), poolclass=sa.NullPool)
    try:
        with Session(service) as session:
            check_login(session.connection())
            for user in (people.ANN, people.BEN):
                with acting_as(session, user):
                    conversation = session.scalars(sa.select(Conversation)).one()
                    session.add(labels.Label(conversation=conversation, name="later"))
                    session.flush()
                    assert session.scalars(sa.select(labels.Label.user_id)).all() == [user]
    finally:
        with administrator.begin() as connection:
            connection.exec_driver_sql("DROP OWNED BY chat_service; DROP ROLE chat_service")
