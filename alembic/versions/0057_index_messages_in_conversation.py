"""Index messages by conversation and id, so that keys can name a message together with its conversation.

What:   idx_messages_conversation_id_id, UNIQUE (conversation_id, id) on public.messages.
Why:    what hangs on a message (an attachment, a rating, a share that ends with it) refers to it by both columns, and
        to the conversation by (conversation_id, user_id). So it can never hang on a message of somebody else.
Locks:  ShareUpdateExclusive on public.messages while building: reads and writes go on.
Undone: the index is dropped CONCURRENTLY.

Revision ID: 0057
Revises: 0052
"""

from alembic import op

revision = "0057"
down_revision = "0052"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index_online("idx_messages_conversation_id_id", "messages", ["conversation_id", "id"], unique=True)


def downgrade() -> None:
    op.drop_index_online("idx_messages_conversation_id_id")
