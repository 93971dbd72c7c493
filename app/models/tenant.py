"""A tenant and its members.

Membership decides what a tenant's conversations show: a user who leaves stops seeing them. Members read both
tables, only service_role writes them.
"""

from typing import TYPE_CHECKING, Literal, get_args
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, WriteOnlyMapped, mapped_column, relationship

from .base import Base
from .types import CreatedAt, UpdatedAt, UserId, UuidPk, readable_times

if TYPE_CHECKING:
    from .conversation import Conversation
    from .user import User

TenantRole = Literal["owner", "admin", "member"]


class Tenant(Base):
    """A team, customer or workspace that shares a product."""

    __tablename__ = "tenants"

    id: Mapped[UuidPk] = mapped_column(insert_sentinel=True)
    name: Mapped[str] = mapped_column(comment="What the tenant is called.")
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]

    __table_args__ = (
        readable_times("created_at", "updated_at"),
        {"comment": "Teams, customers or workspaces that share the product."},
    )

    memberships: Mapped[list["TenantUser"]] = relationship(
        back_populates="tenant", cascade="all, delete-orphan", passive_deletes=True, lazy="raise_on_sql"
    )
    # Not delete-orphan: a conversation without a tenant is a personal one, not a stray.
    conversations: WriteOnlyMapped["Conversation"] = relationship(
        back_populates="tenant",
        cascade="all",
        passive_deletes=True,
        order_by="Conversation.updated_at.desc()",
    )


class TenantUser(Base):
    """One user's membership in one tenant."""

    __tablename__ = "tenant_users"

    tenant_id: Mapped[UUID] = mapped_column(
        ForeignKey("tenants.id", ondelete="CASCADE"),
        primary_key=True,
        comment="The tenant that the user is a member of.",
    )
    user_id: Mapped[UserId] = mapped_column(
        primary_key=True, comment="The member. The row is deleted with its user, and with its tenant."
    )
    role: Mapped[TenantRole] = mapped_column(
        String(20), server_default="member", comment="What the user is there: owner, admin or member."
    )
    created_at: Mapped[CreatedAt]

    __table_args__ = (
        CheckConstraint(f"role IN {get_args(TenantRole)}", name="role"),
        readable_times("created_at"),
        # A user's tenants, and the cascade from users; the primary key leads with the tenant.
        Index("idx_tenant_users_user_id", "user_id"),
        {"comment": "Which users are members of which tenants. A user sees a tenant's conversations only as a member."},
    )

    tenant: Mapped["Tenant"] = relationship(back_populates="memberships", lazy="raise_on_sql")
    user: Mapped["User"] = relationship(back_populates="memberships", lazy="raise_on_sql")
