"""Expand chat_api.changes by the tenant of the conversation, so that an operator sees whose writes wait.

What:   chat_api.changes.tenant_id, NULL for a personal conversation; the trigger fills it from now on.
Why:    `python -m chat_api.notify waiting` counts by tenant what no service has read yet. What stands already is filled
        by 03, behind the trigger, so that no row is missed.
Locks:  AccessExclusive on chat_api.changes, an instant: a column without a default rewrites nothing.
Undone: the column is dropped; what was in it stands in public.conversations.
"""

from alembic import op

revision = "02"
down_revision = "01"
branch_labels = None
depends_on = None

ANNOUNCE = """
    CREATE OR REPLACE FUNCTION chat_api.announce() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
    DECLARE
      owner uuid;
      conversation uuid;
      tenant uuid;
    BEGIN
      IF NOT pg_catalog.has_schema_privilege('chat_api', 'USAGE') THEN
        RETURN NULL;
      END IF;
      IF TG_OP = 'DELETE' THEN
        owner := OLD.user_id; conversation := OLD.id; tenant := OLD.tenant_id;
      ELSIF TG_TABLE_NAME = 'messages' THEN
        owner := NEW.user_id; conversation := NEW.conversation_id; tenant := NEW.tenant_id;
      ELSE
        owner := NEW.user_id; conversation := NEW.id; tenant := NEW.tenant_id;
      END IF;
      INSERT INTO chat_api.changes (conversation_id, kind, user_id{column})
      VALUES (conversation, CASE TG_OP WHEN 'DELETE' THEN 'deleted' ELSE 'changed' END, owner{value})
      ON CONFLICT DO NOTHING;
      PERFORM pg_catalog.pg_notify('chat_api', pg_catalog.pg_current_xact_id()::text);  -- equal ones are sent once
      RETURN NULL;
    END
    $$
"""


def upgrade() -> None:
    op.sql("ALTER TABLE chat_api.changes ADD COLUMN tenant_id pg_catalog.uuid")
    op.sql(ANNOUNCE.format(column=", tenant_id", value=", tenant"))


def downgrade() -> None:
    op.sql(ANNOUNCE.format(column="", value=""))
    op.sql("ALTER TABLE chat_api.changes DROP COLUMN tenant_id")
