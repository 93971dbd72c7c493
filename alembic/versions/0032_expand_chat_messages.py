"""Expand chat_messages by the conversation each message belongs to.

What:   column conversation_id, its key and its NOT NULL as a CHECK, both not yet validated; the write trigger: a
        row that names no conversation goes to its owner's default one; column tenant_id, kept as that of messages
        (0024), and policies that read it.
Why:    old clients know no conversations. The trigger comes before the backfill, so that no row slips through. The
        default is the user's earliest personal conversation (one of a tenant would vanish with the membership),
        else a new one titled "Chat History" from its first to its last message. Its id is derived from the user's:
        two racing writers meet on the key instead of making two.
Locks:  AccessExclusive on public.chat_messages and ShareRowExclusive on public.conversations, an instant.
Undone: the column is dropped; refused while messages stand in another conversation than the default. Default
        conversations that hold nothing else go too.

Revision ID: 0032
Revises: 0031
"""

import sqlalchemy as sa

from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None

USED_BY_THE_TRIGGERS = (
    "SELECT ON TABLE public.conversations",
    "INSERT ON TABLE public.conversations",
    "UPDATE (updated_at) ON TABLE public.conversations",
    "SELECT (user_id) ON TABLE public.chat_messages",
    "SELECT (created_at) ON TABLE public.chat_messages",
    "USAGE ON SCHEMA chat_internal",
    "EXECUTE ON FUNCTION chat_internal.default_conversation(uuid)",
)


