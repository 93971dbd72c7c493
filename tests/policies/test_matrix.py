"""Who may do what to whose rows: every table, every kind of actor, every verb.

Each line of `MATRIX` goes for rows of the owner. Two kinds of INSERT are told apart: one in the owner's name (its
user_id), and one in the actor's own name, set where the owner's rows stand: in its conversation, tenant, session.

    owner       owns the rows and is a member of Acme
    ex-member   the same user after leaving Acme
    co-member   runs Acme, owns none of these rows
    other       a user without a tenant
    foreigner   a user of another tenant
    service     role service_role; "its own name" is the other user's
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import psycopg
import pytest

from tests.policies.acting import Refusal, acting, outcome, values
from tests.policies.world import (
    ACME,
    BRAND,
    CO_MEMBER,
    FOREIGNER,
    OF_ACME,
    OTHER,
    OWNER,
    PERSONAL,
    PERSONAL_MESSAGE,
    SESSION,
    TENANT_MESSAGE,
)

NO = Refusal.NO_GRANT
POLICY = Refusal.BY_POLICY
KEY = Refusal.BY_KEY
VIEW = Refusal.NOT_A_TABLE

ACTORS = ("owner", "ex-member", "co-member", "other", "foreigner", "anon", "service")
USERS = {"owner": OWNER, "ex-member": OWNER, "co-member": CO_MEMBER, "other": OTHER, "foreigner": FOREIGNER}
ROLES = {"anon": "anon", "service": "service_role"}

# Numbers are rows seen or touched.
# fmt: off
MATRIX: dict[str, dict[str, tuple[int | Refusal, ...]]] = {
    # A user sees its own row; it may change the email in it and nothing else.
    "users": {
        #                           owner   ex-mem. co-mem. other   foreign anon service
        "SELECT":                  (1,      1,      0,      0,      0,      NO,  1),
        "INSERT in its own name":  (NO,     NO,     NO,     NO,     NO,     NO,  1),
        "UPDATE":                  (1,      1,      0,      0,      0,      NO,  1),
        "DELETE":                  (NO,     NO,     NO,     NO,     NO,     NO,  1),
        "TRUNCATE":                (NO,     NO,     NO,     NO,     NO,     NO,  NO),
    },
    # Tenants and their members (Acme has two) are read by the members and written by services.
    "tenants": {
        "SELECT":                  (1,      0,      1,      0,      0,      NO,  1),
        "INSERT in its own name":  (NO,     NO,     NO,     NO,     NO,     NO,  1),
        "UPDATE":                  (NO,     NO,     NO,     NO,     NO,     NO,  1),
        "DELETE":                  (NO,     NO,     NO,     NO,     NO,     NO,  1),
        "TRUNCATE":                (NO,     NO,     NO,     NO,     NO,     NO,  NO),
    },
    "tenant_users": {
        "SELECT":                  (2,      0,      2,      0,      0,      NO,  2),
        "INSERT in its own name":  (NO,     NO,     NO,     NO,     NO,     NO,  1),
        "UPDATE":                  (NO,     NO,     NO,     NO,     NO,     NO,  2),
        "DELETE":                  (NO,     NO,     NO,     NO,     NO,     NO,  2),
        "TRUNCATE":                (NO,     NO,     NO,     NO,     NO,     NO,  NO),
    },
    # What a user owns is its own alone.
    "tasks": {
        "SELECT":                  (1,      1,      0,      0,      0,      NO,  1),
        "INSERT in owner's name":  (1,      1,      POLICY, POLICY, POLICY, NO,  1),
        "INSERT in its own name":  (1,      1,      1,      1,      1,      NO,  1),
        "UPDATE":                  (1,      1,      0,      0,      0,      NO,  1),
        "DELETE":                  (1,      1,      0,      0,      0,      NO,  1),
        "TRUNCATE":                (NO,     NO,     NO,     NO,     NO,     NO,  NO),
    },
    # A personal conversation has nothing to do with tenants; one of a tenant closes when its owner leaves.
    "personal conversations": {
        "SELECT":                  (1,      1,      0,      0,      0,      NO,  1),
        "INSERT in owner's name":  (1,      1,      POLICY, POLICY, POLICY, NO,  1),
        "INSERT in its own name":  (1,      1,      1,      1,      1,      NO,  1),
        "UPDATE":                  (1,      1,      0,      0,      0,      NO,  1),
        "DELETE":                  (1,      1,      0,      0,      0,      NO,  1),
        "TRUNCATE":                (NO,     NO,     NO,     NO,     NO,     NO,  NO),
    },
    "tenant conversations": {
        "SELECT":                  (1,      0,      0,      0,      0,      NO,  1),
        "INSERT in owner's name":  (1,      POLICY, POLICY, POLICY, POLICY, NO,  1),
        "INSERT in its own name":  (1,      POLICY, 1,      POLICY, POLICY, NO,  1),
        "UPDATE":                  (1,      0,      0,      0,      0,      NO,  1),
        "DELETE":                  (1,      0,      0,      0,      0,      NO,  1),
        "TRUNCATE":                (NO,     NO,     NO,     NO,     NO,     NO,  NO),
    },
    # A message stands in a conversation of its own user: the composite key holds everyone to that, services too.
    "personal messages": {
        "SELECT":                  (1,      1,      0,      0,      0,      NO,  1),
        "INSERT in owner's name":  (1,      1,      POLICY, POLICY, POLICY, NO,  1),
        "INSERT in its own name":  (1,      1,      KEY,    KEY,    KEY,    NO,  KEY),
        "UPDATE":                  (1,      1,      0,      0,      0,      NO,  1),
        "DELETE":                  (1,      1,      0,      0,      0,      NO,  1),
        "TRUNCATE":                (NO,     NO,     NO,     NO,     NO,     NO,  NO),
    },
    "tenant messages": {
        "SELECT":                  (1,      0,      0,      0,      0,      NO,  1),
        "INSERT in owner's name":  (1,      POLICY, POLICY, POLICY, POLICY, NO,  1),
        "INSERT in its own name":  (1,      POLICY, KEY,    KEY,    KEY,    NO,  KEY),
        "UPDATE":                  (1,      0,      0,      0,      0,      NO,  1),
        "DELETE":                  (1,      0,      0,      0,      0,      NO,  1),
        "TRUNCATE":                (NO,     NO,     NO,     NO,     NO,     NO,  NO),
    },
    "personal chat_messages": {
        "SELECT":                  (1,      1,      0,      0,      0,      NO,  1),
        "INSERT in owner's name":  (1,      1,      POLICY, POLICY, POLICY, NO,  1),
        "INSERT in its own name":  (1,      1,      KEY,    KEY,    KEY,    NO,  KEY),
        "UPDATE":                  (1,      1,      0,      0,      0,      NO,  1),
        "DELETE":                  (1,      1,      0,      0,      0,      NO,  1),
        "TRUNCATE":                (NO,     NO,     NO,     NO,     NO,     NO,  NO),
    },
    "tenant chat_messages": {
        "SELECT":                  (1,      0,      0,      0,      0,      NO,  1),
        "INSERT in owner's name":  (1,      POLICY, POLICY, POLICY, POLICY, NO,  1),
        "INSERT in its own name":  (1,      POLICY, KEY,    KEY,    KEY,    NO,  KEY),
        "UPDATE":                  (1,      0,      0,      0,      0,      NO,  1),
        "DELETE":                  (1,      0,      0,      0,      0,      NO,  1),
        "TRUNCATE":                (NO,     NO,     NO,     NO,     NO,     NO,  NO),
    },
    # The old name is a view of conversations and their messages, and as open or closed as they are.
    "personal chat_sessions": {
        "SELECT":                  (1,      1,      0,      0,      0,      NO,  1),
        "INSERT in owner's name":  (1,      1,      POLICY, POLICY, POLICY, NO,  1),
        "INSERT in its own name":  (1,      1,      1,      1,      1,      NO,  1),
        "UPDATE":                  (1,      1,      0,      0,      0,      NO,  1),
        "DELETE":                  (1,      1,      0,      0,      0,      NO,  1),
        "TRUNCATE":                (VIEW,   VIEW,   VIEW,   VIEW,   VIEW,   VIEW, VIEW),
    },
    "tenant chat_sessions": {
        "SELECT":                  (1,      0,      0,      0,      0,      NO,  1),
        "INSERT in owner's name":  (1,      POLICY, POLICY, POLICY, POLICY, NO,  1),
        "INSERT in its own name":  (1,      POLICY, 1,      POLICY, POLICY, NO,  1),
        "UPDATE":                  (1,      0,      0,      0,      0,      NO,  1),
        "DELETE":                  (1,      0,      0,      0,      0,      NO,  1),
        "TRUNCATE":                (VIEW,   VIEW,   VIEW,   VIEW,   VIEW,   VIEW, VIEW),
    },
    # Creative sessions: a user's session is on a brand of its own; nobody writes into another's session.
    "brands": {
        "SELECT":                  (1,      1,      0,      0,      0,      NO,  1),
        "INSERT in owner's name":  (1,      1,      POLICY, POLICY, POLICY, NO,  1),
        "INSERT in its own name":  (1,      1,      1,      1,      1,      NO,  1),
        "UPDATE":                  (1,      1,      0,      0,      0,      NO,  1),
        "DELETE":                  (1,      1,      0,      0,      0,      NO,  1),
        "TRUNCATE":                (NO,     NO,     NO,     NO,     NO,     NO,  NO),
    },
    "conversation_sessions": {
        "SELECT":                  (1,      1,      0,      0,      0,      NO,  1),
        "INSERT in owner's name":  (1,      1,      POLICY, POLICY, POLICY, NO,  1),
        "INSERT in its own name":  (1,      1,      POLICY, POLICY, POLICY, NO,  1),
        "UPDATE":                  (1,      1,      0,      0,      0,      NO,  1),
        "DELETE":                  (1,      1,      0,      0,      0,      NO,  1),
        "TRUNCATE":                (NO,     NO,     NO,     NO,     NO,     NO,  NO),
    },
    "conversation_messages": {
        "SELECT":                  (1,      1,      0,      0,      0,      NO,  1),
        "INSERT in owner's name":  (1,      1,      POLICY, POLICY, POLICY, NO,  1),
        "INSERT in its own name":  (1,      1,      KEY,    KEY,    KEY,    NO,  KEY),
        "UPDATE":                  (1,      1,      0,      0,      0,      NO,  1),
        "DELETE":                  (1,      1,      0,      0,      0,      NO,  1),
        "TRUNCATE":                (NO,     NO,     NO,     NO,     NO,     NO,  NO),
    },
    # What hangs on a message is as open or closed as the message, and stands where its owner's conversation does.
    "personal attachments": {
        "SELECT":                  (1,      1,      0,      0,      0,      NO,  1),
        "INSERT in owner's name":  (1,      1,      POLICY, POLICY, POLICY, NO,  1),
        "INSERT in its own name":  (1,      1,      POLICY, POLICY, POLICY, NO,  KEY),
        "UPDATE":                  (1,      1,      0,      0,      0,      NO,  1),
        "DELETE":                  (1,      1,      0,      0,      0,      NO,  1),
        "TRUNCATE":                (NO,     NO,     NO,     NO,     NO,     NO,  NO),
    },
    "tenant attachments": {
        "SELECT":                  (1,      0,      0,      0,      0,      NO,  1),
        "INSERT in owner's name":  (1,      POLICY, POLICY, POLICY, POLICY, NO,  1),
        "INSERT in its own name":  (1,      POLICY, POLICY, POLICY, POLICY, NO,  KEY),
        "UPDATE":                  (1,      0,      0,      0,      0,      NO,  1),
        "DELETE":                  (1,      0,      0,      0,      0,      NO,  1),
        "TRUNCATE":                (NO,     NO,     NO,     NO,     NO,     NO,  NO),
    },
    "personal feedback": {
        "SELECT":                  (1,      1,      0,      0,      0,      NO,  1),
        "INSERT in owner's name":  (1,      1,      POLICY, POLICY, POLICY, NO,  1),
        "INSERT in its own name":  (1,      1,      POLICY, POLICY, POLICY, NO,  KEY),
        "UPDATE":                  (1,      1,      0,      0,      0,      NO,  1),
        "DELETE":                  (1,      1,      0,      0,      0,      NO,  1),
        "TRUNCATE":                (NO,     NO,     NO,     NO,     NO,     NO,  NO),
    },
    "tenant feedback": {
        "SELECT":                  (1,      0,      0,      0,      0,      NO,  1),
        "INSERT in owner's name":  (1,      POLICY, POLICY, POLICY, POLICY, NO,  1),
        "INSERT in its own name":  (1,      POLICY, POLICY, POLICY, POLICY, NO,  KEY),
        "UPDATE":                  (1,      0,      0,      0,      0,      NO,  1),
        "DELETE":                  (1,      0,      0,      0,      0,      NO,  1),
        "TRUNCATE":                (NO,     NO,     NO,     NO,     NO,     NO,  NO),
    },
    "personal shares": {
        "SELECT":                  (1,      1,      0,      0,      0,      NO,  1),
        "INSERT in owner's name":  (1,      1,      POLICY, POLICY, POLICY, NO,  1),
        "INSERT in its own name":  (1,      1,      POLICY, POLICY, POLICY, NO,  KEY),
        "UPDATE":                  (1,      1,      0,      0,      0,      NO,  1),
        "DELETE":                  (1,      1,      0,      0,      0,      NO,  1),
        "TRUNCATE":                (NO,     NO,     NO,     NO,     NO,     NO,  NO),
    },
    "tenant shares": {
        "SELECT":                  (1,      0,      0,      0,      0,      NO,  1),
        "INSERT in owner's name":  (1,      POLICY, POLICY, POLICY, POLICY, NO,  1),
        "INSERT in its own name":  (1,      POLICY, POLICY, POLICY, POLICY, NO,  KEY),
        "UPDATE":                  (1,      0,      0,      0,      0,      NO,  1),
        "DELETE":                  (1,      0,      0,      0,      0,      NO,  1),
        "TRUNCATE":                (NO,     NO,     NO,     NO,     NO,     NO,  NO),
    },
    # A user sees that its key is there and removes it; what is written is the service's.
    "user_llm_providers": {
        "SELECT":                  (1,      1,      0,      0,      0,      NO,  1),
        "INSERT in owner's name":  (NO,     NO,     NO,     NO,     NO,     NO,  1),
        "INSERT in its own name":  (NO,     NO,     NO,     NO,     NO,     NO,  1),
        "UPDATE":                  (NO,     NO,     NO,     NO,     NO,     NO,  1),
        "DELETE":                  (1,      1,      0,      0,      0,      NO,  1),
        "TRUNCATE":                (NO,     NO,     NO,     NO,     NO,     NO,  NO),
    },
    # How long what is kept is the service's: not even who runs a tenant sees or lifts a hold.
    "retention_rules": {
        "SELECT":                  (NO,     NO,     NO,     NO,     NO,     NO,  1),
        "INSERT in its own name":  (NO,     NO,     NO,     NO,     NO,     NO,  1),
        "UPDATE":                  (NO,     NO,     NO,     NO,     NO,     NO,  1),
        "DELETE":                  (NO,     NO,     NO,     NO,     NO,     NO,  1),
        "TRUNCATE":                (NO,     NO,     NO,     NO,     NO,     NO,  NO),
    },
    "retention_holds": {
        "SELECT":                  (NO,     NO,     NO,     NO,     NO,     NO,  1),
        "INSERT in its own name":  (NO,     NO,     NO,     NO,     NO,     NO,  KEY),
        "UPDATE":                  (NO,     NO,     NO,     NO,     NO,     NO,  1),
        "DELETE":                  (NO,     NO,     NO,     NO,     NO,     NO,  1),
        "TRUNCATE":                (NO,     NO,     NO,     NO,     NO,     NO,  NO),
    },
}
# fmt: on


@dataclass(frozen=True)
class Rows:
    """The owner's rows of one line of the matrix, in SQL. ``%(user)s`` is whose name an inserted row bears."""

    relation: str
    where: str
    change: str
    insert: str


