"""Create messages: a row for each message of a conversation.

What:   public.messages with its keys, indexes and policies.
Why:    ownership is a constraint: (conversation_id, user_id) references the conversation's (id, user_id), so that a
        message can never stand in another user's conversation. seq settles the order where created_at ties, which
        is the rule: a question and its answer in one transaction share now(). An insert that names no user_id gets
        its conversation's. Two indexes carry the order: policies add user_id to every condition, and the planner,
        which takes it for independent of conversation_id, would read a whole conversation and sort it for one page
        if no index led with both.
Locks:  ShareRowExclusive on public.chat_sessions and public.users for an instant (the foreign keys).
Undone: the table is dropped. At this revision chat_sessions holds every message in its arrays; what they cannot
        hold are idempotency keys, so it is refused while there are any.

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "messages",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("conversation_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("role", sa.String(20), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("tool_calls", JSONB(), nullable=True),
        sa.Column("metadata", JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("seq", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="messages_pkey"),
        sa.ForeignKeyConstraint(
            ["conversation_id", "user_id"],
            ["chat_sessions.id", "chat_sessions.user_id"],
            name="fk_messages_conversation_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_messages_user_id", ondelete="CASCADE"),
        sa.CheckConstraint("role IN ('user', 'assistant', 'agent', 'system', 'tool')", name=op.f("ck_messages_role")),
    )
    op.create_index("idx_messages_conversation_id", "messages", ["conversation_id", "user_id", "created_at", "seq"])
    op.create_index("idx_messages_user_id", "messages", ["user_id"])
    op.create_index("idx_messages_conversation_id_created_at", "messages", ["conversation_id", "created_at", "seq"])
    op.create_index(
        "idx_messages_user_id_idempotency_key",
        "messages",
        ["user_id", "idempotency_key"],
        unique=True,
        postgresql_where=sa.text("idempotency_key IS NOT NULL"),
    )

    op.enable_row_level_security("messages")
    op.create_owner_policies(
        "messages",
        owner="user_id = (SELECT chat_internal.current_user_id())"
        " AND (conversation_id IN (SELECT chat_internal.lost_conversation_ids())) IS NOT TRUE",
    )
    op.grant_only(
        "messages",
        authenticated="SELECT, INSERT, UPDATE, DELETE",
        service_role="SELECT, INSERT, UPDATE, DELETE",
    )
    op.grant_only("SEQUENCE messages_seq_seq")


def downgrade() -> None:
    op.refuse_data_loss(
        "idempotency keys of messages",
        "SELECT count(*) FROM public.messages WHERE idempotency_key IS NOT NULL",
    )
    op.drop_table("messages")
