"""How a run ends, and where it does not begin: the catalog at head is compared, a version table names one revision."""

import logging

import pytest
from alembic.util import CommandError

from tests.cli.test_commands import chat_schema
from tests.live.command_line import alembic
from tests.migrations.chain import HEAD, Chain, before


def test_an_upgrade_that_ends_at_head_names_what_is_not_as_expected_there(chain: Chain) -> None:
    chain.upgrade(before(HEAD))
    chain.execute("DROP INDEX idx_tasks_user_id")
    with alembic(chain.url, "upgrade", "head") as upgrade:
        said = upgrade.fails()
    assert "the database is at head, but its catalog is not what the package expects:" in said
    assert "- index idx_tasks_user_id on public.tasks is missing" in said
    assert chain.revision() == HEAD
    [mend] = [line for line in said.splitlines() if line.strip().startswith("CREATE INDEX")]
    chain.execute(mend)
    assert chat_schema(chain.url, "verify").returncode == 0


def test_what_was_dropped_below_head_is_not_compared(chain: Chain) -> None:
    chain.upgrade("0018")
    chain.execute("DROP INDEX idx_tasks_user_id")
    chain.upgrade(before(HEAD))


def test_two_rows_in_the_version_table_are_one_message_of_every_command(chain: Chain) -> None:
    chain.upgrade()
    chain.execute("INSERT INTO chat_internal.alembic_version VALUES ('0017')")
    stood = chain.snapshot()
    for command in (("upgrade", "head"), ("downgrade", "base"), ("downgrade", "-1"), ("current",)):
        with alembic(chain.url, *command) as run:
            assert f"alembic_version holds 2 rows (0017, {HEAD})" in run.fails()
    verified = chat_schema(chain.url, "verify")
    assert verified.returncode == 1
    assert f"alembic_version holds 2 rows (0017, {HEAD})" in verified.stdout
    assert "stamp --purge REVISION" in verified.stdout
    assert chain.snapshot() == stood
    with alembic(chain.url, "stamp", "--purge", HEAD) as run:
        run.succeeds()
    assert chat_schema(chain.url, "verify").returncode == 0


def test_a_revision_that_was_begun_and_has_not_ended_is_a_fault_of_verify(chain: Chain) -> None:
    chain.upgrade(before("0023"))
    chain.execute("CREATE VIEW own AS SELECT 1 AS idx_conversations_tenant_id")
    chain.execute("ALTER VIEW own RENAME TO idx_conversations_tenant_id")  # in the way of the fourth index
    with pytest.raises(CommandError, match="its downgrade has undone: the database is at 0022"):
        chain.upgrade()
    assert chain.rows("SELECT relname FROM pg_class WHERE relname ~ '^idx_conversations' AND relkind = 'i'") == []
    verified = chat_schema(chain.url, "verify")
    assert "has not ended" not in verified.stdout, "it was undone"
    chain.execute("CREATE TABLE chat_internal.unfinished_revision (revision text, direction text)")
    chain.execute("INSERT INTO chat_internal.unfinished_revision VALUES ('0023', 'upgrade')")
    verified = chat_schema(chain.url, "verify")
    assert verified.returncode == 1
    assert "`upgrade 0023` was begun and has not ended" in verified.stdout


def test_a_note_of_a_revision_that_was_stamped_over_is_not_followed(
    chain: Chain, caplog: pytest.LogCaptureFixture
) -> None:
    chain.upgrade()
    chain.execute("CREATE TABLE chat_internal.unfinished_revision (revision text, direction text)")
    chain.execute("INSERT INTO chat_internal.unfinished_revision VALUES ('0023', 'upgrade')")
    with caplog.at_level(logging.INFO):
        chain.downgrade(before(HEAD))
    chain.upgrade()
    assert chat_schema(chain.url, "verify").returncode == 0
