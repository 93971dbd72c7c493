"""Clients that know no conversations: a chat message without one goes to its owner's default conversation."""

from concurrent.futures import ThreadPoolExecutor
from uuid import RFC_4122, UUID

import psycopg
import pytest
from psycopg import errors

from tests.live.command_line import wait_for
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


def test_two_that_write_the_first_message_at_the_same_time_meet_in_one_conversation(db: psycopg.Connection) -> None:
    db.execute("INSERT INTO users (id) VALUES (%s)", [NEWCOMER])
    db.commit()

    def write() -> UUID:
        with psycopg.connect(db.info.dsn) as other, acting(other, NEWCOMER):
            conversation: UUID = values(other, INSERT, NEWCOMER)[0]
            return conversation

    with ThreadPoolExecutor() as threads:
        with acting(db, NEWCOMER):
            (first,) = values(db, INSERT, NEWCOMER)
            second = threads.submit(write)
            wait_for(lambda: values(db, "SELECT count(*) FROM pg_locks WHERE NOT granted") == [1], "the second to wait")
        db.commit()
    assert second.result() == first == values(db, "SELECT chat_internal.default_conversation_id(%s)", NEWCOMER)[0]
    assert values(db, "SELECT count(*) FROM chat_messages WHERE conversation_id = %s", first) == [2]


@pytest.mark.parametrize("role", ["authenticated", "service_role", "none"])
@pytest.mark.parametrize(
    "squat",
    [
        "INSERT INTO conversations (id, user_id) VALUES (chat_internal.default_conversation_id(%(victim)s), %(me)s)",
        "INSERT INTO chat_sessions (id, user_id) VALUES (chat_internal.default_conversation_id(%(victim)s), %(me)s)",
        "INSERT INTO conversations (id, user_id) VALUES ('63686174-6465-8000-8000-000000000000', %(me)s)",
        "UPDATE conversations SET id = chat_internal.default_conversation_id(%(victim)s) WHERE user_id = %(me)s",
    ],
)
def test_nobody_takes_the_id_of_anothers_default_conversation(chat: psycopg.Connection, role: str, squat: str) -> None:
    """The id follows from the user's, so anyone can work it out; `none` is the owner of the tables."""
    chat.execute("DELETE FROM messages; DELETE FROM chat_messages")
    with (
        acting(chat, CO_MEMBER, role=role),
        pytest.raises(errors.CheckViolation, match="ck_conversations_default_id"),
        chat.transaction(),
    ):
        chat.execute(squat, {"victim": NEWCOMER, "me": CO_MEMBER})
    with acting(chat, NEWCOMER):
        assert values(chat, INSERT, NEWCOMER) == values(
            chat, "SELECT chat_internal.default_conversation_id(%s)", NEWCOMER
        )


def test_a_role_of_the_teams_own_inserts_conversations_without_a_right_on_what_their_check_calls(
    chat: psycopg.Connection,
) -> None:
    chat.execute("CREATE ROLE backoffice BYPASSRLS; GRANT SELECT, INSERT ON conversations TO backoffice")
    with acting(chat, role="backoffice"):
        assert len(values(chat, "INSERT INTO conversations (user_id) VALUES (%s) RETURNING id", NEWCOMER)) == 1
        with pytest.raises(errors.InsufficientPrivilege), chat.transaction():
            chat.execute("SELECT chat_internal.default_conversation_id(%s)", [NEWCOMER])


def test_a_default_conversation_is_never_given_to_another(chat: psycopg.Connection) -> None:
    with acting(chat, NEWCOMER):
        (conversation,) = values(chat, INSERT, NEWCOMER)
    chat.execute("DELETE FROM chat_messages")
    with acting(chat, role="service_role"), pytest.raises(errors.CheckViolation), chat.transaction():
        chat.execute("UPDATE conversations SET user_id = %s WHERE id = %s", [OTHER, conversation])


def test_the_ids_are_of_version_8_and_each_user_has_its_own(chat: psycopg.Connection) -> None:
    ids = values(
        chat,
        "SELECT chat_internal.default_conversation_id(md5(n::text)::uuid) FROM generate_series(1, 10000) AS n",
    )
    assert len(set(ids)) == 10000
    assert {(each.version, each.variant, each.bytes[:6]) for each in ids} == {(8, RFC_4122, b"chatde")}
    ours = values(chat, "SELECT chat_internal.default_conversation_id(%s)", OWNER)
    assert ours == [UUID("63686174-6465-8512-8b18-c7d7f9460bc4")], "what a database holds is found again"
