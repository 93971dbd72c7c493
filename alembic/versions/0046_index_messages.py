"""Index messages by owner, conversation and id: what a key can point at that names all three.

What:   idx_messages_user_id_conversation_id UNIQUE (user_id, conversation_id, id).
Why:    the next revision's key from a message to the one that it answers points at it, so that both stand in one
        conversation of one owner.
Locks:  ShareUpdateExclusive on public.messages while building: reads and writes go on.
Undone: the index is dropped CONCURRENTLY.

Revision ID: 0046
Revises: 0054
"""

from alembic import op

revision = "0046"
down_revision = "0054"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index_online(
        "idx_messages_user_id_conversation_id", "messages", ["user_id", "conversation_id", "id"], unique=True
    )


def downgrade() -> None:
    op.drop_index_online("idx_messages_user_id_conversation_id")
