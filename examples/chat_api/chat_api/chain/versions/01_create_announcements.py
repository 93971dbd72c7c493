"""Create what announces each write of a conversation or message: a table of changes, and the triggers that fill it.

What:   chat_api.changes, and a trigger on each of public.conversations and public.messages.
Why:    services that LISTEN hear of what other processes write. The trigger runs as whoever writes, and a role that has
        no part in this (one that deletes accounts, say) writes unannounced rather than not at all.
Locks:  ShareRowExclusive on public.conversations and public.messages, an instant each; retried while they are not free.
Undone: all of it is dropped; the changes in it are of the last minutes, and no service needs them any more.

What an older version of this service installed without a chain is replaced.
"""

from alembic import op

revision = "01"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.sql("REVOKE ALL ON SCHEMA chat_api FROM PUBLIC")
    op.revoke_schema_usage("chat_api", of=["anon"])
    op.grant_schema_usage("chat_api", to=["authenticated", "service_role"])
    op.sql("DROP TABLE IF EXISTS chat_api.changes")
    op.sql(
        """
        CREATE UNLOGGED TABLE chat_api.changes (
          transaction pg_catalog.xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
          conversation_id pg_catalog.uuid NOT NULL,
          kind pg_catalog.text NOT NULL,
          user_id pg_catalog.uuid NOT NULL,
          PRIMARY KEY (transaction, conversation_id, kind),
          CONSTRAINT ck_changes_kind CHECK (kind IN ('changed', 'deleted'))
        )
        """
    )
    op.enable_row_level_security("chat_api.changes")
    op.create_policy(
        "changes_insert_own",
        "chat_api.changes",
        "INSERT",
        to="authenticated",
        check="user_id = (SELECT chat_internal.current_user_id())"
        " AND transaction = (SELECT pg_catalog.pg_current_xact_id())",
    )
    op.create_policy("changes_service", "chat_api.changes", "ALL", to="service_role", using="true", check="true")
    op.grant_only("chat_api.changes", authenticated="INSERT", service_role="SELECT, INSERT, DELETE")
    op.sql(
        """
        CREATE OR REPLACE FUNCTION chat_api.announce() RETURNS trigger
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
          owner uuid;
          conversation uuid;
        BEGIN
          IF NOT pg_catalog.has_schema_privilege('chat_api', 'USAGE') THEN
            RETURN NULL;
          END IF;
          IF TG_OP = 'DELETE' THEN
            owner := OLD.user_id; conversation := OLD.id;
          ELSIF TG_TABLE_NAME = 'messages' THEN
            owner := NEW.user_id; conversation := NEW.conversation_id;
          ELSE
            owner := NEW.user_id; conversation := NEW.id;
          END IF;
          INSERT INTO chat_api.changes (conversation_id, kind, user_id)
          VALUES (conversation, CASE TG_OP WHEN 'DELETE' THEN 'deleted' ELSE 'changed' END, owner)
          ON CONFLICT DO NOTHING;
          PERFORM pg_catalog.pg_notify('chat_api', pg_catalog.pg_current_xact_id()::text);  -- equal ones are sent once
          RETURN NULL;
        END
        $$
        """
    )
    op.grant_only("FUNCTION chat_api.announce()")
    op.sql(
        "CREATE OR REPLACE TRIGGER chat_api_announce AFTER INSERT OR UPDATE OR DELETE ON public.conversations"
        " FOR EACH ROW EXECUTE FUNCTION chat_api.announce()"
    )
    # A message that is committed after a later one moves no updated_at, so the conversation's trigger is not enough.
    op.sql(
        "CREATE OR REPLACE TRIGGER chat_api_announce AFTER INSERT OR UPDATE ON public.messages"
        " FOR EACH ROW EXECUTE FUNCTION chat_api.announce()"
    )


def downgrade() -> None:
    op.sql("DROP TRIGGER chat_api_announce ON public.messages")
    op.sql("DROP TRIGGER chat_api_announce ON public.conversations")
    op.sql("DROP FUNCTION chat_api.announce()")
    op.sql("DROP TABLE chat_api.changes")
