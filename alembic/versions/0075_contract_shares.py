"""Contract what opens a share to the page that is asked for.

What:   chat_internal.open_share() reads the messages of its page, and no others of the trunk.
Why:    it read the whole conversation for each page: 3,100 buffers for 50 messages of 3,000. The trunk is now one range
        of an index, from where the page begins. The part of a branch that is not the trunk is still walked from its
        last message back, as there is no other way to it.
Locks:  none.
Undone: it reads the whole conversation again.

Revision ID: 0075
Revises: 0074
"""

from alembic import op

revision = "0075"
down_revision = "0074"
branch_labels = None
depends_on = None

FUNCTION = """
        CREATE OR REPLACE FUNCTION chat_internal.open_share(
          p_token_hash bytea, p_after_created_at timestamptz, p_after_seq bigint, p_limit integer
        )
        RETURNS TABLE (share_id uuid, title text, message_id uuid, role text, content text, created_at timestamptz,
                       seq bigint)
        LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp%s
        $$
"""
PAGE = """ SET enable_seqscan = off AS $$
          -- by index, always, as in 0031
          WITH RECURSIVE shared AS (
            SELECT s.id, c.title, s.message_id, s.conversation_id, s.user_id
            FROM public.shares AS s
            JOIN public.conversations AS c ON c.id = s.conversation_id AND c.user_id = s.user_id
            WHERE s.token_hash = p_token_hash
              AND s.revoked_at IS NULL AND c.deleted_at IS NULL
              AND (s.expires_at IS NULL OR s.expires_at > pg_catalog.now())
              AND (c.tenant_id IS NULL OR EXISTS (
                SELECT FROM public.tenant_users AS t WHERE t.tenant_id = c.tenant_id AND t.user_id = c.user_id))
          ), branch AS (
            -- the branch that ends with the message, from parent to parent, until one that has none: it is in the trunk
            SELECT m.id, m.parent_id, m.created_at, m.seq
            FROM shared AS s JOIN public.messages AS m ON m.id = s.message_id
            UNION ALL
            SELECT m.id, m.parent_id, m.created_at, m.seq
            FROM branch AS b JOIN public.messages AS m ON m.id = b.parent_id
            WHERE b.parent_id <> b.id
          )
          SELECT s.id, s.title, m.id, m.role::text, m.content, m.created_at, m.seq
          FROM shared AS s CROSS JOIN LATERAL (
            SELECT m.id, m.role, m.content, m.created_at, m.seq
            FROM branch AS b JOIN public.messages AS m ON m.id = b.id
            WHERE b.parent_id IS NOT NULL
            UNION ALL
            SELECT t.*
            FROM branch AS b CROSS JOIN LATERAL (
              SELECT m.id, m.role, m.content, m.created_at, m.seq
              FROM public.messages AS m
              WHERE m.conversation_id = s.conversation_id AND m.user_id = s.user_id AND m.parent_id IS NULL
                AND (m.created_at, m.seq) <= (b.created_at, b.seq)
                AND (m.created_at, m.seq) >
                  (coalesce(p_after_created_at, '-infinity'::timestamptz), coalesce(p_after_seq, 0))
                AND m.role IN ('user', 'assistant', 'agent')
              ORDER BY m.created_at, m.seq
              LIMIT p_limit
            ) AS t
            WHERE b.parent_id IS NULL
          ) AS m
          WHERE (m.created_at, m.seq) >
              (coalesce(p_after_created_at, '-infinity'::timestamptz), coalesce(p_after_seq, 0))
            AND m.role IN ('user', 'assistant', 'agent')
          ORDER BY m.created_at, m.seq
          LIMIT p_limit"""
WHOLE = """ AS $$
          -- the branch that ends with the message: from parent to parent, and from one that has none along the trunk
          WITH RECURSIVE branch AS (
            SELECT l.id, l.parent_id, l.created_at, l.seq
            FROM public.shares AS s JOIN public.messages AS l ON l.id = s.message_id
            WHERE s.token_hash = p_token_hash
            UNION ALL
            SELECT p.id, p.parent_id, p.created_at, p.seq
            FROM branch AS b JOIN public.messages AS p ON p.id = b.parent_id
            WHERE b.parent_id <> b.id
          )
          SELECT s.id, c.title, m.id, m.role::text, m.content, m.created_at, m.seq
          FROM public.shares AS s
          JOIN public.conversations AS c ON c.id = s.conversation_id AND c.user_id = s.user_id
          JOIN public.messages AS m ON m.conversation_id = s.conversation_id
            AND (m.id IN (SELECT b.id FROM branch AS b) OR m.parent_id IS NULL AND EXISTS (
              SELECT FROM branch AS b
              WHERE b.parent_id IS NULL AND (m.created_at, m.seq) <= (b.created_at, b.seq)))
            AND (m.created_at, m.seq) >
              (coalesce(p_after_created_at, '-infinity'::timestamptz), coalesce(p_after_seq, 0))
          WHERE s.token_hash = p_token_hash
            AND s.revoked_at IS NULL AND c.deleted_at IS NULL
            AND (s.expires_at IS NULL OR s.expires_at > pg_catalog.now())
            AND (c.tenant_id IS NULL OR EXISTS (
              SELECT FROM public.tenant_users AS t WHERE t.tenant_id = c.tenant_id AND t.user_id = c.user_id))
            AND m.role IN ('user', 'assistant', 'agent')
          ORDER BY m.created_at, m.seq
          LIMIT p_limit"""


def upgrade() -> None:
    op.sql(FUNCTION % PAGE)


def downgrade() -> None:
    op.sql(FUNCTION % WHOLE)
