"""Backfill conversation_id: each message that has none goes to its owner's default conversation.

What:   every row of chat_messages gets its conversation; users who had none get exactly one.
Why:    TID ranges, each its own commit: clients never wait longer than a batch, and a killed run goes on where it
        was. The conversations that a batch's users lack are made together, in the order of their owners, so that
        two workers who make the same ones wait for each other in turn; what a racing writer made meanwhile,
        default_conversation() finds.
Locks:  the rows of one batch until its commit; the conversations they go to FOR KEY SHARE.
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
              SELECT u.user_id, c.id AS conversation_id
              FROM (
                SELECT DISTINCT m.user_id FROM public.chat_messages AS m WHERE {batch} AND m.conversation_id IS NULL
              ) AS u
              LEFT JOIN LATERAL (
                SELECT c.id FROM public.conversations AS c
                WHERE c.user_id = u.user_id AND c.tenant_id IS NULL
                ORDER BY c.created_at, c.id
                LIMIT 1
                FOR KEY SHARE
              ) AS c ON TRUE
            ), made AS (
              INSERT INTO public.conversations (id, user_id, title, created_at, updated_at)
              SELECT chat_internal.default_conversation_id(o.user_id), o.user_id, 'Chat History',
                     coalesce(s.first_at, now()), coalesce(s.last_at, now())
              FROM owner AS o
              CROSS JOIN LATERAL (
                SELECT min(m.created_at) AS first_at, max(m.created_at) AS last_at
                FROM public.chat_messages AS m
                WHERE m.user_id = o.user_id
              ) AS s
              WHERE o.conversation_id IS NULL
              ORDER BY o.user_id
              ON CONFLICT (id) DO NOTHING
              RETURNING id, user_id
            ), target AS MATERIALIZED (
              SELECT o.user_id, coalesce(o.conversation_id, n.id, chat_internal.default_conversation(o.user_id)) AS id
              FROM owner AS o
              LEFT JOIN made AS n ON n.user_id = o.user_id
            )
            UPDATE public.chat_messages AS m
            SET conversation_id = target.id
            FROM target
            WHERE {batch} AND m.conversation_id IS NULL AND m.user_id = target.user_id
        """,
        pending="m.conversation_id IS NULL",
    )
    op.when(
        "chat_internal.is_adopted('chat_messages.conversation_id')",
        lambda: op.move_to_owner("chat_messages", "chat_messages.conversation_id"),
    )


def downgrade() -> None:
    """Leave the rows: the column goes with the revision that made it."""
