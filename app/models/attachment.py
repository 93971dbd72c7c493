"""An attachment: a file that a user has added to a conversation. The table says where its bytes lie, and holds none."""

from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKeyConstraint, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from .base import Base
from .types import CreatedAt, UserId, UuidPk, readable_times


class Attachment(Base):
    """One file. It is added before its message is sent, hence `message_id` may be None."""

    __tablename__ = "attachments"

    id: Mapped[UuidPk] = mapped_column(insert_sentinel=True)
    user_id: Mapped[UserId]
    conversation_id: Mapped[UUID] = mapped_column(comment="The conversation that the file was added to.")
    message_id: Mapped[UUID | None] = mapped_column(
        comment="The message that the file was sent with; NULL until it is sent."
    )
    name: Mapped[str] = mapped_column(comment="The name of the file, as the user gave it.")
    media_type: Mapped[str] = mapped_column(comment="The media type of the file, for example image/png.")
    size_bytes: Mapped[int] = mapped_column(BigInteger, comment="The size of the file in bytes.")
    sha256: Mapped[bytes] = mapped_column(comment="The SHA-256 digest of the file, 32 bytes.")
    storage_key: Mapped[str] = mapped_column(
        comment="Where the service stores the bytes. No two rows share one: the bytes are deleted with their row."
    )
    created_at: Mapped[CreatedAt]

    __table_args__ = (
        CheckConstraint("size_bytes >= 0", name="size"),
        CheckConstraint("octet_length(sha256) = 32", name="sha256"),
        readable_times("created_at"),
        # Composite, so that it never stands in another user's conversation,
        ForeignKeyConstraint(
            ["conversation_id", "user_id"], ["conversations.id", "conversations.user_id"], ondelete="CASCADE"
        ),
        # and its message stands in the same one, also when that is moved.
        ForeignKeyConstraint(
            ["message_id", "conversation_id", "user_id"],
            ["messages.id", "messages.conversation_id", "messages.user_id"],
            onupdate="CASCADE",
            ondelete="CASCADE",
        ),
        # A user's attachments, and the cascade from users.
        Index("idx_attachments_user_id", "user_id", "created_at", "id"),
        # queries.attachments_of() as a user, to whose query the policy adds user_id; the cascade from conversations.
        Index("idx_attachments_conversation_id", "conversation_id", "user_id", "created_at", "id"),
        # The same as the service.
        Index("idx_attachments_conversation_id_created_at", "conversation_id", "created_at", "id"),
        # The cascade from messages.
        Index(
            "idx_attachments_message_id",
            "message_id",
            "conversation_id",
            "user_id",
            postgresql_where=text("message_id IS NOT NULL"),
        ),
        # Whether somebody still refers to bytes in the store.
        Index("idx_attachments_storage_key", "storage_key", unique=True),
        {"comment": "Files that users have added to conversations. A row describes a file; its bytes are elsewhere."},
    )
