"""Expand chat_messages by the conversation each message belongs to.

What:   column conversation_id, its key and its NOT NULL as a CHECK, both not yet validated; the write trigger: a
        row that names no conversation goes to its owner's default one; policies that follow the conversation's
        tenant.
Why:    old clients know no conversations. The trigger comes before the backfill, so that no row slips through. The
        default is the user's earliest personal conversation (one of a tenant would vanish with the membership),
        else a new one titled "Chat History" from its first to its last message. Its id is derived from the user's:
        two racing writers meet on the key instead of making two.
Locks:  AccessExclusive on public.chat_messages and ShareRowExclusive on public.conversations, an instant.
Undone: the column is dropped; refused while messages stand in another conversation than the default. Default
        conversations that hold nothing else go too.

Revision ID: 0014
Revises: 0013
"""

import sqlalchemy as sa

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # the functions first: what clients wait for is the time from the first lock on chat_messages to the commit
    op.sql(
        """
        CREATE FUNCTION chat_internal.default_conversation_id(p_user_id uuid) RETURNS uuid
        LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = '' AS $$
          SELECT pg_catalog.encode(
            pg_catalog.substring(
              pg_catalog.sha256(
                pg_catalog.convert_to('chat-schema default conversation ' || p_user_id::text, 'UTF8')
              ), 1, 16
            ), 'hex'
          )::uuid
        $$;

        -- by index, always: a plan made while the table was small would read all of it for one user after the other
        CREATE FUNCTION chat_internal.default_conversation(p_user_id uuid) RETURNS uuid
        LANGUAGE plpgsql SET search_path = '' SET enable_seqscan = off AS $$
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
            ON CONFLICT (id) DO NOTHING;
            -- a racing writer's row is found now; an id in a tenant or in another user's hands never would be
            v_new_id := pg_catalog.gen_random_uuid();
          END LOOP;
        END
        $$;

        CREATE FUNCTION chat_internal.fill_chat_message_conversation() RETURNS trigger
        LANGUAGE plpgsql SET search_path = '' AS $$
        BEGIN
          NEW.conversation_id := chat_internal.default_conversation(NEW.user_id);
          RETURN NEW;
        END
        $$
        """
    )
    for function in ("default_conversation_id(uuid)", "default_conversation(uuid)"):
        op.grant_only(f"FUNCTION chat_internal.{function}", authenticated="EXECUTE", service_role="EXECUTE")
    op.grant_only("FUNCTION chat_internal.fill_chat_message_conversation()")
    op.add_column("chat_messages", sa.Column("conversation_id", sa.Uuid(), nullable=True))
    op.sql(
        """
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
    )
    op.add_not_null_check("chat_messages", "conversation_id")
    op.alter_owner_policies(
        "chat_messages",
        owner="user_id = (SELECT chat_internal.current_user_id())"
        " AND (conversation_id IN (SELECT chat_internal.lost_conversation_ids())) IS NOT TRUE",
    )


def downgrade() -> None:
    op.refuse_data_loss(
        "assignments of chat messages to other conversations than the default",
        "SELECT count(*) FROM public.chat_messages AS m"
        " WHERE m.conversation_id IS NOT NULL AND m.conversation_id IS DISTINCT FROM ("
        "SELECT c.id FROM public.conversations AS c WHERE c.user_id = m.user_id AND c.tenant_id IS NULL"
        " ORDER BY c.created_at, c.id LIMIT 1)",
    )
    op.alter_owner_policies("chat_messages", owner="user_id = (SELECT chat_internal.current_user_id())")
    op.sql(
        """
        DROP TRIGGER chat_messages_touch_conversation ON public.chat_messages;
        DROP TRIGGER chat_messages_fill_conversation ON public.chat_messages;
        """
    )
    op.drop_column("chat_messages", "conversation_id")  # its key and its CHECK go with it
    op.sql(
        """
        DELETE FROM public.conversations AS c
        WHERE c.id = chat_internal.default_conversation_id(c.user_id)
          AND c.title = 'Chat History'
          AND c.metadata = '{}'
          AND NOT EXISTS (SELECT FROM public.messages AS m WHERE m.conversation_id = c.id);
        DROP FUNCTION chat_internal.fill_chat_message_conversation();
        DROP FUNCTION chat_internal.default_conversation(uuid);
        DROP FUNCTION chat_internal.default_conversation_id(uuid);
        """
    )
