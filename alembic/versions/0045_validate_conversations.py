"""Validate that the marks of conversations are times which drivers can read.

What:   the CHECK of 0043 is checked against the rows that stood.
Why:    an infinite time in one row would break every list that the row is in.
Locks:  ShareUpdateExclusive on public.conversations for one scan: reads and writes go on.
Undone: the CHECK is there again, not validated.

Revision ID: 0045
Revises: 0044
"""

from alembic import op

revision = "0045"
down_revision = "0044"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.validate_constraint("ck_conversations_marks", "conversations")


def downgrade() -> None:
    op.drop_constraint(op.f("ck_conversations_marks"), "conversations", schema="public")
    op.create_check_constraint(
        op.f("ck_conversations_marks"),
        "conversations",
        "least(archived_at, pinned_at, last_read_at, deleted_at) >= timestamp '0001-01-02' AT TIME ZONE 'UTC'"
        " AND greatest(archived_at, pinned_at, last_read_at, deleted_at)"
        " < timestamp '9999-12-31' AT TIME ZONE 'UTC'",
        schema="public",
        postgresql_not_valid=True,
    )
