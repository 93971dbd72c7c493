"""Create conversation_messages: what was said in a creative session, and what it cost.

What:   public.conversation_messages with its seven indexes; messages move their session's last_activity_at, once a
        statement; three functions and two views that read history, cost and usage.
Why:    the keys to the session are composite, as everywhere: a message has the owner and the brand of its session,
        and follows when the session changes its brand. Functions and views run as the caller (security_invoker), so
        that policies bind them. Days are UTC days whoever asks.
Locks:  ShareRowExclusive on public.conversation_sessions and public.users for an instant (the foreign keys); on a
        table that stands already see 0004.
Undone: views, functions and table are dropped, or given back as they were found; refused while rows would be lost.

Revision ID: 0040
Revises: 0039
"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from alembic import op

revision = "0040"
down_revision = "0039"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.adopt_function(
        "update_session_on_message()",
        """
        CREATE OR REPLACE FUNCTION public.update_session_on_message() RETURNS trigger
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
        BEGIN
          -- left to whoever is changing it, as conversations are (0031)
          UPDATE public.conversation_sessions AS s
          SET last_activity_at = pg_catalog.now()
          FROM (
            SELECT o.id
            FROM (SELECT DISTINCT a.session_id, a.user_id FROM added AS a) AS n
            JOIN public.conversation_sessions AS o ON o.id = n.session_id AND o.user_id = n.user_id
            WHERE o.last_activity_at < pg_catalog.now()
            FOR NO KEY UPDATE OF o SKIP LOCKED
          ) AS l
          WHERE s.id = l.id;
          RETURN NULL;
        END
        $$
        """,
    )
    op.grant_only("FUNCTION update_session_on_message()")
    op.stage_table(
        "conversation_messages",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("brand_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("role", sa.String(20), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("tokens_used", sa.Integer(), server_default=sa.text("0"), nullable=True),
        sa.Column("model_used", sa.String(100), nullable=True),
        sa.Column("provider", sa.String(50), nullable=True),
        sa.Column("cost_usd", sa.Numeric(10, 6), server_default=sa.text("0"), nullable=True),
        sa.Column("latency_ms", sa.Integer(), nullable=True),
        sa.Column("action_taken", sa.String(100), nullable=True),
        sa.Column("questions_asked", JSONB(), nullable=True),
        sa.Column("delegation_plan", JSONB(), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="conversation_messages_pkey"),
        sa.ForeignKeyConstraint(
            ["session_id", "user_id"],
            ["public.conversation_sessions.id", "public.conversation_sessions.user_id"],
            name="fk_conversation_messages_session_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["brand_id", "session_id"],
            ["public.conversation_sessions.brand_id", "public.conversation_sessions.id"],
            name="fk_conversation_messages_brand_id",
            onupdate="CASCADE",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["public.users.id"], name="fk_conversation_messages_user_id", ondelete="CASCADE"
        ),
        sa.CheckConstraint(
            "role IN ('user', 'assistant', 'system', 'director')", name=op.f("ck_conversation_messages_role")
        ),
        sa.CheckConstraint(
            "least(created_at) >= timestamp '0001-01-02' AT TIME ZONE 'UTC'"
            " AND greatest(created_at) < timestamp '9999-12-31' AT TIME ZONE 'UTC'",
            name=op.f("ck_conversation_messages_times"),
        ),
    )
    op.create_index(
        "idx_conversation_messages_session",
        "conversation_messages",
        ["session_id", "user_id", "created_at", "id"],
        schema="chat_internal",
    )
    op.create_index(
        "idx_conversation_messages_session_created",
        "conversation_messages",
        ["session_id", "created_at", "id"],
        schema="chat_internal",
    )
    op.create_index("idx_conversation_messages_user", "conversation_messages", ["user_id"], schema="chat_internal")
    op.create_index(
        "idx_conversation_messages_brand",
        "conversation_messages",
        ["brand_id", "session_id"],
        schema="chat_internal",
    )
    op.create_index("idx_conversation_messages_role", "conversation_messages", ["role"], schema="chat_internal")
    op.create_index(
        "idx_conversation_messages_provider",
        "conversation_messages",
        ["provider"],
        postgresql_where=sa.text("provider IS NOT NULL"),
        schema="chat_internal",
    )
    op.create_index(
        "idx_conversation_messages_cost",
        "conversation_messages",
        ["cost_usd"],
        postgresql_where=sa.text("cost_usd > 0"),
        schema="chat_internal",
    )
    op.sql(
        "CREATE TRIGGER trigger_update_session_on_message AFTER INSERT ON chat_internal.conversation_messages"
        " REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION public.update_session_on_message()"
    )
    op.enable_row_level_security("chat_internal.conversation_messages")
    op.create_owner_policies(
        "chat_internal.conversation_messages", owner="user_id = (SELECT chat_internal.current_user_id())"
    )
    op.grant_only(
        "chat_internal.conversation_messages",
        authenticated="SELECT, INSERT, UPDATE, DELETE",
        service_role="SELECT, INSERT, UPDATE, DELETE",
    )
    op.entitle(  # by the trigger
        "conversation_messages",
        "conversation_messages",
        "INSERT",
        [
            "SELECT (id) ON TABLE public.conversation_sessions",
            "SELECT (user_id) ON TABLE public.conversation_sessions",
            "SELECT (last_activity_at) ON TABLE public.conversation_sessions",
            "UPDATE (last_activity_at) ON TABLE public.conversation_sessions",
        ],
    )
    op.adopt_table("conversation_messages")

    op.adopt_function(
        "get_conversation_history(uuid, integer)",
        """
        CREATE OR REPLACE FUNCTION public.get_conversation_history(p_session_id uuid, p_limit integer DEFAULT 50)
        RETURNS TABLE (id uuid, role varchar, content text, created_at timestamptz)
        LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
          SELECT m.id, m.role, m.content, m.created_at
          FROM public.conversation_messages AS m
          WHERE m.session_id = p_session_id
          ORDER BY m.created_at, m.id
          LIMIT p_limit
        $$
        """,
    )
    op.adopt_function(
        "get_session_cost(uuid)",
        """
        CREATE OR REPLACE FUNCTION public.get_session_cost(p_session_id uuid) RETURNS numeric
        LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
          SELECT coalesce(pg_catalog.sum(m.cost_usd), 0)
          FROM public.conversation_messages AS m
          WHERE m.session_id = p_session_id
        $$
        """,
    )
    op.adopt_function(
        "get_session_message_stats(uuid)",
        """
        CREATE OR REPLACE FUNCTION public.get_session_message_stats(p_session_id uuid)
        RETURNS TABLE (message_count bigint, total_tokens bigint, total_cost numeric, avg_latency_ms numeric)
        LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
          SELECT pg_catalog.count(*), pg_catalog.sum(m.tokens_used), pg_catalog.sum(m.cost_usd),
                 pg_catalog.avg(m.latency_ms)
          FROM public.conversation_messages AS m
          WHERE m.session_id = p_session_id
        $$
        """,
    )
    op.adopt_view(
        "provider_usage_stats",
        """
        CREATE OR REPLACE VIEW public.provider_usage_stats WITH (security_invoker = true) AS
        SELECT m.provider, m.model_used, count(*) AS message_count, sum(m.tokens_used) AS total_tokens,
               sum(m.cost_usd) AS total_cost, avg(m.latency_ms) AS avg_latency_ms
        FROM public.conversation_messages AS m
        WHERE m.provider IS NOT NULL
        GROUP BY m.provider, m.model_used
        """,
    )
    op.adopt_view(
        "daily_message_volume",
        """
        CREATE OR REPLACE VIEW public.daily_message_volume WITH (security_invoker = true) AS
        SELECT date_trunc('day', m.created_at, 'UTC') AS day, m.role, count(*) AS message_count,
               sum(m.cost_usd) AS total_cost
        FROM public.conversation_messages AS m
        GROUP BY date_trunc('day', m.created_at, 'UTC'), m.role
        """,
    )
    for function in (
        "get_conversation_history(uuid, integer)",
        "get_session_cost(uuid)",
        "get_session_message_stats(uuid)",
    ):
        op.grant_only(f"FUNCTION {function}", authenticated="EXECUTE", service_role="EXECUTE")
        op.entitle(function, "conversation_messages", "SELECT", [f"EXECUTE ON FUNCTION public.{function}"])
    for view in ("provider_usage_stats", "daily_message_volume"):
        op.grant_only(view, authenticated="SELECT", service_role="SELECT")
    session = "SELECT s.created_at FROM public.conversation_sessions AS s WHERE s.id = t.session_id"
    op.fill_adopted("conversation_messages", {"created_at": f"coalesce(({session}), pg_catalog.now())"})
    op.when("chat_internal.is_adopted('conversation_messages')", follow_sessions)
    op.finish_table("conversation_messages")


def follow_sessions() -> None:
    """Give messages of another owner or brand than their session's, where the operator chose so, those of it."""
    differs = "(s.user_id, s.brand_id) IS DISTINCT FROM (t.user_id, t.brand_id)"
    op.move(
        "conversation_messages",
        f"""
        WITH moved AS (
          UPDATE public.conversation_messages AS t SET user_id = s.user_id, brand_id = s.brand_id
          FROM public.conversation_sessions AS s, public.conversation_messages AS former
          WHERE {{batch}} AND former.id = t.id AND s.id = t.session_id AND {differs}
          RETURNING pg_catalog.jsonb_build_object('id', t.id) AS key,
            pg_catalog.jsonb_build_object('user_id', former.user_id, 'brand_id', former.brand_id) AS before,
            pg_catalog.jsonb_build_object('user_id', t.user_id, 'brand_id', t.brand_id) AS after
        ), kept AS (
          INSERT INTO chat_internal.adopted_values AS v (object, key, before, after)
          SELECT 'conversation_messages', m.key, m.before, m.after FROM moved AS m
          ON CONFLICT (object, key) DO UPDATE
          SET before = EXCLUDED.before || v.before, after = v.after || EXCLUDED.after
        )
        SELECT FROM moved
        """,
        pending=f"EXISTS (SELECT FROM public.conversation_sessions AS s WHERE s.id = t.session_id AND {differs})",
    )


def downgrade() -> None:
    for adopted in (
        "daily_message_volume",
        "provider_usage_stats",
        "get_session_message_stats(uuid)",
        "get_session_cost(uuid)",
        "get_conversation_history(uuid, integer)",
    ):
        op.release(adopted)
    op.release_table("conversation_messages", what="messages of creative sessions")
    op.release("update_session_on_message()")
