"""A message: one turn of a conversation, or one step of a turn (a tool's call or result)."""

from typing import TYPE_CHECKING, Literal, get_args
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    FetchedValue,
    ForeignKeyConstraint,
    Identity,
    Index,
    String,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from .base import Base
from .types import CreatedAt, JsonArray, JsonObject, UserId, UuidPk, readable_times

if TYPE_CHECKING:
    from .conversation import Conversation

MessageRole = Literal["user", "assistant", "agent", "system", "tool"]


class Message(Base):
    """One turn. Listings are ordered by `created_at, seq`."""

    __tablename__ = "messages"

    id: Mapped[UuidPk] = mapped_column(insert_sentinel=True)
    conversation_id: Mapped[UUID]
    # The conversation's owner. A trigger fills it where the client leaves it out, hence the FetchedValue.
    user_id: Mapped[UserId] = mapped_column(server_default=FetchedValue())
    role: Mapped[MessageRole] = mapped_column(String(20))
    content: Mapped[str]
    tool_calls: Mapped[JsonArray | None]
    metadata_: Mapped[JsonObject] = mapped_column("metadata", server_default=text("'{}'"))
    # Chosen by the client: a request sent twice is stored once.
    idempotency_key: Mapped[str | None]
    # The database's alone: neither role may insert or update it, OVERRIDING SYSTEM VALUE included. BY DEFAULT, not
    # ALWAYS, for the owner of the table: adoption and restores write the order that the rows had.
    seq: Mapped[int] = mapped_column(BigInteger, Identity(always=False))
    created_at: Mapped[CreatedAt]
    # The conversation's, whatever a client sends: policies look at the message alone. Triggers keep it equal.
    tenant_id: Mapped[UUID | None] = mapped_column(server_default=FetchedValue(), server_onupdate=FetchedValue())
    # The message that this one answers; its own id where it begins anew. NULL everywhere is a thread without branches.
    # Where a conversation has branches, a message that names none continues the active one, by a trigger. It is never
    # updated: a parent is there before its answers, so that no circle comes about.
    parent_id: Mapped[UUID | None] = mapped_column(server_default=FetchedValue())

    __table_args__ = (
        CheckConstraint(f"role IN {get_args(MessageRole)}", name="role"),
        readable_times("created_at"),
        # Composite, so that a message never stands in another user's conversation.
        ForeignKeyConstraint(
            ["conversation_id", "user_id"], ["conversations.id", "conversations.user_id"], ondelete="CASCADE"
        ),
        # In the same conversation of the same owner. Deferred: when a statement ends, what hung on a message that it
        # deleted is hung on the one before. A parent that is not there is refused at once, by a trigger.
        ForeignKeyConstraint(
            ["user_id", "conversation_id", "parent_id"],
            ["messages.user_id", "messages.conversation_id", "messages.id"],
            name="fk_messages_parent_id",
            deferrable=True,
            initially="DEFERRED",
        ),
        # A page of a conversation in order as its owner, to whose query the policy adds user_id; the cascade from
        # conversations, which deletes by both columns.
        Index("idx_messages_conversation_id", "conversation_id", "user_id", "created_at", "seq"),
        # The latest messages of a user, among which search_messages() looks first; the cascade from users.
        Index("idx_messages_user_id", "user_id", text("created_at DESC")),
        # The messages of a user with a word: search_messages().
        Index("idx_messages_search", text("chat_internal.search_terms(user_id, content)"), postgresql_using="gin"),
        # What composite keys point at: a parent, and the message of an attachment, a rating or a share. The id leads:
        # led by the others it would draw the pages of a conversation away from the index that has them in order.
        Index("idx_messages_id_conversation_id_user_id", "id", "conversation_id", "user_id", unique=True),
        # The answers to a message, the latest last, and what hangs on one that is deleted.
        Index(
            "idx_messages_parent_id",
            "user_id",
            "conversation_id",
            "parent_id",
            "seq",
            postgresql_where=text("parent_id IS NOT NULL"),
        ),
        # The same page without user_id, as service_role asks: WHERE conversation_id ORDER BY created_at, seq LIMIT n.
        Index("idx_messages_conversation_id_created_at", "conversation_id", "created_at", "seq"),
        # INSERT ... ON CONFLICT (user_id, idempotency_key): one user's keys never meet another's.
        Index(
            "idx_messages_user_id_idempotency_key",
            "user_id",
            "idempotency_key",
            unique=True,
            postgresql_where=text("idempotency_key IS NOT NULL"),
        ),
    )

    # Joins on the composite key and writes both columns: the owner follows from the conversation. A
    # relationship to User would write user_id a second time, hence there is none.
    conversation: Mapped["Conversation"] = relationship(back_populates="messages", lazy="raise_on_sql")
