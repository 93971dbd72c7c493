"""What each listing reads, as the owner of the tables, as a user and as the service, whatever way it is planned.

The data is skewed as a chat's is: one user has most of it, in a few long threads among many short ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import psycopg.sql
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.asyncpg import dialect as numbered

from app import queries
from app.queries import AttachmentPosition, ConversationPosition, HitPosition, MarkPosition, MessagePosition

ME, TENANT, LEFT = UUID(int=1), UUID(int=2), UUID(int=3)
OTHER, TASK = UUID(int=8), UUID(int=9)  # a user who has little, and one of its tasks
LONG, LONG_IN_TENANT, LONG_SESSION, SHORT_SESSION = (UUID(int=n) for n in range(4, 8))
HOURLY_SESSION = UUID(int=10)
SHORT, LAST = UUID(int=11), UUID(int=12)  # a conversation of the other user; the message that a share of LONG ends with
TOKEN = "a token"

FILL = f"""
SET LOCAL session_replication_role = replica;  -- no keys, no triggers
INSERT INTO users (id) VALUES ('{ME}'), ('{OTHER}');
INSERT INTO users (id) SELECT gen_random_uuid() FROM generate_series(1, 300);
INSERT INTO tenants (id, name) VALUES ('{TENANT}', 'Acme'), ('{LEFT}', 'Globex');
INSERT INTO tenant_users (tenant_id, user_id) SELECT '{TENANT}', id FROM users;
INSERT INTO conversations (id, user_id, tenant_id) VALUES
  ('{LONG}', '{ME}', NULL), ('{LONG_IN_TENANT}', '{ME}', '{TENANT}');
INSERT INTO conversations (id, user_id) VALUES ('{SHORT}', '{OTHER}');
INSERT INTO conversations (user_id, tenant_id, archived_at, deleted_at, pinned_at)
  SELECT '{ME}', NULL, CASE n % 3 WHEN 0 THEN at END, CASE n % 3 WHEN 1 THEN at END, CASE WHEN n % 3 = 2 THEN at END
  FROM generate_series(1, 900) AS n,
    LATERAL (SELECT '2026-01-01'::timestamptz + n * interval '1 minute' AS at) AS moment;
INSERT INTO conversations (user_id, tenant_id)
  SELECT '{ME}', CASE n % 3 WHEN 1 THEN '{TENANT}'::uuid WHEN 2 THEN '{LEFT}'::uuid END
  FROM generate_series(1, 900) AS n
  UNION ALL SELECT u.id, CASE n WHEN 1 THEN '{TENANT}'::uuid END FROM users AS u, generate_series(1, 4) AS n;
UPDATE conversations AS c SET created_at = at, updated_at = at
  FROM (SELECT id, '2026-01-01'::timestamptz + row_number() OVER () * interval '1 minute' AS at FROM conversations) AS o
  WHERE o.id = c.id;
INSERT INTO messages (conversation_id, user_id, tenant_id, role, content, created_at, model, input_tokens)
  SELECT c.id, c.user_id, c.tenant_id, 'user', repeat('Hello ', 20), c.created_at + n * interval '1 second',
         CASE n % 2 WHEN 0 THEN 'acme-1' END, CASE n % 2 WHEN 0 THEN n END
  FROM conversations AS c, generate_series(1, 3000) AS n
  WHERE n <= CASE WHEN c.id IN ('{LONG}', '{LONG_IN_TENANT}') THEN 3000 ELSE 5 END ORDER BY random();
INSERT INTO messages (id, conversation_id, user_id, role, content, created_at)
  SELECT '{LAST}', id, user_id, 'assistant', 'A zebra', created_at + interval '1 day' FROM conversations
  WHERE id = '{LONG}';
INSERT INTO chat_messages (conversation_id, user_id, tenant_id, role, content, created_at)
  SELECT conversation_id, user_id, tenant_id, role, content, created_at FROM messages;
INSERT INTO attachments
    (conversation_id, user_id, message_id, name, media_type, size_bytes, sha256, storage_key, created_at)
  SELECT conversation_id, user_id, id, 'a.png', 'image/png', 1, sha256('a'), id, created_at FROM messages
  ORDER BY random();
INSERT INTO feedback (message_id, conversation_id, user_id, rating)
  SELECT id, conversation_id, user_id, 1 FROM messages ORDER BY random();
INSERT INTO shares (message_id, conversation_id, user_id, token_hash)
  SELECT id, conversation_id, user_id, sha256(CASE id WHEN '{LAST}' THEN '{TOKEN}' ELSE id::text END::bytea)
  FROM messages ORDER BY random();
