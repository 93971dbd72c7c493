"""Clients that know no conversations: a chat message without one goes to its owner's default conversation."""

from uuid import UUID

import psycopg
import pytest

from tests.policies.acting import Refusal, acting, refused, values
from tests.policies.world import ACME, CO_MEMBER, OTHER, OWNER, PERSONAL

INSERT = "INSERT INTO chat_messages (user_id, role, content) VALUES (%s, 'user', 'Hi') RETURNING conversation_id"
NEWCOMER = UUID("0000000a-0000-4000-8000-000000000009")


@pytest.fixture
def chat(world: psycopg.Connection) -> psycopg.Connection:
    """The world and a newcomer: a member of Acme, without any conversation."""
    world.execute("INSERT INTO users (id) VALUES (%s)", [NEWCOMER])
    world.execute("INSERT INTO tenant_users (tenant_id, user_id) VALUES (%s, %s)", [ACME, NEWCOMER])
    world.execute("SET LOCAL statement_timeout = '5s'")
    return world


def test_the_first_message_of_an_old_client_makes_the_conversation(chat: psycopg.Connection) -> None:
    with acting(chat, NEWCOMER):
        (conversation,) = values(chat, INSERT, NEWCOMER)
        assert chat.execute("SELECT id, user_id, tenant_id, title FROM conversations").fetchall() == [
            (conversation, NEWCOMER, None, "Chat History")
        ]
        assert values(chat, INSERT, NEWCOMER) == [conversation]
        assert values(chat, "SELECT conversation_id FROM chat_messages") == [conversation, conversation]


def test_who_has_a_personal_conversation_goes_on_in_it(chat: psycopg.Connection) -> None:
    with acting(chat, OWNER):
        assert values(chat, INSERT, OWNER) == [PERSONAL]


def test_nobody_writes_into_the_default_conversation_of_another(chat: psycopg.Connection) -> None:
    with acting(chat, OTHER):
        for victim in (OWNER, NEWCOMER):
            with refused(chat, Refusal.BY_POLICY):
                chat.execute(INSERT, [victim])
    assert values(chat, "SELECT count(*) FROM conversations WHERE user_id = %s", NEWCOMER) == [0]


def test_nobody_makes_a_default_conversation_for_another(chat: psycopg.Connection) -> None:
    with acting(chat, OTHER), refused(chat, Refusal.BY_POLICY):
        chat.execute("SELECT chat_internal.default_conversation(%s)", [NEWCOMER])


def test_a_conversation_of_a_tenant_is_no_default(chat: psycopg.Connection) -> None:
    """It would vanish with the membership, and the flat history with it."""
    with acting(chat, NEWCOMER):
        chat.execute("INSERT INTO conversations (user_id, tenant_id) VALUES (%s, %s)", [NEWCOMER, ACME])
        (conversation,) = values(chat, INSERT, NEWCOMER)
        assert values(chat, "SELECT tenant_id FROM conversations WHERE id = %s", conversation) == [None]


def test_who_moves_the_default_conversation_into_a_tenant_gets_another(chat: psycopg.Connection) -> None:
    with acting(chat, NEWCOMER):
        (first,) = values(chat, INSERT, NEWCOMER)
        chat.execute("UPDATE conversations SET tenant_id = %s", [ACME])
        (second,) = values(chat, INSERT, NEWCOMER)
        assert second != first
        assert values(chat, INSERT, NEWCOMER) == [second]


def test_who_takes_the_id_of_anothers_default_conversation_stops_nobody(chat: psycopg.Connection) -> None:
    """The id follows from the user's, so anyone can work it out."""
    with acting(chat, CO_MEMBER):
        (taken,) = values(
            chat,
            "INSERT INTO conversations (id, user_id) VALUES (chat_internal.default_conversation_id(%s), %s)"
            " RETURNING id",
            NEWCOMER,
            CO_MEMBER,
        )
    with acting(chat, NEWCOMER):
        (conversation,) = values(chat, INSERT, NEWCOMER)
        assert conversation != taken
        assert values(chat, INSERT, NEWCOMER) == [conversation]
