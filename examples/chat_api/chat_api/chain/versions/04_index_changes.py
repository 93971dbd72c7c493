"""Index changes by tenant, while services write them.

What:   idx_changes_tenant_id on chat_api.changes (tenant_id).
Why:    the count by tenant reads it alone, however many changes wait.
Locks:  ShareUpdateExclusive on chat_api.changes, while building: nobody who reads or writes waits for it. A build that
        was killed is dropped and begun anew by the next run.
Undone: the index is dropped, as it was built.
"""

from alembic import op

revision = "04"
down_revision = "03"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index_online("idx_changes_tenant_id", "chat_api.changes", ["tenant_id"])


def downgrade() -> None:
    op.drop_index_online("chat_api.idx_changes_tenant_id")
