"""Expand chat_sessions with what a conversation has: title, metadata, times that are always known.

What:   columns title and metadata; a trigger that fills NULL times of new and changed rows; CHECKs, not yet
        validated, that say the times are there.
Why:    the table becomes conversations, and old clients go on writing it meanwhile. Constant defaults need no
        rewrite; a CHECK NOT VALID needs no scan. Until the table is renamed the backfill alone writes metadata, and
        by that the trigger of updated_at knows it and leaves the time alone.
Locks:  AccessExclusive on public.chat_sessions, an instant.
Undone: the columns are dropped; refused while titles or metadata of somebody's making stand in them.

Revision ID: 0022
Revises: 0021
"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.when("NOT chat_internal.is_adopted('conversations')", expand_chat_sessions)


def expand_chat_sessions() -> None:
    op.add_column(
        "chat_sessions",
        sa.Column("title", sa.Text(), server_default=sa.text("'New Conversation'"), nullable=True),
        schema="public",
    )
    op.add_column(
        "chat_sessions",
        sa.Column("metadata", JSONB(), server_default=sa.text("'{}'"), nullable=False),
        schema="public",
    )
    op.sql(
        """
        CREATE FUNCTION chat_internal.fill_session_times() RETURNS trigger
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
          NEW.created_at := coalesce(NEW.created_at, NEW.updated_at, pg_catalog.now());
          NEW.updated_at := coalesce(NEW.updated_at, NEW.created_at);
          RETURN NEW;
        END
        $$
        """
    )
    op.grant_only("FUNCTION chat_internal.fill_session_times()")
    op.sql(
        "CREATE TRIGGER chat_sessions_fill_times BEFORE INSERT OR UPDATE ON public.chat_sessions FOR EACH ROW"
        " WHEN (NEW.created_at IS NULL OR NEW.updated_at IS NULL) EXECUTE FUNCTION chat_internal.fill_session_times()"
    )
    op.sql(
        "CREATE OR REPLACE TRIGGER chat_sessions_updated_at BEFORE UPDATE ON public.chat_sessions FOR EACH ROW"
        " WHEN (OLD.metadata IS NOT DISTINCT FROM NEW.metadata) EXECUTE FUNCTION public.update_updated_at()"
    )
    op.add_not_null_check("chat_sessions", "created_at")
    op.add_not_null_check("chat_sessions", "updated_at")


def downgrade() -> None:
    op.when("NOT chat_internal.is_adopted('conversations')", restore_chat_sessions)


def restore_chat_sessions() -> None:
    op.refuse_data_loss(
        "titles and metadata of conversations",
        "SELECT count(*) FROM public.chat_sessions"
        " WHERE title IS DISTINCT FROM 'New Conversation' OR metadata - 'legacy' <> '{}'",
    )
    op.drop_not_null_check("chat_sessions", "updated_at")
    op.drop_not_null_check("chat_sessions", "created_at")
    op.sql("DROP TRIGGER chat_sessions_fill_times ON public.chat_sessions")
    op.sql("DROP FUNCTION chat_internal.fill_session_times()")
    # lint: ignore update-in-one-step -- on the way back; clients wait for as many sessions as had no time
    op.sql(
        """
        ALTER TABLE public.chat_sessions DISABLE TRIGGER chat_sessions_updated_at;
        -- a time that was filled, and that nobody has moved since, goes back to the NULL it was
        UPDATE public.chat_sessions
        SET created_at = CASE
              WHEN metadata #> '{legacy,filled,created_at}' = to_jsonb(extract(epoch FROM created_at)) THEN NULL
              ELSE created_at
            END,
            updated_at = CASE
              WHEN metadata #> '{legacy,filled,updated_at}' = to_jsonb(extract(epoch FROM updated_at)) THEN NULL
              ELSE updated_at
            END
        WHERE metadata #> '{legacy,filled}' IS NOT NULL;
        ALTER TABLE public.chat_sessions ENABLE TRIGGER chat_sessions_updated_at;
        CREATE OR REPLACE TRIGGER chat_sessions_updated_at BEFORE UPDATE ON public.chat_sessions
        FOR EACH ROW EXECUTE FUNCTION public.update_updated_at();
        """
    )
    op.drop_column("chat_sessions", "metadata", schema="public")
    op.drop_column("chat_sessions", "title", schema="public")
