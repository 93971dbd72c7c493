"""Backfill conversation_id: each message that has none goes to its owner's default conversation.

What:   users with messages and no personal conversation get one; then every row of chat_messages gets its conversation.
Why:    TID ranges, each its own commit: clients never wait longer than a batch, and a killed run goes on where it
        was. The conversations come first and user by user: made by the batches of messages, each would keep the other
        workers, and its owner's clients, waiting for as long as such a batch takes. What is missing all the same by
        then, default_conversation() makes. That a row is pending is asked by num_nulls(): of IS NULL the planner
        thinks that hardly any row meets it while a new column has no statistics, and loops over all pairs. With six
        passes most rows find room within their page and are not written to the indexes anew.
Locks:  the rows of one batch until its commit; the conversations they go to, and the users these are made for, FOR KEY
        SHARE.
Undone: nothing to undo: the column goes with 0032.

Revision ID: 0033
Revises: 0032
"""

from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.backfill(
        "default conversations",
        table="users",
        alias="u",
        batch="""
            INSERT INTO public.conversations (id, user_id, title, created_at, updated_at)
            SELECT chat_internal.default_conversation_id(u.id), u.id, 'Chat History', s.first_at, s.last_at
            FROM public.users AS u
            CROSS JOIN LATERAL (
              SELECT coalesce(min(m.created_at), now()) AS first_at, coalesce(max(m.created_at), now()) AS last_at
              FROM public.chat_messages AS m
              WHERE m.user_id = u.id
            ) AS s
            WHERE {batch}
              AND EXISTS (SELECT FROM public.chat_messages AS m WHERE m.user_id = u.id)
              AND NOT EXISTS (SELECT FROM public.conversations AS c WHERE c.user_id = u.id AND c.tenant_id IS NULL)
            FOR KEY SHARE OF u  -- one that is deleted meanwhile is left out
            ON CONFLICT DO NOTHING
        """,
        pending="FALSE",  # the next step makes what is missing
    )
    op.backfill(
        "conversations of chat_messages",
        table="chat_messages",
        alias="m",
        batch="""
            WITH owner AS MATERIALIZED (
              SELECT u.user_id, coalesce(c.id, chat_internal.default_conversation(u.user_id)) AS conversation_id
              FROM (
                SELECT DISTINCT m.user_id FROM public.chat_messages AS m
                WHERE {batch} AND num_nulls(m.conversation_id) > 0
              ) AS u
              LEFT JOIN LATERAL (
                SELECT c.id FROM public.conversations AS c
                WHERE c.user_id = u.user_id AND c.tenant_id IS NULL
                ORDER BY c.created_at, c.id
                LIMIT 1
                FOR KEY SHARE
              ) AS c ON TRUE
            )
            UPDATE public.chat_messages AS m
            SET conversation_id = owner.conversation_id
            FROM owner
            WHERE {batch} AND num_nulls(m.conversation_id) > 0 AND m.user_id = owner.user_id
        """,
        pending="m.conversation_id IS NULL",
        passes=6,
    )
    op.when(
        "chat_internal.is_adopted('chat_messages.conversation_id')",
        lambda: op.move_to_owner("chat_messages", "chat_messages.conversation_id"),
    )


def downgrade() -> None:
    """Leave the rows: the column goes with the revision that made it."""
