"""Creative sessions: a user works with a director agent on a brand, from a first idea to something delivered.

A `Brand` is what the work is for, a `ConversationSession` one piece of work and its state, a
`ConversationMessage` one turn of it with what the turn cost.
"""

from datetime import datetime
from typing import TYPE_CHECKING, Literal, get_args
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    FetchedValue,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    String,
    Uuid,
    func,
    text,
)
from sqlalchemy.orm import Mapped, WriteOnlyMapped, mapped_column, relationship

from .base import Base
from .types import (
    CreatedAt,
    JsonArray,
    JsonObject,
    Str50,
    Str100,
    Str255,
    UpdatedAt,
    Usd,
    UserId,
    UuidPk,
    readable_times,
)

if TYPE_CHECKING:
    from .user import User

SessionMessageRole = Literal["user", "assistant", "system", "director"]

# Both keys from a message to its session, so that a message gets owner and brand from it.
_SAME_SESSION = (
    "and_(ConversationMessage.session_id == ConversationSession.id,"
    " ConversationMessage.user_id == ConversationSession.user_id,"
    " ConversationMessage.brand_id == ConversationSession.brand_id)"
)


class Brand(Base):
    """A brand of a user, which its own sessions work for; a service may start one for another user on it."""

    __tablename__ = "brands"

    id: Mapped[UuidPk] = mapped_column(insert_sentinel=True)
    user_id: Mapped[UserId]
    name: Mapped[Str255] = mapped_column(comment="What the brand is called.")
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]

    __table_args__ = (
        readable_times("created_at", "updated_at"),
        # A user's brands, and the cascade from users.
        Index("idx_brands_user", "user_id"),
        {"comment": "Brands of users, which creative sessions work for."},
    )

    user: Mapped["User"] = relationship(back_populates="brands", lazy="raise_on_sql")
    sessions: WriteOnlyMapped["ConversationSession"] = relationship(
        back_populates="brand",
        cascade="all, delete-orphan",
        passive_deletes=True,
        order_by="ConversationSession.created_at.desc()",
    )


class ConversationSession(Base):
    """One piece of work. `delivered` and `cancelled` end it; any other state is the application's."""

    __tablename__ = "conversation_sessions"

    id: Mapped[UuidPk] = mapped_column(insert_sentinel=True)
    brand_id: Mapped[UUID] = mapped_column(
        ForeignKey("brands.id", ondelete="CASCADE"), comment="The brand that the session works for."
    )
    user_id: Mapped[UserId]
    state: Mapped[Str50] = mapped_column(
        server_default="initial",
        comment="How far the work is. delivered and cancelled end it; any other word is the application's own.",
    )
    parsed_intent: Mapped[JsonObject | None] = mapped_column(
        comment="What the user wants, as the application has understood it, a JSON object."
    )
    answered_questions: Mapped[JsonObject | None] = mapped_column(
        server_default=text("'{}'"), comment="Questions to the user with their answers, a JSON object."
    )
    pending_questions: Mapped[JsonArray | None] = mapped_column(
        server_default=text("'[]'"), comment="Questions that the user has not answered yet, a JSON array."
    )
    # No foreign keys: neither is a table of ours.
    selected_kb_ids: Mapped[list[UUID] | None] = mapped_column(
        ARRAY(Uuid), server_default=text("'{}'"), comment="Ids of knowledge bases of the application that are in use."
    )
    active_task_plan_id: Mapped[UUID | None] = mapped_column(
        comment="The id of the application's task plan that is carried out."
    )
    created_at: Mapped[CreatedAt]
    # By the trigger `update_session_activity()`, and by every new message.
    last_activity_at: Mapped[datetime] = mapped_column(
        server_default=func.now(),
        server_onupdate=FetchedValue(),
        comment="When the session was last changed or written to. Triggers move it.",
    )
    completed_at: Mapped[datetime | None] = mapped_column(
        comment="When the session was delivered or cancelled; NULL while it is open."
    )

    __table_args__ = (
        readable_times("created_at", "last_activity_at", "completed_at"),
        # What a composite key of conversation_messages points at; the cascade from users.
        Index("idx_conversation_sessions_user", "user_id", "id", unique=True),
        # What the other points at; a brand's sessions, and the cascade from brands.
        Index("idx_conversation_sessions_brand", "brand_id", "id", unique=True),
        # Sessions in a state.
        Index("idx_conversation_sessions_state", "state"),
        # The purge: delivered or cancelled sessions by when they ended.
        Index(
            "idx_conversation_sessions_ended",
            text("COALESCE(completed_at, last_activity_at)"),
            postgresql_where=text("state IN ('delivered', 'cancelled')"),
        ),
        # A user's open sessions, the latest active first.
        Index(
            "idx_conversation_sessions_active",
            "user_id",
            text("last_activity_at DESC"),
            postgresql_where=text("state NOT IN ('delivered', 'cancelled')"),
        ),
        # A user's sessions, newest first.
        Index("idx_conversation_sessions_recent", "user_id", text("created_at DESC")),
        {"comment": "Creative sessions: a user and a director agent work for a brand, until something is delivered."},
    )

    user: Mapped["User"] = relationship(back_populates="sessions", lazy="raise_on_sql")
    brand: Mapped["Brand"] = relationship(back_populates="sessions", lazy="raise_on_sql")
    messages: WriteOnlyMapped["ConversationMessage"] = relationship(
        back_populates="session",
        primaryjoin=_SAME_SESSION,
        cascade="all, delete-orphan",
        passive_deletes=True,
        order_by="(ConversationMessage.created_at, ConversationMessage.seq)",
    )


