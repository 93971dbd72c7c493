"""What the database refuses, whoever writes it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

from tests.schema.rows import Rows


@contextmanager
def refused(rows: Rows, error: type[psycopg.Error], constraint: str) -> Iterator[None]:
    """Expect ``error`` of ``constraint``; the transaction goes on afterwards."""
    with pytest.raises(error) as raised, rows.connection.transaction():
        yield
    assert (raised.value.diag.constraint_name or raised.value.diag.column_name) == constraint


@pytest.fixture
def mine(rows: Rows) -> UUID:
    return rows.user()


@pytest.fixture
def theirs(rows: Rows) -> UUID:
    return rows.user()


class TestOwnership:
    """A message never stands in another user's conversation."""

    def test_a_message_of_one_user_in_the_conversation_of_another(self, rows: Rows, mine: UUID, theirs: UUID) -> None:
        conversation = rows.conversation(theirs)
        with refused(rows, errors.ForeignKeyViolation, "fk_messages_conversation_id"):
            rows.message(conversation, user_id=mine)
        with refused(rows, errors.ForeignKeyViolation, "fk_chat_messages_conversation"):
            rows.insert("chat_messages", user_id=mine, role="user", content="Hi", conversation_id=conversation)

    def test_a_message_that_moves_there(self, rows: Rows, mine: UUID, theirs: UUID) -> None:
        message = rows.message(rows.conversation(mine))
        with refused(rows, errors.ForeignKeyViolation, "fk_messages_conversation_id"):
            rows.run("UPDATE messages SET conversation_id = %s WHERE id = %s", rows.conversation(theirs), message)

    def test_a_conversation_with_messages_that_changes_hands(self, rows: Rows, mine: UUID, theirs: UUID) -> None:
        conversation = rows.conversation(mine)
        rows.message(conversation)
        with refused(rows, errors.ForeignKeyViolation, "fk_messages_conversation_id"):
            rows.run("UPDATE conversations SET user_id = %s WHERE id = %s", theirs, conversation)

    def test_a_message_of_one_user_in_the_session_of_another(self, rows: Rows, mine: UUID, theirs: UUID) -> None:
        session = rows.session(theirs, rows.insert("brands", user_id=theirs, name="Acme"))
        with refused(rows, errors.ForeignKeyViolation, "fk_conversation_messages_session_id"):
            rows.turn(session, user_id=mine)

    def test_a_message_of_one_brand_in_the_session_of_another(self, rows: Rows, mine: UUID) -> None:
        here, there = (rows.insert("brands", user_id=mine, name=name) for name in ("Acme", "Globex"))
        session = rows.session(mine, here)
        with refused(rows, errors.ForeignKeyViolation, "fk_conversation_messages_brand_id"):
            rows.turn(session, brand_id=there)

    def test_a_session_with_messages_that_changes_hands(self, rows: Rows, mine: UUID, theirs: UUID) -> None:
        session = rows.session(mine, rows.insert("brands", user_id=mine, name="Acme"))
        rows.turn(session)
        brand = rows.insert("brands", user_id=theirs, name="Globex")
        for also in ("", ", brand_id = %(brand)s"):
            with refused(rows, errors.ForeignKeyViolation, "fk_conversation_messages_session_id"):
                change = f"UPDATE conversation_sessions SET user_id = %(theirs)s{also} WHERE id = %(session)s"
                rows.connection.execute(change.encode(), {"theirs": theirs, "brand": brand, "session": session})

    def test_a_message_in_no_conversation(self, rows: Rows, mine: UUID) -> None:
        with refused(rows, errors.ForeignKeyViolation, "fk_messages_conversation_id"):
            rows.message(uuid4(), user_id=mine)
        with refused(rows, errors.NotNullViolation, "user_id"):
            rows.message(uuid4())  # nobody to take the owner from

    def test_an_old_client_that_names_no_owner_gets_the_conversations(self, rows: Rows, mine: UUID) -> None:
        rows.message(rows.conversation(mine))
        assert rows.all("SELECT user_id FROM messages") == [mine]

    def test_a_kept_array_of_another_owner(self, rows: Rows, mine: UUID, theirs: UUID) -> None:
        with refused(rows, errors.ForeignKeyViolation, "fk_chat_session_arrays_session_id"):
            rows.run("INSERT INTO chat_internal.chat_session_arrays VALUES (%s, %s)", rows.conversation(mine), theirs)


class TestIdempotency:
    def test_a_key_is_stored_once_for_each_user(self, rows: Rows, mine: UUID, theirs: UUID) -> None:
        here, there = rows.conversation(mine), rows.conversation(mine)
        rows.message(here, idempotency_key="k")
        for conversation in (here, there):
            with refused(rows, errors.UniqueViolation, "idx_messages_user_id_idempotency_key"):
                rows.message(conversation, idempotency_key="k")
        rows.message(rows.conversation(theirs), idempotency_key="k")
        rows.message(here, idempotency_key="another")

    def test_messages_without_a_key_are_many(self, rows: Rows, mine: UUID) -> None:
        conversation = rows.conversation(mine)
        for _ in range(3):
            rows.message(conversation)
        assert rows.count("messages") == 3

    def test_a_request_sent_twice_is_one_statement_that_does_nothing_the_second_time(
        self, rows: Rows, mine: UUID
    ) -> None:
        conversation = rows.conversation(mine)
        statement = (
            "INSERT INTO messages (conversation_id, user_id, role, content, idempotency_key)"
            " VALUES (%s, %s, 'user', 'Hi', 'k')"
            " ON CONFLICT (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING"
        )
        assert [rows.run(statement, conversation, mine) for _ in range(2)] == [1, 0]


