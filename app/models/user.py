"""A user: whoever owns rows. Every other table leads back here, and deleting a user deletes all of it."""

from typing import TYPE_CHECKING

from sqlalchemy import CheckConstraint, Index, String
from sqlalchemy.orm import Mapped, WriteOnlyMapped, mapped_column, relationship

from .base import Base
from .types import CreatedAt, Str255, UpdatedAt, UuidPk, readable_times

if TYPE_CHECKING:
    from .conversation import Conversation
    from .creative_session import Brand, ConversationSession
    from .task import Task
    from .tenant import TenantUser


class User(Base):
    """A person, or an anonymous visitor (no email).

    On Supabase the row mirrors `auth.users` under the same id, and the user changes its address there; elsewhere the
    service makes it.
    """

    __tablename__ = "users"

    id: Mapped[UuidPk] = mapped_column(insert_sentinel=True)
    email: Mapped[Str255 | None] = mapped_column(comment="The address; NULL: an anonymous visitor.")

    # Only service_role may read the column, so no ordinary SELECT names it, and reading the attribute raises instead of
    # sending a query that the database refuses. Who checks a password asks for it: `undefer(User.password_hash)`.
    password_hash: Mapped[str | None] = mapped_column(
        String(255),
        deferred=True,
        deferred_raiseload=True,
        comment="The hash of the password; NULL: an identity provider checks it. Only service_role reads it.",
    )

    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]

    __table_args__ = (
        CheckConstraint(
            "password_hash IS NULL OR email IS NOT NULL AND btrim(email) <> ''", name="password_needs_email"
        ),
        readable_times("created_at", "updated_at"),
        # Sign-in: the user with this address. NULLs do not collide.
        Index("idx_users_email", "email", unique=True),
        {"comment": "Users and anonymous visitors. Every row that a user owns is deleted with the user."},
    )

    memberships: Mapped[list["TenantUser"]] = relationship(
        back_populates="user", cascade="all, delete-orphan", passive_deletes=True, lazy="raise_on_sql"
    )
    brands: Mapped[list["Brand"]] = relationship(
        back_populates="user", cascade="all, delete-orphan", passive_deletes=True, lazy="raise_on_sql"
    )
    tasks: WriteOnlyMapped["Task"] = relationship(
        back_populates="user",
        cascade="all, delete-orphan",
        passive_deletes=True,
        order_by="Task.created_at.desc()",
    )
    conversations: WriteOnlyMapped["Conversation"] = relationship(
        back_populates="user",
        cascade="all, delete-orphan",
        passive_deletes=True,
        order_by="Conversation.updated_at.desc()",
    )
    sessions: WriteOnlyMapped["ConversationSession"] = relationship(
        back_populates="user",
        cascade="all, delete-orphan",
        passive_deletes=True,
        order_by="ConversationSession.created_at.desc()",
    )
