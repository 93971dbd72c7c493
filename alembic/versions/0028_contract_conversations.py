"""Contract conversations, where its own application has left the arrays in it that it has turned into rows.

What:   column messages goes; 0026 has kept the arrays.
Why:    its rows stand in messages already, and nobody writes it: what chat_sessions shows from here on are the rows.
Locks:  none where there is no such column; where there is, AccessExclusive on conversations, an instant.
Undone: the column is there again with the arrays as they were.

Revision ID: 0028
Revises: 0027
"""

from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.sql(
        """
        SELECT chat_internal.change('conversations.messages', 'column dropped',
          'ALTER TABLE public.conversations DROP COLUMN messages',
          $undo$
            SELECT pg_catalog.set_config('chat_internal.adopting', 'yes', true);
            ALTER TABLE public.conversations ADD COLUMN messages jsonb;
            UPDATE public.conversations AS c SET messages = a.messages
            FROM chat_internal.chat_session_arrays AS a WHERE a.session_id = c.id AND a.messages IS NOT NULL;
            SELECT pg_catalog.set_config('chat_internal.adopting', '', true);
          $undo$ || coalesce('ALTER TABLE public.conversations ALTER COLUMN messages SET DEFAULT '
                             || pg_catalog.pg_get_expr(d.adbin, d.adrelid), ''))
        FROM pg_catalog.pg_attribute AS a
        LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attrelid = pg_catalog.to_regclass('public.conversations') AND a.attname = 'messages'
          AND a.atttypid = 'jsonb'::regtype AND NOT a.attisdropped
        """
    )


def downgrade() -> None:
    op.release("conversations.messages")
