"""A conversation: one thread of messages, owned by one user, personal or within a tenant."""

from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, WriteOnlyMapped, mapped_column, relationship

from .base import Base
from .types import CreatedAt, JsonObject, UpdatedAt, UserId, UuidPk, readable_times

if TYPE_CHECKING:
    from .chat_message import ChatMessage
    from .message import Message
    from .tenant import Tenant
    from .user import User


def _list(name: str, time: str, where: str) -> Index:
    return Index(
        f"idx_conversations_{name}", "user_id", text(f"{time} DESC"), text("id DESC"), postgresql_where=text(where)
    )


class Conversation(Base):
    """One thread of a user.

    The database moves `updated_at`; a loaded conversation shows it after `refresh()`.
    """

    __tablename__ = "conversations"

    id: Mapped[UuidPk] = mapped_column(insert_sentinel=True)
    tenant_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("tenants.id", ondelete="CASCADE"),
        comment="NULL: a personal conversation. Else it is visible only while its owner is a member of the tenant.",
    )
    user_id: Mapped[UserId]
    title: Mapped[str | None] = mapped_column(
        server_default="New Conversation", comment="The title, as the list of conversations shows it."
    )
    # A declarative class keeps the name `metadata` for its MetaData.
    metadata_: Mapped[JsonObject] = mapped_column(
        "metadata",
        server_default=text("'{}'"),
        comment="What the application keeps with the conversation, a JSON object.",
    )
    created_at: Mapped[CreatedAt]
    # To within ten seconds, so that a conversation in use is not written with each message. It never goes back. A
    # message that comes while another transaction changes the conversation leaves it to that one; where that one rolls
    # back, the next message moves it.
    updated_at: Mapped[UpdatedAt] = mapped_column(
        comment="When the latest message came, to within ten seconds, or when the metadata changed, if that was later."
    )
    archived_at: Mapped[datetime | None] = mapped_column(
        comment="Since when the conversation is in the archive; NULL: it is not."
    )
    pinned_at: Mapped[datetime | None] = mapped_column(
        comment="Since when the conversation is pinned to the top of the list; NULL: it is not."
    )
    last_read_at: Mapped[datetime | None] = mapped_column(
        server_default=func.now(), comment="Messages up to this time have been read."
    )
    deleted_at: Mapped[datetime | None] = mapped_column(
        comment="Since when the conversation is in the trash, and in no other list; NULL: it is not."
    )
    # A new message moves it. A trigger sees to it that it is a message of this conversation, and takes the one before
    # when it is deleted.
    head_message_id: Mapped[UUID | None] = mapped_column(
        comment="The last message of the branch that is shown; NULL while no message names a parent."
    )

    __table_args__ = (
        # The id of a user's default conversation follows from the user's, so that two writers meet on it. Anyone can
        # work it out; nobody else may take it.
        CheckConstraint(
            "id < '63686174-6465-8000-0000-000000000000' OR id > '63686174-6465-8fff-ffff-ffffffffffff'"
            " OR id = chat_internal.default_conversation_id(user_id)",
            name="default_id",
        ),
        readable_times("created_at", "updated_at"),
        readable_times("archived_at", "pinned_at", "last_read_at", "deleted_at", name="marks"),
        # A user's earliest conversation, which takes the chat messages that name none.
        Index("idx_conversations_user_created", "user_id", text("created_at DESC")),
        # What the composite keys of messages and chat_messages point at.
        Index("idx_conversations_user_id", "user_id", "id", unique=True),
        # All of a user's conversations, the latest active first, for clients that know no archive; id settles ties.
        Index("idx_conversations_user_id_updated_at", "user_id", text("updated_at DESC"), text("id DESC")),
        # queries.conversations_of_user(), pinned_conversations(), archived_conversations(), trash().
        _list("sidebar", "updated_at", "archived_at IS NULL AND deleted_at IS NULL"),
        _list("pinned", "pinned_at", "pinned_at IS NOT NULL AND archived_at IS NULL AND deleted_at IS NULL"),
        _list("archive", "archived_at", "archived_at IS NOT NULL AND deleted_at IS NULL"),
        _list("trash", "deleted_at", "deleted_at IS NOT NULL"),
        # queries.conversations_of_tenant() as the service, and the cascade from tenants.
        Index(
            "idx_conversations_tenant_id",
            "tenant_id",
            text("updated_at DESC"),
            text("id DESC"),
            postgresql_where=text("tenant_id IS NOT NULL"),
        ),
        # The same as a user, to whose query the policy adds user_id.
        Index(
            "idx_conversations_user_id_tenant_id",
            "user_id",
            "tenant_id",
            text("updated_at DESC"),
            text("id DESC"),
            postgresql_where=text("tenant_id IS NOT NULL"),
        ),
        # retention.purge(): personal conversations by how long they have been idle; a tenant's have the one above.
        Index("idx_conversations_personal_updated_at", "updated_at", "id", postgresql_where=text("tenant_id IS NULL")),
        # The same for what is in the trash, of a tenant or of none.
        Index(
            "idx_conversations_tenant_trash",
            "tenant_id",
            "deleted_at",
            "id",
            postgresql_where=text("deleted_at IS NOT NULL"),
        ),
        {"comment": "Threads of messages. Each has one owner, and is personal or belongs to a tenant."},
    )

    user: Mapped["User"] = relationship(back_populates="conversations", lazy="raise_on_sql")
    tenant: Mapped["Tenant | None"] = relationship(back_populates="conversations", lazy="raise_on_sql")

    # `seq` settles the ties: a question and its answer written in one transaction share their created_at.
    messages: WriteOnlyMapped["Message"] = relationship(
        back_populates="conversation",
        cascade="all, delete-orphan",
        passive_deletes=True,
        order_by="(Message.created_at, Message.seq)",
    )
    chat_messages: WriteOnlyMapped["ChatMessage"] = relationship(
        back_populates="conversation",
        cascade="all, delete-orphan",
        passive_deletes=True,
        order_by="ChatMessage.created_at",
    )
