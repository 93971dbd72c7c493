"""Create the retention of creative sessions.

What:   chat_internal.purge_conversation_sessions(older_than, batch_size), a procedure that deletes delivered and
        cancelled sessions with their messages, batch by batch, and the function that deletes one batch.
Why:    a batch a commit keeps locks short; SKIP LOCKED leaves a session that is in use to the next run. The
        procedure commits, and PostgreSQL lets no procedure commit that carries a SET clause, so it sets its
        search_path inside.
Locks:  none.
Undone: both are dropped.

Revision ID: 0022
Revises: 0021
"""

from alembic import op

revision = "0022"
down_revision = "0021"
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
        $$;

        CREATE PROCEDURE chat_internal.purge_conversation_sessions(
          p_older_than interval DEFAULT '90 days', p_batch_size integer DEFAULT 500
        )
        LANGUAGE plpgsql AS $$
        DECLARE
          v_before timestamptz := pg_catalog.now() OPERATOR(pg_catalog.-) p_older_than;
        BEGIN
          LOOP
            PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
            EXIT WHEN chat_internal.purge_conversation_session_batch(v_before, p_batch_size) = 0;
            COMMIT;
          END LOOP;
        END
        $$;
        """
    )
    op.grant_only(
        "FUNCTION chat_internal.purge_conversation_session_batch(timestamptz, integer)",
        service_role="EXECUTE",
    )
    op.grant_only("PROCEDURE chat_internal.purge_conversation_sessions(interval, integer)", service_role="EXECUTE")


def downgrade() -> None:
    op.sql(
        """
        DROP PROCEDURE chat_internal.purge_conversation_sessions(interval, integer);
        DROP FUNCTION chat_internal.purge_conversation_session_batch(timestamptz, integer);
        """
    )
