"""A search finds what a scan under the policies finds: random users, tenants, memberships, messages and queries.

What a query asks for is written down a second time here, in Python, on the texts that the policies let the user read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID, uuid5

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app import embedded
from tests.conftest import libpq
from tests.policies.acting import acting

NAMES = UUID("0000000f-0000-4000-8000-000000000000")
USERS = [uuid5(NAMES, f"user {n}") for n in range(3)]
TENANTS = [uuid5(NAMES, f"tenant {n}") for n in range(2)]
TIMES = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=n) for n in range(4)]

BETWEEN = (
    "\x01-\x1f!-/:-@[-`{-\u00a9\u00ab-\u00b4\u00b6-\u00b9\u00bb-\u00bf\u00d7\u00f7\u2000-\u2bff\u3000-\u3004"
    "\u3008-\u3040\u30fb\ufe00-\ufe0f\ufe30-\ufe4f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
).replace("[", r"\[")
DENSE = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u30fa\u30fc-\u318f\u31f0-\u31ff\u3400-\u9fff"
    "\uac00-\ud7a3\uf900-\ufaff\uff66-\uff9f\U0001f000-\U0001faff\U00020000-\U0003ffff"
)
LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}  # what a database in locale C folds

WORDS = ["kernel", "Kernel", "panic", "the", "don't", "don\u2019t", "utils.py", "1.5", "привет", "<b>", "OR", "or", "-"]
DENSE_WORDS = ["東京都", "東京", "京都", "都", "京", "カメラ", "한국어", "สวัสดี", "😀"]
texts = st.lists(
    st.tuples(st.sampled_from(WORDS + DENSE_WORDS), st.sampled_from([" ", " ", "", ", ", "\n", "。", "—", "_"])),
    max_size=6,
).map(lambda parts: "".join(word + end for word, end in parts))
terms = st.tuples(st.sampled_from(["", "", "", "-"]), st.sampled_from(WORDS + DENSE_WORDS) | texts).map(
    lambda term: term[0] + (f'"{term[1]}"' if " " in term[1] else term[1])
)
hostile = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=12) | st.sampled_from(
    ['"', "''", "' OR 1=1 --", "a & b | !c", "\\", "%", "$$", "*", "(((", "[a-z]+", "a:*", "<->", '"-"', "--", "- -a"]
)
queries = st.lists(terms, min_size=1, max_size=3).map(" ".join) | hostile


class Message(NamedTuple):
    store: str
    id: UUID
    at: datetime | None
    content: str


class Conversation(NamedTuple):
    owner: UUID
    tenant: UUID | None
    trashed: bool
    messages: list[tuple[str, str, datetime | None, str]]  # store, role, time, text


conversations = st.lists(
    st.builds(
        Conversation,
        st.sampled_from(USERS),
        st.none() | st.sampled_from(TENANTS),
        st.sampled_from([False, False, False, True]),
        st.lists(
            st.tuples(
                st.sampled_from(["messages", "chat_messages"]),
                st.sampled_from(["user", "assistant"]),
                st.none() | st.sampled_from(TIMES),
                texts,
            ),
            max_size=5,
        ),
    ),
    min_size=1,
    max_size=5,
)
filters = st.fixed_dictionaries(
    {},
    optional={
        "p_conversation_id": st.integers(0, 4).map(lambda n: uuid5(NAMES, f"conversation {n}")),
        "p_roles": st.sampled_from([["user"], ["assistant", "tool"], []]),
        "p_since": st.sampled_from(TIMES),
        "p_until": st.sampled_from(TIMES),
    },
)


def read(text: str) -> str:
    """Return the text as words between single spaces."""
    text = re.sub(f"[{BETWEEN}]+", " ", text).translate(LOWER)
    apart = re.sub(f"([{DENSE}]+)", r" \1 ", text)
    return re.sub(" +", " ", f" {apart} ")


def asked(query: str) -> list[tuple[list[str], list[str]]]:
    """Return the alternatives of a query: what a text must contain, and what it must not."""
    alternatives: list[tuple[list[str], list[str]]] = [([], [])]
    for minus, phrase, word in re.findall(r'(-?)(?:"([^"]*)"?|([^\s"]+))', query, re.ASCII):
        if not minus and word.translate(LOWER) == "or":
            alternatives.append(([], []))
        elif (needle := read(phrase or word)) != " ":
            needle = needle[1:] if re.match(f" [{DENSE}]{{2}}", needle) else needle
            needle = needle[:-1] if re.search(f"[{DENSE}]{{2}} $", needle) else needle
            alternatives[-1][bool(minus)].append(needle)
    return [(wanted, unwanted) for wanted, unwanted in alternatives if wanted]


def contains(text: str, query: str) -> bool:
    content = read(text)
    return any(
        all(needle in content for needle in wanted) and not any(needle in content for needle in unwanted)
        for wanted, unwanted in asked(query)
    )


@pytest.fixture(scope="module")
def connection(server: embedded.Server, _shared_database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(libpq(server.url(_shared_database))) as connection:
        for user in USERS:
            connection.execute("INSERT INTO users (id) VALUES (%s)", [user])
        for tenant in TENANTS:
            connection.execute("INSERT INTO tenants (id, name) VALUES (%s, 'Acme')", [tenant])
        yield connection
        connection.rollback()


def write(connection: psycopg.Connection, written: list[Conversation], members: set[tuple[UUID, UUID]]) -> None:
    for n, (owner, tenant, trashed, messages) in enumerate(written):
        key = uuid5(NAMES, f"conversation {n}")
        connection.execute(
            "INSERT INTO conversations (id, user_id, tenant_id) VALUES (%s, %s, %s)", [key, owner, tenant]
        )
        if trashed:
            connection.execute("UPDATE conversations SET deleted_at = now() WHERE id = %s", [key])
        for m, (store, role, at, content) in enumerate(messages):
            # the same id in both stores, as of a team that has copied one into the other
            values = [uuid5(key, str(m // 2)), key, owner, role, content, at if store != "messages" else at or TIMES[0]]
            connection.execute(
                f"INSERT INTO {store} (id, conversation_id, user_id, role, content, created_at)"
                " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
                values,
            )
    for tenant, user in members:
        connection.execute("INSERT INTO tenant_users (tenant_id, user_id) VALUES (%s, %s)", [tenant, user])


def scanned(connection: psycopg.Connection, user: UUID, query: str, narrowed: dict[str, Any]) -> list[tuple[str, UUID]]:
    """Read every message that the caller may read of this user, and keep those that contain what is asked for."""
    rows = connection.execute(
        """
        SELECT m.store, m.id, m.created_at, m.content FROM (
          SELECT 'messages' AS store, id, conversation_id, user_id, role, created_at, content FROM messages
          UNION ALL SELECT 'chat_messages', id, conversation_id, user_id, role, created_at, content FROM chat_messages
        ) AS m
        WHERE user_id = %(user)s
          AND conversation_id NOT IN (SELECT id FROM conversations WHERE deleted_at IS NOT NULL)
          AND (%(p_conversation_id)s::uuid IS NULL OR conversation_id = %(p_conversation_id)s)
          AND (%(p_roles)s::text[] IS NULL OR role = ANY (%(p_roles)s))
          AND (%(p_since)s::timestamptz IS NULL OR created_at >= %(p_since)s)
          AND (%(p_until)s::timestamptz IS NULL OR created_at <= %(p_until)s)
        """,
        {"p_conversation_id": None, "p_roles": None, "p_since": None, "p_until": None, "user": user, **narrowed},
    )
    found = [m for m in (Message(*row) for row in rows) if contains(m.content, query)]
    first = datetime(1, 1, 1, tzinfo=UTC)
    found.sort(key=lambda m: (m.at or first, m.id, m.store), reverse=True)
    return [(m.store, m.id) for m in found]


def searched(
    connection: psycopg.Connection, query: str, narrowed: dict[str, Any], limit: int, *, best_first: bool = False
) -> list[tuple[str, UUID]]:
    """Read page after page to the end."""
    found: list[tuple[str, UUID]] = []
    given: dict[str, Any] = {"p_query": query, "p_limit": limit, "p_best_first": best_first, **narrowed}
    while True:
        names = ", ".join(f"{name} => %({name})s" for name in given)
        rows = connection.execute(
            f"SELECT store, id, created_at, rank FROM chat_internal.search_messages({names})", given
        ).fetchall()
        found += [(row[0], row[1]) for row in rows]
        if len(rows) < limit:
            return found
        for name, value in zip(("store", "id", "at", "rank"), rows[-1], strict=True):
            given[f"p_after_{name}"] = value


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    written=conversations,
    members=st.sets(st.tuples(st.sampled_from(TENANTS), st.sampled_from(USERS))),
    asking=st.lists(st.tuples(st.sampled_from(USERS), queries, filters, st.integers(1, 4)), min_size=1, max_size=4),
)
def test_a_search_finds_what_a_scan_under_the_policies_finds(
    connection: psycopg.Connection,
    written: list[Conversation],
    members: set[tuple[UUID, UUID]],
    asking: list[tuple[UUID, str, dict[str, Any], int]],
) -> None:
    with connection.transaction(force_rollback=True):
        write(connection, written, members)
        for user, query, narrowed, limit in asking:
            with acting(connection, user):
                expected = scanned(connection, user, query, narrowed)
                assert searched(connection, query, narrowed, limit) == expected
                assert sorted(searched(connection, query, narrowed, limit, best_first=True)) == sorted(expected)
                stolen = searched(connection, query, {"p_user_id": USERS[0], **narrowed}, limit)
                assert stolen == (expected if user == USERS[0] else [])
            with acting(connection, role="service_role"):
                everything = scanned(connection, user, query, narrowed)
                assert searched(connection, query, {"p_user_id": user, **narrowed}, limit) == everything
