"""Feedback: how a user rates a reply, one row a message."""

from typing import Literal
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, SmallInteger
from sqlalchemy.orm import Mapped, mapped_column

from .base import Base
from .types import CreatedAt, UpdatedAt, UserId, readable_times

Rating = Literal[-1, 1]


class Feedback(Base):
    """A thumb up (1) or down (-1), and a reason in words."""

    __tablename__ = "feedback"

    message_id: Mapped[UUID] = mapped_column(primary_key=True, comment="The message that is rated.")
    user_id: Mapped[UserId] = mapped_column(primary_key=True)
    conversation_id: Mapped[UUID] = mapped_column(comment="The conversation of the message.")
    rating: Mapped[Rating] = mapped_column(SmallInteger, comment="1: thumb up. -1: thumb down.")
    reason: Mapped[str | None] = mapped_column(comment="Why, in the words of the user.")
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]

    __table_args__ = (
        CheckConstraint("rating IN (-1, 1)", name="rating"),
        readable_times("created_at", "updated_at"),
        # Composite, so that nobody rates a message in another user's conversation.
        ForeignKeyConstraint(
            ["conversation_id", "user_id"], ["conversations.id", "conversations.user_id"], ondelete="CASCADE"
        ),
        ForeignKeyConstraint(
            ["message_id", "conversation_id", "user_id"],
            ["messages.id", "messages.conversation_id", "messages.user_id"],
            onupdate="CASCADE",
            ondelete="CASCADE",
        ),
        # The cascade from users.
        Index("idx_feedback_user_id", "user_id"),
        # The ratings of a conversation, queries.ratings_of(), and the cascade from conversations.
        Index("idx_feedback_conversation_id", "conversation_id", "user_id"),
        # The cascade from messages.
        Index("idx_feedback_message_id", "message_id", "conversation_id", "user_id"),
        {"comment": "How users rate replies, one row a message."},
    )
