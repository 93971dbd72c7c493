"""Index the attachments of a conversation in their order, as the service asks for them.

What:   idx_attachments_conversation_id_created_at (conversation_id, created_at, id).
Why:    queries.attachments_of() names the conversation alone. To a user's query the policy adds user_id, and
        idx_attachments_conversation_id has the order. To the service's it adds nothing: all attachments of the
        conversation were read and sorted for one page.
Locks:  ShareUpdateExclusive on public.attachments while building: reads and writes go on.
Undone: the index is dropped CONCURRENTLY.

Revision ID: 0074
Revises: 0073
"""

from alembic import op

revision = "0074"
down_revision = "0073"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index_online(
        "idx_attachments_conversation_id_created_at", "attachments", ["conversation_id", "created_at", "id"]
    )


def downgrade() -> None:
    op.drop_index_online("idx_attachments_conversation_id_created_at")
