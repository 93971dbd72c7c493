"""Index chat_messages by conversation.

What:   a conversation's messages newest first: idx_chat_messages_conversation for a user, to whose condition the
        policy adds user_id, and for the key's cascade; idx_chat_messages_conv_created for the service.
Why:    after the backfill: an index on the column would have made every update of it write to the index as well. Two
        carry the order, as on messages (0024).
Locks:  ShareUpdateExclusive on public.chat_messages while building: reads and writes go on.
Undone: the indexes are dropped CONCURRENTLY.

Revision ID: 0034
Revises: 0033
"""

from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index_online(
        "idx_chat_messages_conversation", "chat_messages", ["conversation_id", "user_id", "created_at DESC"]
    )
    op.create_index_online("idx_chat_messages_conv_created", "chat_messages", ["conversation_id", "created_at DESC"])
    op.drop_index_online("idx_chat_messages_conversation_legacy")  # what the column was found with, see 0032


def downgrade() -> None:
    op.drop_index_online("idx_chat_messages_conv_created")
    op.drop_index_online("idx_chat_messages_conversation")
