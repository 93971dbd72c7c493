"""Backfill messages from the arrays that stood before the trigger, and the times that were NULL.

What:   each session without a kept array is locked, expanded into rows and its array kept. Then sessions without times get
        their messages' first and last; what was NULL is noted in metadata.legacy.
Why:    expand_chat_session() compares before it writes, so a session that a client writes at the same moment is neither
        missed nor doubled.
Locks:  the rows of one batch until its commit; old clients wait for their own session at most that long.
Undone: nothing to undo: the arrays still stand in chat_sessions, and rows go with their table.

Revision ID: 0011
Revises: 0010
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
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
            SET created_at = coalesce(
                  s.created_at,
                  (SELECT min(m.created_at) FROM public.messages AS m WHERE m.conversation_id = s.id),
                  s.updated_at, pg_catalog.now()
                ),
                updated_at = coalesce(
                  s.updated_at,
                  (SELECT max(m.created_at) FROM public.messages AS m WHERE m.conversation_id = s.id),
                  s.created_at, pg_catalog.now()
                ),
                metadata = s.metadata || pg_catalog.jsonb_build_object(
                  'legacy',
                  CASE WHEN s.created_at IS NULL THEN '{"created_at": null}'::jsonb ELSE '{}' END
                  || CASE WHEN s.updated_at IS NULL THEN '{"updated_at": null}'::jsonb ELSE '{}' END
                )
            WHERE {batch} AND (s.created_at IS NULL OR s.updated_at IS NULL)
        """,
        pending="s.created_at IS NULL OR s.updated_at IS NULL",
    )


def downgrade() -> None:
    """Leave the rows: the arrays still hold the same messages."""
