"""Contract the order of a creative session's messages to (created_at, seq).

What:   get_conversation_history() reads in this order.
Why:    it read by (created_at, id), which put a reply before its question as often as not, and which no index has now.
Locks:  none.
Undone: it reads by (created_at, id) again.

Revision ID: 0071
Revises: 0070
"""

from alembic import op

revision = "0071"
down_revision = "0070"
branch_labels = None
depends_on = None


def upgrade() -> None:
    order_history_by("seq")


def order_history_by(last: str) -> None:
    op.sql(
        f"""
        CREATE OR REPLACE FUNCTION public.get_conversation_history(p_session_id uuid, p_limit integer DEFAULT 50)
        RETURNS TABLE (id uuid, role varchar, content text, created_at timestamptz)
        LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
          SELECT m.id, m.role, m.content, m.created_at
          FROM public.conversation_messages AS m
          WHERE m.session_id = p_session_id
          ORDER BY m.created_at, m.{last}
          LIMIT p_limit
        $$
        """
    )


def downgrade() -> None:
    order_history_by("id")