def _messages(relation: str, conversation: UUID) -> Rows:
    return Rows(
        relation,
        where=f"conversation_id = '{conversation}'",
        change="content = 'changed'",
        insert=f"(conversation_id, user_id, role, content) VALUES ('{conversation}', %(user)s, 'user', 'Hi')",
    )


def _conversations(tenant: str, conversation: UUID) -> Rows:
    return Rows(
        "conversations",
        where=f"id = '{conversation}'",
        change="title = 'changed'",
        insert=f"(user_id, tenant_id) VALUES (%(user)s, {tenant})",
    )


def _chat_sessions(tenant: str, conversation: UUID) -> Rows:
    array = """'[{"role": "user", "content": "changed"}]'"""
    return Rows(
        "chat_sessions",
        where=f"id = '{conversation}'",
        change=f"messages = {array}",
        insert=f"(user_id, tenant_id, messages) VALUES (%(user)s, {tenant}, {array})",
    )


def _attachments(conversation: UUID, message: UUID) -> Rows:
    return Rows(
        "attachments",
        where=f"conversation_id = '{conversation}'",
        change="name = 'changed'",
        insert="(user_id, conversation_id, message_id, name, media_type, size_bytes, sha256, storage_key)"
        f" VALUES (%(user)s, '{conversation}', '{message}', 'a', 'text/plain', 1, sha256('a'), 'new')",
    )


