"""Expand what counts as ours by the tables of the next revisions.

What:   chat_internal.our_relations() names attachments, feedback and shares too.
Why:    `chat-schema verify` asks it which tables it looks around for objects of others that weaken them. A name that
        has no table yet adds nothing.
Locks:  none.
Undone: the function is as before.

Revision ID: 0047
Revises: 0046
"""

from alembic import op

revision = "0047"
down_revision = "0046"
branch_labels = None
depends_on = None

BEFORE = """'users', 'tenants', 'tenant_users', 'tasks', 'chat_messages', 'chat_sessions', 'conversations', 'messages',
            'brands', 'conversation_sessions', 'conversation_messages', 'provider_usage_stats',
            'daily_message_volume'"""
ADDED = "'attachments', 'feedback', 'shares'"


def upgrade() -> None:
    define(f"{BEFORE},\n            {ADDED}")


def downgrade() -> None:
    define(BEFORE)


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
