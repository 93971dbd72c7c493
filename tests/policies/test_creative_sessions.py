"""The functions and views of creative sessions run as their caller: they show and change its own rows alone."""

from __future__ import annotations

from decimal import Decimal

import psycopg
import pytest

from tests.policies.acting import Refusal, acting, refused, values
from tests.policies.world import BRAND, OTHER, OWNER, SESSION

STATE = "SELECT state FROM conversation_sessions WHERE id = %s"
ENDINGS = {"complete_conversation_session": "delivered", "cancel_conversation_session": "cancelled"}
CALLS = (
    "SELECT complete_conversation_session(%(session)s)",
    "SELECT cancel_conversation_session(%(session)s)",
    "SELECT * FROM get_conversation_history(%(session)s, 10)",
    "SELECT get_session_cost(%(session)s)",
    "SELECT * FROM get_session_message_stats(%(session)s)",
    "SELECT * FROM provider_usage_stats",
    "SELECT * FROM daily_message_volume",
)
TRIGGERS = ("update_updated_at()", "update_session_activity()", "update_session_on_message()")


@pytest.mark.parametrize(("function", "state"), ENDINGS.items())
def test_a_user_ends_its_session(world: psycopg.Connection, function: str, state: str) -> None:
    with acting(world, OWNER):
        world.execute(f"SELECT {function}(%s)", [SESSION])
    assert world.execute(
        "SELECT state, completed_at = now() FROM conversation_sessions WHERE id = %s", [SESSION]
    ).fetchall() == [(state, True)]


@pytest.mark.parametrize("function", ENDINGS)
def test_ending_the_session_of_another_changes_nothing(world: psycopg.Connection, function: str) -> None:
    stored = "SELECT s::text FROM conversation_sessions AS s"
    before = values(world, stored)
    with acting(world, OTHER):
        world.execute(f"SELECT {function}(%s)", [SESSION])
    assert values(world, stored) == before


def test_a_user_reads_history_cost_and_statistics_of_its_session(world: psycopg.Connection) -> None:
    with acting(world, OWNER):
        assert values(world, "SELECT content FROM get_conversation_history(%s)", SESSION) == ["Think of soap"]
        assert values(world, "SELECT get_session_cost(%s)", SESSION) == [Decimal("0.25")]
        stats = world.execute("SELECT message_count, total_tokens FROM get_session_message_stats(%s)", [SESSION])
        assert stats.fetchall() == [(1, 100)]
        assert values(world, "SELECT message_count FROM provider_usage_stats WHERE provider = 'acme-llm'") == [1]
        assert values(world, "SELECT message_count FROM daily_message_volume WHERE role = 'director'") == [1]


def test_of_the_session_of_another_there_is_no_history_no_cost_no_statistics(world: psycopg.Connection) -> None:
    with acting(world, OTHER):
        assert values(world, "SELECT id FROM get_conversation_history(%s)", SESSION) == []
        assert values(world, "SELECT get_session_cost(%s)", SESSION) == [0]
        assert values(world, "SELECT message_count FROM get_session_message_stats(%s)", SESSION) == [0]
        assert values(world, "SELECT provider FROM provider_usage_stats") == []
        assert values(world, "SELECT role FROM daily_message_volume") == []


def test_views_sum_the_callers_messages_and_not_those_of_others(world: psycopg.Connection) -> None:
    with acting(world, OTHER):
        (session,) = values(
            world, "INSERT INTO conversation_sessions (brand_id, user_id) VALUES (%s, %s) RETURNING id", BRAND, OTHER
        )
        world.execute(
            "INSERT INTO conversation_messages (session_id, brand_id, user_id, role, content, provider, cost_usd)"
            " VALUES (%s, %s, %s, 'director', 'Mine', 'acme-llm', 1)",
            [session, BRAND, OTHER],
        )
        assert values(world, "SELECT total_cost FROM provider_usage_stats") == [1]
        assert values(world, "SELECT total_cost FROM daily_message_volume") == [1]
    with acting(world, role="service_role"):
        assert values(world, "SELECT total_cost FROM provider_usage_stats") == [Decimal("1.25")]


@pytest.mark.parametrize("call", CALLS)
def test_anon_is_refused(world: psycopg.Connection, call: str) -> None:
    with acting(world, OWNER, role="anon"), refused(world, Refusal.NO_GRANT):
        world.execute(call, {"session": SESSION})


@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role"])
@pytest.mark.parametrize("function", TRIGGERS)
def test_trigger_functions_are_nobodys_to_call(world: psycopg.Connection, role: str, function: str) -> None:
    with acting(world, OWNER, role=role), refused(world, Refusal.NO_GRANT):
        world.execute(f"SELECT public.{function}")


def test_a_message_moves_the_activity_of_its_session(world: psycopg.Connection) -> None:
    world.execute("UPDATE conversation_sessions SET last_activity_at = '2020-01-01'")
    with acting(world, OWNER):
        world.execute(
            "INSERT INTO conversation_messages (session_id, brand_id, user_id, role, content)"
            " VALUES (%s, %s, %s, 'user', 'More')",
            [SESSION, BRAND, OWNER],
        )
        assert values(world, "SELECT last_activity_at = now() FROM conversation_sessions") == [True]
    assert values(world, STATE, SESSION) == ["initial"]
