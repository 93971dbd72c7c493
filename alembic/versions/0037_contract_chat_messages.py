"""Contract chat_messages.conversation_id to NOT NULL.

What:   NOT NULL by the proof of the validated CHECK, which is dropped.
Why:    the trigger goes on filling the column for clients that do not name it; NOT NULL makes sure that it did.
Locks:  AccessExclusive on public.chat_messages, an instant, without a scan.
Undone: nullable again, with the validated CHECK.

Revision ID: 0037
Revises: 0036
"""

from alembic import op

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.set_not_null("chat_messages", "conversation_id")


def downgrade() -> None:
    op.add_not_null_check("chat_messages", "conversation_id")
    # lint: ignore strong-lock-scan -- on the way back, where clients wait for one scan
    op.validate_not_null_check("chat_messages", "conversation_id")
    op.alter_column("chat_messages", "conversation_id", nullable=True, schema="public")
