"""Expand messages by the message that each answers, and conversations by the branch that is shown.

What:   messages.parent_id with its key, not yet validated; conversations.head_message_id, the last message of the
        branch that is shown, which does not move updated_at.
Why:    where parent_id is NULL everywhere a thread is what it was: its messages in order, the trunk; head_message_id is
        NULL. A branch is read from its head back: from parent to parent, and from the first that has none along the
        trunk. So nothing of a thread has to be rewritten when it branches. A message that is its own parent begins
        anew. Both roles may insert parent_id and not update it: a parent is there before its answers, so that no circle
        comes about. The key is deferred: what hung on a deleted message is mended when the statement ends (0054).
Locks:  AccessExclusive on public.messages and public.conversations, an instant.
Undone: the columns are dropped; refused while a message has a parent: branches would become one thread, by time.

Revision ID: 0050
Revises: 0049
"""

import sqlalchemy as sa

from alembic import op

revision = "0050"
down_revision = "0049"
branch_labels = None
depends_on = None

LOOK = """
    SELECT pg_catalog.format('The table %s has a column %I of your own, and one of that name comes to it. '
        'Rename yours and what your application calls it.', c.oid::regclass, a.attname) AS says,
      pg_catalog.format('ALTER TABLE %s RENAME COLUMN %I TO %I;', c.oid::regclass, a.attname,
        'own_' || a.attname) AS mends,
      NULL AS rows, false AS unsafe
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid
    WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
      AND (c.oid = pg_catalog.to_regclass('public.messages') AND a.attname = 'parent_id'
        OR c.oid IN (pg_catalog.to_regclass('public.conversations'), pg_catalog.to_regclass('public.chat_sessions'))
        AND a.attname = 'head_message_id')
    ORDER BY a.attnum
"""

# what update_updated_at() does, by all columns but these
UPDATE_CONVERSATION = """
        CREATE OR REPLACE FUNCTION chat_internal.update_conversation() RETURNS trigger
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
          v_said public.conversations := NEW;
        BEGIN
          v_said.title := OLD.title;
          v_said.tenant_id := OLD.tenant_id;
          v_said.archived_at := OLD.archived_at;
          v_said.pinned_at := OLD.pinned_at;
          v_said.last_read_at := OLD.last_read_at;
          v_said.deleted_at := OLD.deleted_at;%s
          IF NEW.updated_at IS NOT DISTINCT FROM OLD.updated_at AND v_said OPERATOR(pg_catalog.*<>) OLD
            AND pg_catalog.current_setting('chat_internal.adopting', true) IS DISTINCT FROM 'yes' THEN
            NEW.updated_at := pg_catalog.now();
          END IF;
          RETURN NEW;
        END
        $$
"""


def upgrade() -> None:
    op.add_column("conversations", sa.Column("head_message_id", sa.Uuid(), nullable=True), schema="public")
    op.add_column("messages", sa.Column("parent_id", sa.Uuid(), nullable=True), schema="public")
    op.sql(
        """
        ALTER TABLE public.messages ADD CONSTRAINT fk_messages_parent_id
          FOREIGN KEY (user_id, conversation_id, parent_id) REFERENCES public.messages (user_id, conversation_id, id)
          DEFERRABLE INITIALLY DEFERRED NOT VALID
        """
    )
    op.grant_more("messages", authenticated="INSERT (parent_id)", service_role="INSERT (parent_id)")
    op.sql(UPDATE_CONVERSATION % "\n          v_said.head_message_id := OLD.head_message_id;")


def downgrade() -> None:
    op.refuse_data_loss(
        "places of messages in branches", "SELECT count(*) FROM public.messages WHERE parent_id IS NOT NULL"
    )
    op.sql(UPDATE_CONVERSATION % "")
    op.drop_column("messages", "parent_id", schema="public")
    op.drop_column("conversations", "head_message_id", schema="public")
