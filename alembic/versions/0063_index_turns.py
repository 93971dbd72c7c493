"""Index replies that are being written, and what models wrote in a tenant.

What:   idx_messages_streaming on messages (created_at), of those that are streaming; idx_messages_tenant_usage on
        (tenant_id, created_at), of those that a model wrote in a tenant.
Why:    the first finds replies whose process died, by their age; it has as many entries as replies are being written.
        The second is read for the usage of a tenant in a span of days. A user's usage is read by idx_messages_user_id,
        which is there. What people write has an entry in neither, and a personal reply that is stored whole has none.
Locks:  ShareUpdateExclusive on public.messages while building: reads and writes go on.
Undone: the indexes are dropped CONCURRENTLY.

Revision ID: 0063
Revises: 0062
"""

from alembic import op

revision = "0063"
down_revision = "0062"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index_online("idx_messages_streaming", "messages", ["created_at"], where="status = 'streaming'")
    op.create_index_online(
        "idx_messages_tenant_usage",
        "messages",
        ["tenant_id", "created_at"],
        where="tenant_id IS NOT NULL AND model IS NOT NULL",
    )


def downgrade() -> None:
    op.drop_index_online("idx_messages_tenant_usage")
    op.drop_index_online("idx_messages_streaming")
