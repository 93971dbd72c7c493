"""A chat message of the older store, which knew one flat history a user. New code writes `Message`."""

from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import FetchedValue, ForeignKeyConstraint, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from .base import Base
from .types import UserId, UuidPk, readable_times

if TYPE_CHECKING:
    from .conversation import Conversation
    from .user import User


class ChatMessage(Base):
    """One turn of a user's flat history."""

    __tablename__ = "chat_messages"

    id: Mapped[UuidPk] = mapped_column(insert_sentinel=True)
    user_id: Mapped[UserId]
    role: Mapped[str] = mapped_column(comment="Who wrote it. Any text: rows of older applications hold what they hold.")
    content: Mapped[str] = mapped_column(comment="The text of the message.")
    created_at: Mapped[datetime | None] = mapped_column(
        server_default=func.now(), comment="When the message was written; NULL where an older application did not say."
    )
    # FetchedValue: a trigger fills it.
    conversation_id: Mapped[UUID] = mapped_column(
        server_default=FetchedValue(),
        comment="The conversation of the message. A client may leave it out: it is then its owner's default one.",
    )
    # Policies look at the message alone.
    tenant_id: Mapped[UUID | None] = mapped_column(
        server_default=FetchedValue(),
        server_onupdate=FetchedValue(),
        comment="The tenant of the conversation, whatever a client sends. Triggers keep the two equal.",
    )

    __table_args__ = (
        readable_times("created_at"),
        # Composite, so that a message never stands in another user's conversation.
        ForeignKeyConstraint(
            ["conversation_id", "user_id"],
            ["conversations.id", "conversations.user_id"],
            name="fk_chat_messages_conversation",
            ondelete="CASCADE",
        ),
        # The latest messages of a conversation as a user, to whose query the policy adds user_id; the cascade from
        # conversations, which deletes by both columns.
        Index("idx_chat_messages_conversation", "conversation_id", "user_id", text("created_at DESC")),
        # The same as the service.
        Index("idx_chat_messages_conv_created", "conversation_id", text("created_at DESC")),
        # The latest messages of a user, as the flat clients read them; the cascade from users.
        Index("idx_chat_messages_user_created", "user_id", text("created_at DESC")),
        # The messages of a user with a word: search_messages().
        Index("idx_chat_messages_search", text("chat_internal.search_terms(user_id, content)"), postgresql_using="gin"),
        {"comment": "Messages of older clients, which know one flat history a user. New code writes to messages."},
    )

    conversation: Mapped["Conversation"] = relationship(back_populates="chat_messages", lazy="raise_on_sql")
    # Both relationships write user_id: a message may come with its user alone, `ChatMessage(user=...)`, and
    # is then inserted after it. Give one or the other: with both, one of them decides the owner.
    user: Mapped["User"] = relationship(lazy="raise_on_sql", overlaps="conversation,chat_messages")
