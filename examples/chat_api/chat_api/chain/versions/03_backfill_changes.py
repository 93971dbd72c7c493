"""Backfill the tenant of changes that were written before the trigger knew of it.

What:   chat_api.changes.tenant_id of each row whose conversation is a tenant's; one of a conversation that is gone has
        none.
Why:    a count by tenant leaves nothing out.
Locks:  the rows of one batch of chat_api.changes, until its commit; a run that was killed goes on where it was.
Undone: nothing to undo: the column goes with 02.
"""

from alembic import op

revision = "03"
down_revision = "02"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.backfill(
        "tenants of changes",
        table="chat_api.changes",
        alias="h",
        batch="""
            UPDATE chat_api.changes AS h SET tenant_id = c.tenant_id
            FROM public.conversations AS c
            WHERE {batch} AND h.tenant_id IS NULL AND c.id = h.conversation_id AND c.tenant_id IS NOT NULL
        """,
        pending="""
            h.tenant_id IS NULL AND EXISTS (
              SELECT FROM public.conversations AS c WHERE c.id = h.conversation_id AND c.tenant_id IS NOT NULL
            )
        """,
    )


def downgrade() -> None:
    pass
