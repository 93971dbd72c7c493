"""Validate the key and the NOT NULL of chat_messages.conversation_id.

What:   both constraints of 0032 are checked against the old rows.
Why:    a key validates with every conversation_id NULL, hence the CHECK beside it.
Locks:  ShareUpdateExclusive on public.chat_messages for two scans, RowShare on public.conversations: reads and
        writes go on.
Undone: both are there again, not yet validated.

Revision ID: 0036
Revises: 0035
"""

from alembic import op

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.validate_constraint("fk_chat_messages_conversation", "chat_messages")
    op.validate_not_null_check("chat_messages", "conversation_id")


def downgrade() -> None:
    op.drop_not_null_check("chat_messages", "conversation_id")
    op.add_not_null_check("chat_messages", "conversation_id")
    op.drop_constraint("fk_chat_messages_conversation", "chat_messages", type_="foreignkey", schema="public")
    op.create_foreign_key(
        "fk_chat_messages_conversation",
        "chat_messages",
        "conversations",
        ["conversation_id", "user_id"],
        ["id", "user_id"],
        ondelete="CASCADE",
        postgresql_not_valid=True,
        source_schema="public",
        referent_schema="public",
    )