class ConversationMessage(Base):
    """One turn of a session, with model, tokens, price and latency where a model wrote it."""

    __tablename__ = "conversation_messages"

    id: Mapped[UuidPk] = mapped_column(insert_sentinel=True)
    session_id: Mapped[UUID] = mapped_column(comment="The session that the message is part of.")
    brand_id: Mapped[UUID] = mapped_column(comment="The brand of the session. A foreign key keeps the two equal.")
    user_id: Mapped[UserId]
    role: Mapped[SessionMessageRole] = mapped_column(
        String(20), comment="Who wrote it: user, assistant, system or director."
    )
    content: Mapped[str] = mapped_column(comment="The text of the message.")
    tokens_used: Mapped[int | None] = mapped_column(
        server_default=text("0"), comment="How many tokens the model used for it."
    )
    model_used: Mapped[Str100 | None] = mapped_column(comment="The model that wrote it; NULL: no model did.")
    provider: Mapped[Str50 | None] = mapped_column(comment="The provider of the model.")
    cost_usd: Mapped[Usd | None] = mapped_column(
        server_default=text("0"), comment="What the model cost, in US dollars."
    )
    latency_ms: Mapped[int | None] = mapped_column(comment="How long the model took, in milliseconds.")
    action_taken: Mapped[Str100 | None] = mapped_column(comment="What the director did in this turn.")
    questions_asked: Mapped[JsonArray | None] = mapped_column(
        comment="Questions that this turn put to the user, a JSON array."
    )
    delegation_plan: Mapped[JsonObject | None] = mapped_column(
        comment="Which agents get which part of the work, a JSON object."
    )
    created_at: Mapped[CreatedAt]
    # Those of a question and its answer in one transaction.
    seq: Mapped[int] = mapped_column(
        BigInteger,
        Identity(always=False),
        comment="Gives messages of the same created_at their order. Only the database sets it.",
    )

    __table_args__ = (
        CheckConstraint(f"role IN {get_args(SessionMessageRole)}", name="role"),
        readable_times("created_at"),
        # Composite, so that a message never stands in another user's session.
        ForeignKeyConstraint(
            ["session_id", "user_id"],
            ["conversation_sessions.id", "conversation_sessions.user_id"],
            ondelete="CASCADE",
        ),
        # And has the brand of its session, also when that changes.
        ForeignKeyConstraint(
            ["brand_id", "session_id"],
            ["conversation_sessions.brand_id", "conversation_sessions.id"],
            onupdate="CASCADE",
            ondelete="CASCADE",
        ),
        # A session in order, get_conversation_history(), as a user, to whose query the policy adds user_id; sums over a
        # session; the cascade from conversation_sessions, which deletes by both columns.
        Index(
            "idx_conversation_messages_session",
            "session_id",
            "user_id",
            "created_at",
            "seq",
            postgresql_include=["cost_usd"],
        ),
        # The same as the service.
        Index(
            "idx_conversation_messages_session_created",
            "session_id",
            "created_at",
            "seq",
            postgresql_include=["cost_usd"],
        ),
        # A user's messages, what they cost, queries.user_cost(), its daily_message_volume, and the cascade from users.
        Index("idx_conversation_messages_user", "user_id", "created_at", postgresql_include=["cost_usd"]),
        Index("idx_conversation_messages_created", "created_at"),
        # A brand's messages, and what a session's change of brand takes along.
        Index("idx_conversation_messages_brand", "brand_id", "session_id"),
        # What the director said, across sessions.
        Index("idx_conversation_messages_role", "role"),
        # The view provider_usage_stats.
        Index("idx_conversation_messages_provider", "provider", postgresql_where=text("provider IS NOT NULL")),
        # The dearest turns.
        Index("idx_conversation_messages_cost", "cost_usd", postgresql_where=text("cost_usd > 0")),
        {"comment": "Messages of creative sessions, with model, tokens, cost and latency where a model wrote them."},
    )

    # Joins on both composite keys and writes all three columns: owner and brand follow from the session. A
    # relationship to User or Brand would write one of them a second time, hence there is none.
    session: Mapped["ConversationSession"] = relationship(
        back_populates="messages", primaryjoin=_SAME_SESSION, lazy="raise_on_sql"
    )
