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
from .types import CreatedAt, JsonArray, JsonObject, Usd, UserId, UuidPk, readable_times

if TYPE_CHECKING:
    from .conversation import Conversation

MessageRole = Literal["user", "assistant", "agent", "system", "tool"]
MessageStatus = Literal["streaming", "complete", "interrupted", "error"]
PartType = Literal["text", "tool_call", "tool_result", "file", "reasoning"]

# In strict mode an element that is no object has no type.
_PARTS_OF_A_TYPE = f'strict $[*] ? (@.type like_regex "^({"|".join(get_args(PartType))})$")'


class Message(Base):
    """One turn. Listings are ordered by `created_at, seq`."""

    __tablename__ = "messages"

    id: Mapped[UuidPk] = mapped_column(insert_sentinel=True)
    conversation_id: Mapped[UUID] = mapped_column(comment="The conversation that the message is part of.")
    # FetchedValue: a trigger fills it.
    user_id: Mapped[UserId] = mapped_column(
        server_default=FetchedValue(),
        comment="The owner of the conversation. A client may leave it out: a trigger fills it.",
    )
    role: Mapped[MessageRole] = mapped_column(
        String(20), comment="Who wrote it: user, assistant, agent, system or tool."
    )
    content: Mapped[str] = mapped_column(comment="The text of the message.")
    tool_calls: Mapped[JsonArray | None] = mapped_column(
        comment="The calls of tools that the message asks for, a JSON array; NULL: none."
    )
    metadata_: Mapped[JsonObject] = mapped_column(
        "metadata", server_default=text("'{}'"), comment="What the application keeps with the message, a JSON object."
    )
    idempotency_key: Mapped[str | None] = mapped_column(
        comment="Chosen by the client, unique for its user: a request that is sent twice is stored once."
    )
    # Neither role may insert or update it, OVERRIDING SYSTEM VALUE included. BY DEFAULT, not ALWAYS, for the owner of
    # the table: adoption and restores write the order that the rows had.
    seq: Mapped[int] = mapped_column(
        BigInteger,
        Identity(always=False),
        comment="Gives messages of the same created_at their order. Only the database sets it.",
    )
    created_at: Mapped[CreatedAt]
    # Policies look at the message alone.
    tenant_id: Mapped[UUID | None] = mapped_column(
        server_default=FetchedValue(),
        server_onupdate=FetchedValue(),
        comment="The tenant of the conversation, whatever a client sends. Triggers keep the two equal.",
    )
    # NULL everywhere is a thread without branches. Where a conversation has branches, a message that names none
    # continues the active one, by a trigger. It is never updated: a parent is there before its answers, so that no
    # circle comes about.
    parent_id: Mapped[UUID | None] = mapped_column(
        server_default=FetchedValue(),
        comment="The message that this one answers, or its own id where it begins a branch without one before it.",
    )
    # A reply is streaming from when it begins. queries.interrupt_streaming() finds those that nobody writes any more.
    status: Mapped[MessageStatus] = mapped_column(
        String(20),
        server_default="complete",
        comment="streaming while a reply is written; then complete, error, or interrupted where its process ended.",
    )
    error: Mapped[JsonObject | None] = mapped_column(comment="What went wrong, a JSON object of the application.")
    # NULL: not known, or nobody but the user wrote it. The view message_usage sums them up.
    provider: Mapped[str | None] = mapped_column(comment="The provider of the model.")
    model: Mapped[str | None] = mapped_column(comment="The model that wrote the message; NULL: no model did.")
    finish_reason: Mapped[str | None] = mapped_column(comment="Why the model ended, in the words of its provider.")
    input_tokens: Mapped[int | None] = mapped_column(
        comment="How many tokens the model read, those from the cache among them."
    )
    output_tokens: Mapped[int | None] = mapped_column(
        comment="How many tokens the model wrote, those of reasoning among them."
    )
    cached_tokens: Mapped[int | None] = mapped_column(comment="How many of the input tokens came from the cache.")
    reasoning_tokens: Mapped[int | None] = mapped_column(comment="How many of the output tokens were reasoning.")
    cost_usd: Mapped[Usd | None] = mapped_column(comment="What the model cost, in US dollars.")
    latency_ms: Mapped[int | None] = mapped_column(comment="How long the model took, in milliseconds.")
    # Each part has a `type`, and beside it what the application puts there.
    parts: Mapped[JsonArray | None] = mapped_column(
        comment="The parts of a message that is more than text, a JSON array; content is its plain text. NULL: none."
    )

    __table_args__ = (
        CheckConstraint(f"role IN {get_args(MessageRole)}", name="role"),
        CheckConstraint(f"status IN {get_args(MessageStatus)}", name="status"),
        CheckConstraint("jsonb_typeof(error) = 'object'", name="error"),
        # NaN is greater than every number.
        CheckConstraint(
            "least(input_tokens, output_tokens, cached_tokens, reasoning_tokens, latency_ms) >= 0"
            " AND cost_usd >= 0 AND cost_usd <> 'NaN'",
            name="usage",
        ),
        # Those of a type are all of them.
        CheckConstraint(f"jsonb_path_query_array(parts, '{_PARTS_OF_A_TYPE}', '{{}}', true) = parts", name="parts"),
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
        # The latest messages of a user, among which search_messages() looks first; queries.usage() of a user; the
        # cascade from users.
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
        # queries.interrupt_streaming(): replies that are being written, by their age.
        Index("idx_messages_streaming", "created_at", postgresql_where=text("status = 'streaming'")),
        # queries.usage() of a tenant, as the service.
        Index(
            "idx_messages_tenant_usage",
            "tenant_id",
            "created_at",
            postgresql_where=text("tenant_id IS NOT NULL AND model IS NOT NULL"),
        ),
        {"comment": "Messages of conversations, and steps of tools. They are ordered by created_at, seq."},
    )

    # Joins on the composite key and writes both columns: the owner follows from the conversation. A
    # relationship to User would write user_id a second time, hence there is none.
    conversation: Mapped["Conversation"] = relationship(back_populates="messages", lazy="raise_on_sql")
