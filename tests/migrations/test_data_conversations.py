"""Conversations that stand get their marks: what they are after the upgrade, and what is in the way of it."""

import pytest
from alembic.util import CommandError

from tests.migrations.chain import Chain


def test_what_stands_is_read_as_of_the_upgrade_and_otherwise_unmarked(chain: Chain) -> None:
    chain.upgrade("0042")
    user = chain.new_user()
    chain.execute(
        "INSERT INTO conversations (user_id, updated_at) SELECT %s, '2026-01-01' FROM generate_series(1, 3)", [user]
    )
    chain.upgrade("0045")
    assert chain.rows(
        "SELECT DISTINCT updated_at = '2026-01-01', archived_at, pinned_at, deleted_at,"
        " last_read_at BETWEEN now() - interval '10 minutes' AND now() FROM conversations"
    ) == [(True, None, None, None, True)]


@pytest.mark.parametrize("table", ["conversations", "chat_sessions"])
def test_a_column_of_that_name_is_named_before_anything_is_changed_and_its_remedy_helps(
    chain: Chain, table: str
) -> None:
    chain.execute("CREATE TABLE users (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), email varchar(255))")
    chain.execute(
        f"CREATE TABLE {table} (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), user_id uuid NOT NULL REFERENCES users,"
        f"{' messages jsonb,' if table == 'chat_sessions' else ''}"
        " archived_at boolean, created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now())"
    )
    with pytest.raises(CommandError, match="archived_at of your own") as refused:
        chain.upgrade()
    assert chain.value("SELECT to_regclass('chat_internal.adopted')") is None
    mends = f"ALTER TABLE public.{table} RENAME COLUMN archived_at TO own_archived_at;"
    assert mends in str(refused.value)
    chain.execute(mends)
    chain.upgrade()
    names = chain.rows("SELECT attname::text FROM pg_attribute WHERE attrelid = 'conversations'::regclass")
    assert {"archived_at", "own_archived_at"} <= set(names)
