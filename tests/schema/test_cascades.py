"""What goes with what: users take everything they own along, and nothing of anybody else's."""

from uuid import UUID

import psycopg
import pytest

from tests.schema.rows import Rows

TABLES = (
    "users",
    "tenants",
    "tenant_users",
    "tasks",
    "conversations",
    "messages",
    "chat_messages",
    "brands",
    "conversation_sessions",
    "conversation_messages",
    "attachments",
    "feedback",
    "shares",
    "user_llm_providers",
    "retention_holds",
    "chat_internal.chat_session_arrays",
)


def everything_of(rows: Rows, user: UUID, tenant: UUID) -> None:
    """Give ``user`` one row in every table that has an owner, and two conversations."""
    rows.insert("tasks", user_id=user, title="Task")
    rows.insert("user_llm_providers", user_id=user, provider="acme", ciphertext=b"sealed", key_id="a")
    for conversation in (rows.conversation(user), rows.conversation(user, tenant_id=tenant)):
        rows.hang_on(rows.message(conversation))
        rows.insert("retention_holds", conversation_id=conversation, user_id=user)
        rows.insert("chat_messages", user_id=user, role="user", content="Hi", conversation_id=conversation)
        rows.run("INSERT INTO chat_internal.chat_session_arrays VALUES (%s, %s, '[]')", conversation, user)
    rows.turn(rows.session(user, rows.insert("brands", user_id=user, name="Acme")))


def counts(rows: Rows) -> dict[str, int]:
    return {table: rows.count(table) for table in TABLES}


@pytest.fixture
def people(rows: Rows) -> tuple[UUID, UUID]:
    """Two users of one tenant, each with everything a user can have."""
    first, second = rows.user(), rows.user()
    tenant = rows.tenant(first, second)
    for user in (first, second):
        everything_of(rows, user, tenant)
    return first, second


def test_a_user_takes_everything_along_that_is_its_own_and_nothing_else(rows: Rows, people: tuple[UUID, UUID]) -> None:
    before = counts(rows)
    assert rows.run("DELETE FROM users WHERE id = %s", people[0]) == 1
    assert counts(rows) == {table: before[table] // 2 for table in TABLES} | {"tenants": 1}
    owners = rows.all("SELECT user_id FROM messages UNION ALL SELECT user_id FROM chat_messages")
    assert set(owners) == {people[1]}


def test_a_conversation_takes_its_messages_along(rows: Rows, people: tuple[UUID, UUID]) -> None:
    before = counts(rows)
    rows.run("DELETE FROM conversations WHERE tenant_id IS NULL AND user_id = %s", people[0])
    of_message = ("attachments", "feedback", "shares", "retention_holds")
    gone = ("conversations", "messages", "chat_messages", "chat_internal.chat_session_arrays", *of_message)
    assert counts(rows) == before | {table: before[table] - 1 for table in gone}


def test_a_message_takes_its_attachments_ratings_and_shares_along(rows: Rows, people: tuple[UUID, UUID]) -> None:
    before = counts(rows)
    rows.run("DELETE FROM messages WHERE user_id = %s AND tenant_id IS NULL", people[0])
    gone = ("messages", "attachments", "feedback", "shares")
    assert counts(rows) == before | {table: before[table] - 1 for table in gone}


def test_a_tenant_takes_its_conversations_and_memberships_along_and_leaves_its_users(
    rows: Rows, people: tuple[UUID, UUID]
) -> None:
    rows.run("DELETE FROM tenants")
    assert rows.count("tenant_users") == 0
    assert rows.all("SELECT tenant_id FROM conversations") == [None, None]
    assert [rows.count(table) for table in ("users", "messages", "chat_messages", "tasks")] == [2, 2, 2, 2]


def test_a_member_who_leaves_takes_nothing_along(rows: Rows, people: tuple[UUID, UUID]) -> None:
    before = counts(rows)
    rows.run("DELETE FROM tenant_users WHERE user_id = %s", people[0])
    assert counts(rows) == before | {"tenant_users": 1}


def test_a_brand_takes_its_sessions_along_and_a_session_its_messages(rows: Rows, people: tuple[UUID, UUID]) -> None:
    first, second = people
    rows.run("DELETE FROM brands WHERE user_id = %s", first)
    assert rows.all("SELECT user_id FROM conversation_sessions") == [second]
    assert rows.all("SELECT user_id FROM conversation_messages") == [second]
    rows.run("DELETE FROM conversation_sessions")
    assert (rows.count("conversation_messages"), rows.count("brands")) == (0, 1)


def test_every_key_cascades_and_has_an_index_that_begins_with_its_columns(rows: Rows) -> None:
    keys = rows.all(
        """
        SELECT k.conname, k.confdeltype::text, EXISTS (
          SELECT FROM pg_index AS i
          WHERE i.indrelid = k.conrelid AND i.indisvalid
            AND (i.indpred IS NULL OR pg_get_expr(i.indpred, i.indrelid) = '(' || ( -- no cascade looks for NULL
              SELECT a.attname FROM pg_attribute AS a WHERE a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
            ) || ' IS NOT NULL)')
            AND (i.indkey::int2[])[0:cardinality(k.conkey) - 1] @> k.conkey
        )
        FROM pg_constraint AS k
        WHERE k.contype = 'f' AND k.connamespace IN ('public'::regnamespace, 'chat_internal'::regnamespace)
          AND k.conname <> 'fk_messages_parent_id' -- what answered a deleted message is hung on the one before
        """
    )
    assert len(keys) > 15
    assert [key for key in keys if key[1:] != ("c", True)] == []


def test_the_session_view_deletes_what_the_table_does(rows: Rows, people: tuple[UUID, UUID]) -> None:
    rows.run("DELETE FROM chat_sessions WHERE user_id = %s", people[0])
    assert rows.all("SELECT DISTINCT user_id FROM messages") == [people[1]]


def test_a_row_of_nobody_is_refused(rows: Rows) -> None:
    nobody = "00000000-0000-4000-8000-000000000000"
    for table, values in (
        ("tasks", {"title": "Task"}),
        ("conversations", {}),
        ("chat_messages", {"role": "user", "content": "Hi"}),
        ("brands", {"name": "Acme"}),
    ):
        with pytest.raises(psycopg.errors.ForeignKeyViolation), rows.connection.transaction():
            rows.insert(table, user_id=nobody, **values)
