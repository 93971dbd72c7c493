"""Contract chat_sessions: the table becomes conversations, and a view keeps its old name and its old columns.

What:   rename with everything that carries the name; the array column goes (chat_internal keeps the arrays); view
        chat_sessions reads the rows as arrays and takes inserts, whole-array updates and deletes.
Why:    old clients go on with the statements they have, under the policies of the tables (security_invoker, and
        triggers that run as the caller). Columns that the application has added to the table are in the view too. The
        view hides its key, see 0029. Roles of the team's own that were granted the table are granted what takes its
        place.
Locks:  AccessExclusive on public.chat_sessions, ShareRowExclusive on public.messages, an instant: all of it is
        catalog work.
Undone: the table has its name and its column back. An array whose rows nobody changed is given back byte for byte;
        the others are put together from the rows.

Revision ID: 0030
Revises: 0029
"""

from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

SET_ASIDE = """
    INSERT INTO chat_internal.adopted (object, what, undo)
    SELECT 'readers of chat_sessions', 'set aside', pg_catalog.array_to_string(
      chat_internal.drop_readers('public.chat_sessions', %s, '%s'), ';')
"""

READ = (
    "SELECT ON TABLE public.messages",
    "USAGE ON SCHEMA chat_internal",
    "EXECUTE ON FUNCTION chat_internal.message_element(public.messages)",
    "EXECUTE ON FUNCTION chat_internal.element_role(jsonb)",
)
WRITE = (  # an array is written by position, whatever stands there
    *READ,
    *(f"{command} ON TABLE public.messages" for command in ("INSERT", "UPDATE", "DELETE")),
    "SELECT ON TABLE public.conversations",
    "EXECUTE ON FUNCTION chat_internal.store_session_messages(uuid, uuid, jsonb, timestamptz)",
    "EXECUTE ON FUNCTION chat_internal.session_elements(jsonb, timestamptz)",
    "EXECUTE ON FUNCTION chat_internal.element_time(jsonb)",
)
OLD_STATEMENTS = {
    command: (f"{command} ON TABLE public.chat_sessions", *rights)
    for command, rights in {"SELECT": READ, "INSERT": WRITE, "UPDATE": WRITE, "DELETE": ()}.items()
}


def upgrade() -> None:
    op.when("NOT chat_internal.is_adopted('conversations')", contract_chat_sessions)
    op.sql(
        """
        -- columns of the application's own come after ours
        DO $do$
        BEGIN
          EXECUTE pg_catalog.format($view$
            CREATE VIEW public.chat_sessions WITH (security_invoker = true) AS
            SELECT
              CASE WHEN true THEN c.id END AS id,  -- the planner sees through it, PostgREST does not
              c.tenant_id,
              c.user_id,
              coalesce(
                (
                  SELECT pg_catalog.jsonb_agg(chat_internal.message_element(m.*) ORDER BY m.seq)
                  FROM public.messages AS m
                  WHERE m.conversation_id = c.id AND m.user_id = c.user_id
                ),
                '[]'
              ) AS messages,
              c.created_at,
              c.updated_at%s
            FROM public.conversations AS c
          $view$, (
            SELECT pg_catalog.string_agg(pg_catalog.format(', c.%I', a.attname), '' ORDER BY a.attnum)
            FROM pg_catalog.pg_attribute AS a
            WHERE a.attrelid = 'public.conversations'::regclass AND a.attnum > 0 AND NOT a.attisdropped
              AND a.attname <> ALL ('{id,tenant_id,user_id,title,metadata,created_at,updated_at}')
              AND NOT chat_internal.is_adopted('conversations')
          ));
        END
        $do$;

        CREATE TRIGGER chat_sessions_write INSTEAD OF INSERT OR UPDATE OR DELETE ON public.chat_sessions
        FOR EACH ROW EXECUTE FUNCTION chat_internal.write_chat_session();
        NOTIFY pgrst, 'reload schema';

        CREATE OR REPLACE FUNCTION chat_internal.fill_message_owner() RETURNS trigger
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
          SELECT c.user_id INTO NEW.user_id FROM public.conversations AS c WHERE c.id = NEW.conversation_id;
          RETURN NEW;
        END
        $$;

        CREATE OR REPLACE TRIGGER messages_fill_owner BEFORE INSERT ON public.messages
        FOR EACH ROW WHEN (NEW.user_id IS NULL) EXECUTE FUNCTION chat_internal.fill_message_owner();
        """
    )
    op.release("readers of chat_sessions")  # views of the application's own, now on the view of that name
    op.grant_only("FUNCTION chat_internal.fill_message_owner()")
    op.grant_only(
        "chat_sessions",
        authenticated="SELECT, INSERT, UPDATE, DELETE",
        service_role="SELECT, INSERT, UPDATE, DELETE",
    )
    op.when("NOT chat_internal.is_adopted('conversations')", entitle_old_clients)


def entitle_old_clients() -> None:
    """Let the team's own roles that were granted chat_sessions do through the view what they did on the table."""
    for command, rights in OLD_STATEMENTS.items():
        op.entitle("old clients of chat_sessions", "conversations", command, rights)


