"""Index the messages that answer another one.

What:   idx_messages_parent_id on messages (user_id, conversation_id, parent_id, seq), of those that have a parent.
Why:    the answers to a message, the latest last; what hangs on a message that is deleted; the key of 0050. A message
        of a thread that never branched has no entry.
Locks:  ShareUpdateExclusive on public.messages while building: reads and writes go on.
Undone: the index is dropped CONCURRENTLY.

Revision ID: 0051
Revises: 0050
"""

from alembic import op

revision = "0051"
down_revision = "0050"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index_online(
        "idx_messages_parent_id",
        "messages",
        ["user_id", "conversation_id", "parent_id", "seq"],
        where="parent_id IS NOT NULL",
    )


def downgrade() -> None:
    op.drop_index_online("idx_messages_parent_id")
