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
    # NULL is a personal conversation. With a tenant it is visible only while its owner is a member.
    tenant_id: Mapped[UUID | None] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    user_id: Mapped[UserId]
    title: Mapped[str | None] = mapped_column(server_default="New Conversation")
    # The column is `metadata`; a declarative class keeps that name for its MetaData.
    metadata_: Mapped[JsonObject] = mapped_column("metadata", server_default=text("'{}'"))
    created_at: Mapped[CreatedAt]
    # When its latest message came, to within ten seconds, so that a conversation in use is not written with each
    # message; or when its metadata changed. Title, tenant and the times below leave it alone. It never goes back. A
    # message that comes while another transaction changes the conversation leaves it to that one; where that one rolls
    # back, the next message moves it.
    updated_at: Mapped[UpdatedAt]
    # NULL is no: since when it is in the archive, at the top of the sidebar, in the trash. What is in the trash is in
    # no other list.
    archived_at: Mapped[datetime | None]
    pinned_at: Mapped[datetime | None]
    # Messages up to here are read; a new conversation is.
    last_read_at: Mapped[datetime | None] = mapped_column(server_default=func.now())
    deleted_at: Mapped[datetime | None]
    # The last message of the branch that is shown; NULL while no message names a parent. A new message moves it. It is
    # a message of this conversation: a trigger sees to that, and takes the one before when it is deleted.
    head_message_id: Mapped[UUID | None]

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
