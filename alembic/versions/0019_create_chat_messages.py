"""Create chat_messages as it first was: one flat history a user.

What:   public.chat_messages without conversations.
Why:    this is the shape that older applications have and write; from here the chain takes an empty database and a
        live one the same way. Role has no CHECK: old rows hold what they hold.
Locks:  ShareRowExclusive on public.users for an instant (the foreign key); on a table that stands already see
        0004.
Undone: the table is dropped, or given back as it was found; refused while rows would be lost.

Revision ID: 0019
Revises: 0018
"""

import sqlalchemy as sa

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.stage_table(
        "chat_messages",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=True),
        sa.PrimaryKeyConstraint("id", name="chat_messages_pkey"),
        sa.ForeignKeyConstraint(["user_id"], ["public.users.id"], name="fk_chat_messages_user_id", ondelete="CASCADE"),
        sa.CheckConstraint(
            "least(created_at) >= timestamp '0001-01-02' AT TIME ZONE 'UTC'"
            " AND greatest(created_at) < timestamp '9999-12-31' AT TIME ZONE 'UTC'",
            name=op.f("ck_chat_messages_times"),
        ),
    )
    op.create_index(
        "idx_chat_messages_user_created",
        "chat_messages",
        ["user_id", sa.text("created_at DESC")],
        schema="chat_internal",
    )

    op.enable_row_level_security("chat_internal.chat_messages")
    op.create_owner_policies("chat_internal.chat_messages", owner="user_id = (SELECT chat_internal.current_user_id())")
    op.grant_only(
        "chat_internal.chat_messages",
        authenticated="SELECT, INSERT, UPDATE, DELETE",
        service_role="SELECT, INSERT, UPDATE, DELETE",
    )
    op.adopt_table("chat_messages")
    op.finish_table("chat_messages")


def downgrade() -> None:
    op.release_table("chat_messages", what="chat messages")
