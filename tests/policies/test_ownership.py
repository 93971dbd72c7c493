"""A row belongs to one user for good, and what hangs on it belongs to the same."""

import psycopg
import pytest
from psycopg import errors

from tests.policies.acting import Refusal, acting, outcome, refused, values
from tests.policies.world import (
    ACME,
    BRAND,
    GLOBEX,
    OF_ACME,
    OF_OTHER,
    OTHER,
    OWNER,
    PERSONAL,
    SESSION,
)

OWNED = (
    "tasks",
    "conversations",
    "messages",
    "chat_messages",
    "brands",
    "conversation_sessions",
    "conversation_messages",
    "attachments",
    "feedback",
)


@pytest.mark.parametrize("table", OWNED)
def test_a_user_cannot_give_its_rows_to_another(world: psycopg.Connection, table: str) -> None:
    with acting(world, OWNER), refused(world, Refusal.BY_POLICY):
        world.execute(f"UPDATE {table} SET user_id = %s", [OTHER])


@pytest.mark.parametrize("table", OWNED)
def test_a_user_cannot_take_the_rows_of_another(world: psycopg.Connection, table: str) -> None:
    with acting(world, OTHER):
        assert world.execute(f"UPDATE {table} SET user_id = %s WHERE user_id = %s", [OTHER, OWNER]).rowcount == 0
        world.execute(f"UPDATE {table} SET user_id = %s", [OTHER])
    assert OWNER in values(world, f"SELECT user_id FROM {table}")


@pytest.mark.parametrize("table", OWNED)
def test_a_query_without_a_condition_touches_the_callers_rows_alone(world: psycopg.Connection, table: str) -> None:
    (others,) = values(world, f"SELECT count(*) FROM {table} WHERE user_id <> %s", OWNER)
    with acting(world, OWNER):
        assert set(values(world, f"SELECT user_id FROM {table}")) == {OWNER}
        world.execute(f"DELETE FROM {table}")
        assert values(world, f"SELECT user_id FROM {table}") == []
    assert values(world, f"SELECT count(*) FROM {table}") == [others]


def test_an_upsert_does_not_reach_the_row_of_another(world: psycopg.Connection) -> None:
    with acting(world, OTHER), refused(world, Refusal.BY_POLICY):
        world.execute(
            "INSERT INTO conversations (id, user_id) VALUES (%s, %s)"
            " ON CONFLICT (id) DO UPDATE SET user_id = excluded.user_id",
            [PERSONAL, OTHER],
        )


@pytest.mark.parametrize("role", ["authenticated", "service_role", "postgres"])
@pytest.mark.parametrize("table", ["messages", "chat_messages"])
def test_nobody_puts_a_message_into_the_conversation_of_another_user(
    world: psycopg.Connection, table: str, role: str
) -> None:
    insert = f"INSERT INTO {table} (conversation_id, user_id, role, content) VALUES (%(c)s, %(u)s, 'user', 'Hi')"
    move = f"UPDATE {table} SET conversation_id = %(c)s WHERE user_id = %(u)s"
    with acting(world, OTHER, role=role):
        for statement in (insert, move):
            assert outcome(world, statement, {"c": PERSONAL, "u": OTHER}) is Refusal.BY_KEY


@pytest.mark.parametrize("role", ["authenticated", "service_role", "postgres"])
def test_nobody_puts_a_message_into_the_session_of_another_user(world: psycopg.Connection, role: str) -> None:
    with acting(world, OTHER, role=role), refused(world, Refusal.BY_KEY):
        world.execute(
            "INSERT INTO conversation_messages (session_id, brand_id, user_id, role, content)"
            " VALUES (%s, %s, %s, 'user', 'Hi')",
            [SESSION, BRAND, OTHER],
        )


@pytest.mark.parametrize("role", ["service_role", "postgres"])
@pytest.mark.parametrize("table", ["conversations", "conversation_sessions"])
def test_not_even_a_service_changes_the_owner_of_what_holds_messages(
    world: psycopg.Connection, role: str, table: str
) -> None:
    with acting(world, role=role), refused(world, Refusal.BY_KEY):
        world.execute(f"UPDATE {table} SET user_id = %s WHERE user_id = %s", [OTHER, OWNER])


def test_the_conversation_of_another_and_one_that_is_not_there_are_refused_alike(world: psycopg.Connection) -> None:
    """So that a refusal does not tell whether an id exists."""
    insert = "INSERT INTO messages (conversation_id, user_id, role, content) VALUES (%s, %s, 'user', 'Hi')"
    told = []
    for conversation in (PERSONAL, SESSION):
        with acting(world, OTHER), pytest.raises(errors.ForeignKeyViolation) as caught, world.transaction():
            world.execute(insert, [conversation, OTHER])
        told.append(str(caught.value).replace(str(conversation), "..."))
    assert told[0] == told[1]


def test_a_message_without_an_owner_gets_the_one_of_its_conversation(world: psycopg.Connection) -> None:
    insert = "INSERT INTO messages (conversation_id, role, content) VALUES (%s, 'user', 'Hi') RETURNING user_id"
    with acting(world, OWNER):
        assert values(world, insert, PERSONAL) == [OWNER]
    with acting(world, role="service_role"):
        assert values(world, insert, OF_OTHER) == [OTHER]


def test_a_message_without_an_owner_finds_no_conversation_of_another(world: psycopg.Connection) -> None:
    with acting(world, OTHER), refused(world, Refusal.BY_POLICY):
        world.execute("INSERT INTO messages (conversation_id, role, content) VALUES (%s, 'user', 'Hi')", [PERSONAL])


def test_a_user_moves_its_messages_between_its_own_conversations(world: psycopg.Connection) -> None:
    with acting(world, OWNER):
        moved = world.execute(
            "UPDATE messages SET conversation_id = %s WHERE conversation_id = %s", [PERSONAL, OF_ACME]
        )
        assert moved.rowcount == 1


def test_a_user_moves_its_conversation_into_its_own_tenant_and_no_other(world: psycopg.Connection) -> None:
    move = "UPDATE conversations SET tenant_id = %s WHERE id = %s"
    with acting(world, OWNER):
        assert world.execute(move, [ACME, PERSONAL]).rowcount == 1
        assert world.execute(move, [None, PERSONAL]).rowcount == 1
        with refused(world, Refusal.BY_POLICY):
            world.execute(move, [GLOBEX, PERSONAL])
        with refused(world, Refusal.BY_POLICY):
            world.execute(move, [GLOBEX, OF_ACME])
        with refused(world, Refusal.BY_POLICY):
            world.execute("UPDATE conversations SET tenant_id = %s", [GLOBEX])


def test_deleting_a_user_deletes_its_rows_and_no_other(world: psycopg.Connection) -> None:
    others = {t: values(world, f"SELECT count(*) FROM {t} WHERE user_id <> %s", OWNER) for t in OWNED}
    with acting(world, role="service_role"):
        assert world.execute("DELETE FROM users WHERE id = %s", [OWNER]).rowcount == 1
    assert {t: values(world, f"SELECT count(*) FROM {t}") for t in OWNED} == others
