"""Create nothing, or adopt: conversations that stand already are brought into their final shape.

What:   public.conversations, where an application has made one, gets the columns, keys, indexes and policies that
        the revisions up to 0030 give to chat_sessions on its way to the same name. Elsewhere nothing happens.
Why:    such a database has no chat_sessions to be expanded; the revisions that do so pass it by. Times that are NULL
        become those of the conversation's first and last message.
Locks:  none where no such table stands; on one that does see 0004.
Undone: the table gets its former shape back; refused while rows stand in it that the former shape cannot hold.

Revision ID: 0020
Revises: 0019
"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.when("pg_catalog.to_regclass('public.conversations') IS NOT NULL", adopt_conversations)


def adopt_conversations() -> None:
    op.stage_table(
        "conversations",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=True),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("title", sa.Text(), server_default=sa.text("'New Conversation'"), nullable=True),
        sa.Column("metadata", JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="conversations_pkey"),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["public.tenants.id"], name="fk_conversations_tenant_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["public.users.id"], name="fk_conversations_user_id", ondelete="CASCADE"),
        sa.CheckConstraint(
            "id < '63686174-6465-8000-0000-000000000000' OR id > '63686174-6465-8fff-ffff-ffffffffffff'"
            " OR id = chat_internal.default_conversation_id(user_id)",
            name=op.f("ck_conversations_default_id"),
        ),
        sa.CheckConstraint(
            "least(created_at, updated_at) >= timestamp '0001-01-02' AT TIME ZONE 'UTC'"
            " AND greatest(created_at, updated_at) < timestamp '9999-12-31' AT TIME ZONE 'UTC'",
            name=op.f("ck_conversations_times"),
        ),
    )
    by_activity = [sa.text("updated_at DESC"), sa.text("id DESC")]
    for name, columns in (
        ("idx_conversations_user_created", ["user_id", sa.text("created_at DESC")]),
        ("idx_conversations_user_id_updated_at", ["user_id", *by_activity]),
    ):
        op.create_index(name, "conversations", columns, schema="chat_internal")
    op.create_index(
        "idx_conversations_user_id", "conversations", ["user_id", "id"], unique=True, schema="chat_internal"
    )
    for name, columns in (
        ("idx_conversations_tenant_id", ["tenant_id", *by_activity]),
        ("idx_conversations_user_id_tenant_id", ["user_id", "tenant_id", *by_activity]),
    ):
        op.create_index(
            name,
            "conversations",
            columns,
            postgresql_where=sa.text("tenant_id IS NOT NULL"),
            schema="chat_internal",
        )
    op.sql(
        "CREATE TRIGGER conversations_updated_at BEFORE UPDATE ON chat_internal.conversations"
        " FOR EACH ROW EXECUTE FUNCTION public.update_updated_at()"
    )
    op.enable_row_level_security("chat_internal.conversations")
    op.create_owner_policies(
        "chat_internal.conversations",
        owner="user_id = (SELECT chat_internal.current_user_id()) AND CASE WHEN tenant_id IS NULL THEN true"
        " ELSE tenant_id = ANY ((SELECT chat_internal.current_tenant_ids())::uuid[]) END",
    )
    op.grant_only(
        "chat_internal.conversations",
        authenticated="SELECT, INSERT, UPDATE, DELETE",
        service_role="SELECT, INSERT, UPDATE, DELETE",
    )
    op.adopt_table("conversations")
    op.sql(
        """
        -- of whichever tables hold messages here
        CREATE OR REPLACE FUNCTION chat_internal.message_times(
          p_conversation_id uuid, OUT first_at timestamptz, OUT last_at timestamptz
        )
        LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
          v_table regclass;
          v_first_at timestamptz;
          v_last_at timestamptz;
        BEGIN
          FOR v_table IN
            SELECT a.attrelid FROM pg_catalog.pg_attribute AS a
            WHERE a.attname = 'conversation_id' AND a.attrelid IN (
              pg_catalog.to_regclass('public.messages'), pg_catalog.to_regclass('public.chat_messages'))
          LOOP
            EXECUTE pg_catalog.format('SELECT min(created_at), max(created_at) FROM %s WHERE conversation_id = $1'
              ' AND created_at >= timestamp ''0001-01-02'' AT TIME ZONE ''UTC'''
              ' AND created_at < timestamp ''9999-12-31'' AT TIME ZONE ''UTC''', v_table)
            INTO v_first_at, v_last_at USING p_conversation_id;
            first_at := least(first_at, v_first_at);
            last_at := greatest(last_at, v_last_at);
          END LOOP;
        END
        $$
        """
    )
    op.fill_adopted(
        "conversations",
        {
            "created_at": "coalesce((SELECT m.first_at FROM chat_internal.message_times(t.id) AS m), t.updated_at,"
            " pg_catalog.now())",
            "updated_at": "coalesce((SELECT m.last_at FROM chat_internal.message_times(t.id) AS m), t.created_at,"
            " pg_catalog.now())",
            "metadata": "'{}'",
        },
        note=True,
    )
    op.sql(
        """
        -- squawk-ignore ban-drop-function
        DROP FUNCTION chat_internal.message_times(uuid)
        """
    )
    op.finish_table("conversations")


def downgrade() -> None:
    op.sql("DROP FUNCTION IF EXISTS chat_internal.message_times(uuid)")  # there if a fill of the times did not end
    op.release_table("conversations", what="conversations with their messages, or values in them")
