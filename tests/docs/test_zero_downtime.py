"""docs/zero_downtime.md holds: the easy way fails where a client writes meanwhile; the revisions it names exist."""

from __future__ import annotations

import re

import psycopg
import pytest
from alembic.script import ScriptDirectory

from tests.conftest import alembic_config
from tests.docs.test_security import ANN, blocks
from tests.migrations.chain import Chain
from tests.postgres_binaries import ROOT


def test_the_easy_way_fails_where_a_client_that_knows_no_conversation_writes(database_url: str) -> None:
    [[column, update, not_null]] = blocks("zero_downtime.md")
    with Chain.on(database_url) as chain:
        chain.upgrade("0031")
        chain.execute(f"INSERT INTO users (id) VALUES ('{ANN}')")
        chain.execute(f"INSERT INTO conversations (user_id) VALUES ('{ANN}')")
        said = f"INSERT INTO chat_messages (user_id, role, content) VALUES ('{ANN}', 'user', 'Hello')"
        chain.execute(said)
        chain.execute(column)
        chain.execute(update)
        assert chain.value("SELECT count(*) FROM chat_messages WHERE conversation_id IS NULL") == 0
        chain.execute(said)
        with pytest.raises(psycopg.errors.NotNullViolation):
            chain.execute(not_null)


def test_the_table_of_revisions_names_them_with_their_phases() -> None:
    page = (ROOT / "docs" / "zero_downtime.md").read_text("utf-8")
    named = re.findall(r"^\| (\d{4}) (\w+) \|", page, re.MULTILINE)
    chain = ScriptDirectory.from_config(alembic_config("unused"))
    phases = [(script.revision, script.path.rpartition("/")[2].split("_")[1]) for script in chain.walk_revisions()]
    assert named == sorted(each for each in phases if "0032" <= each[0] <= "0037")
