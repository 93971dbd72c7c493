"""A table of the application's own that bears the name of a new one of ours: named before the first change."""

import re

import pytest
from alembic.util import CommandError

from tests.migrations.chain import HEAD, Chain, before

NAMES = {
    "attachments": "CREATE TABLE {0} (id int)",
    "feedback": "CREATE VIEW {0} AS SELECT 1 AS stars",
    "shares": "CREATE TYPE {0} AS ENUM ('a', 'b')",
    "retention_holds": "CREATE MATERIALIZED VIEW {0} AS SELECT 1 AS id",
    "user_llm_providers": "CREATE TABLE {0} (id int PRIMARY KEY); INSERT INTO {0} VALUES (1)",
}


def test_what_is_in_the_way_is_named_together_and_out_of_it_by_the_statements_that_are_printed(chain: Chain) -> None:
    chain.upgrade(before("0056"))
    for name, create in NAMES.items():
        chain.execute(create.format(name))
    stood = chain.snapshot()
    with pytest.raises(CommandError, match="nothing was changed") as refused:
        chain.upgrade()
    assert chain.snapshot() == stood
    mends = re.findall(r"^ +(ALTER .*;)$", str(refused.value), re.MULTILINE)
    assert len(mends) == len(NAMES) + 1  # and the index of a primary key, which keeps its name
    for mend in mends:
        chain.execute(mend)
    chain.upgrade()
    assert chain.revision() == HEAD
    assert chain.rows("SELECT id FROM user_llm_providers_of_before") == [1]
    chain.downgrade(before("0056"))
    assert chain.rows("SELECT stars FROM feedback_of_before") == [1]
