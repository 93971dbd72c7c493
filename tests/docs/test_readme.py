"""README.md holds: its Python shows a user its own conversations; its commands stand in .ci/run too."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from tests.docs.test_security import ANN, BEN
from tests.postgres_binaries import ROOT

README = (ROOT / "README.md").read_text("utf-8")


def test_the_service_of_the_readme_shows_a_user_its_own(migrated_url: str) -> None:
    [program] = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(program.replace("chat_schema", "app"), "README.md", "exec"), names)  # noqa: S102
    engine = sa.create_engine(migrated_url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"INSERT INTO users (id) VALUES ('{ANN}'), ('{BEN}')")
        connection.exec_driver_sql(f"INSERT INTO conversations (user_id, title) VALUES ('{ANN}', 'hers')")
    assert [conversation.title for conversation in names["sidebar"](engine, UUID(ANN))] == ["hers"]
    assert names["sidebar"](engine, UUID(BEN)) == []


def test_the_first_commands_of_the_readme_are_what_is_run_before_a_change_lands() -> None:
    [first] = re.findall(r"^```\n(make .*?)^```$", README, re.MULTILINE | re.DOTALL)[:1]
    commands = re.findall(r"^make \w+", first, re.MULTILINE)
    assert commands == ["make demo", "make test"]
    run = (ROOT / ".ci" / "run").read_text("utf-8").splitlines()
    assert set(commands) <= set(run)
    assert ".ci/run" in (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")