INSERT INTO tasks (user_id, title, created_at)
  SELECT u.id, 'Task', '2026-01-01'::timestamptz + n * interval '1 minute'
  FROM users AS u, generate_series(1, 2000) AS n
  WHERE n <= CASE WHEN u.id = '{ME}' THEN 2000 ELSE 100 END;
INSERT INTO tasks (id, user_id, title) VALUES ('{TASK}', '{OTHER}', 'Task');
INSERT INTO brands (id, user_id, name) SELECT id, id, 'Soap' FROM users;
INSERT INTO conversation_sessions (id, brand_id, user_id) VALUES
  ('{LONG_SESSION}', '{ME}', '{ME}'), ('{SHORT_SESSION}', '{ME}', '{ME}'), ('{HOURLY_SESSION}', '{ME}', '{ME}');
INSERT INTO conversation_sessions (brand_id, user_id, created_at, last_activity_at)
  SELECT u.id, u.id, at, at FROM users AS u, generate_series(1, 300) AS n,
    LATERAL (SELECT '2026-01-01'::timestamptz + n * interval '1 minute' AS at) AS moment
  WHERE n <= CASE WHEN u.id = '{ME}' THEN 300 ELSE 3 END;
INSERT INTO conversation_messages (session_id, brand_id, user_id, role, content, created_at, provider, cost_usd)
  SELECT s.id, s.brand_id, s.user_id, 'user', 'Go', s.created_at + n * interval '1 second', 'acme', 0.01
  FROM conversation_sessions AS s, generate_series(1, 5000) AS n
  WHERE n <= CASE WHEN s.id = '{LONG_SESSION}' THEN 5000 ELSE 10 END ORDER BY random();
INSERT INTO conversation_messages (session_id, brand_id, user_id, role, content, created_at)
  SELECT s.id, s.brand_id, s.user_id, 'user', 'Go', '2026-02-01'::timestamptz + n * interval '1 hour'
  FROM conversation_sessions AS s, generate_series(1, 2500) AS n WHERE s.id = '{HOURLY_SESSION}';
