"""Backfill messages from the arrays that stood before the trigger, and the times that were NULL.

What:   each session without a kept array is locked, expanded into rows and its array kept. Then sessions without
        times get their messages' first and last; metadata.legacy.filled notes them in epoch seconds, so that a
        downgrade knows the NULLs.
Why:    expand_chat_session() compares before it writes, so a session that a client writes at the same moment is
        neither missed nor doubled.
Locks:  the rows of one batch until its commit; old clients wait for their own session at most that long.
Undone: nothing to undo: the arrays still stand in chat_sessions, and rows go with their table.

Revision ID: 0026
Revises: 0025
"""

from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.when("NOT chat_internal.is_adopted('conversations')", backfill_messages)
    op.when(
        "chat_internal.is_adopted('conversations') AND EXISTS (SELECT FROM pg_catalog.pg_attribute AS a"
        " WHERE a.attrelid = pg_catalog.to_regclass('public.conversations') AND a.attname = 'messages'"
        " AND a.atttypid = 'jsonb'::regtype AND NOT a.attisdropped)",
        keep_arrays,
    )


def keep_arrays() -> None:
    """Keep the arrays of conversations that were expanded by their own application, before the column goes."""
    op.backfill(
        "arrays of conversations",
        table="conversations",
        alias="c",
        batch="""
            INSERT INTO chat_internal.chat_session_arrays (session_id, user_id, messages)
            SELECT c.id, c.user_id, c.messages FROM public.conversations AS c WHERE {batch}
            FOR KEY SHARE  -- one that a client deletes meanwhile is left out
            ON CONFLICT DO NOTHING
        """,
        pending="NOT EXISTS (SELECT FROM chat_internal.chat_session_arrays AS a WHERE a.session_id = c.id)",
    )


def backfill_messages() -> None:
    op.backfill(
        "messages of chat_sessions",
        table="chat_sessions",
        alias="s",
        batch="""
            WITH locked AS MATERIALIZED (
              SELECT s.id, s.user_id, s.messages, s.created_at, s.updated_at
              FROM public.chat_sessions AS s
              WHERE {batch}
                AND NOT EXISTS (SELECT FROM chat_internal.chat_session_arrays AS a WHERE a.session_id = s.id)
              FOR NO KEY UPDATE OF s
            )
            SELECT chat_internal.expand_chat_session(
              l.id, l.user_id, l.messages, coalesce(l.created_at, l.updated_at, pg_catalog.now())
            )
            FROM locked AS l
        """,
        pending="NOT EXISTS (SELECT FROM chat_internal.chat_session_arrays AS a WHERE a.session_id = s.id)",
    )
    op.backfill(
        "times of chat_sessions",
        table="chat_sessions",
        alias="s",
        batch="""
            UPDATE public.chat_sessions AS s
            SET created_at = coalesce(s.created_at, f.first_at),
                updated_at = coalesce(s.updated_at, f.last_at),
                metadata = s.metadata || pg_catalog.jsonb_build_object('legacy', pg_catalog.jsonb_build_object('filled',
                  CASE WHEN s.created_at IS NULL
                    THEN pg_catalog.jsonb_build_object('created_at', extract(epoch FROM f.first_at)) ELSE '{}' END
                  || CASE WHEN s.updated_at IS NULL
                    THEN pg_catalog.jsonb_build_object('updated_at', extract(epoch FROM f.last_at)) ELSE '{}' END
                ))
            FROM (
              SELECT s.id,
                     coalesce(m.first_at, s.updated_at, pg_catalog.now()) AS first_at,
                     coalesce(m.last_at, s.created_at, pg_catalog.now()) AS last_at
              FROM public.chat_sessions AS s
              CROSS JOIN LATERAL (
                SELECT min(m.created_at) AS first_at, max(m.created_at) AS last_at
                FROM public.messages AS m
                WHERE m.conversation_id = s.id
              ) AS m
              WHERE {batch} AND (s.created_at IS NULL OR s.updated_at IS NULL)
            ) AS f
            WHERE {batch} AND s.id = f.id AND (s.created_at IS NULL OR s.updated_at IS NULL)
        """,
        pending="s.created_at IS NULL OR s.updated_at IS NULL",
    )


def downgrade() -> None:
    """Leave the rows: the arrays still hold the same messages."""