def contract_chat_sessions() -> None:
    op.sql(SET_ASIDE % ("'messages'", "becomes rows of another table"))
    # lint: ignore index-not-online -- the table is locked here anyway, for an instant, to be renamed
    op.sql(
        """
        DROP TRIGGER chat_sessions_expand ON public.chat_sessions;
        DROP TRIGGER chat_sessions_fill_times ON public.chat_sessions;
        -- squawk-ignore ban-drop-function
        DROP FUNCTION chat_internal.expand_written_chat_session();
        -- squawk-ignore ban-drop-function
        DROP FUNCTION chat_internal.expand_chat_session(uuid, uuid, jsonb, timestamptz);
        -- squawk-ignore ban-drop-function
        DROP FUNCTION chat_internal.fill_session_times();
        -- squawk-ignore require-concurrent-index-deletion
        DROP INDEX public.idx_chat_sessions_tenant_id;
        -- squawk-ignore require-concurrent-index-deletion
        DROP INDEX public.idx_chat_sessions_user_id;
        """
    )
    op.set_not_null("chat_sessions", "created_at")
    op.set_not_null("chat_sessions", "updated_at")
    op.sql(
        """
        -- squawk-ignore ban-drop-column
        ALTER TABLE public.chat_sessions DROP COLUMN messages;
        -- squawk-ignore renaming-table
        ALTER TABLE public.chat_sessions RENAME TO conversations;
        DO $$
        BEGIN  -- its text names the table
          EXECUTE pg_catalog.replace(
            pg_catalog.pg_get_functiondef('chat_internal.fill_message_tenant()'::pg_catalog.regprocedure),
            'public.chat_sessions', 'public.conversations'
          );
        END
        $$;
        ALTER INDEX public.chat_sessions_pkey RENAME TO conversations_pkey;
        ALTER TABLE public.conversations RENAME CONSTRAINT fk_chat_sessions_tenant_id TO fk_conversations_tenant_id;
        ALTER TABLE public.conversations RENAME CONSTRAINT fk_chat_sessions_user_id TO fk_conversations_user_id;
        ALTER TABLE public.conversations RENAME CONSTRAINT ck_chat_sessions_default_id TO ck_conversations_default_id;
        ALTER TABLE public.conversations RENAME CONSTRAINT ck_chat_sessions_times TO ck_conversations_times;
        ALTER TRIGGER chat_sessions_updated_at ON public.conversations RENAME TO conversations_updated_at;
        CREATE OR REPLACE TRIGGER conversations_updated_at BEFORE UPDATE ON public.conversations
        FOR EACH ROW EXECUTE FUNCTION public.update_updated_at();  -- whatever is written: no backfill comes any more
        ALTER POLICY chat_sessions_select_own ON public.conversations RENAME TO conversations_select_own;
        ALTER POLICY chat_sessions_insert_own ON public.conversations RENAME TO conversations_insert_own;
        ALTER POLICY chat_sessions_update_own ON public.conversations RENAME TO conversations_update_own;
        ALTER POLICY chat_sessions_delete_own ON public.conversations RENAME TO conversations_delete_own;
        ALTER POLICY chat_sessions_service ON public.conversations RENAME TO conversations_service;
        """
    )


def downgrade() -> None:
    op.release("old clients of chat_sessions")
    op.when("NOT chat_internal.is_adopted('conversations')", lambda: op.sql(SET_ASIDE % ("NULL", "becomes a table")))
    op.sql(
        """
        DROP VIEW public.chat_sessions;
        NOTIFY pgrst, 'reload schema';
        """
    )
    op.when("NOT chat_internal.is_adopted('messages')", stop_filling_owners)
    op.when("NOT chat_internal.is_adopted('conversations')", restore_chat_sessions)
    op.release("readers of chat_sessions")


def stop_filling_owners() -> None:
    op.sql(
        """
        DROP TRIGGER messages_fill_owner ON public.messages;
        DROP FUNCTION chat_internal.fill_message_owner();
        """
    )


