"""Index messages by owner, conversation and id: what a key can point at that names all three.

What:   idx_messages_id_conversation_id_user_id UNIQUE (id, conversation_id, user_id).
Why:    the next revision's key from a message to the one that it answers points at it, so that both stand in one
        conversation of one owner. The id leads: led by the others it would look cheaper for the pages of a
        conversation than the index that has them in order.
Locks:  ShareUpdateExclusive on public.messages while building: reads and writes go on.
Undone: the index is dropped CONCURRENTLY.

Revision ID: 0049
Revises: 0048
"""

from alembic import op

revision = "0049"
down_revision = "0048"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index_online(
        "idx_messages_id_conversation_id_user_id", "messages", ["id", "conversation_id", "user_id"], unique=True
    )


def downgrade() -> None:
    op.drop_index_online("idx_messages_id_conversation_id_user_id")
