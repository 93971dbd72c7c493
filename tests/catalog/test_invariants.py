"""What `chat-schema verify` counts in the rows: every message is read once, and what breaks a rule is found exactly."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from app.verification import INVARIANTS

TIES = "messages whose place in their conversation is not settled"
FILL = """
    INSERT INTO public.users (id) SELECT gen_random_uuid() FROM generate_series(1, 4);
    INSERT INTO public.conversations (user_id) SELECT id FROM public.users, generate_series(1, 5);
    INSERT INTO public.messages (conversation_id, user_id, role, content)
    SELECT id, user_id, 'user', repeat('Two seats on Friday, please. ', 5) FROM public.conversations,
    generate_series(1, 50);
    INSERT INTO public.chat_messages (conversation_id, user_id, role, content)
    SELECT conversation_id, user_id, role, content FROM public.messages;
    ANALYZE;
    SET max_parallel_workers_per_gather = 0;
"""


@pytest.fixture
def filled(migrated_url: str) -> Iterator[sa.Connection]:
    engine = sa.create_engine(sa.make_url(migrated_url).set(drivername="postgresql+psycopg"), poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(FILL)
        yield connection


def counted(connection: sa.Connection) -> dict[str, int]:
    """Return what is found of each rule that something breaks."""
    return {
        name: int(count)
        for names, query in INVARIANTS.items()
        for name, count in zip(names, connection.execute(sa.text(query)).one(), strict=True)
        if count
    }


def read(connection: sa.Connection, query: str) -> int:
    """Return how many pages the query reads."""
    plan = connection.scalar(sa.text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}"))
    top = (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]
    return int(top["Shared Hit Blocks"] + top["Shared Read Blocks"] + top["Temp Written Blocks"])


@pytest.mark.parametrize("table", ["messages", "chat_messages"])
def test_each_message_is_read_once_and_none_is_sorted(filled: sa.Connection, table: str) -> None:
    pages = filled.scalar(sa.text(f"SELECT relpages FROM pg_class WHERE oid = 'public.{table}'::regclass"))
    assert pages
    pages_read = sum(read(filled, query) for query in INVARIANTS.values() if f"public.{table} " in query)
    assert pages_read < 1.5 * pages


def test_nothing_is_wrong_in_what_was_written_as_it_should_be(filled: sa.Connection) -> None:
    assert counted(filled) == {}


PLACES = {
    "one number in two conversations": ("c.id IN (SELECT id FROM two)", 0),
    "twice in one conversation": ("c.id = (SELECT min(id::text)::uuid FROM two) AND n <= 2", 1),
    "twice in each of two conversations": ("c.id IN (SELECT id FROM two) AND n <= 2", 2),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("number", [7, -1, -64, 2**63 - 1, -(2**63)])
def test_places_are_settled_unless_a_number_is_twice_in_a_conversation(
    filled: sa.Connection, place: str, number: int
) -> None:
    """At whatever time each was written."""
    where, ties = PLACES[place]
    filled.exec_driver_sql(f"UPDATE public.messages SET seq = seq + 10 WHERE seq >= {number} AND {abs(number)} < 99")
    filled.exec_driver_sql(f"""
        WITH two AS (SELECT id FROM public.conversations ORDER BY id LIMIT 2)
        INSERT INTO public.messages (conversation_id, user_id, role, content, seq, created_at)
        SELECT c.id, c.user_id, 'user', 'Here', {number}, now() + n * interval '1 hour'
        FROM public.conversations AS c, generate_series(1, {2 if ties else 1}) AS n WHERE {where}
    """)
    assert counted(filled) == ({TIES: ties} if ties else {})


DAMAGE = {
    "messages in another user's conversation": (
        "UPDATE public.messages SET user_id = (SELECT max(id::text)::uuid FROM public.users) WHERE id IN"
        " (SELECT id FROM public.messages WHERE user_id <> (SELECT max(id::text)::uuid FROM public.users) LIMIT 3)"
    ),
    "messages of another tenant than their conversation's": (
        "UPDATE public.messages SET tenant_id = gen_random_uuid() WHERE seq <= 3"
    ),
    "chat messages in another user's conversation": """
        UPDATE public.chat_messages SET user_id = (SELECT max(id::text)::uuid FROM public.users)
        WHERE id IN (SELECT id FROM public.chat_messages WHERE user_id <> (SELECT max(id::text)::uuid FROM public.users)
                     LIMIT 3)
    """,
    "chat messages of another tenant than their conversation's": """
        UPDATE public.chat_messages SET tenant_id = gen_random_uuid()
        WHERE id IN (SELECT id FROM public.chat_messages LIMIT 3)
    """,
}


@pytest.mark.parametrize("rule", DAMAGE)
def test_what_no_key_has_looked_at_is_counted(filled: sa.Connection, rule: str) -> None:
    """A replica, or a restore, that checks no keys and fires no triggers."""
    filled.exec_driver_sql(f"SET session_replication_role = replica; {DAMAGE[rule]}")
    assert counted(filled) == {rule: 3}


def test_users_whose_conversation_is_gone_are_counted(filled: sa.Connection) -> None:
    filled.exec_driver_sql("""
        SET session_replication_role = replica;
        DELETE FROM public.messages;
        DELETE FROM public.conversations WHERE user_id IN (SELECT id FROM public.users ORDER BY id LIMIT 2);
    """)
    found = counted(filled)
    assert found["users with chat messages and no conversation"] == 2
    assert found["chat messages in another user's conversation"] == 500
