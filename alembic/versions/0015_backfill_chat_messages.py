"""Backfill conversation_id: each message that has none goes to its owner's default conversation.

What:   every row of chat_messages gets its conversation; users who had none get exactly one.
Why:    TID ranges, each its own commit: clients never wait longer than a batch, and a killed run goes on where it was.
Locks:  the rows of one batch until its commit.
Undone: nothing to undo: the column goes with 0014.

Revision ID: 0015
Revises: 0014
"""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.backfill(
        "conversations of chat_messages",
        table="chat_messages",
        alias="m",
        batch="""
            WITH owner AS MATERIALIZED (
              SELECT u.user_id, chat_internal.default_conversation(u.user_id) AS conversation_id
              FROM (SELECT DISTINCT m.user_id FROM public.chat_messages AS m WHERE {batch} AND m.conversation_id IS NULL) AS u
            )
            UPDATE public.chat_messages AS m
            SET conversation_id = owner.conversation_id
            FROM owner
            WHERE {batch} AND m.conversation_id IS NULL AND m.user_id = owner.user_id
        """,
        pending="m.conversation_id IS NULL",
    )


def downgrade() -> None:
    """Leave the rows: the column goes with the revision that made it."""
