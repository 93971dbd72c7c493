"""Validate that every session has its times.

What:   the two CHECKs of 0007 are validated; the next revision turns them into NOT NULL.
Why:    in a revision of its own, so that the scans are over before a strong lock is asked for.
Locks:  ShareUpdateExclusive on public.chat_sessions for two scans: reads and writes go on.
Undone: the CHECKs are there again, not yet validated.

Revision ID: 0012
Revises: 0011
"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.validate_not_null_check("chat_sessions", "created_at")
    op.validate_not_null_check("chat_sessions", "updated_at")


def downgrade() -> None:
    for column in ("created_at", "updated_at"):
        op.drop_not_null_check("chat_sessions", column)
        op.add_not_null_check("chat_sessions", column)