def upgrade() -> None:
    # the functions first: what clients wait for is the time from the first lock on chat_messages to the commit
    op.sql(
        """
        -- by index, always: a plan made while the table was small would read all of it for one user after the other
        CREATE FUNCTION chat_internal.default_conversation(p_user_id uuid) RETURNS uuid
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
        DECLARE
          v_id uuid;
          v_new_id uuid := chat_internal.default_conversation_id(p_user_id);
        BEGIN
          LOOP
            SELECT c.id INTO v_id
            FROM public.conversations AS c
            WHERE c.user_id = p_user_id AND c.tenant_id IS NULL
            ORDER BY c.created_at, c.id
            LIMIT 1
            FOR KEY SHARE;
            IF FOUND THEN
              RETURN v_id;
            END IF;
            INSERT INTO public.conversations (id, user_id, title, created_at, updated_at)
            SELECT v_new_id, p_user_id, 'Chat History',
                   coalesce(pg_catalog.min(m.created_at), pg_catalog.now()),
                   coalesce(pg_catalog.max(m.created_at), pg_catalog.now())
            FROM public.chat_messages AS m
            WHERE m.user_id = p_user_id
            ON CONFLICT DO NOTHING; -- of every unique index: of one alone, two writers can deadlock between them
            -- a racing writer's row is found now; an id in a tenant or in another user's hands never would be
            v_new_id := pg_catalog.gen_random_uuid();
          END LOOP;
        END
        $$;

        CREATE FUNCTION chat_internal.fill_chat_message_conversation() RETURNS trigger
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
          NEW.conversation_id := chat_internal.default_conversation(NEW.user_id);
          RETURN NEW;
        END
        $$
        """
    )
    op.grant_only("FUNCTION chat_internal.default_conversation(uuid)", authenticated="EXECUTE", service_role="EXECUTE")
    op.grant_only("FUNCTION chat_internal.fill_chat_message_conversation()")
    op.sql(
        """
        SELECT chat_internal.change('chat_messages.conversation_id', 'adopted', '', '')
        FROM pg_catalog.pg_attribute AS a
        WHERE a.attrelid = 'public.chat_messages'::regclass AND a.attname = 'conversation_id' AND NOT a.attisdropped
        """
    )
    op.add_column(
        "chat_messages", sa.Column("conversation_id", sa.Uuid(), nullable=True), if_not_exists=True, schema="public"
    )
    op.when("chat_internal.is_adopted('chat_messages.conversation_id')", give_way)
    for command in ("INSERT", "UPDATE"):
        op.entitle("chat_messages.conversation_id", "chat_messages", command, USED_BY_THE_TRIGGERS)
    op.sql(
        """
        SELECT chat_internal.change('chat_messages.tenant_id', 'adopted', '', '')
        FROM pg_catalog.pg_attribute AS a
        WHERE a.attrelid = 'public.chat_messages'::regclass AND a.attname = 'tenant_id' AND NOT a.attisdropped
        """
    )
    op.add_column(
        "chat_messages", sa.Column("tenant_id", sa.Uuid(), nullable=True), if_not_exists=True, schema="public"
    )
    op.sql(
        """
        CREATE TRIGGER chat_messages_fill_tenant BEFORE INSERT ON public.chat_messages
        FOR EACH ROW EXECUTE FUNCTION chat_internal.fill_message_tenant();
        -- a row that the backfill gives its conversation gets a personal one; it would look up each
        CREATE TRIGGER chat_messages_keep_tenant
        BEFORE UPDATE OF conversation_id, user_id, tenant_id ON public.chat_messages
        FOR EACH ROW WHEN (OLD.conversation_id IS NOT NULL) EXECUTE FUNCTION chat_internal.fill_message_tenant();
        CREATE OR REPLACE TRIGGER conversations_move_messages AFTER UPDATE OF tenant_id ON public.conversations
        FOR EACH ROW WHEN (OLD.tenant_id IS DISTINCT FROM NEW.tenant_id)
        EXECUTE FUNCTION chat_internal.move_messages_to_tenant('messages', 'chat_messages');
        CREATE OR REPLACE TRIGGER conversations_take_messages AFTER INSERT ON public.conversations
        FOR EACH ROW WHEN (NEW.tenant_id IS NOT NULL)
        EXECUTE FUNCTION chat_internal.move_messages_to_tenant('messages', 'chat_messages');

        CREATE TRIGGER chat_messages_fill_conversation BEFORE INSERT OR UPDATE ON public.chat_messages
        FOR EACH ROW WHEN (NEW.conversation_id IS NULL) EXECUTE FUNCTION chat_internal.fill_chat_message_conversation();

        CREATE TRIGGER chat_messages_touch_conversation AFTER INSERT ON public.chat_messages
        REFERENCING NEW TABLE AS added
        FOR EACH STATEMENT EXECUTE FUNCTION chat_internal.touch_conversations();
        """
    )
    op.create_foreign_key(
        "fk_chat_messages_conversation",
        "chat_messages",
        "conversations",
        ["conversation_id", "user_id"],
        ["id", "user_id"],
        ondelete="CASCADE",
        postgresql_not_valid=True,
        source_schema="public",
        referent_schema="public",
    )
    op.add_not_null_check("chat_messages", "conversation_id")
    op.alter_owner_policies(
        "chat_messages",
        owner="user_id = (SELECT chat_internal.current_user_id()) AND CASE WHEN tenant_id IS NULL THEN true"
        " ELSE tenant_id = ANY ((SELECT chat_internal.current_tenant_ids())::uuid[]) END",
    )


