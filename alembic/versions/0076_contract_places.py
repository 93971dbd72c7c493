"""Contract what places a message: its refusals do not tell which messages of others are there.

What:   chat_internal.place_message() leaves a row that is another user's to the policy, which refuses it.
Why:    it runs before the policy and as the owner of the tables. A parent that was not there was an error of its own,
        so that a user could find out whether another one has a message. Now both answers are the policy's.
Locks:  none.
Undone: it refuses by itself again.

Revision ID: 0076
Revises: 0075
"""

from alembic import op

revision = "0076"
down_revision = "0075"
branch_labels = None
depends_on = None

PLACE = """
        -- a new message gets its conversation's tenant, as in 0024, and its place in the tree
        CREATE OR REPLACE FUNCTION chat_internal.place_message() RETURNS trigger
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
          )<unless> THEN
            RAISE foreign_key_violation USING MESSAGE = pg_catalog.format(
              'There is no message %s in conversation %s to be the parent of another.',
              NEW.parent_id, NEW.conversation_id), CONSTRAINT = 'fk_messages_parent_id';
          END IF;
          RETURN NEW;
        END
        $$;
"""
OF_ANOTHER = """ AND NOT (
            NEW.user_id IS DISTINCT FROM chat_internal.current_user_id() AND EXISTS (
              SELECT FROM chat_internal.role_names AS n
              WHERE n.logical = 'authenticated'
                AND n.actual IN (pg_catalog.current_setting('role'), session_user::text))
          )"""


def upgrade() -> None:
    op.sql(PLACE.replace("<unless>", OF_ANOTHER))


def downgrade() -> None:
    op.sql(PLACE.replace("<unless>", ""))
