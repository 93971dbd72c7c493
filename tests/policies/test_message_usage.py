"""What models used: everybody sees its own, a tenant's only while it is a member, and the service all of it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.policies.acting import Refusal, acting, refused, values
from tests.policies.world import ACME, CO_MEMBER, OF_ACME, OF_CO_MEMBER, OF_OTHER, OTHER, OWNER, PERSONAL

USED = "SELECT user_id, tenant_id, day::text, model, messages, input_tokens, cost_usd FROM message_usage"
LATE, EARLY = "2026-03-01 23:59:59.9+00", "2026-03-02 00:00+00"
REPLIES: list[tuple[UUID, str, str | None, int | None, str | None]] = [
    (PERSONAL, LATE, "acme-1", 10, "0.25"),
    (PERSONAL, LATE, "acme-1", 5, "0.50"),
    (PERSONAL, EARLY, "acme-1", None, None),
    (PERSONAL, LATE, "acme-2", 1, "0.000001"),
    (PERSONAL, LATE, None, 1000, "9"),  # no model wrote it
    (OF_ACME, LATE, "acme-1", 7, "1"),
    (OF_OTHER, LATE, "acme-1", 100, "2"),
    (OF_CO_MEMBER, LATE, "acme-1", 200, "4"),
]


@pytest.fixture
def used(world: psycopg.Connection) -> psycopg.Connection:
    for conversation, at, model, tokens, cost in REPLIES:
        world.execute(
            "INSERT INTO messages (conversation_id, user_id, role, content, created_at, model, input_tokens, cost_usd)"
            " SELECT id, user_id, 'assistant', 'Hi', %s, %s, %s, %s FROM conversations WHERE id = %s",
            [at, model, tokens, cost, conversation],
        )
    world.execute("SET LOCAL TimeZone = 'Asia/Tokyo'")  # a day is one of UTC, wherever it is asked for
    return world


def usage(connection: psycopg.Connection) -> list[tuple[Any, ...]]:
    return connection.execute(f"{USED} ORDER BY tenant_id NULLS FIRST, day, model").fetchall()


OWNERS = [
    (OWNER, None, "2026-03-01", "acme-1", 2, 15, Decimal("0.75")),
    (OWNER, None, "2026-03-01", "acme-2", 1, 1, Decimal("0.000001")),
    (OWNER, None, "2026-03-02", "acme-1", 1, None, None),
]
IN_ACME = (OWNER, ACME, "2026-03-01", "acme-1", 1, 7, Decimal(1))


def test_a_user_sees_its_own_usage_and_a_tenant_s_only_while_it_is_a_member(used: psycopg.Connection) -> None:
    with acting(used, OWNER):
        assert usage(used) == [*OWNERS, IN_ACME]
    used.execute("DELETE FROM tenant_users WHERE tenant_id = %s AND user_id = %s", [ACME, OWNER])
    with acting(used, OWNER):
        assert usage(used) == OWNERS


def test_nobody_sees_what_another_used_not_even_who_runs_the_tenant(used: psycopg.Connection) -> None:
    for user, tokens in ((OTHER, [100]), (CO_MEMBER, [200])):
        with acting(used, user):
            assert values(used, "SELECT input_tokens FROM message_usage") == tokens
            assert values(used, "SELECT 1 FROM message_usage WHERE user_id = %s OR tenant_id = %s", OWNER, ACME) == []


def test_the_service_sees_the_usage_of_everybody(used: psycopg.Connection) -> None:
    with acting(used, role="service_role"):
        found = used.execute("SELECT user_id, sum(messages), sum(cost_usd) FROM message_usage GROUP BY user_id")
        assert {row[0]: row[1:] for row in found} == {
            OWNER: (5, Decimal("1.750001")),
            OTHER: (1, Decimal(2)),
            CO_MEMBER: (1, Decimal(4)),
        }


def test_anon_is_refused(used: psycopg.Connection) -> None:
    with acting(used, OWNER, role="anon"), refused(used, Refusal.NO_GRANT):
        used.execute(USED)