def give_way() -> None:
    """Keep for the downgrade the key and the indexes that the column has had, and drop or rename what ours replace."""
    op.sql(
        """
        SELECT chat_internal.change('chat_messages.conversation_id',
          pg_catalog.format('constraint %I dropped: %s', k.conname, pg_catalog.pg_get_constraintdef(k.oid)),
          pg_catalog.format('ALTER TABLE public.chat_messages DROP CONSTRAINT %I', k.conname),
          pg_catalog.format('ALTER TABLE public.chat_messages ADD CONSTRAINT %I %s', k.conname,
                            pg_catalog.pg_get_constraintdef(k.oid)))
        FROM pg_catalog.pg_constraint AS k
        WHERE k.conrelid = 'public.chat_messages'::regclass AND k.contype = 'f'
          AND k.confrelid = 'public.conversations'::regclass;

        SELECT chat_internal.change('chat_messages.conversation_id', pg_catalog.format('index %I replaced', c.relname),
          CASE
            WHEN chat_internal.index_text(c.oid, '-')
              = 'CREATE INDEX - ON public.chat_messages USING btree (conversation_id, created_at DESC)' THEN ''
            ELSE pg_catalog.format('ALTER INDEX public.%I RENAME TO %I', c.relname, c.relname || '_legacy')
          END,
          pg_catalog.format('DROP INDEX IF EXISTS public.%I, public.%I; %s', c.relname, c.relname || '_legacy',
                            pg_catalog.pg_get_indexdef(c.oid)))
        FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
        WHERE i.indrelid = 'public.chat_messages'::regclass
          AND c.relname IN ('idx_chat_messages_conversation', 'idx_chat_messages_conv_created');

        SELECT chat_internal.change('chat_messages.conversation_id', 'values kept', '',
          'SELECT chat_internal.restore_values(''chat_messages.conversation_id'')');

        SELECT chat_internal.change('chat_messages.conversation_id', 'key and CHECK added', '',
          'ALTER TABLE public.chat_messages DROP CONSTRAINT fk_chat_messages_conversation,'
          ' DROP CONSTRAINT ck_chat_messages_conversation_id_present');
        """
    )


def downgrade() -> None:
    op.when("NOT chat_internal.is_adopted('chat_messages.conversation_id')", refuse_lost_assignments)
    op.alter_owner_policies("chat_messages", owner="user_id = (SELECT chat_internal.current_user_id())")
    op.sql(
        """
        DROP TRIGGER chat_messages_touch_conversation ON public.chat_messages;
        DROP TRIGGER chat_messages_fill_conversation ON public.chat_messages;
        CREATE OR REPLACE TRIGGER conversations_take_messages AFTER INSERT ON public.conversations
        FOR EACH ROW WHEN (NEW.tenant_id IS NOT NULL)
        EXECUTE FUNCTION chat_internal.move_messages_to_tenant('messages');
        CREATE OR REPLACE TRIGGER conversations_move_messages AFTER UPDATE OF tenant_id ON public.conversations
        FOR EACH ROW WHEN (OLD.tenant_id IS DISTINCT FROM NEW.tenant_id)
        EXECUTE FUNCTION chat_internal.move_messages_to_tenant('messages');
        DROP TRIGGER chat_messages_keep_tenant ON public.chat_messages;
        DROP TRIGGER chat_messages_fill_tenant ON public.chat_messages;
        """
    )
    op.when(
        "NOT chat_internal.is_adopted('chat_messages.tenant_id')",
        lambda: op.drop_column("chat_messages", "tenant_id", schema="public"),
    )
    op.release("chat_messages.tenant_id")
    op.when("NOT chat_internal.is_adopted('chat_messages.conversation_id')", drop_column)
    op.release("chat_messages.conversation_id")
    op.sql(
        """
        DROP FUNCTION chat_internal.fill_chat_message_conversation();
        DROP FUNCTION chat_internal.default_conversation(uuid);
        """
    )


def refuse_lost_assignments() -> None:
    op.refuse_data_loss(
        "assignments of chat messages to other conversations than the default",
        "SELECT count(*) FROM public.chat_messages AS m"
        " WHERE m.conversation_id IS NOT NULL AND m.conversation_id IS DISTINCT FROM ("
        "SELECT c.id FROM public.conversations AS c WHERE c.user_id = m.user_id AND c.tenant_id IS NULL"
        " ORDER BY c.created_at, c.id LIMIT 1)",
    )


def drop_column() -> None:
    op.drop_column("chat_messages", "conversation_id", schema="public")  # its key and its CHECK go with it
    # lint: ignore update-in-one-step -- on the way back; default conversations that hold nothing else
    op.sql(
        """
        DELETE FROM public.conversations AS c
        WHERE c.id = chat_internal.default_conversation_id(c.user_id)
          AND c.title = 'Chat History'
          AND c.metadata = '{}'
          AND NOT EXISTS (SELECT FROM public.messages AS m WHERE m.conversation_id = c.id);
        """
    )