def _feedback(conversation: UUID, message: UUID) -> Rows:
    return Rows(
        "feedback",
        where=f"conversation_id = '{conversation}'",
        change="reason = 'changed'",
        insert=f"(user_id, conversation_id, message_id, rating) VALUES (%(user)s, '{conversation}', '{message}', -1)"
        " ON CONFLICT (message_id, user_id) DO UPDATE SET rating = excluded.rating",
    )


def _shares(conversation: UUID, message: UUID) -> Rows:
    return Rows(
        "shares",
        where=f"conversation_id = '{conversation}'",
        change="revoked_at = now()",
        insert="(user_id, conversation_id, message_id, token_hash)"
        f" VALUES (%(user)s, '{conversation}', '{message}', sha256('new'))",
    )


ROWS = {
    "users": Rows("users", f"id = '{OWNER}'", "email = 'changed@example.org'", "(email) VALUES ('new@example.org')"),
    "tenants": Rows("tenants", f"id = '{ACME}'", "name = 'changed'", "(name) VALUES ('New')"),
    "tenant_users": Rows(
        "tenant_users",
        where=f"tenant_id = '{ACME}'",
        change="role = 'admin'",
        insert=f"(tenant_id, user_id) VALUES ('{ACME}', %(user)s)",
    ),
    "tasks": Rows("tasks", f"user_id = '{OWNER}'", "completed = true", "(user_id, title) VALUES (%(user)s, 'Rest')"),
    "personal conversations": _conversations("NULL", PERSONAL),
    "tenant conversations": _conversations(f"'{ACME}'", OF_ACME),
    "personal messages": _messages("messages", PERSONAL),
    "tenant messages": _messages("messages", OF_ACME),
    "personal chat_messages": _messages("chat_messages", PERSONAL),
    "tenant chat_messages": _messages("chat_messages", OF_ACME),
    "personal chat_sessions": _chat_sessions("NULL", PERSONAL),
    "tenant chat_sessions": _chat_sessions(f"'{ACME}'", OF_ACME),
    "brands": Rows("brands", f"id = '{BRAND}'", "name = 'changed'", "(user_id, name) VALUES (%(user)s, 'Shoes')"),
    "conversation_sessions": Rows(
        "conversation_sessions",
        where=f"id = '{SESSION}'",
        change="state = 'changed'",
        insert=f"(user_id, brand_id) VALUES (%(user)s, '{BRAND}')",
    ),
    "conversation_messages": Rows(
        "conversation_messages",
        where=f"session_id = '{SESSION}'",
        change="content = 'changed'",
        insert="(session_id, brand_id, user_id, role, content)"
        f" VALUES ('{SESSION}', '{BRAND}', %(user)s, 'user', 'Hi')",
    ),
    "personal attachments": _attachments(PERSONAL, PERSONAL_MESSAGE),
    "tenant attachments": _attachments(OF_ACME, TENANT_MESSAGE),
    "personal feedback": _feedback(PERSONAL, PERSONAL_MESSAGE),
    "tenant feedback": _feedback(OF_ACME, TENANT_MESSAGE),
    "personal shares": _shares(PERSONAL, PERSONAL_MESSAGE),
    "tenant shares": _shares(OF_ACME, TENANT_MESSAGE),
    "retention_rules": Rows("retention_rules", f"tenant_id = '{ACME}'", "keep = '1 day'", "(keep) VALUES ('1 day')"),
    "retention_holds": Rows(
        "retention_holds",
        where=f"conversation_id = '{PERSONAL}'",
        change="reason = 'changed'",
        insert=f"(conversation_id, user_id) VALUES ('{PERSONAL}', %(user)s)",
    ),
    "user_llm_providers": Rows(
        "user_llm_providers",
        where=f"user_id = '{OWNER}'",
        change="key_id = 'changed'",
        insert="(user_id, provider, ciphertext, key_id) VALUES (%(user)s, 'other', 'sealed', 'a')",
    ),
}

