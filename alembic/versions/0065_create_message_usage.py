"""Create the view of what models used: by user, tenant, day and model.

What:   public.message_usage; chat_internal.our_relations() names it.
Why:    the view runs as its caller, so that a user sees its own usage and the service that of everybody. A day is a day
        of UTC. Messages without a model are not in it: no model wrote them. Who asks for a span of days asks messages
        by created_at, which an index serves (`queries.usage`): a condition on the day is met after the rows are read.
        `chat-schema verify` looks for objects of others around what our_relations() names.
Locks:  none.
Undone: the view is dropped.

Revision ID: 0065
Revises: 0064
"""

from alembic import op

revision = "0065"
down_revision = "0064"
branch_labels = None
depends_on = None

LOOK = """
    SELECT pg_catalog.format('public.%s is a %s of your own, and the upgrade creates something of this name. Rename '
        'yours, in your application too.', o.name, o.kind) AS says,
      pg_catalog.format('ALTER %s public.%s RENAME TO %s_of_before;', o.kind, o.name, o.name) AS mends,
      NULL AS rows, false AS unsafe
    FROM (
      SELECT c.relname AS name, CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW'
        WHEN 'S' THEN 'SEQUENCE' WHEN 'i' THEN 'INDEX' WHEN 'f' THEN 'FOREIGN TABLE' WHEN 'c' THEN 'TYPE'
        ELSE 'TABLE' END AS kind
      FROM pg_catalog.pg_class AS c WHERE c.relnamespace = pg_catalog.to_regnamespace('public')
      UNION ALL
      SELECT t.typname, CASE t.typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END
      FROM pg_catalog.pg_type AS t
      WHERE t.typnamespace = pg_catalog.to_regnamespace('public') AND t.typrelid = 0 AND t.typelem = 0
    ) AS o
    WHERE o.name = 'message_usage'
"""

BEFORE = """'users', 'tenants', 'tenant_users', 'tasks', 'chat_messages', 'chat_sessions', 'conversations', 'messages',
            'brands', 'conversation_sessions', 'conversation_messages', 'provider_usage_stats', 'daily_message_volume',
            'attachments', 'feedback', 'shares', 'user_llm_providers', 'retention_rules', 'retention_holds'"""


def upgrade() -> None:
    op.sql(
        """
        CREATE VIEW public.message_usage WITH (security_invoker = true) AS
        SELECT m.user_id, m.tenant_id, (m.created_at AT TIME ZONE 'UTC')::date AS day, m.provider, m.model,
               pg_catalog.count(*) AS messages, pg_catalog.sum(m.input_tokens) AS input_tokens,
               pg_catalog.sum(m.output_tokens) AS output_tokens, pg_catalog.sum(m.cached_tokens) AS cached_tokens,
               pg_catalog.sum(m.reasoning_tokens) AS reasoning_tokens, pg_catalog.sum(m.cost_usd) AS cost_usd,
               pg_catalog.avg(m.latency_ms) AS latency_ms
        FROM public.messages AS m
        WHERE m.model IS NOT NULL
        GROUP BY m.user_id, m.tenant_id, (m.created_at AT TIME ZONE 'UTC')::date, m.provider, m.model
        """
    )
    op.grant_only("message_usage", authenticated="SELECT", service_role="SELECT")
    define(f"{BEFORE}, 'message_usage'")


def downgrade() -> None:
    define(BEFORE)
    op.sql("DROP VIEW public.message_usage")


def define(names: str) -> None:
    op.sql(
        f"""
        CREATE OR REPLACE FUNCTION chat_internal.our_relations()
        RETURNS TABLE (oid oid, relkind "char", relacl aclitem[], name text)
        LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
          SELECT c.oid, c.relkind, c.relacl, pg_catalog.format('%I.%I', n.nspname, c.relname) AS name
          FROM pg_catalog.pg_class AS c
          JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
          WHERE c.relkind IN ('r', 'p', 'v') AND (n.nspname = 'chat_internal' OR n.nspname = 'public' AND c.relname IN (
            {names}))
        $$
        """
    )
