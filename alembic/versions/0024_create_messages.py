"""Create messages: a row for each message of a conversation.

What:   public.messages with its keys, indexes and policies.
Why:    ownership is a constraint: (conversation_id, user_id) references the conversation's (id, user_id), so that a
        message can never stand in another user's conversation. seq settles the order where created_at ties, which
        is the rule: a question and its answer in one transaction share now(). It is the database's alone: both roles
        may insert and update every column but this one, so that nobody gives two messages one place. A column that is
        added later therefore needs grants of its own. An insert that names no user_id gets its conversation's. Two
        indexes carry the order: policies add user_id to every condition, and the planner, which takes it for
        independent of conversation_id, would read a whole conversation and sort it for one page if no index led with
        both. tenant_id is the conversation's, so that a policy looks at the message alone. Triggers keep it equal and
        no key does: a key with NULL in it checks nothing. Whatever a client sends, a message gets its conversation's
        tenant, FOR KEY SHARE; a conversation that changes its tenant waits for those who hold that, and takes its
        messages along. They run as the owner of the tables: a conversation in a tenant that its owner has left is
        hidden from the caller, and the message would pass for a personal one.
Locks:  ShareRowExclusive on public.chat_sessions and public.users for an instant (the keys, the triggers); on a
        table that stands already see 0004.
Undone: the table is dropped, or given back as it was found. Where it is dropped, chat_sessions holds every message
        in its arrays; what they cannot hold are idempotency keys, so it is refused while there are any.

Revision ID: 0024
Revises: 0023
"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

# Every column but seq.
WRITTEN = "id, conversation_id, user_id, role, content, tool_calls, metadata, idempotency_key, created_at, tenant_id"
RIGHTS = f"SELECT, INSERT ({WRITTEN}), UPDATE ({WRITTEN}), DELETE"


def upgrade() -> None:
    op.stage_table(
        "messages",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("conversation_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("role", sa.String(20), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("tool_calls", JSONB(), nullable=True),
        sa.Column("metadata", JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("seq", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="messages_pkey"),
        sa.ForeignKeyConstraint(["user_id"], ["public.users.id"], name="fk_messages_user_id", ondelete="CASCADE"),
        sa.CheckConstraint("role IN ('user', 'assistant', 'agent', 'system', 'tool')", name=op.f("ck_messages_role")),
        sa.CheckConstraint(
            "least(created_at) >= timestamp '0001-01-02' AT TIME ZONE 'UTC'"
            " AND greatest(created_at) < timestamp '9999-12-31' AT TIME ZONE 'UTC'",
            name=op.f("ck_messages_times"),
        ),
    )
    op.sql(
        """
        DO $$ BEGIN
          EXECUTE pg_catalog.format(
            'ALTER TABLE chat_internal.messages ADD CONSTRAINT fk_messages_conversation_id'
            ' FOREIGN KEY (conversation_id, user_id) REFERENCES %s (id, user_id) ON DELETE CASCADE',
            coalesce(pg_catalog.to_regclass('public.conversations')::text, 'public.chat_sessions'));
        END $$
        """
    )
    op.create_index(
        "idx_messages_conversation_id",
        "messages",
        ["conversation_id", "user_id", "created_at", "seq"],
        schema="chat_internal",
    )
    op.create_index("idx_messages_user_id", "messages", ["user_id"], schema="chat_internal")
    op.create_index(
        "idx_messages_conversation_id_created_at",
        "messages",
        ["conversation_id", "created_at", "seq"],
        schema="chat_internal",
    )
    op.create_index(
        "idx_messages_user_id_idempotency_key",
        "messages",
        ["user_id", "idempotency_key"],
        unique=True,
        postgresql_where=sa.text("idempotency_key IS NOT NULL"),
        schema="chat_internal",
    )

    keep_tenants()
    op.enable_row_level_security("chat_internal.messages")
    op.create_owner_policies(
        "chat_internal.messages",
        owner="user_id = (SELECT chat_internal.current_user_id()) AND CASE WHEN tenant_id IS NULL THEN true"
        " ELSE tenant_id = ANY ((SELECT chat_internal.current_tenant_ids())::uuid[]) END",
    )
    op.grant_only("chat_internal.messages", authenticated=RIGHTS, service_role=RIGHTS)
    op.grant_only("SEQUENCE chat_internal.messages_seq_seq")
    op.adopt_table("messages")
    op.when("chat_internal.is_adopted('messages')", adopt_messages)
    op.finish_table("messages")


def keep_tenants() -> None:
    """Keep the tenant of each message that of its conversation."""
    op.sql(
        """
        DO $do$ BEGIN
          EXECUTE pg_catalog.replace($sql$
            -- by index, always, as in 0031
            CREATE OR REPLACE FUNCTION chat_internal.fill_message_tenant() RETURNS trigger
            LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
            BEGIN
              SELECT c.tenant_id INTO NEW.tenant_id FROM public.chat_sessions AS c
              WHERE c.id = NEW.conversation_id AND c.user_id = NEW.user_id
              FOR KEY SHARE;
              RETURN NEW;
            END
            $$;

            -- before: nobody is writing a message meanwhile; after: of each table that is named
            CREATE OR REPLACE FUNCTION chat_internal.move_messages_to_tenant() RETURNS trigger
            LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
            BEGIN
              IF TG_WHEN = 'BEFORE' THEN
                EXECUTE pg_catalog.format('SELECT FROM %s WHERE id = $1 FOR UPDATE', TG_RELID::regclass) USING OLD.id;
                RETURN NEW;
              END IF;
              FOR i IN 0..TG_NARGS - 1 LOOP
                EXECUTE pg_catalog.format('UPDATE public.%I SET tenant_id = $1'
                  ' WHERE conversation_id = $2 AND user_id = $3 AND tenant_id IS DISTINCT FROM $1', TG_ARGV[i])
                USING NEW.tenant_id, NEW.id, NEW.user_id;
              END LOOP;
              RETURN NULL;
            END
            $$;

            CREATE OR REPLACE TRIGGER conversations_lock_tenant BEFORE UPDATE OF tenant_id ON public.chat_sessions
            FOR EACH ROW WHEN (OLD.tenant_id IS DISTINCT FROM NEW.tenant_id)
            EXECUTE FUNCTION chat_internal.move_messages_to_tenant();
            CREATE OR REPLACE TRIGGER conversations_move_messages AFTER UPDATE OF tenant_id ON public.chat_sessions
            FOR EACH ROW WHEN (OLD.tenant_id IS DISTINCT FROM NEW.tenant_id)
            EXECUTE FUNCTION chat_internal.move_messages_to_tenant('messages');
            -- a statement can insert a conversation after its messages
            CREATE OR REPLACE TRIGGER conversations_take_messages AFTER INSERT ON public.chat_sessions
            FOR EACH ROW WHEN (NEW.tenant_id IS NOT NULL)
            EXECUTE FUNCTION chat_internal.move_messages_to_tenant('messages');
          $sql$, 'public.chat_sessions',
            coalesce(pg_catalog.to_regclass('public.conversations')::text, 'public.chat_sessions'));
        END $do$;

        CREATE TRIGGER messages_fill_tenant BEFORE INSERT OR UPDATE OF conversation_id, user_id, tenant_id
        ON chat_internal.messages FOR EACH ROW EXECUTE FUNCTION chat_internal.fill_message_tenant();
        """
    )
    for function in ("fill_message_tenant()", "move_messages_to_tenant()"):
        op.grant_only(f"FUNCTION chat_internal.{function}")


def adopt_messages() -> None:
    """Fill what rows of an older shape lack: seq in the order they were written, and the owner of the conversation."""
    op.sql(
        """
        SELECT chat_internal.change('messages', 'trigger messages_fill_owner created',
          $change$
            CREATE FUNCTION chat_internal.fill_message_owner() RETURNS trigger
            LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
            BEGIN
              SELECT c.user_id INTO NEW.user_id FROM public.conversations AS c WHERE c.id = NEW.conversation_id;
              RETURN NEW;
            END
            $$;
            CREATE TRIGGER messages_fill_owner BEFORE INSERT ON public.messages
            FOR EACH ROW WHEN (NEW.user_id IS NULL) EXECUTE FUNCTION chat_internal.fill_message_owner();
          $change$,
          'DROP TRIGGER messages_fill_owner ON public.messages; DROP FUNCTION chat_internal.fill_message_owner()')
        WHERE pg_catalog.to_regprocedure('chat_internal.fill_message_owner()') IS NULL
        """
    )
    op.grant_only("FUNCTION chat_internal.fill_message_owner()")
    op.entitle(  # by that trigger
        "messages",
        "messages",
        "INSERT",
        ["SELECT (id) ON TABLE public.conversations", "SELECT (user_id) ON TABLE public.conversations"],
    )
    op.order_adopted(
        "messages",
        """
        SELECT m.id, pg_catalog.row_number() OVER (
          ORDER BY CASE
            WHEN m.created_at >= timestamp '0001-01-02' AT TIME ZONE 'UTC'
              AND m.created_at < timestamp '9999-12-31' AT TIME ZONE 'UTC' THEN m.created_at
            ELSE c.created_at
          END, m.ctid
        ) AS place
        FROM public.messages AS m JOIN public.conversations AS c ON c.id = m.conversation_id
        WHERE m.seq IS NULL
        """,
    )
    conversation = "FROM public.conversations AS c WHERE c.id = t.conversation_id"
    owner = {"user_id": f"(SELECT c.user_id {conversation})"}
    op.when(  # a column that stood has its NULLs back after a downgrade
        "EXISTS (SELECT FROM chat_internal.adopted AS a"
        " WHERE a.object = 'messages' AND a.what = 'column user_id is never NULL')",
        lambda: op.fill_adopted("messages", owner),
    )
    op.fill_adopted(
        "messages",
        {
            "role": "'user'",
            "metadata": "'{}'",
            "created_at": f"(SELECT c.created_at {conversation})",
        },
        derived={"seq": "(SELECT o.place FROM chat_internal.messages_order AS o WHERE o.id = t.id)", **owner},
        times=["created_at"],
        note=True,
    )
    op.sql("DROP TABLE chat_internal.messages_order")
    op.move_to_owner("messages", "messages")
    differs = "m.conversation_id = c.id AND m.user_id = c.user_id AND m.tenant_id IS DISTINCT FROM c.tenant_id"
    op.backfill(
        "tenants of messages",
        table="conversations",
        alias="c",
        batch=f"""
            UPDATE public.messages AS m SET tenant_id = c.tenant_id
            FROM public.conversations AS c
            WHERE {{batch}} AND c.tenant_id IS NOT NULL AND {differs}
        """,
        pending=f"c.tenant_id IS NOT NULL AND EXISTS (SELECT FROM public.messages AS m WHERE {differs})",
    )


def downgrade() -> None:
    op.release_table("messages", what="idempotency keys of messages", lost="idempotency_key IS NOT NULL")
    op.sql(
        """
        DO $$ BEGIN
          EXECUTE pg_catalog.replace(
            'DROP TRIGGER conversations_take_messages ON public.chat_sessions;'
            'DROP TRIGGER conversations_move_messages ON public.chat_sessions;'
            'DROP TRIGGER conversations_lock_tenant ON public.chat_sessions', 'public.chat_sessions',
            coalesce(pg_catalog.to_regclass('public.conversations')::text, 'public.chat_sessions'));
        END $$;
        DROP FUNCTION chat_internal.move_messages_to_tenant();
        DROP FUNCTION chat_internal.fill_message_tenant();
        """
    )