CELLS = [
    pytest.param(
        actor,
        verb,
        rows,
        expected,
        id=f"{actor} does {verb} on {rows}: {expected.value if isinstance(expected, Refusal) else f'{expected} rows'}",
    )
    for rows, verbs in MATRIX.items()
    for verb, outcomes in verbs.items()
    for actor, expected in zip(ACTORS, outcomes, strict=True)
]


def statement(verb: str, rows: Rows) -> str:
    match verb.split()[0]:
        case "SELECT":
            return f"SELECT FROM {rows.relation} WHERE {rows.where}"
        case "INSERT":
            return f"INSERT INTO {rows.relation} {rows.insert}"
        case "UPDATE":
            return f"UPDATE {rows.relation} SET {rows.change} WHERE {rows.where}"
        case "DELETE":
            return f"DELETE FROM {rows.relation} WHERE {rows.where}"
        case _:
            return f"TRUNCATE {rows.relation}"


@pytest.mark.parametrize(("actor", "verb", "rows", "expected"), CELLS)
def test_matrix(world: psycopg.Connection, actor: str, verb: str, rows: str, expected: int | Refusal) -> None:
    goal = ROWS[rows]
    if actor == "ex-member":
        world.execute("DELETE FROM tenant_users WHERE user_id = %s", [OWNER])
    stored = f"SELECT goal::text FROM {goal.relation} AS goal WHERE {goal.where}"
    before = values(world, stored)
    user = OWNER if verb == "INSERT in owner's name" else USERS.get(actor, OTHER)
    with acting(world, USERS.get(actor), role=ROLES.get(actor, "authenticated")):
        assert outcome(world, statement(verb, goal), {"user": user}) == expected
        if verb in ("UPDATE", "DELETE") and expected == 0:
            # A condition reads the row, so the policy of SELECT is in force too. Without one this verb's own must hold.
            outcome(world, statement(verb, goal).partition(" WHERE ")[0])
    if expected == 0 or isinstance(expected, Refusal):
        assert values(world, stored) == before


def test_the_matrix_holds_every_table_and_view_that_has_owners(world: psycopg.Connection) -> None:
    exposed = values(
        world,
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')",
    )
    # see test_creative_sessions and test_message_usage
    statistics = {"provider_usage_stats", "daily_message_volume", "message_usage"}
    assert {rows.relation for rows in ROWS.values()} == set(exposed) - statistics
    assert MATRIX.keys() == ROWS.keys()
