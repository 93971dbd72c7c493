"""Retention: how long a tenant keeps what, and which conversations are held. Services read and write both tables.

`app.retention` says how `chat-schema purge` goes by them.
"""

from datetime import timedelta
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Index
from sqlalchemy.dialects.postgresql import INTERVAL
from sqlalchemy.orm import Mapped, mapped_column

from .base import Base
from .types import CreatedAt, UpdatedAt, UserId, UuidPk, readable_times


class RetentionRule(Base):
    """How long conversations of a tenant are kept; without one, everybody else's and personal ones. None: for ever."""

    __tablename__ = "retention_rules"

    id: Mapped[UuidPk] = mapped_column(insert_sentinel=True)
    tenant_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("tenants.id", ondelete="CASCADE"),
        comment="The tenant that the rule is for; NULL: personal conversations, and tenants without a rule.",
    )
    keep: Mapped[timedelta | None] = mapped_column(
        INTERVAL, comment="How long after its last message or change a conversation is kept; NULL: for ever."
    )
    trash_keep: Mapped[timedelta | None] = mapped_column(
        INTERVAL, comment="How long a conversation stays in the trash; NULL: for ever."
    )
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]

    __table_args__ = (
        # NULL passes: it keeps for ever.
        CheckConstraint(
            "least(keep, trash_keep) >= interval '0' AND greatest(keep, trash_keep) <= interval '1000 years'",
            name="keep",
        ),
        readable_times("created_at", "updated_at"),
        # One rule a tenant, and one without; the cascade from tenants.
        Index("idx_retention_rules_tenant_id", "tenant_id", unique=True, postgresql_nulls_not_distinct=True),
        {"comment": "How long conversations are kept, by tenant. chat-schema purge deletes what is older."},
    )


class RetentionHold(Base):
    """A conversation that stays, whatever the rules say: not a column of it, for its owner could write that."""

    __tablename__ = "retention_holds"

    conversation_id: Mapped[UUID] = mapped_column(primary_key=True, comment="The conversation that is kept.")
    user_id: Mapped[UserId] = mapped_column(primary_key=True)
    reason: Mapped[str | None] = mapped_column(comment="Why it is kept.")
    created_at: Mapped[CreatedAt]

    __table_args__ = (
        readable_times("created_at"),
        # Composite, so that it names the conversation's owner.
        ForeignKeyConstraint(
            ["conversation_id", "user_id"], ["conversations.id", "conversations.user_id"], ondelete="CASCADE"
        ),
        # The cascade from users.
        Index("idx_retention_holds_user_id", "user_id"),
        {"comment": "Conversations that chat-schema purge never deletes, whatever the rules say."},
    )
