"""Backfill seq of the creative sessions' messages that stood: the order in which the table has them.

What:   each row whose seq is 0 gets a number below zero, by its place in the table.
Why:    the place is all that is left of the order in which rows of one created_at were written: a row that nobody has
        updated is where it was put. The numbers are below zero, so that these rows come before those written since.
Locks:  the rows of one batch until its commit.
Undone: nothing to undo: the column goes with 0068.

Revision ID: 0069
Revises: 0068
"""

from alembic import op

revision = "0069"
down_revision = "0068"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.backfill(
        "seq of conversation_messages",
        table="conversation_messages",
        alias="m",
        # a page has less than 2,048 rows, a table less than 2^32 pages
        batch="""
            UPDATE public.conversation_messages AS m
            SET seq = (m.ctid::text::point)[0]::bigint * 2048 + (m.ctid::text::point)[1]::bigint - 8796093022208
            WHERE {batch} AND m.seq = 0
        """,
        pending="m.seq = 0",
    )


def downgrade() -> None:
    """Leave the rows: the column goes with the revision that made it."""
