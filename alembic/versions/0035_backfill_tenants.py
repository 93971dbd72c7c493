"""Backfill tenant_id of chat_messages that stand in a conversation of a tenant.

What:   each such message gets the tenant of its conversation.
Why:    the triggers of 0032 keep it for what is written from then on; what stood in conversations of tenants before,
        and what was moved into one while 0033 was running, has none yet. Batches of conversations, since those of
        tenants may be few: their messages are found by the index of 0034.
Locks:  the rows of one batch until its commit.
Undone: nothing to undo: the column goes with 0032.

Revision ID: 0035
Revises: 0034
"""

from alembic import op

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None

DIFFERS = "m.conversation_id = c.id AND m.user_id = c.user_id AND m.tenant_id IS DISTINCT FROM c.tenant_id"


def upgrade() -> None:
    op.backfill(
        "tenants of chat_messages",
        table="conversations",
        alias="c",
        batch=f"""
            UPDATE public.chat_messages AS m SET tenant_id = c.tenant_id
            FROM public.conversations AS c
            WHERE {{batch}} AND c.tenant_id IS NOT NULL AND {DIFFERS}
        """,
        pending=f"c.tenant_id IS NOT NULL AND EXISTS (SELECT FROM public.chat_messages AS m WHERE {DIFFERS})",
    )


def downgrade() -> None:
    """Leave the rows: the column goes with the revision that made it."""
