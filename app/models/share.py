"""A share: a conversation up to one of its messages, for whoever has the link.

The link holds a token; the table holds its SHA-256 alone. Nobody reads a share here but its owner: a service opens it
by `queries.open_share()`.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index
from sqlalchemy.orm import Mapped, mapped_column

from .base import Base
from .types import CreatedAt, UserId, UuidPk, readable_times


class Share(Base):
    """One link. `expires_at` and `revoked_at` close it; so does the deletion of the message that it ends with."""

    __tablename__ = "shares"

    id: Mapped[UuidPk] = mapped_column(insert_sentinel=True)
    user_id: Mapped[UserId]
    conversation_id: Mapped[UUID] = mapped_column(comment="The conversation that is shared.")
    message_id: Mapped[UUID] = mapped_column(comment="The last message that the share shows.")
    # Only service_role may read the column, so no ordinary SELECT names it.
    token_hash: Mapped[bytes] = mapped_column(
        deferred=True,
        deferred_raiseload=True,
        comment="The SHA-256 digest of the token in the link. Only service_role reads it.",
    )
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime | None] = mapped_column(comment="When the link stops to work; NULL: never.")
    revoked_at: Mapped[datetime | None] = mapped_column(
        comment="When the owner ended the share; NULL: the owner has not."
    )

    __table_args__ = (
        CheckConstraint("octet_length(token_hash) = 32", name="token_hash"),
        readable_times("created_at", "expires_at", "revoked_at"),
        # Composite, so that nobody shares a message of another user's conversation.
        ForeignKeyConstraint(
            ["conversation_id", "user_id"], ["conversations.id", "conversations.user_id"], ondelete="CASCADE"
        ),
        ForeignKeyConstraint(
            ["message_id", "conversation_id", "user_id"],
            ["messages.id", "messages.conversation_id", "messages.user_id"],
            onupdate="CASCADE",
            ondelete="CASCADE",
        ),
        # A user's shares, and the cascade from users.
        Index("idx_shares_user_id", "user_id", "created_at", "id"),
        # The shares of a conversation, queries.shares_of(), and the cascade from conversations.
        Index("idx_shares_conversation_id", "conversation_id", "user_id"),
        # The cascade from messages.
        Index("idx_shares_message_id", "message_id", "conversation_id", "user_id"),
        # The share of a token.
        Index("idx_shares_token_hash", "token_hash", unique=True),
        {"comment": "Links that show a conversation, up to one of its messages, to whoever has them."},
    )
