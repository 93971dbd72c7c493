"""The rules of who sees what and who may write what, in a few lines of Python: what the policies are held against."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from uuid import UUID

from tests.policies.acting import Refusal

Outcome = int | Refusal


@dataclass
class World:
    """Who is a member of what, and what stands where."""

    members: set[tuple[UUID, UUID]] = field(default_factory=set)  # (tenant, user)
    conversations: dict[UUID, tuple[UUID, UUID | None]] = field(default_factory=dict)  # to (owner, tenant)
    # For each of messages, chat_messages: message to conversation. Its owner is the conversation's, always.
    messages: dict[str, dict[UUID, UUID]] = field(default_factory=lambda: {"messages": {}, "chat_messages": {}})
    # For each of tasks, conversation_sessions: row to owner.
    owned: dict[str, dict[UUID, UUID]] = field(default_factory=lambda: {"tasks": {}, "conversation_sessions": {}})
    session_messages: dict[UUID, UUID] = field(default_factory=dict)  # to session

    # What a user sees

    def sees(self, user: UUID, conversation: UUID) -> bool:
        """Its own conversation, if that is personal or if the user is a member of its tenant."""
        owner, tenant = self.conversations.get(conversation, (None, None))
        return owner == user and self.may_use(user, tenant)

    def may_use(self, user: UUID, tenant: UUID | None) -> bool:
        return tenant is None or (tenant, user) in self.members

    def sees_message(self, user: UUID, table: str, message: UUID) -> bool:
        conversation = self.messages[table].get(message)
        return conversation is not None and self.sees(user, conversation)

    def owns(self, user: UUID, table: str, row: UUID) -> bool:
        return self.owned[table].get(row) == user

    def seen_by(self, user: UUID) -> Counter[tuple[str, str]]:
        """Return all that the user sees, as (table, key), with a key in the form of :data:`SEEN`."""
        mine = {tenant for tenant, member in self.members if member == user}
        open_ = {conversation for conversation in self.conversations if self.sees(user, conversation)}
        sessions = self.owned["conversation_sessions"]
        length = Counter(self.messages["messages"].values())
        seen = [("users", user), ("brands", user)]
        seen += [("tenants", tenant) for tenant in mine]
        seen += [("conversations", conversation) for conversation in open_]
        seen += [
            (table, m) for table, of in self.messages.items() for m, conversation in of.items() if conversation in open_
        ]
        seen += [(table, row) for table, of in self.owned.items() for row, owner in of.items() if owner == user]
        seen += [
            ("conversation_messages", m) for m, session in self.session_messages.items() if sessions[session] == user
        ]
        return Counter(
            [(table, str(key)) for table, key in seen]
            + [("tenant_users", f"{tenant} {member}") for tenant, member in self.members if tenant in mine]
            + [("chat_sessions", f"{conversation} {length[conversation]}") for conversation in open_]
        )

    # What comes of a user's write

    def writing_conversation(self, user: UUID, owner: UUID, tenant: UUID | None) -> Outcome:
        return 1 if owner == user and self.may_use(user, tenant) else Refusal.BY_POLICY

    def writing_message(self, user: UUID, owner: UUID, conversation: UUID) -> Outcome:
        lost = self.conversations.get(conversation, (None,))[0] == user and not self.sees(user, conversation)
        if owner != user or lost:
            return Refusal.BY_POLICY
        return 1 if self.sees(user, conversation) else Refusal.BY_KEY

    def default_conversation(self, user: UUID) -> UUID | None:
        """The earliest personal one; the smallest id where several are as old, as all are within one transaction."""
        return min((c for c, place in self.conversations.items() if place == (user, None)), default=None)

    # What a write leaves

    def delete_conversation(self, conversation: UUID) -> None:
        del self.conversations[conversation]
        for of in self.messages.values():
            for message in [m for m, place in of.items() if place == conversation]:
                del of[message]

    def delete_owned(self, table: str, row: UUID) -> None:
        del self.owned[table][row]
        if table == "conversation_sessions":
            for message in [m for m, session in self.session_messages.items() if session == row]:
                del self.session_messages[message]


# Everything the caller sees, as (table, key).
SEEN = """
SELECT 'users', id::text FROM users
UNION ALL SELECT 'brands', user_id::text FROM brands
UNION ALL SELECT 'tenants', id::text FROM tenants
UNION ALL SELECT 'tenant_users', tenant_id || ' ' || user_id FROM tenant_users
UNION ALL SELECT 'tasks', id::text FROM tasks
UNION ALL SELECT 'conversations', id::text FROM conversations
UNION ALL SELECT 'messages', id::text FROM messages
UNION ALL SELECT 'chat_messages', id::text FROM chat_messages
UNION ALL SELECT 'chat_sessions', id || ' ' || jsonb_array_length(messages) FROM chat_sessions
UNION ALL SELECT 'conversation_sessions', id::text FROM conversation_sessions
UNION ALL SELECT 'conversation_messages', id::text FROM conversation_messages
"""
