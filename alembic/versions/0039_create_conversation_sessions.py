"""Create conversation_sessions: a creative session with its state.

What:   public.conversation_sessions, its five indexes, the three functions that move its state, and
        chat_internal.refuse_unseen_brand(), which a session that changes its brand calls.
Why:    UNIQUE (user_id, id) and UNIQUE (brand_id, id) are what its messages' composite keys point at; the partial
        index serves "sessions in progress". The functions run as the caller, so that policies bind them:
        completing somebody else's session changes nothing. A user's session names a brand of its own, else it would
        count in another's sums and hold up the deletion of the brand. For an update the policy cannot say so, because
        it does not see whether the brand has changed: adopted sessions on a brand of somebody else stay their user's.
Locks:  ShareRowExclusive on public.users and public.brands for an instant (the foreign keys); on a table that
        stands already see 0004.
Undone: functions and table are dropped, or given back as they were found; refused while rows would be lost.

Revision ID: 0039
Revises: 0038
"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from alembic import op

revision = "0039"
down_revision = "0038"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.adopt_function(
        "update_session_activity()",
        """
        CREATE OR REPLACE FUNCTION public.update_session_activity() RETURNS trigger
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
          IF NEW.last_activity_at IS NOT DISTINCT FROM OLD.last_activity_at THEN
            NEW.last_activity_at := pg_catalog.now();
          END IF;
          RETURN NEW;
        END
        $$
        """,
    )
    op.grant_only("FUNCTION update_session_activity()")
    op.sql(
        """
        -- as the caller: a user sees its own brands, services see all
        CREATE OR REPLACE FUNCTION chat_internal.refuse_unseen_brand() RETURNS trigger
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
          IF NOT EXISTS (SELECT FROM public.brands AS b WHERE b.id = NEW.brand_id) THEN
            RAISE insufficient_privilege USING
              MESSAGE = pg_catalog.format('%s sees no brand %s, so creative session %s keeps the brand it has',
                                          current_user, NEW.brand_id, NEW.id),
              HINT = 'A user may name a brand of its own.';
          END IF;
          RETURN NEW;
        END
        $$
        """
    )
    op.grant_only("FUNCTION chat_internal.refuse_unseen_brand()")
    op.stage_table(
        "conversation_sessions",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("brand_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.String(50), server_default=sa.text("'initial'"), nullable=False),
        sa.Column("parsed_intent", JSONB(), nullable=True),
        sa.Column("answered_questions", JSONB(), server_default=sa.text("'{}'"), nullable=True),
        sa.Column("pending_questions", JSONB(), server_default=sa.text("'[]'"), nullable=True),
        sa.Column("selected_kb_ids", ARRAY(sa.Uuid()), server_default=sa.text("'{}'"), nullable=True),
        sa.Column("active_task_plan_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("last_activity_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("completed_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="conversation_sessions_pkey"),
        sa.ForeignKeyConstraint(
            ["brand_id"], ["public.brands.id"], name="fk_conversation_sessions_brand_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["public.users.id"], name="fk_conversation_sessions_user_id", ondelete="CASCADE"
        ),
        sa.CheckConstraint(
            "least(created_at, last_activity_at, completed_at) >= timestamp '0001-01-02' AT TIME ZONE 'UTC'"
            " AND greatest(created_at, last_activity_at, completed_at) < timestamp '9999-12-31' AT TIME ZONE 'UTC'",
            name=op.f("ck_conversation_sessions_times"),
        ),
    )
    op.create_index(
        "idx_conversation_sessions_user",
        "conversation_sessions",
        ["user_id", "id"],
        unique=True,
        schema="chat_internal",
    )
    op.create_index(
        "idx_conversation_sessions_brand",
        "conversation_sessions",
        ["brand_id", "id"],
        unique=True,
        schema="chat_internal",
    )
    op.create_index("idx_conversation_sessions_state", "conversation_sessions", ["state"], schema="chat_internal")
    op.create_index(
        "idx_conversation_sessions_active",
        "conversation_sessions",
        ["user_id", sa.text("last_activity_at DESC")],
        postgresql_where=sa.text("state NOT IN ('delivered', 'cancelled')"),
        schema="chat_internal",
    )
    op.create_index(
        "idx_conversation_sessions_recent",
        "conversation_sessions",
        ["user_id", sa.text("created_at DESC")],
        schema="chat_internal",
    )
    op.sql(
        "CREATE TRIGGER trigger_update_session_activity BEFORE UPDATE ON chat_internal.conversation_sessions"
        " FOR EACH ROW EXECUTE FUNCTION public.update_session_activity()"
    )
    op.sql(
        "CREATE TRIGGER conversation_sessions_change_brand BEFORE UPDATE ON chat_internal.conversation_sessions"
        " FOR EACH ROW WHEN (OLD.brand_id IS DISTINCT FROM NEW.brand_id)"
        " EXECUTE FUNCTION chat_internal.refuse_unseen_brand()"
    )
    op.enable_row_level_security("chat_internal.conversation_sessions")
    op.create_owner_policies(
        "chat_internal.conversation_sessions",
        owner="user_id = (SELECT chat_internal.current_user_id())",
        insert="EXISTS (SELECT FROM public.brands AS b WHERE b.id = brand_id"
        " AND b.user_id = (SELECT chat_internal.current_user_id()))",
    )
    op.grant_only(
        "chat_internal.conversation_sessions",
        authenticated="SELECT, INSERT, UPDATE, DELETE",
        service_role="SELECT, INSERT, UPDATE, DELETE",
    )
    op.entitle(  # by the trigger
        "conversation_sessions", "conversation_sessions", "UPDATE", ["SELECT (id) ON TABLE public.brands"]
    )
    op.adopt_table("conversation_sessions")

    op.adopt_function(
        "complete_conversation_session(uuid)",
        """
        CREATE OR REPLACE FUNCTION public.complete_conversation_session(p_session_id uuid) RETURNS void
        LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
          UPDATE public.conversation_sessions
          SET state = 'delivered', completed_at = pg_catalog.now()
          WHERE id = p_session_id
        $$
        """,
    )
    op.adopt_function(
        "cancel_conversation_session(uuid)",
        """
        CREATE OR REPLACE FUNCTION public.cancel_conversation_session(p_session_id uuid) RETURNS void
        LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
          UPDATE public.conversation_sessions
          SET state = 'cancelled', completed_at = pg_catalog.now()
          WHERE id = p_session_id
        $$
        """,
    )
    for function in ("complete_conversation_session(uuid)", "cancel_conversation_session(uuid)"):
        op.grant_only(f"FUNCTION {function}", authenticated="EXECUTE", service_role="EXECUTE")
        op.entitle(function, "conversation_sessions", "UPDATE", [f"EXECUTE ON FUNCTION public.{function}"])
    op.fill_adopted(
        "conversation_sessions",
        {
            "created_at": "coalesce(t.last_activity_at, pg_catalog.now())",
            "last_activity_at": "coalesce(t.created_at, pg_catalog.now())",
        },
    )
    op.finish_table("conversation_sessions")


def downgrade() -> None:
    op.release("cancel_conversation_session(uuid)")
    op.release("complete_conversation_session(uuid)")
    op.release_table("conversation_sessions", what="creative sessions")
    op.sql("DROP FUNCTION chat_internal.refuse_unseen_brand()")
    op.release("update_session_activity()")
