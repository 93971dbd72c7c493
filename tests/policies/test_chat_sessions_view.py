"""`chat_sessions`, the older table's name, as its clients use it: a whole array a row, under the same rules."""

import json
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.policies.acting import Refusal, acting, outcome, refused, values
from tests.policies.world import ACME, GLOBEX, OF_ACME, OF_OTHER, OTHER, OWNER, PERSONAL

TURN = [{"role": "user", "content": "Where to?"}, {"role": "assistant", "content": "Vienna."}]


def contents(connection: psycopg.Connection, conversation: object) -> list[Any]:
    return values(connection, "SELECT content FROM messages WHERE conversation_id = %s ORDER BY seq", conversation)


def test_a_user_writes_rewrites_and_deletes_its_sessions(world: psycopg.Connection) -> None:
    with acting(world, OWNER):
        (session,) = values(
            world, "INSERT INTO chat_sessions (user_id, messages) VALUES (%s, %s) RETURNING id", OWNER, Jsonb(TURN)
        )
        assert contents(world, session) == ["Where to?", "Vienna."]
        assert values(world, "SELECT messages FROM chat_sessions WHERE id = %s", session) == [TURN]

        longer = [*TURN, {"role": "user", "content": "When?"}]
        assert (
            world.execute("UPDATE chat_sessions SET messages = %s WHERE id = %s", [Jsonb(longer), session]).rowcount
            == 1
        )
        assert contents(world, session) == ["Where to?", "Vienna.", "When?"]

        assert world.execute("DELETE FROM chat_sessions WHERE id = %s", [session]).rowcount == 1
        assert contents(world, session) == []
    assert values(world, "SELECT count(*) FROM conversations WHERE id = %s", session) == [0]


def test_a_user_cannot_write_a_session_in_the_name_of_another(world: psycopg.Connection) -> None:
    with acting(world, OTHER), refused(world, Refusal.BY_POLICY):
        world.execute("INSERT INTO chat_sessions (user_id, messages) VALUES (%s, %s)", [OWNER, Jsonb(TURN)])


def test_a_session_of_another_cannot_be_seen_rewritten_or_deleted(world: psycopg.Connection) -> None:
    with acting(world, OTHER):
        assert set(values(world, "SELECT id FROM chat_sessions")) == {OF_OTHER}
        rewritten = world.execute("UPDATE chat_sessions SET messages = %s WHERE id = %s", [Jsonb(TURN), PERSONAL])
        assert rewritten.rowcount == 0
        assert world.execute("DELETE FROM chat_sessions WHERE id = %s", [PERSONAL]).rowcount == 0
    assert contents(world, PERSONAL) == ["Hello"]


def test_a_session_under_the_id_of_anothers_is_refused_and_adds_no_message(world: psycopg.Connection) -> None:
    with acting(world, OTHER), pytest.raises(psycopg.errors.UniqueViolation), world.transaction():
        world.execute(
            "INSERT INTO chat_sessions (id, user_id, messages) VALUES (%s, %s, %s)", [PERSONAL, OTHER, Jsonb(TURN)]
        )
    assert contents(world, PERSONAL) == ["Hello"]


def test_the_function_behind_the_view_reaches_no_session_of_another(world: psycopg.Connection) -> None:
    store = "SELECT chat_internal.store_session_messages(%s, %s, %s, now())"
    with acting(world, OTHER):
        world.execute(store, [PERSONAL, OWNER, Jsonb([])])
        with refused(world, Refusal.BY_POLICY):
            world.execute(store, [PERSONAL, OWNER, Jsonb(TURN)])
        with refused(world, Refusal.BY_KEY):
            world.execute(store, [PERSONAL, OTHER, Jsonb(TURN)])
    assert contents(world, PERSONAL) == ["Hello"]


@pytest.mark.parametrize("column", ["id", "user_id"])
def test_a_session_keeps_its_id_and_its_owner(world: psycopg.Connection, column: str) -> None:
    with acting(world, OWNER), pytest.raises(psycopg.errors.FeatureNotSupported), world.transaction():
        world.execute(f"UPDATE chat_sessions SET {column} = %s WHERE id = %s", [OTHER, PERSONAL])


def test_a_session_goes_into_a_tenant_of_its_owner_and_no_other(world: psycopg.Connection) -> None:
    insert = "INSERT INTO chat_sessions (user_id, tenant_id) VALUES (%s, %s)"
    with acting(world, OWNER):
        assert world.execute(insert, [OWNER, ACME]).rowcount == 1
        with refused(world, Refusal.BY_POLICY):
            world.execute(insert, [OWNER, GLOBEX])
        with refused(world, Refusal.BY_POLICY):
            world.execute("UPDATE chat_sessions SET tenant_id = %s WHERE id = %s", [GLOBEX, OF_ACME])


def test_a_session_shows_no_message_of_others(world: psycopg.Connection) -> None:
    with acting(world, OWNER):
        shown = values(world, "SELECT messages FROM chat_sessions")
    assert [message["content"] for messages in shown for message in messages] == ["Hello", "Hello"]


def test_anon_has_no_sessions(world: psycopg.Connection) -> None:
    with acting(world, OWNER, role="anon"):
        for statement in (
            "SELECT FROM chat_sessions",
            "DELETE FROM chat_sessions",
            "INSERT INTO chat_sessions DEFAULT VALUES",
        ):
            assert outcome(world, statement) is Refusal.NO_GRANT


def test_services_write_the_sessions_of_a_user(world: psycopg.Connection) -> None:
    with acting(world, role="service_role"):
        (session,) = values(
            world, "INSERT INTO chat_sessions (user_id, messages) VALUES (%s, %s) RETURNING id", OTHER, json.dumps(TURN)
        )
    with acting(world, OTHER):
        assert contents(world, session) == ["Where to?", "Vienna."]