"""

_MIDDLE = datetime(2026, 1, 1, 6, tzinfo=UTC)
_LATE = datetime(2026, 1, 1, 0, 30, tzinfo=UTC)
_BY_QUERIES: dict[str, sa.Select[Any]] = {
    "conversations of a user": queries.conversations_of_user(ME, limit=20),
    "the next of them": queries.conversations_of_user(ME, after=ConversationPosition(_MIDDLE, ME), limit=20),
    "conversations of a tenant": queries.conversations_of_tenant(TENANT, limit=20),
    "what is pinned": queries.pinned_conversations(ME, limit=20),
    "the next that is pinned": queries.pinned_conversations(ME, after=MarkPosition(_MIDDLE, ME), limit=20),
    "the archive": queries.archived_conversations(ME, limit=20),
    "the next of the archive": queries.archived_conversations(ME, after=MarkPosition(_MIDDLE, ME), limit=20),
    "the trash": queries.trash(ME, limit=20),
    "the next of the trash": queries.trash(ME, after=MarkPosition(_MIDDLE, ME), limit=20),
    "a thread": queries.thread(LONG),
    "the next of it": queries.thread(LONG, after=MessagePosition(_LATE, 1)),
    "the end of a thread": queries.thread_backwards(LONG),
    "what came before": queries.thread_backwards(LONG, before=MessagePosition(_LATE, 1)),
    "a thread in a tenant": queries.thread(LONG_IN_TENANT),
    "a creative session": queries.session_history(LONG_SESSION),
    "the next of the session": queries.session_history(LONG_SESSION, after=MessagePosition(_LATE, 1)),
    "the end of the session": queries.session_history_backwards(LONG_SESSION),
    "attachments of a conversation": queries.attachments_of(LONG),
    "the next of the attachments": queries.attachments_of(LONG, after=AttachmentPosition(_LATE, ME)),
}
_OLD_CLIENTS: dict[str, tuple[str, tuple[object, ...]]] = {
    "the flat history": ("SELECT * FROM chat_messages WHERE user_id = $1 ORDER BY created_at DESC LIMIT 50", (ME,)),
    "chat messages of a conversation": (
        "SELECT * FROM chat_messages WHERE conversation_id = $1 ORDER BY created_at DESC LIMIT 50",
        (LONG,),
    ),
    "the same, oldest first": (
        "SELECT * FROM chat_messages WHERE conversation_id = $1 ORDER BY created_at LIMIT 50",
        (LONG_IN_TENANT,),
    ),
    "conversations by creation": (
        "SELECT * FROM conversations WHERE user_id = $1 ORDER BY created_at DESC LIMIT 20",
        (ME,),
    ),
    "tasks of a user": ("SELECT * FROM tasks WHERE user_id = $1 ORDER BY created_at DESC LIMIT 50", (ME,)),
    "sessions of a user": (
        "SELECT * FROM conversation_sessions WHERE user_id = $1 ORDER BY created_at DESC LIMIT 20",
        (ME,),
    ),
    "the history of a session": (  # the body of get_conversation_history()
        "SELECT id, role, content, created_at FROM conversation_messages WHERE session_id = $1"
        " ORDER BY created_at, seq LIMIT 50",
        (LONG_SESSION,),
    ),
    "the end of a session": (
        "SELECT * FROM conversation_messages WHERE session_id = $1 ORDER BY created_at DESC LIMIT 50",
        (LONG_SESSION,),
    ),
}


def _numbered(statement: sa.Select[Any] | sa.Update) -> tuple[str, tuple[object, ...]]:
    compiled = statement.compile(dialect=numbered())
    return str(compiled), tuple(compiled.params[name] for name in compiled.positiontup or ())


LISTINGS = {**{name: _numbered(statement) for name, statement in _BY_QUERIES.items()}, **_OLD_CLIENTS}
SUMS = {
    "the cost of a session": _numbered(queries.session_cost(SHORT_SESSION)),
    "the usage of a session": _numbered(queries.session_usage(SHORT_SESSION)),
    "the statistics of a session": (  # the body of get_session_message_stats()
        "SELECT count(*), sum(tokens_used), sum(cost_usd), avg(latency_ms) FROM conversation_messages"
        " WHERE session_id = $1",
        (SHORT_SESSION,),
    ),
}
VOLUME: dict[str, tuple[str, tuple[object, ...]]] = {
    "the volume of a week": (
        "SELECT * FROM daily_message_volume WHERE day >= $1 AND day < $1 + interval '7 days'",
        (datetime(2026, 3, 1, tzinfo=UTC),),
    ),
}
# What the todo application asks for beside its listings.
LOOK_UPS: dict[str, tuple[str, tuple[object, ...]]] = {
    "a task by id and user": ("SELECT * FROM tasks WHERE id = $1 AND user_id = $2", (TASK, OTHER)),
    "the messages of a user": ("SELECT * FROM messages WHERE user_id = $1", (OTHER,)),
    "the ratings of a conversation": _numbered(queries.ratings_of(SHORT)),
    "the shares of a conversation": _numbered(queries.shares_of(SHORT)),
}
_HIT = HitPosition("messages", _LATE, ME, 1.0)
# What a function of ours reads: its plans are not in that of the statement.
SEARCHES = {
    "a common word": _numbered(queries.search("hello", user_id=ME)),
    "the next hits": _numbered(queries.search("hello", user_id=ME, after=_HIT)),
    "the best hits": _numbered(queries.search("hello", user_id=ME, best_first=True)),
    "a rare word": _numbered(queries.search("zebra", user_id=ME)),
    "a word in a conversation": _numbered(queries.search("zebra", user_id=ME, conversation_id=LONG)),
}
SHARES = {
    "a share": _numbered(queries.open_share(TOKEN)),
    "the next page of the share": _numbered(queries.open_share(TOKEN, after=MessagePosition(_LATE, 1))),
}

_SINCE, _UNTIL = (datetime(2026, 1, 1, 0, minute, tzinfo=UTC) for minute in (10, 20))
_WITHIN = f"created_at >= '{_SINCE}' AND created_at < '{_UNTIL}'"
# How many of the messages each may read: a user's own has no index but that of its messages, its questions among them.
USAGES = {
    "the usage of a user": (_numbered(queries.usage(user_id=OTHER)), f"user_id = '{OTHER}'"),
    "the same by the view": (("SELECT * FROM message_usage WHERE user_id = $1", (OTHER,)), f"user_id = '{OTHER}'"),
    "a user's in a span": (
        _numbered(queries.usage(user_id=ME, since=_SINCE, until=_UNTIL)),
        f"user_id = '{ME}' AND {_WITHIN}",
    ),
    "a tenant's in a span": (
        _numbered(queries.usage(tenant_id=TENANT, since=_SINCE, until=_UNTIL)),
        f"tenant_id = '{TENANT}' AND {_WITHIN}",
    ),
}
ASKED = (
    LISTINGS
    | SUMS
    | LOOK_UPS
    | VOLUME
    | SEARCHES
    | SHARES
    | {name: statement for name, (statement, _) in USAGES.items()}
)


@pytest.fixture(scope="module")
def filled(_shared_database: str, server: Any) -> Iterator[psycopg.Connection]:
    with psycopg.connect(host=str(server.socket_dir), port=server.port, user="postgres", dbname=_shared_database) as c:
        c.execute(FILL)
        c.commit()
        c.autocommit = True
        c.execute("VACUUM (ANALYZE)")
        c.execute("SET random_page_cost = 1.1")  # as hosts with solid state disks have it
        yield c


def plan(connection: psycopg.Connection, statement: str, who: str, mode: str, me: UUID = ME) -> dict[str, Any]:
    """Return the plan of the statement as it ran, the second time: the first has filled caches of the catalog."""
    text, values = ASKED[statement]
    with connection.transaction():
        connection.execute(f"SET LOCAL plan_cache_mode = force_{mode}_plan")
        if who != "owner":
            claims = json.dumps({"sub": str(me)})
            connection.execute(
                "SELECT set_config('role', %s, true), set_config('request.jwt.claims', %s, true)",
                ["authenticated" if who == "user" else "service_role", claims],
            )
        connection.execute(f"PREPARE asked AS {text}".encode())
        for _ in range(2):
            arguments = psycopg.sql.SQL(", ").join(map(psycopg.sql.Literal, values))
            explain = psycopg.sql.SQL("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE asked ({})").format(arguments)
            [[[found]]] = connection.execute(explain).fetchall()
        connection.execute("DEALLOCATE asked")
    plan: dict[str, Any] = found["Plan"]
    return plan


def read_from_end_to_end(connection: psycopg.Connection) -> set[str]:
    """Return our tables that this transaction has scanned so, also within functions."""
    found = connection.execute(
        "SELECT relname FROM pg_stat_xact_all_tables WHERE schemaname = 'public' AND seq_scan > 0"
    )
    return {name for (name,) in found}


def nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from nodes(child)


def most(least: dict[str, Any], what: str) -> int:
    """Return how many buffers a plan may read where the owner's reads as ``least`` does.

    The policy of what hangs on a conversation looks up, by index, whether its user sees that: three buffers a row.
    """
    looked_up = (
        3 * int(least["Actual Rows"]) if any(word in what for word in ("attachments", "ratings", "shares")) else 0
    )
    return 2 * buffers(least) + 4 + looked_up  # and the memberships of who asks for rows of tenants


def buffers(node: dict[str, Any]) -> int:
    return int(node["Shared Hit Blocks"] + node["Shared Read Blocks"])


@pytest.mark.parametrize("mode", ["custom", "generic"])
@pytest.mark.parametrize("who", ["owner", "user", "service"])
@pytest.mark.parametrize("listing", LISTINGS)
def test_a_listing_is_read_by_its_index_in_its_order(
    filled: psycopg.Connection, listing: str, who: str, mode: str
) -> None:
    found = plan(filled, listing, who, mode)
    assert found["Actual Rows"] >= 20
    used = {node["Node Type"] for node in nodes(found)}
    assert not used & {"Sort", "Incremental Sort", "Seq Scan"}, used
    assert buffers(found) <= most(plan(filled, listing, "owner", mode), listing)


@pytest.mark.parametrize("mode", ["custom", "generic"])
@pytest.mark.parametrize("who", ["owner", "user", "service"])
@pytest.mark.parametrize("sum_of_session", SUMS)
def test_a_sum_reads_the_messages_of_its_session_alone(
    filled: psycopg.Connection, sum_of_session: str, who: str, mode: str
) -> None:
    found = plan(filled, sum_of_session, who, mode)
    read = [node for node in nodes(found) if node.get("Relation Name") == "conversation_messages"]
    assert [(node["Actual Rows"], node.get("Rows Removed by Filter", 0)) for node in read] == [(10, 0)]
    assert buffers(found) <= 2 * buffers(plan(filled, sum_of_session, "owner", mode)) + 4


@pytest.mark.parametrize("mode", ["custom", "generic"])
@pytest.mark.parametrize("who", ["owner", "user", "service"])
@pytest.mark.parametrize("look_up", LOOK_UPS)
def test_a_look_up_reads_no_rows_of_others(filled: psycopg.Connection, look_up: str, who: str, mode: str) -> None:
    found = plan(filled, look_up, who, mode, me=OTHER)
    assert found["Actual Rows"] >= 1
    read = list(nodes(found))
    assert not {node["Node Type"] for node in read} & {"Seq Scan"}
    assert sum(node.get("Rows Removed by Filter", 0) for node in read) == 0
    assert buffers(found) <= most(plan(filled, look_up, "owner", mode, me=OTHER), look_up)


@pytest.mark.parametrize("mode", ["custom", "generic"])
@pytest.mark.parametrize("who", ["owner", "user", "service"])
@pytest.mark.parametrize("usage", USAGES)
def test_a_usage_reads_the_messages_of_its_user_tenant_and_span_alone(
    filled: psycopg.Connection, usage: str, who: str, mode: str
) -> None:
    me = OTHER if "of a user" in usage or "view" in usage else ME
    found = plan(filled, usage, who, mode, me=me)
    assert found["Actual Rows"] >= 1
    read = [node for node in nodes(found) if node.get("Relation Name") == "messages"]
    within = USAGES[usage][1]
    if own := who == "user" and "tenant" in usage:  # to a user it is its own usage, of which it has some elsewhere
        within = f"user_id = '{me}' AND {_WITHIN}"
    [[most]] = filled.execute(f"SELECT count(*) FROM messages WHERE {within}".encode()).fetchall()
    assert 0 < sum(node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for node in read) <= most
    assert not {node["Node Type"] for node in read} & {"Seq Scan"}
    assert own or buffers(found) <= 2 * buffers(plan(filled, usage, "owner", mode, me=me)) + 4


@pytest.mark.parametrize("who", ["owner", "service"])
def test_replies_that_died_are_found_by_their_own_index(filled: psycopg.Connection, who: str) -> None:
    text, values = _numbered(queries.interrupt_streaming(timedelta(minutes=10)))
    with filled.transaction(force_rollback=True):
        filled.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        if who == "service":
            filled.execute("SET LOCAL ROLE service_role")
        filled.execute(f"PREPARE asked AS {text}".encode())
        arguments = psycopg.sql.SQL(", ").join(map(psycopg.sql.Literal, values))
        explain = psycopg.sql.SQL("EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE asked ({})").format(arguments)
        [[[found]]] = filled.execute(explain).fetchall()
        filled.execute("DEALLOCATE asked")
    read = [node for node in nodes(found["Plan"]) if node.get("Relation Name") == "messages" and "Index Name" in node]
    assert "idx_messages_streaming" in {node["Index Name"] for node in read}
    assert not {node["Node Type"] for node in nodes(found["Plan"])} & {"Seq Scan", "Sort"}


@pytest.mark.parametrize("mode", ["custom", "generic"])
@pytest.mark.parametrize("who", ["owner", "user", "service"])
def test_the_volume_of_a_week_reads_a_week(filled: psycopg.Connection, who: str, mode: str) -> None:
    found = plan(filled, "the volume of a week", who, mode)
    assert found["Actual Rows"] == 7
    read = [node for node in nodes(found) if node.get("Relation Name") == "conversation_messages"]
    assert not any(node.get("Rows Removed by Filter", 0) for node in read), read
    of_days, ends = 7 * 24, 2
    assert sum(round(node["Actual Rows"] * node["Actual Loops"]) for node in read) == of_days + ends


@pytest.mark.parametrize("mode", ["custom", "generic"])
@pytest.mark.parametrize("who", ["owner", "user", "service"])
@pytest.mark.parametrize("search", SEARCHES)
def test_a_search_reads_by_index_as_little_for_a_user_as_for_the_owner(
    filled: psycopg.Connection, search: str, who: str, mode: str
) -> None:
    with filled.transaction():
        found = plan(filled, search, who, mode)
        assert read_from_end_to_end(filled) == set()
    assert found["Actual Rows"] == (2 if "zebra" in SEARCHES[search][1] else 20)  # in both stores
    assert buffers(found) <= 2 * buffers(plan(filled, search, "owner", mode)) + 4


@pytest.mark.parametrize("mode", ["custom", "generic"])
@pytest.mark.parametrize("who", ["owner", "service"])
@pytest.mark.parametrize("share", SHARES)
def test_a_share_is_read_by_index_by_those_who_may_open_it(
    filled: psycopg.Connection, share: str, who: str, mode: str
) -> None:
    with filled.transaction():
        found = plan(filled, share, who, mode)
        assert read_from_end_to_end(filled) == set()
    assert found["Actual Rows"] == 50
    assert buffers(found) <= 150, "more than the page and what leads to it"
    assert buffers(found) <= 2 * buffers(plan(filled, share, "owner", mode)) + 4
