"""Create what moves a conversation's updated_at when it gets a message.

What:   chat_internal.touch_conversations() and its trigger on messages; chat_messages gets one in 0032. updated_at
        follows the latest message, to within ten seconds.
Why:    the sidebar is ordered by it, and three indexes hold it: to move it with each message would write all of them
        each time. A conversation that somebody is changing is left to them. Nobody waits, so that no two wait for each
        other, and appends to one conversation do not queue; where who held it rolls back, the next message moves it.
        As the owner of the tables: the message is in, which says that its writer may write there.
Locks:  ShareRowExclusive on public.messages, an instant.
Undone: trigger and function are dropped.

Revision ID: 0031
Revises: 0030
"""

from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.sql(
        """
        -- by index, always: a plan made while conversations are few would read all of them for one message
        CREATE FUNCTION chat_internal.touch_conversations() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
        BEGIN
          UPDATE public.conversations AS c
          SET updated_at = l.last_at
          FROM (
            SELECT o.id, n.last_at
            FROM (
              SELECT a.conversation_id, a.user_id, pg_catalog.max(coalesce(a.created_at, pg_catalog.now())) AS last_at
              FROM added AS a
              GROUP BY a.conversation_id, a.user_id
            ) AS n
            JOIN public.conversations AS o ON o.id = n.conversation_id AND o.user_id = n.user_id
            WHERE o.updated_at < n.last_at - interval '10 seconds'
            FOR NO KEY UPDATE OF o SKIP LOCKED
          ) AS l
          WHERE c.id = l.id;
          RETURN NULL;
        END
        $$;

        CREATE TRIGGER messages_touch_conversation AFTER INSERT ON public.messages
        REFERENCING NEW TABLE AS added
        FOR EACH STATEMENT EXECUTE FUNCTION chat_internal.touch_conversations();
        """
    )
    op.grant_only("FUNCTION chat_internal.touch_conversations()")


def downgrade() -> None:
    op.sql(
        """
        DROP TRIGGER messages_touch_conversation ON public.messages;
        DROP FUNCTION chat_internal.touch_conversations();
        """
    )