class TestValues:
    def test_the_roles_of_a_message(self, rows: Rows, mine: UUID) -> None:
        conversation = rows.conversation(mine)
        for role in ("user", "assistant", "agent", "system", "tool"):
            rows.message(conversation, role=role)
        for role in ("", "User", "director", "bot"):
            with refused(rows, errors.CheckViolation, "ck_messages_role"):
                rows.message(conversation, role=role)

    def test_how_a_message_came_about(self, rows: Rows, mine: UUID) -> None:
        conversation = rows.conversation(mine)
        for status in ("streaming", "complete", "interrupted", "error"):
            rows.message(conversation, status=status)
        rows.message(conversation, error=Jsonb({"detail": "No more of it."}), cost_usd="0.000001", input_tokens=0)
        wrong: tuple[tuple[str, dict[str, Any]], ...] = (
            ("ck_messages_status", {"status": "done"}),
            ("ck_messages_error", {"error": Jsonb("No more of it.")}),
            ("ck_messages_error", {"error": Jsonb(None)}),
            *(
                ("ck_messages_usage", {name: -1})
                for name in ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "latency_ms")
            ),
            ("ck_messages_usage", {"cost_usd": "-0.000001"}),
            ("ck_messages_usage", {"cost_usd": "NaN"}),
        )
        for constraint, values in wrong:
            with refused(rows, errors.CheckViolation, constraint):
                rows.message(conversation, **values)

    def test_every_part_of_a_message_is_an_object_of_a_known_type(self, rows: Rows, mine: UUID) -> None:
        conversation = rows.conversation(mine)
        types = ("text", "tool_call", "tool_result", "file", "reasoning")
        for parts in ([], [{"type": each, "n": [1, {"type": "other"}]} for each in types]):
            rows.message(conversation, parts=Jsonb(parts))
        text = {"type": "text"}
        for wrong in (text, "text", 1, None, ["text"], [text, {}], [text, {"type": "image"}], [{"type": None}],
                      [text, [text]], [{"type": ["text"]}], [{"type": "text\n"}], [{"type": "a text"}]):  # fmt: skip
            with refused(rows, errors.CheckViolation, "ck_messages_parts"):
                rows.message(conversation, parts=Jsonb(wrong))

    def test_a_chat_message_has_whatever_role_it_has(self, rows: Rows, mine: UUID) -> None:
        for role in ("", "User", "a-role-name-that-is-longer-than-twenty-characters"):
            rows.insert("chat_messages", user_id=mine, role=role, content="Hi")

    def test_the_roles_of_a_creative_session(self, rows: Rows, mine: UUID) -> None:
        session = rows.session(mine, rows.insert("brands", user_id=mine, name="Acme"))
        for role in ("user", "assistant", "system", "director"):
            rows.turn(session, role)
        with refused(rows, errors.CheckViolation, "ck_conversation_messages_role"):
            rows.turn(session, "tool")

    def test_the_roles_of_a_member(self, rows: Rows, mine: UUID) -> None:
        for role in ("owner", "admin", "member"):
            rows.insert("tenant_users", tenant_id=rows.tenant(), user_id=mine, role=role)
        with refused(rows, errors.CheckViolation, "ck_tenant_users_role"):
            rows.insert("tenant_users", tenant_id=rows.tenant(), user_id=mine, role="guest")

    def test_a_member_is_a_member_once(self, rows: Rows, mine: UUID) -> None:
        tenant = rows.tenant(mine)
        with refused(rows, errors.UniqueViolation, "tenant_users_pkey"):
            rows.insert("tenant_users", tenant_id=tenant, user_id=mine)

    def test_a_password_needs_an_address(self, rows: Rows) -> None:
        rows.insert("users", email=None)  # an identity provider holds the credential, and perhaps there is no address
        rows.insert("users", email=None)
        rows.insert("users", email="ada@example.org", password_hash="hash")
        with refused(rows, errors.CheckViolation, "ck_users_password_needs_email"):
            rows.insert("users", password_hash="hash")
        for blank in ("", "  "):
            with refused(rows, errors.CheckViolation, "ck_users_password_needs_email"):
                rows.insert("users", email=blank, password_hash="hash")
        with refused(rows, errors.CheckViolation, "ck_users_password_needs_email"):
            rows.run("UPDATE users SET email = NULL WHERE password_hash IS NOT NULL")

    def test_an_address_is_one_users(self, rows: Rows) -> None:
        rows.insert("users", email="ada@example.org")
        with refused(rows, errors.UniqueViolation, "idx_users_email"):
            rows.insert("users", email="ada@example.org")

    @pytest.mark.parametrize("column", ["conversation_id", "role", "content", "metadata", "created_at"])
    def test_what_a_message_must_have(self, rows: Rows, mine: UUID, column: str) -> None:
        message = {"conversation_id": rows.conversation(mine), "user_id": mine, "role": "user", "content": "Hi"}
        with refused(rows, errors.NotNullViolation, column):
            rows.insert("messages", **{**message, column: None})

    def test_a_user_has_as_many_conversations_as_it_likes(self, rows: Rows, mine: UUID) -> None:
        for _ in range(3):
            rows.conversation(mine)
        assert rows.count("conversations") == 3
