"""Create what places a new message in its tree, moves the head, and mends the tree when a message goes.

What:   triggers of messages and conversations, and their functions in chat_internal.
Why:    the first message that names a parent makes a branch. From then on one that names none, an old client's too,
        continues the branch that is shown; those who append to one branched conversation wait for each other, and in
        any other nobody waits. A parent has to be there before its answer: a missing one is refused at once, but a row
        that names another user is left to the policy, whose refusal does not tell which messages of others are there.
        What hung on a deleted message hangs on the one before it. A head is a message of its conversation.
        Three of them run as the owner of the tables: to place, to move and to mend they change what no role may.
Locks:  ShareRowExclusive on public.messages and public.conversations, an instant.
Undone: triggers and functions are dropped.

Revision ID: 0054
Revises: 0053
"""

from alembic import op

revision = "0054"
down_revision = "0053"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.sql(
        """
        -- a new message gets its conversation's tenant, as in 0024, and its place in the tree
        CREATE FUNCTION chat_internal.place_message() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
        DECLARE
          v_head uuid;
          v_tail text;
        BEGIN
          SELECT c.tenant_id, c.head_message_id INTO NEW.tenant_id, v_head FROM public.conversations AS c
          WHERE c.id = NEW.conversation_id AND c.user_id = NEW.user_id
          FOR KEY SHARE;
          IF NEW.parent_id IS NULL THEN
            IF v_head IS NULL THEN
              RETURN NEW;
            END IF;
            -- each continues what the one before has said
            SELECT c.head_message_id INTO v_head FROM public.conversations AS c
            WHERE c.id = NEW.conversation_id AND c.user_id = NEW.user_id
            FOR NO KEY UPDATE;
            NEW.parent_id := v_head;
            -- within one statement that is the row before: the head moves when the statement ends
            v_tail := pg_catalog.current_setting('chat_internal.tail', true);
            IF pg_catalog."left"(v_tail, 36) = v_head::text THEN
              SELECT m.id INTO NEW.parent_id FROM public.messages AS m
              WHERE m.id::text = pg_catalog."right"(v_tail, 36)
                AND m.user_id = NEW.user_id AND m.conversation_id = NEW.conversation_id;
              NEW.parent_id := coalesce(NEW.parent_id, v_head);
            END IF;
            PERFORM pg_catalog.set_config('chat_internal.tail', v_head || ' ' || NEW.id, true);
          ELSIF NEW.parent_id <> NEW.id AND NOT EXISTS (
            SELECT FROM public.messages AS m
            WHERE m.user_id = NEW.user_id AND m.conversation_id = NEW.conversation_id AND m.id = NEW.parent_id
          ) AND NOT (
            NEW.user_id IS DISTINCT FROM chat_internal.current_user_id() AND EXISTS (
              SELECT FROM chat_internal.role_names AS n
              WHERE n.logical = 'authenticated'
                AND n.actual IN (pg_catalog.current_setting('role'), session_user::text))
          ) THEN
            RAISE foreign_key_violation USING MESSAGE = pg_catalog.format(
              'There is no message %s in conversation %s to be the parent of another.',
              NEW.parent_id, NEW.conversation_id), CONSTRAINT = 'fk_messages_parent_id';
          END IF;
          RETURN NEW;
        END
        $$;

        -- the message is in, which says that its writer may write there
        CREATE FUNCTION chat_internal.move_head() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
        BEGIN
          UPDATE public.conversations AS c SET head_message_id = NEW.id
          WHERE c.id = NEW.conversation_id AND c.user_id = NEW.user_id;
          PERFORM pg_catalog.set_config('chat_internal.tail', '', true);
          RETURN NULL;
        END
        $$;

        -- what hung on messages that are gone hangs on the nearest before them that is left
        CREATE FUNCTION chat_internal.mend_branches() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
        BEGIN
          IF NOT EXISTS (
            SELECT FROM (SELECT DISTINCT g.conversation_id FROM gone AS g) AS n
            JOIN public.conversations AS c ON c.id = n.conversation_id
            WHERE c.head_message_id IS NOT NULL
          ) THEN
            RETURN NULL;
          END IF;
          WITH RECURSIVE before AS (
            SELECT g.id, CASE
                WHEN g.parent_id IS NOT NULL THEN nullif(g.parent_id, g.id)
                ELSE (
                  SELECT t.id FROM public.messages AS t
                  WHERE t.conversation_id = g.conversation_id AND t.user_id = g.user_id AND t.parent_id IS NULL
                    AND (t.created_at, t.seq) < (g.created_at, g.seq)
                  ORDER BY t.created_at DESC, t.seq DESC
                  LIMIT 1
                )
              END AS parent_id
            FROM gone AS g
          ), lifted AS (
            SELECT b.id AS gone_id, b.parent_id FROM before AS b
            UNION ALL
            SELECT l.gone_id, b.parent_id FROM lifted AS l JOIN before AS b ON b.id = l.parent_id
          ), left_before AS MATERIALIZED (
            SELECT l.gone_id, l.parent_id FROM lifted AS l
            WHERE NOT EXISTS (SELECT FROM gone AS g WHERE g.id = l.parent_id)
          ), answers AS (
            UPDATE public.messages AS m SET parent_id = coalesce(l.parent_id, m.id)
            FROM gone AS g JOIN left_before AS l ON l.gone_id = g.id
            WHERE m.user_id = g.user_id AND m.conversation_id = g.conversation_id AND m.parent_id = g.id
          )
          UPDATE public.conversations AS c SET head_message_id = coalesce(l.parent_id, (
            SELECT m.id FROM public.messages AS m
            WHERE m.conversation_id = c.id AND m.user_id = c.user_id
            ORDER BY m.created_at DESC, m.seq DESC
            LIMIT 1
          ))
          FROM gone AS g JOIN left_before AS l ON l.gone_id = g.id
          WHERE c.id = g.conversation_id AND c.user_id = g.user_id AND c.head_message_id = g.id;
          RETURN NULL;
        END
        $$;

        -- a head is a message of its conversation, and one that branches has one
        CREATE FUNCTION chat_internal.check_head() RETURNS trigger
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
        BEGIN
          IF NEW.head_message_id IS NOT NULL THEN
            PERFORM FROM public.messages AS m
            WHERE m.user_id = NEW.user_id AND m.conversation_id = NEW.id AND m.id = NEW.head_message_id
            FOR KEY SHARE;
            IF NOT FOUND THEN
              RAISE foreign_key_violation USING MESSAGE = pg_catalog.format(
                'There is no message %s in conversation %s to be the head of it.', NEW.head_message_id, NEW.id);
            END IF;
          ELSIF EXISTS (
            SELECT FROM public.messages AS m
            WHERE m.user_id = NEW.user_id AND m.conversation_id = NEW.id AND m.parent_id IS NOT NULL
          ) THEN
            RAISE check_violation USING MESSAGE = pg_catalog.format(
              'Conversation %s has branches, so it has a head: name the last message of one.', NEW.id);
          END IF;
          RETURN NEW;
        END
        $$;
        """
    )
    for function in ("place_message()", "move_head()", "mend_branches()", "check_head()"):
        op.grant_only(f"FUNCTION chat_internal.{function}")
    op.sql(
        """
        CREATE OR REPLACE TRIGGER messages_fill_tenant BEFORE UPDATE OF conversation_id, user_id, tenant_id
        ON public.messages FOR EACH ROW EXECUTE FUNCTION chat_internal.fill_message_tenant();
        CREATE TRIGGER messages_place BEFORE INSERT ON public.messages
        FOR EACH ROW EXECUTE FUNCTION chat_internal.place_message();
        CREATE TRIGGER messages_move_head AFTER INSERT ON public.messages
        FOR EACH ROW WHEN (NEW.parent_id IS NOT NULL) EXECUTE FUNCTION chat_internal.move_head();
        CREATE TRIGGER messages_mend_branches AFTER DELETE ON public.messages
        REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION chat_internal.mend_branches();
        CREATE TRIGGER conversations_check_head BEFORE UPDATE OF head_message_id ON public.conversations
        FOR EACH ROW WHEN (NEW.head_message_id IS DISTINCT FROM OLD.head_message_id)
        EXECUTE FUNCTION chat_internal.check_head();
        CREATE TRIGGER conversations_begin_headless BEFORE INSERT ON public.conversations
        FOR EACH ROW WHEN (NEW.head_message_id IS NOT NULL) EXECUTE FUNCTION chat_internal.check_head();
        """
    )


def downgrade() -> None:
    op.sql(
        """
        DROP TRIGGER conversations_begin_headless ON public.conversations;
        DROP TRIGGER conversations_check_head ON public.conversations;
        DROP TRIGGER messages_mend_branches ON public.messages;
        DROP TRIGGER messages_move_head ON public.messages;
        DROP TRIGGER messages_place ON public.messages;
        CREATE OR REPLACE TRIGGER messages_fill_tenant BEFORE INSERT OR UPDATE OF conversation_id, user_id, tenant_id
        ON public.messages FOR EACH ROW EXECUTE FUNCTION chat_internal.fill_message_tenant();
        DROP FUNCTION chat_internal.check_head();
        DROP FUNCTION chat_internal.mend_branches();
        DROP FUNCTION chat_internal.move_head();
        DROP FUNCTION chat_internal.place_message();
        """
    )
