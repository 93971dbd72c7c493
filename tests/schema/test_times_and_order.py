"""When a row says that it was changed, and in which order messages are told."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.schema.rows import Rows

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)

# a table with updated_at, and something of it that changes
CHANGES = {
    "users": "email = 'new@example.org'",
    "tenants": "name = 'New'",
    "tasks": "completed = true",
    "conversations": "metadata = '{\"a\": 1}'",
    "brands": "name = 'New'",
    "feedback": "rating = -1",
    "user_llm_providers": "key_id = 'b'",
    "retention_rules": "keep = '1 day'",
}


@pytest.fixture
def old(rows: Rows) -> Rows:
    """One row in each table, changed long ago."""
    old = {"created_at": LONG_AGO, "updated_at": LONG_AGO}
    user = rows.user(**old)
    rows.insert("tenants", name="Acme", **old)
    rows.insert("tasks", user_id=user, title="Task", **old)
    conversation = rows.conversation(user, **old)
    message = rows.message(conversation, created_at=LONG_AGO)
    rows.insert("feedback", message_id=message, conversation_id=conversation, user_id=user, rating=1, **old)
    rows.insert("retention_rules", **old)
    rows.insert("user_llm_providers", user_id=user, provider="acme", ciphertext=b"sealed", key_id="a", **old)
    rows.insert("brands", user_id=user, name="Acme", **old)
    return rows


@pytest.mark.parametrize(("table", "change"), CHANGES.items())
class TestUpdatedAt:
    def test_a_change_moves_it_and_leaves_created_at(self, old: Rows, table: str, change: str) -> None:
        old.run(f"UPDATE {table} SET {change}")
        [(created, updated, now)] = old.all(f"SELECT created_at, updated_at, now() FROM {table}")
        assert (created, updated) == (LONG_AGO, now)

    def test_a_value_that_is_given_is_taken(self, old: Rows, table: str, change: str) -> None:
        old.run(f"UPDATE {table} SET {change}, updated_at = %s", LONG_AGO + HOUR)
        assert old.one(f"SELECT updated_at FROM {table}") == LONG_AGO + HOUR

    def test_a_value_that_is_only_written_back_does_not_stop_it(self, old: Rows, table: str, change: str) -> None:
        old.run(f"UPDATE {table} SET {change}, updated_at = %s", LONG_AGO)
        assert old.one(f"SELECT updated_at = now() FROM {table}")

    def test_a_statement_that_changes_nothing_does_not_move_it(self, old: Rows, table: str, change: str) -> None:
        column = change.partition(" ")[0]
        assert old.run(f"UPDATE {table} SET {column} = {column}") == 1
        assert old.one(f"SELECT updated_at FROM {table}") == LONG_AGO


def test_every_table_with_updated_at_moves_it(rows: Rows) -> None:
    with_column = rows.all(
        "SELECT c.relname::text FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid"
        " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attname = 'updated_at'"
    )
    assert set(with_column) == set(CHANGES)


class TestANewMessage:
    @pytest.mark.parametrize("table", ["messages", "chat_messages"])
    def test_moves_its_conversation_and_no_other(self, rows: Rows, table: str) -> None:
        user = rows.user()
        first, second = (rows.conversation(user, created_at=LONG_AGO, updated_at=LONG_AGO) for _ in range(2))
        rows.insert(table, conversation_id=first, user_id=user, role="user", content="Hi")
        assert rows.one("SELECT updated_at = now() FROM conversations WHERE id = %s", first)
        assert rows.one("SELECT updated_at FROM conversations WHERE id = %s", second) == LONG_AGO

    @pytest.mark.parametrize("table", ["messages", "chat_messages"])
    def test_of_an_old_date_moves_it_no_further_than_that_date(self, rows: Rows, table: str) -> None:
        user = rows.user()
        conversation = rows.conversation(user, created_at=LONG_AGO, updated_at=LONG_AGO)

        def add(at: datetime) -> datetime:
            values = {"conversation_id": conversation, "user_id": user, "role": "user", "content": "Hi"}
            rows.insert(table, created_at=at, **values)
            moved: datetime = rows.one("SELECT updated_at FROM conversations")
            return moved

        assert add(LONG_AGO - HOUR) == LONG_AGO
        assert add(LONG_AGO + HOUR) == LONG_AGO + HOUR
        assert add(LONG_AGO) == LONG_AGO + HOUR

    def test_among_many_moves_each_conversation_to_its_latest(self, rows: Rows) -> None:
        user = rows.user()
        first, second = (rows.conversation(user, created_at=LONG_AGO, updated_at=LONG_AGO) for _ in range(2))
        rows.run(
            "INSERT INTO messages (conversation_id, user_id, role, content, created_at)"
            " SELECT c, %s, 'user', 'Hi', %s + n * interval '1 hour'"
            " FROM unnest(%s::uuid[]) WITH ORDINALITY AS c (c, n) ORDER BY n DESC",
            user,
            LONG_AGO,
            [first, second, first],
        )
        moved = rows.all("SELECT id, updated_at FROM conversations")
        assert dict(moved) == {first: LONG_AGO + 3 * HOUR, second: LONG_AGO + 2 * HOUR}

    def test_that_is_changed_or_deleted_moves_nothing(self, rows: Rows) -> None:
        conversation = rows.conversation(rows.user())
        rows.message(conversation)
        rows.run("UPDATE conversations SET updated_at = %s", LONG_AGO)
        rows.run("UPDATE messages SET content = 'edited'")
        rows.run("DELETE FROM messages")
        assert rows.one("SELECT updated_at FROM conversations") == LONG_AGO


class TestOrder:
    def test_messages_of_one_transaction_share_their_time_and_keep_their_order(self, rows: Rows) -> None:
        conversation = rows.conversation(rows.user())
        texts = [str(number) for number in range(50)]
        for text in texts:
            rows.message(conversation, text)
        assert rows.one("SELECT count(DISTINCT created_at) FROM messages") == 1
        assert rows.all("SELECT content FROM messages ORDER BY created_at, seq") == texts

    def test_messages_of_one_statement_keep_its_order(self, rows: Rows) -> None:
        conversation = rows.conversation(rows.user())
        rows.run(
            "INSERT INTO messages (conversation_id, role, content)"
            " SELECT %s, 'user', n FROM generate_series(1, 200) AS n ORDER BY n DESC",
            conversation,
        )
        assert rows.all("SELECT content::int FROM messages ORDER BY created_at, seq") == list(range(200, 0, -1))

    def test_time_goes_before_the_order_of_arrival(self, rows: Rows) -> None:
        conversation = rows.conversation(rows.user())
        for hours, text in ((2, "third"), (1, "second"), (0, "first"), (2, "fourth")):
            rows.message(conversation, text, created_at=LONG_AGO + hours * HOUR)
        assert rows.all("SELECT content FROM messages ORDER BY created_at, seq") == [
            "first",
            "second",
            "third",
            "fourth",
        ]

    def test_a_restore_may_bring_its_own_order(self, rows: Rows) -> None:
        conversation = rows.conversation(rows.user())
        for seq, text in ((2, "second"), (1, "first")):
            rows.message(conversation, text, seq=seq)
        assert rows.all("SELECT content FROM messages ORDER BY created_at, seq") == ["first", "second"]
