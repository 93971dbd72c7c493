"""Random users in random tenants do random things; after each, everybody sees what the rules say, exactly.

`visibility.World` is the rules in Python. Every step is taken twice, by a user against the database and in the model,
and what comes of it (rows touched, or which refusal) must be the same. Each example is one transaction, rolled back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid5

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from psycopg.types.json import Jsonb

from app import embedded
from tests.conftest import libpq
from tests.policies.acting import Refusal, acting, outcome, values
from tests.policies.visibility import SEEN, Outcome, World

NAMES = UUID("0000000f-0000-4000-8000-000000000000")
USERS = [uuid5(NAMES, f"user {n}") for n in range(3)]
TENANTS = [uuid5(NAMES, f"tenant {n}") for n in range(2)]
BRANDS = {user: uuid5(user, "brand") for user in USERS}

users = st.sampled_from(USERS)
tenants = st.sampled_from(TENANTS)
tenant_or_none = st.none() | tenants
ways = st.sampled_from(["conversations", "chat_sessions"])  # the table, and the view by its older name
lengths = st.integers(0, 3)

STEPS = 10
TRIALS_AFTER = 8

TASK = "tasks (id, user_id, title) VALUES (%(id)s, %(owner)s, '')"
CREATIVE_SESSION = "conversation_sessions (id, user_id, brand_id) VALUES (%(id)s, %(owner)s, %(brand)s)"

# A change that anyone may make to each row it sees.
CHANGES = {
    "tasks": "title = 'changed'",
    "conversations": "title = 'changed'",
    "messages": "content = 'changed'",
    "chat_messages": "content = 'changed'",
    "brands": "name = 'changed'",
    "conversation_sessions": "state = 'changed'",
    "conversation_messages": "content = 'changed'",
}


class Visibility(RuleBasedStateMachine):
    """The database and the model, side by side."""

    conversations: Bundle[UUID] = Bundle("conversations")
    messages: Bundle[tuple[str, UUID]] = Bundle("messages")  # (table, id)
    owned: Bundle[tuple[str, UUID]] = Bundle("owned")  # (table, id)

    def __init__(self, connection: psycopg.Connection) -> None:
        super().__init__()
        self.connection = connection
        self.world = World()
        self.made = 0
        self.checks = 0
        # A trigger that never ends is a failure, not a test that hangs.
        connection.execute("SET LOCAL statement_timeout = '10s'")

    def teardown(self) -> None:
        self.connection.rollback()

    def new_id(self) -> UUID:
        """Return ids that are the same in every replay of an example."""
        self.made += 1
        return uuid5(NAMES, f"row {self.made}")

    def attempt(self, me: UUID, expected: Outcome, statement: str, **parameters: Any) -> bool:
        """Let ``me`` run the statement, check what comes of it, and return whether it touched a row."""
        with acting(self.connection, me):
            assert outcome(self.connection, statement, parameters) == expected
        return expected == 1

    # The world before: written by a service, memberships last, so that some have left where they wrote

    @initialize(
        target=conversations,
        owners=st.lists(st.tuples(users, tenant_or_none, lengths, lengths), max_size=6),
        members=st.sets(st.tuples(tenants, users)),
    )
    def a_world(
        self, owners: list[tuple[UUID, UUID | None, int, int]], members: set[tuple[UUID, UUID]]
    ) -> MultipleResults[UUID]:
        made = []
        for owner, tenant, messages, chat_messages in owners:
            conversation = self.new_id()
            self.connection.execute(
                "INSERT INTO conversations (id, user_id, tenant_id) VALUES (%s, %s, %s)", [conversation, owner, tenant]
            )
            self.world.conversations[conversation] = (owner, tenant)
            made.append(conversation)
            for table, count in (("messages", messages), ("chat_messages", chat_messages)):
                for _ in range(count):
                    message = self.new_id()
                    self.connection.execute(
                        f"INSERT INTO {table} (id, conversation_id, user_id, role, content)"
                        " VALUES (%s, %s, %s, 'user', '')",
                        [message, conversation, owner],
                    )
                    self.world.messages[table][message] = conversation
        for tenant, user in members:
            self.joins(tenant, user)
        return multiple(*made)

    @initialize(target=owned, owners=st.lists(users, max_size=3))
    def creative_sessions(self, owners: list[UUID]) -> MultipleResults[tuple[str, UUID]]:
        made = []
        for owner in owners:
            made.append(self.insert_owned(TASK, owner, owner))
            made.append(self.insert_owned(CREATIVE_SESSION, owner, owner, brand=BRANDS[owner]))
            self.writes_into_a_creative_session(owner, owner, made[-1])
        return multiple(*made)

    # Memberships

    @rule(tenant=tenants, user=users)
    def joins(self, tenant: UUID, user: UUID) -> None:
        self.connection.execute(
            "INSERT INTO tenant_users (tenant_id, user_id) VALUES (%s, %s) ON CONFLICT DO NOTHING", [tenant, user]
        )
        self.world.members.add((tenant, user))

    @rule(tenant=tenants, user=users)
    def leaves(self, tenant: UUID, user: UUID) -> None:
        self.connection.execute("DELETE FROM tenant_users WHERE tenant_id = %s AND user_id = %s", [tenant, user])
        self.world.members.discard((tenant, user))

    # Conversations, by the table and by the view

    @rule(target=conversations, me=users, owner=users, tenant=tenant_or_none)
    def inserts_a_conversation(self, me: UUID, owner: UUID, tenant: UUID | None) -> UUID:
        conversation = self.new_id()
        if self.attempt(
            me,
            self.world.writing_conversation(me, owner, tenant),
            "INSERT INTO conversations (id, user_id, tenant_id) VALUES (%(id)s, %(owner)s, %(tenant)s)",
            id=conversation,
            owner=owner,
            tenant=tenant,
        ):
            self.world.conversations[conversation] = (owner, tenant)
        return conversation  # if it was refused, later steps go for a conversation that is not there

    @rule(target=conversations, me=users, owner=users, tenant=tenant_or_none, length=lengths)
    def inserts_a_chat_session(self, me: UUID, owner: UUID, tenant: UUID | None, length: int) -> UUID:
        conversation = self.new_id()
        if self.attempt(
            me,
            self.world.writing_conversation(me, owner, tenant),
            "INSERT INTO chat_sessions (id, user_id, tenant_id, messages)"
            " VALUES (%(id)s, %(owner)s, %(tenant)s, %(messages)s)",
            id=conversation,
            owner=owner,
            tenant=tenant,
            messages=array(length),
        ):
            self.world.conversations[conversation] = (owner, tenant)
            self.take_over_messages(conversation, length)
        return conversation

    @rule(me=users, conversation=conversations, length=lengths)
    def rewrites_a_chat_session(self, me: UUID, conversation: UUID, length: int) -> None:
        if self.attempt(
            me,
            int(self.world.sees(me, conversation)),
            "UPDATE chat_sessions SET messages = %(messages)s WHERE id = %(id)s",
            id=conversation,
            messages=array(length),
        ):
            self.take_over_messages(conversation, length)

    @rule(me=users, conversation=conversations, tenant=tenant_or_none, way=ways)
    def moves_a_conversation_to_a_tenant(self, me: UUID, conversation: UUID, tenant: UUID | None, way: str) -> None:
        expected: Outcome = int(self.world.sees(me, conversation))
        if expected:
            expected = self.world.writing_conversation(me, me, tenant)
        if self.attempt(
            me,
            expected,
            f"UPDATE {way} SET tenant_id = %(tenant)s WHERE id = %(id)s",
            id=conversation,
            tenant=tenant,
        ):
            self.world.conversations[conversation] = (me, tenant)

    @rule(me=users, conversation=conversations, to=users)
    def gives_a_conversation_away(self, me: UUID, conversation: UUID, to: UUID) -> None:
        expected: Outcome = int(self.world.sees(me, conversation))
        if expected and to != me:
            expected = Refusal.BY_POLICY
        self.attempt(
            me, expected, "UPDATE conversations SET user_id = %(to)s WHERE id = %(id)s", id=conversation, to=to
        )

    @rule(me=users, conversation=conversations, way=ways)
    def deletes_a_conversation(self, me: UUID, conversation: UUID, way: str) -> None:
        if self.attempt(
            me, int(self.world.sees(me, conversation)), f"DELETE FROM {way} WHERE id = %(id)s", id=conversation
        ):
            self.world.delete_conversation(conversation)

    # Messages of both stores

    @rule(
        target=messages,
        table=st.sampled_from(["messages", "chat_messages"]),
        me=users,
        owner=users,
        conversation=conversations,
    )
    def inserts_a_message(self, table: str, me: UUID, owner: UUID, conversation: UUID) -> tuple[str, UUID]:
        message = self.new_id()
        if self.attempt(
            me,
            self.world.writing_message(me, owner, conversation),
            f"INSERT INTO {table} (id, conversation_id, user_id, role, content)"
            " VALUES (%(id)s, %(conversation)s, %(owner)s, 'user', '')",
            id=message,
            conversation=conversation,
            owner=owner,
        ):
            self.world.messages[table][message] = conversation
        return table, message

    @rule(target=messages, me=users, conversation=conversations)
    def inserts_a_message_without_an_owner(self, me: UUID, conversation: UUID) -> tuple[str, UUID]:
        message = self.new_id()
        if self.attempt(
            me,
            1 if self.world.sees(me, conversation) else Refusal.BY_POLICY,
            "INSERT INTO messages (id, conversation_id, role, content) VALUES (%(id)s, %(conversation)s, 'user', '')",
            id=message,
            conversation=conversation,
        ):
            self.world.messages["messages"][message] = conversation
        return "messages", message

    @rule(target=messages, me=users, owner=users)
    def inserts_a_chat_message_without_a_conversation(self, me: UUID, owner: UUID) -> tuple[str, UUID]:
        message = self.new_id()
        if self.attempt(
            me,
            1 if owner == me else Refusal.BY_POLICY,
            "INSERT INTO chat_messages (id, user_id, role, content) VALUES (%(id)s, %(owner)s, 'user', '')",
            id=message,
            owner=owner,
        ):
            (conversation,) = self.values("SELECT conversation_id FROM chat_messages WHERE id = %s", message)
            default = self.world.default_conversation(owner)
            if default is None:
                assert conversation not in self.world.conversations
                self.world.conversations[conversation] = (owner, None)
            else:
                assert conversation == default
            self.world.messages["chat_messages"][message] = conversation
        return "chat_messages", message

    @rule(me=users, message=messages)
    def edits_a_message(self, me: UUID, message: tuple[str, UUID]) -> None:
        table, id_ = message
        expected = int(self.world.sees_message(me, table, id_))
        self.attempt(me, expected, f"UPDATE {table} SET content = 'edited' WHERE id = %(id)s", id=id_)

    @rule(me=users, message=messages, conversation=conversations)
    def moves_a_message(self, me: UUID, message: tuple[str, UUID], conversation: UUID) -> None:
        table, id_ = message
        expected: Outcome = int(self.world.sees_message(me, table, id_))
        if expected:
            expected = self.world.writing_message(me, me, conversation)
        if self.attempt(
            me,
            expected,
            f"UPDATE {table} SET conversation_id = %(conversation)s WHERE id = %(id)s",
            id=id_,
            conversation=conversation,
        ):
            self.world.messages[table][id_] = conversation

    @rule(me=users, message=messages, to=users)
    def gives_a_message_away(self, me: UUID, message: tuple[str, UUID], to: UUID) -> None:
        table, id_ = message
        expected: Outcome = int(self.world.sees_message(me, table, id_))
        if expected and to != me:
            expected = Refusal.BY_POLICY
        self.attempt(me, expected, f"UPDATE {table} SET user_id = %(to)s WHERE id = %(id)s", id=id_, to=to)

    @rule(me=users, message=messages)
    def deletes_a_message(self, me: UUID, message: tuple[str, UUID]) -> None:
        table, id_ = message
        if self.attempt(
            me, int(self.world.sees_message(me, table, id_)), f"DELETE FROM {table} WHERE id = %(id)s", id=id_
        ):
            del self.world.messages[table][id_]

    # What has an owner and no tenant: tasks and creative sessions

    @rule(target=owned, me=users, owner=users)
    def inserts_a_task(self, me: UUID, owner: UUID) -> tuple[str, UUID]:
        return self.insert_owned(TASK, me, owner)

    @rule(target=owned, me=users, owner=users, brand=users.map(BRANDS.__getitem__))
    def inserts_a_creative_session(self, me: UUID, owner: UUID, brand: UUID) -> tuple[str, UUID]:
        return self.insert_owned(CREATIVE_SESSION, me, owner, brand=brand)

    @rule(me=users, row=owned, brand=users.map(BRANDS.__getitem__))
    def changes_the_brand_of_a_creative_session(self, me: UUID, row: tuple[str, UUID], brand: UUID) -> None:
        _, session = row
        expected: Outcome = int(self.world.owns(me, "conversation_sessions", session))
        if expected and brand != BRANDS[me]:
            expected = Refusal.BY_BRAND
        change = "UPDATE conversation_sessions SET brand_id = %(brand)s WHERE id = %(session)s"
        self.attempt(me, expected, change, session=session, brand=brand)

    def insert_owned(self, into: str, me: UUID, owner: UUID, **parameters: Any) -> tuple[str, UUID]:
        table, row = into.partition(" ")[0], self.new_id()
        expected: Outcome = 1 if owner == me and parameters.get("brand") in (None, BRANDS[me]) else Refusal.BY_POLICY
        if self.attempt(me, expected, f"INSERT INTO {into}", id=row, owner=owner, **parameters):
            self.world.owned[table][row] = owner
        return table, row

    @rule(me=users, row=owned, to=users)
    def gives_an_owned_row_away(self, me: UUID, row: tuple[str, UUID], to: UUID) -> None:
        table, id_ = row
        expected: Outcome = int(self.world.owns(me, table, id_))
        if expected and to != me:
            expected = Refusal.BY_POLICY
        self.attempt(me, expected, f"UPDATE {table} SET user_id = %(to)s WHERE id = %(id)s", id=id_, to=to)

    @rule(me=users, row=owned)
    def deletes_an_owned_row(self, me: UUID, row: tuple[str, UUID]) -> None:
        table, id_ = row
        if self.attempt(me, int(self.world.owns(me, table, id_)), f"DELETE FROM {table} WHERE id = %(id)s", id=id_):
            self.world.delete_owned(table, id_)

    @rule(me=users, owner=users, row=owned)
    def writes_into_a_creative_session(self, me: UUID, owner: UUID, row: tuple[str, UUID]) -> None:
        _, session = row  # a task's id is a session that is not there
        expected: Outcome = 1 if self.world.owns(me, "conversation_sessions", session) else Refusal.BY_KEY
        message = self.new_id()
        if self.attempt(
            me,
            Refusal.BY_POLICY if owner != me else expected,
            "INSERT INTO conversation_messages (id, session_id, brand_id, user_id, role, content)"
            " VALUES (%(id)s, %(session)s, %(brand)s, %(owner)s, 'user', '')",
            id=message,
            session=session,
            brand=BRANDS[me],
            owner=owner,
        ):
            self.world.session_messages[message] = session

    @rule(me=users, row=owned, ending=st.sampled_from(["complete", "cancel"]))
    def ends_a_creative_session(self, me: UUID, row: tuple[str, UUID], ending: str) -> None:
        _, session = row
        ended = "SELECT id FROM conversation_sessions WHERE completed_at IS NOT NULL"
        before = set(self.values(ended))
        self.attempt(me, 1, f"SELECT {ending}_conversation_session(%(session)s)", session=session)
        mine = {session} if self.world.owns(me, "conversation_sessions", session) else set()
        assert set(self.values(ended)) == before | mine

    # After every step

    @invariant()
    def everybody_sees_what_the_rules_say(self) -> None:
        for user in USERS:
            with acting(self.connection, user):
                seen = Counter(self.connection.execute(SEEN).fetchall())
            assert seen == self.world.seen_by(user)

    @invariant()
    def nobody_gets_further_than_the_rules_say(self) -> None:
        """Once an example, as it takes some two hundred statements: each is tried and undone."""
        self.checks += 1
        if self.checks != TRIALS_AFTER:
            return
        for me in USERS:
            with acting(self.connection, me):
                for statement, parameters, expected in self.trials(me):
                    found = outcome(self.connection, statement, parameters, undo=True)
                    assert found == expected, (statement, parameters)

    def trials(self, me: UUID) -> Iterator[tuple[str, dict[str, Any], Outcome]]:
        """Writes by ``me`` and what must come of them.

        Those without a condition read no row, so that the policy of SELECT has no say and the verb's own must hold.
        """
        another = USERS[USERS.index(me) - 1]
        seen = Counter(table for table, _ in self.world.seen_by(me))

        def all_seen(table: str, expected: Outcome) -> Outcome:
            """What comes of changing every row in a way that for one row has the ``expected`` outcome."""
            return seen[table] if expected == 1 or not seen[table] else expected

        for table, change in CHANGES.items():
            yield f"UPDATE {table} SET {change}", {}, seen[table]
            yield f"DELETE FROM {table}", {}, seen[table]
            yield f"UPDATE {table} SET user_id = %(to)s", {"to": another}, all_seen(table, Refusal.BY_POLICY)
        for tenant in (None, *TENANTS):
            moved = self.world.writing_conversation(me, me, tenant)
            move = "UPDATE conversations SET tenant_id = %(to)s"
            yield move, {"to": tenant}, all_seen("conversations", moved)
            for owner in (me, another):
                yield (
                    "INSERT INTO conversations (user_id, tenant_id) VALUES (%(owner)s, %(tenant)s)",
                    {"owner": owner, "tenant": tenant},
                    self.world.writing_conversation(me, owner, tenant),
                )
        for conversation in self.world.conversations:
            for table in self.world.messages:
                moved = self.world.writing_message(me, me, conversation)
                move = f"UPDATE {table} SET conversation_id = %(to)s"
                yield move, {"to": conversation}, all_seen(table, moved)
                for owner in (me, another):
                    yield (
                        f"INSERT INTO {table} (conversation_id, user_id, role, content)"
                        " VALUES (%(conversation)s, %(owner)s, 'user', '')",
                        {"conversation": conversation, "owner": owner},
                        self.world.writing_message(me, owner, conversation),
                    )

    def values(self, query: str, *parameters: Any) -> list[Any]:
        return values(self.connection, query, *parameters)

    def take_over_messages(self, conversation: UUID, length: int) -> None:
        """Let the model know the ids that a write of a whole array has made."""
        of = self.world.messages["messages"]
        for message in [m for m, place in of.items() if place == conversation]:
            del of[message]
        stored = self.values("SELECT id FROM messages WHERE conversation_id = %s", conversation)
        assert len(stored) == length
        of.update(dict.fromkeys(stored, conversation))


def array(length: int) -> Jsonb:
    return Jsonb([{"role": "user", "content": str(n)} for n in range(length)])


@pytest.fixture(scope="module")
def connection(server: embedded.Server, _shared_database: str) -> Iterator[psycopg.Connection]:
    """A connection to a migrated database with the users, tenants and brands, and nothing else."""
    with psycopg.connect(libpq(server.url(_shared_database))) as connection:
        for user in USERS:
            connection.execute("INSERT INTO users (id) VALUES (%s)", [user])
            connection.execute("INSERT INTO brands (id, user_id, name) VALUES (%s, %s, 'Soap')", [BRANDS[user], user])
        for tenant in TENANTS:
            connection.execute("INSERT INTO tenants (id, name) VALUES (%s, 'Acme')", [tenant])
        connection.commit()
        yield connection
        connection.rollback()


def test_everybody_sees_and_writes_what_the_rules_say_and_nothing_else(connection: psycopg.Connection) -> None:
    class Here(Visibility):
        def __init__(self) -> None:
            super().__init__(connection)

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=100, stateful_step_count=STEPS, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )
