"""Create chat_sessions as it first was: a conversation a row, its messages one JSONB array.

What:   public.chat_sessions.
Why:    the other older shape that applications have and write; later revisions turn its arrays into rows and the
        table into conversations. A session of a tenant is its owner's only while the owner is a member of that
        tenant. What becomes the id of a user's default conversation is kept for that user (see 0001).
Locks:  ShareRowExclusive on public.users and public.tenants for an instant (the foreign keys); on a table that
        stands already see 0004.
Undone: the table is dropped, or given back as it was found; refused while rows would be lost.

Revision ID: 0021
Revises: 0020
"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.when("NOT chat_internal.is_adopted('conversations')", create_chat_sessions)


def create_chat_sessions() -> None:
    op.stage_table(
        "chat_sessions",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=True),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("messages", JSONB(), server_default=sa.text("'[]'"), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=True),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=True),
        sa.PrimaryKeyConstraint("id", name="chat_sessions_pkey"),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["public.tenants.id"], name="fk_chat_sessions_tenant_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["public.users.id"], name="fk_chat_sessions_user_id", ondelete="CASCADE"),
        sa.CheckConstraint(
            "id < '63686174-6465-8000-0000-000000000000' OR id > '63686174-6465-8fff-ffff-ffffffffffff'"
            " OR id = chat_internal.default_conversation_id(user_id)",
            name=op.f("ck_chat_sessions_default_id"),
        ),
        sa.CheckConstraint(
            "least(created_at, updated_at) >= timestamp '0001-01-02' AT TIME ZONE 'UTC'"
            " AND greatest(created_at, updated_at) < timestamp '9999-12-31' AT TIME ZONE 'UTC'",
            name=op.f("ck_chat_sessions_times"),
        ),
    )
    op.create_index("idx_chat_sessions_tenant_id", "chat_sessions", ["tenant_id"], schema="chat_internal")
    op.create_index("idx_chat_sessions_user_id", "chat_sessions", ["user_id"], schema="chat_internal")
    op.sql(
        "CREATE TRIGGER chat_sessions_updated_at BEFORE UPDATE ON chat_internal.chat_sessions"
        " FOR EACH ROW EXECUTE FUNCTION public.update_updated_at()"
    )

    op.enable_row_level_security("chat_internal.chat_sessions")
    op.create_owner_policies(
        "chat_internal.chat_sessions",
        owner="user_id = (SELECT chat_internal.current_user_id()) AND CASE WHEN tenant_id IS NULL THEN true"
        " ELSE tenant_id = ANY ((SELECT chat_internal.current_tenant_ids())::uuid[]) END",
    )
    op.grant_only(
        "chat_internal.chat_sessions",
        authenticated="SELECT, INSERT, UPDATE, DELETE",
        service_role="SELECT, INSERT, UPDATE, DELETE",
    )
    op.adopt_table("chat_sessions")
    op.finish_table("chat_sessions")


def downgrade() -> None:
    op.release_table("chat_sessions", what="chat sessions")
