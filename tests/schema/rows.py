"""Rows to test with, each in one line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg import sql


@dataclass(frozen=True)
class Rows:
    """Inserts and reads on one connection; what is not named gets its default."""

    connection: psycopg.Connection

    def insert(self, table: str, **values: Any) -> Any:
        """Insert one row and return the first column of it, which is its id."""
        names = [sql.Identifier(name) for name in values]
        holes = [sql.Placeholder() for _ in values]
        statement = sql.SQL("INSERT INTO {} ({}) VALUES ({}) RETURNING *").format(
            sql.Identifier(table), sql.SQL(", ").join(names), sql.SQL(", ").join(holes)
        )
        row = self.connection.execute(statement, list(values.values())).fetchone()
        assert row is not None
        return row[0]

    def user(self, **values: Any) -> UUID:
        user: UUID = self.insert("users", **{"email": f"{uuid4()}@example.org", **values})
        return user

    def tenant(self, *members: UUID) -> UUID:
        tenant: UUID = self.insert("tenants", name="Acme")
        for member in members:
            self.insert("tenant_users", tenant_id=tenant, user_id=member)
        return tenant

    def conversation(self, user: UUID, **values: Any) -> UUID:
        conversation: UUID = self.insert("conversations", user_id=user, **values)
        return conversation

    def message(self, conversation: UUID, content: str = "Hi", role: str = "user", **values: Any) -> UUID:
        message: UUID = self.insert("messages", conversation_id=conversation, content=content, role=role, **values)
        return message

    def hang_on(self, message: UUID) -> None:
        """Insert an attachment, a rating and a share of a message."""
        [(conversation, user)] = self.all("SELECT conversation_id, user_id FROM messages WHERE id = %s", message)
        of = {"message_id": message, "conversation_id": conversation, "user_id": user}
        file = {"name": "plan.pdf", "media_type": "application/pdf", "size_bytes": 3, "sha256": bytes(32)}
        self.insert("attachments", **of, **file, storage_key=str(uuid4()))
        self.insert("feedback", **of, rating=1)
        self.insert("shares", **of, token_hash=uuid4().bytes * 2)

    def session(self, user: UUID, brand: UUID, **values: Any) -> UUID:
        session: UUID = self.insert("conversation_sessions", user_id=user, brand_id=brand, **values)
        return session

    def turn(self, session: UUID, role: str = "user", **values: Any) -> UUID:
        """Insert a message of a creative session, with its owner and its brand."""
        [(user, brand)] = self.all("SELECT user_id, brand_id FROM conversation_sessions WHERE id = %s", session)
        owned = {"session_id": session, "user_id": user, "brand_id": brand, "role": role, "content": "Go", **values}
        turn: UUID = self.insert("conversation_messages", **owned)
        return turn

    def all(self, query: str, *parameters: Any) -> list[Any]:
        """Return the rows of ``query``; of one column, its values."""
        found = self.connection.execute(query.encode(), parameters or None).fetchall()
        return [row[0] if len(row) == 1 else row for row in found]

    def one(self, query: str, *parameters: Any) -> Any:
        [value] = self.all(query, *parameters)
        return value

    def run(self, statement: str, *parameters: Any) -> int:
        """Run ``statement`` and return how many rows it changed."""
        return self.connection.execute(statement.encode(), parameters or None).rowcount

    def count(self, table: str) -> int:
        count: int = self.one(f"SELECT count(*) FROM {table}")
        return count
