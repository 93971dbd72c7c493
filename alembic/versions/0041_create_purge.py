"""Create the retention of creative sessions.

What:   chat_internal.purge_conversation_session_batch(before, batch_size), which deletes delivered and cancelled
        sessions that ended before then, with their messages, and returns how many sessions it deleted.
Why:    a batch a commit keeps locks short, so the caller loops: `chat-schema purge`, or SQL until it returns 0. A
        procedure that loops could not: one that commits may carry no SET clause, and without a search_path of its own
        it would call what its caller's finds first. SKIP LOCKED leaves a session that is in use to the next run.
Locks:  none.
Undone: it is dropped.

Revision ID: 0041
Revises: 0040
"""

from alembic import op

revision = "0041"
down_revision = "0040"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.sql(
        """
        CREATE FUNCTION chat_internal.purge_conversation_session_batch(p_before timestamptz, p_batch_size integer)
        RETURNS bigint
        LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
          WITH ended AS (
            SELECT s.id
            FROM public.conversation_sessions AS s
            WHERE s.state IN ('delivered', 'cancelled') AND coalesce(s.completed_at, s.last_activity_at) < p_before
            LIMIT p_batch_size
            FOR UPDATE SKIP LOCKED
          ), purged AS (
            DELETE FROM public.conversation_sessions AS s USING ended WHERE s.id = ended.id RETURNING s.id
          )
          SELECT pg_catalog.count(*) FROM purged
        $$
        """
    )
    op.grant_only(
        "FUNCTION chat_internal.purge_conversation_session_batch(timestamptz, integer)",
        service_role="EXECUTE",
    )


def downgrade() -> None:
    op.sql("DROP FUNCTION chat_internal.purge_conversation_session_batch(timestamptz, integer)")