def restore_chat_sessions() -> None:
    # lint: ignore update-in-one-step, index-not-online -- on the way back; the table is locked until then
    op.sql(
        """
        ALTER TABLE public.conversations ADD COLUMN messages jsonb;
        ALTER TABLE public.conversations DISABLE TRIGGER conversations_updated_at;
        UPDATE public.conversations AS c
        SET messages = CASE
          WHEN kept.id IS NOT NULL AND kept.elements = now.elements THEN kept.messages
          ELSE now.elements
        END
        FROM (
          SELECT co.id,
                 coalesce(
                   jsonb_agg(chat_internal.message_element(m.*) ORDER BY m.seq) FILTER (WHERE m.id IS NOT NULL), '[]'
                 ) AS elements
          FROM public.conversations AS co
          LEFT JOIN public.messages AS m ON m.conversation_id = co.id AND m.user_id = co.user_id
          GROUP BY co.id
        ) AS now
        LEFT JOIN (
          SELECT a.session_id AS id, a.messages,
                 coalesce(
                   (SELECT jsonb_agg(e.element ORDER BY e.ordinal)
                    FROM chat_internal.session_elements(a.messages, now()) AS e),
                   '[]'
                 ) AS elements
          FROM chat_internal.chat_session_arrays AS a
        ) AS kept USING (id)
        WHERE c.id = now.id;
        ALTER TABLE public.conversations ENABLE TRIGGER conversations_updated_at;
        ALTER TABLE public.conversations ALTER COLUMN messages SET DEFAULT '[]';
        UPDATE chat_internal.chat_session_arrays AS a SET messages = c.messages
        FROM public.conversations AS c WHERE c.id = a.session_id AND c.messages IS DISTINCT FROM a.messages;
        INSERT INTO chat_internal.chat_session_arrays (session_id, user_id, messages)
        SELECT c.id, c.user_id, c.messages FROM public.conversations AS c ON CONFLICT DO NOTHING;

        ALTER POLICY conversations_select_own ON public.conversations RENAME TO chat_sessions_select_own;
        ALTER POLICY conversations_insert_own ON public.conversations RENAME TO chat_sessions_insert_own;
        ALTER POLICY conversations_update_own ON public.conversations RENAME TO chat_sessions_update_own;
        ALTER POLICY conversations_delete_own ON public.conversations RENAME TO chat_sessions_delete_own;
        ALTER POLICY conversations_service ON public.conversations RENAME TO chat_sessions_service;
        ALTER TRIGGER conversations_updated_at ON public.conversations RENAME TO chat_sessions_updated_at;
        ALTER TABLE public.conversations RENAME CONSTRAINT ck_conversations_times TO ck_chat_sessions_times;
        ALTER TABLE public.conversations RENAME CONSTRAINT ck_conversations_default_id TO ck_chat_sessions_default_id;
        ALTER TABLE public.conversations RENAME CONSTRAINT fk_conversations_user_id TO fk_chat_sessions_user_id;
        ALTER TABLE public.conversations RENAME CONSTRAINT fk_conversations_tenant_id TO fk_chat_sessions_tenant_id;
        ALTER INDEX public.conversations_pkey RENAME TO chat_sessions_pkey;
        ALTER TABLE public.conversations RENAME TO chat_sessions;
        DO $$
        BEGIN  -- its text names the table
          EXECUTE pg_catalog.replace(
            pg_catalog.pg_get_functiondef('chat_internal.fill_message_tenant()'::pg_catalog.regprocedure),
            'public.conversations', 'public.chat_sessions'
          );
        END
        $$;
        CREATE OR REPLACE TRIGGER chat_sessions_updated_at BEFORE UPDATE ON public.chat_sessions
        FOR EACH ROW WHEN (OLD.metadata IS NOT DISTINCT FROM NEW.metadata) EXECUTE FUNCTION public.update_updated_at();
        CREATE INDEX idx_chat_sessions_tenant_id ON public.chat_sessions (tenant_id);
        CREATE INDEX idx_chat_sessions_user_id ON public.chat_sessions (user_id);

        CREATE FUNCTION chat_internal.fill_session_times() RETURNS trigger
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
          NEW.created_at := coalesce(NEW.created_at, NEW.updated_at, pg_catalog.now());
          NEW.updated_at := coalesce(NEW.updated_at, NEW.created_at);
          RETURN NEW;
        END
        $$;
        CREATE TRIGGER chat_sessions_fill_times BEFORE INSERT OR UPDATE ON public.chat_sessions
        FOR EACH ROW WHEN (NEW.created_at IS NULL OR NEW.updated_at IS NULL)
        EXECUTE FUNCTION chat_internal.fill_session_times();

        CREATE FUNCTION chat_internal.expand_chat_session(
          p_session_id uuid, p_user_id uuid, p_messages jsonb, p_at timestamptz
        ) RETURNS void
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
          PERFORM chat_internal.store_session_messages(p_session_id, p_user_id, p_messages, p_at);
          INSERT INTO chat_internal.chat_session_arrays AS a (session_id, user_id, messages)
          VALUES (p_session_id, p_user_id, p_messages)
          ON CONFLICT (session_id) DO UPDATE SET messages = EXCLUDED.messages;
        END
        $$;
        CREATE FUNCTION chat_internal.expand_written_chat_session() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
          PERFORM chat_internal.expand_chat_session(NEW.id, NEW.user_id, NEW.messages, NEW.created_at);
          RETURN NULL;
        END
        $$;
        CREATE TRIGGER chat_sessions_expand AFTER INSERT OR UPDATE OF messages ON public.chat_sessions
        FOR EACH ROW EXECUTE FUNCTION chat_internal.expand_written_chat_session();
        """
    )
    for column in ("created_at", "updated_at"):
        op.add_not_null_check("chat_sessions", column)
        # lint: ignore strong-lock-scan -- on the way back, in the same transaction as the arrays
        op.validate_not_null_check("chat_sessions", column)
        op.alter_column("chat_sessions", column, nullable=True, schema="public")
    for function in (
        "fill_session_times()",
        "expand_chat_session(uuid, uuid, jsonb, timestamptz)",
        "expand_written_chat_session()",
    ):
        op.grant_only(f"FUNCTION chat_internal.{function}")
