"""The functions and views of creative sessions run as their caller: they show and change its own rows alone."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

import psycopg
import pytest

from tests.policies.acting import Refusal, acting, outcome, refused, values
from tests.policies.world import BRAND, OTHER, OWNER, ROWS, SESSION

TEA = UUID("0000000d-0000-4000-8000-000000000002")  # a brand that tests make
START = "INSERT INTO conversation_sessions (brand_id, user_id) VALUES (%s, %s) RETURNING id"
SAY = (
    "INSERT INTO conversation_messages (session_id, brand_id, user_id, role, content, cost_usd)"
    " VALUES (%(session)s, %(brand)s, %(user)s, 'user', 'Go', 9999)"
)
COST = "SELECT sum(cost_usd) FROM conversation_messages WHERE brand_id = %s"
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
        world.execute("INSERT INTO brands (id, user_id, name) VALUES (%s, %s, 'Tea')", [TEA, OTHER])
        (session,) = values(world, START, TEA, OTHER)
        world.execute(
            "INSERT INTO conversation_messages (session_id, brand_id, user_id, role, content, provider, cost_usd)"
            " VALUES (%s, %s, %s, 'director', 'Mine', 'acme-llm', 1)",
            [session, TEA, OTHER],
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


class TestABrandOfAnother:
    @pytest.fixture
    def tea(self, world: psycopg.Connection) -> psycopg.Connection:
        """The world, in which the other user has a brand too."""
        world.execute("INSERT INTO brands (id, user_id, name) VALUES (%s, %s, 'Tea')", [TEA, OTHER])
        return world

    @pytest.fixture
    def guest(self, tea: psycopg.Connection) -> UUID:
        """A session of the other user on the owner's brand, as adopted databases have them."""
        with acting(tea, role="service_role"):
            (session,) = values(tea, START, BRAND, OTHER)
        assert isinstance(session, UUID)
        return session

    def test_no_session_of_a_user_and_no_message_of_it_counts_there(self, tea: psycopg.Connection) -> None:
        with acting(tea, OTHER):
            with refused(tea, Refusal.BY_POLICY):
                tea.execute(START, [BRAND, OTHER])
            (mine,) = values(tea, START, TEA, OTHER)
            with refused(tea, Refusal.BY_BRAND):
                tea.execute("UPDATE conversation_sessions SET brand_id = %s WHERE id = %s", [BRAND, mine])
            with refused(tea, Refusal.BY_BRAND):
                tea.execute(
                    "INSERT INTO conversation_sessions (id, brand_id, user_id) VALUES (%s, %s, %s)"
                    " ON CONFLICT (id) DO UPDATE SET brand_id = %s",
                    [mine, TEA, OTHER, BRAND],
                )
            with refused(tea, Refusal.BY_KEY):
                tea.execute(SAY, {"session": mine, "brand": BRAND, "user": OTHER})
            tea.execute(SAY, {"session": mine, "brand": TEA, "user": OTHER})
            with refused(tea, Refusal.BY_KEY):
                tea.execute("UPDATE conversation_messages SET brand_id = %s WHERE session_id = %s", [BRAND, mine])
        with acting(tea, role="service_role"):
            assert values(tea, COST, BRAND) == [Decimal("0.25")]
            assert values(tea, COST, TEA) == [9999]

    def test_a_brand_that_is_not_there_is_refused_like_one_that_is(self, tea: psycopg.Connection) -> None:
        """So nobody learns which ids are brands of others."""
        with acting(tea, OTHER):
            (mine,) = values(tea, START, TEA, OTHER)
            for brand in (BRAND, SESSION):
                with refused(tea, Refusal.BY_BRAND):
                    tea.execute("UPDATE conversation_sessions SET brand_id = %s WHERE id = %s", [brand, mine])
                with refused(tea, Refusal.BY_POLICY):
                    tea.execute(START, [brand, OTHER])

    def test_an_adopted_session_on_it_stays_its_users(self, tea: psycopg.Connection, guest: UUID) -> None:
        with acting(tea, OTHER):
            change = "UPDATE conversation_sessions SET parsed_intent = '{}', brand_id = brand_id WHERE id = %s"
            assert tea.execute(change, [guest]).rowcount == 1
            tea.execute(SAY, {"session": guest, "brand": BRAND, "user": OTHER})
            tea.execute("SELECT complete_conversation_session(%s)", [guest])
            assert values(tea, STATE, guest) == ["delivered"]

    def test_its_session_moves_to_a_brand_of_its_user_with_its_messages(
        self, tea: psycopg.Connection, guest: UUID
    ) -> None:
        with acting(tea, OTHER):
            tea.execute(SAY, {"session": guest, "brand": BRAND, "user": OTHER})
            assert tea.execute("UPDATE conversation_sessions SET brand_id = %s WHERE id = %s", [TEA, guest])
            assert values(tea, "SELECT brand_id FROM conversation_messages WHERE session_id = %s", guest) == [TEA]
        with acting(tea, role="service_role"):
            assert values(tea, COST, BRAND) == [Decimal("0.25")]

    @pytest.mark.parametrize("role", ["authenticated", "service_role", "none"])
    def test_no_message_has_another_brand_than_its_session(self, tea: psycopg.Connection, role: str) -> None:
        """`none` is the owner of the tables."""
        with acting(tea, OWNER, role=role):
            said = {"session": SESSION, "brand": TEA, "user": OWNER}
            assert outcome(tea, SAY, said) is Refusal.BY_KEY
            assert outcome(tea, "UPDATE conversation_messages SET brand_id = %(brand)s", said) is Refusal.BY_KEY

    def test_a_service_gives_a_session_another_brand(self, tea: psycopg.Connection) -> None:
        with acting(tea, role="service_role"):
            tea.execute("UPDATE conversation_sessions SET brand_id = %s WHERE id = %s", [TEA, SESSION])
            assert values(tea, COST, TEA) == [Decimal("0.25")]


def test_nobody_holds_up_the_deletion_of_anothers_brand(db: psycopg.Connection) -> None:
    """A row that points at a brand locks it until the end of the transaction that wrote the row."""
    db.execute(ROWS)
    db.execute("INSERT INTO brands (id, user_id, name) VALUES (%s, %s, 'Tea')", [TEA, OTHER])
    (mine,) = values(db, START, TEA, OTHER)
    db.commit()
    with psycopg.connect(db.info.dsn) as attacker, acting(attacker, OTHER):
        for statement in (
            "INSERT INTO conversation_sessions (brand_id, user_id) VALUES (%(brand)s, %(user)s)",
            "UPDATE conversation_sessions SET brand_id = %(brand)s WHERE id = %(session)s",
            SAY,
        ):
            outcome(attacker, statement, {"brand": BRAND, "user": OTHER, "session": mine})
        db.execute("SET LOCAL lock_timeout = '5s'")
        with acting(db, OWNER):
            assert db.execute("DELETE FROM brands WHERE id = %s", [BRAND]).rowcount == 1
