"""Create attachments: what a user has added to a conversation, and where its bytes lie.

What:   public.attachments with its keys, indexes and policies; never the bytes themselves.
        chat_internal.our_relations() names it, and the tables of the next revisions.
Why:    a file is added before its message is sent, so message_id may be NULL and is set by the message. Both keys are
        composite: an attachment stands in a conversation of its own user, and its message in that conversation; it
        follows a message that is moved. The policy asks for the conversation as the caller sees it: a tenant's
        attachments close with its conversations. storage_key is unique, so that whoever removes the bytes of one row
        takes them from no other. `chat-schema verify` asks our_relations() around which tables it looks for objects of
        others that weaken them; a name that has no table yet adds nothing.
Locks:  ShareRowExclusive on public.conversations, public.messages and public.users for an instant (the foreign keys).
Undone: the table is dropped; refused while rows would be lost.

Revision ID: 0056
Revises: 0055
"""

import sqlalchemy as sa

from alembic import op

revision = "0056"
down_revision = "0055"
branch_labels = None
depends_on = None

LOOK = """
    SELECT pg_catalog.format('public.%s is a %s of your own, and the upgrade creates something of this name. Rename '
        'yours, in your application too.', o.name, o.kind) AS says,
      pg_catalog.format('ALTER %s public.%s RENAME TO %s_of_before;', o.kind, o.name, o.name) AS mends,
      NULL AS rows, false AS unsafe
    FROM (
      SELECT c.relname AS name, CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW'
        WHEN 'S' THEN 'SEQUENCE' WHEN 'i' THEN 'INDEX' WHEN 'f' THEN 'FOREIGN TABLE' WHEN 'c' THEN 'TYPE'
        ELSE 'TABLE' END AS kind
      FROM pg_catalog.pg_class AS c WHERE c.relnamespace = pg_catalog.to_regnamespace('public')
      UNION ALL
      SELECT t.typname, CASE t.typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END
      FROM pg_catalog.pg_type AS t
      WHERE t.typnamespace = pg_catalog.to_regnamespace('public') AND t.typrelid = 0 AND t.typelem = 0
    ) AS o
    WHERE o.name IN ('attachments', 'attachments_pkey', 'idx_attachments_conversation_id',
      'idx_attachments_conversation_id_created_at',
      'idx_attachments_message_id', 'idx_attachments_storage_key', 'idx_attachments_user_id')
"""

BEFORE = """'users', 'tenants', 'tenant_users', 'tasks', 'chat_messages', 'chat_sessions', 'conversations', 'messages',
            'brands', 'conversation_sessions', 'conversation_messages', 'provider_usage_stats', 'daily_message_volume'"""  # noqa: E501  compared to the letter
ADDED = "'attachments', 'feedback', 'shares', 'user_llm_providers', 'retention_rules', 'retention_holds'"


def upgrade() -> None:
    op.create_table(
        "attachments",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("conversation_id", sa.Uuid(), nullable=False),
        sa.Column("message_id", sa.Uuid(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("storage_key", sa.Text(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="attachments_pkey"),
        sa.ForeignKeyConstraint(["user_id"], ["public.users.id"], name="fk_attachments_user_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["conversation_id", "user_id"],
            ["public.conversations.id", "public.conversations.user_id"],
            name="fk_attachments_conversation_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["message_id", "conversation_id", "user_id"],
            ["public.messages.id", "public.messages.conversation_id", "public.messages.user_id"],
            name="fk_attachments_message_id",
            onupdate="CASCADE",
            ondelete="CASCADE",
        ),
        sa.CheckConstraint("size_bytes >= 0", name=op.f("ck_attachments_size")),
        sa.CheckConstraint("octet_length(sha256) = 32", name=op.f("ck_attachments_sha256")),
        sa.CheckConstraint(
            "least(created_at) >= timestamp '0001-01-02' AT TIME ZONE 'UTC'"
            " AND greatest(created_at) < timestamp '9999-12-31' AT TIME ZONE 'UTC'",
            name=op.f("ck_attachments_times"),
        ),
        schema="public",
    )
    for name, columns in (
        ("idx_attachments_user_id", ["user_id", "created_at", "id"]),
        ("idx_attachments_conversation_id", ["conversation_id", "user_id", "created_at", "id"]),
        # a service names the conversation alone, and no policy adds the user
        ("idx_attachments_conversation_id_created_at", ["conversation_id", "created_at", "id"]),
    ):
        op.create_index(name, "attachments", columns, schema="public")
    op.create_index(
        "idx_attachments_message_id",
        "attachments",
        ["message_id", "conversation_id", "user_id"],
        postgresql_where=sa.text("message_id IS NOT NULL"),
        schema="public",
    )
    op.create_index("idx_attachments_storage_key", "attachments", ["storage_key"], unique=True, schema="public")
    op.enable_row_level_security("attachments")
    op.create_owner_policies(
        "attachments",
        owner="user_id = (SELECT chat_internal.current_user_id())"
        " AND EXISTS (SELECT FROM public.conversations AS o WHERE o.id = attachments.conversation_id)",
    )
    op.grant_only(
        "attachments",
        authenticated="SELECT, INSERT, UPDATE, DELETE",
        service_role="SELECT, INSERT, UPDATE, DELETE",
    )
    define(f"{BEFORE},\n            {ADDED}")


def downgrade() -> None:
    op.refuse_data_loss("attachments", "SELECT count(*) FROM public.attachments")
    define(BEFORE)
    op.drop_table("attachments", schema="public")


def define(names: str) -> None:
    op.sql(
        f"""
        CREATE OR REPLACE FUNCTION chat_internal.our_relations()
        RETURNS TABLE (oid oid, relkind "char", relacl aclitem[], name text)
        LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
          SELECT c.oid, c.relkind, c.relacl, pg_catalog.format('%I.%I', n.nspname, c.relname) AS name
          FROM pg_catalog.pg_class AS c
          JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
          WHERE c.relkind IN ('r', 'p', 'v') AND (n.nspname = 'chat_internal' OR n.nspname = 'public' AND c.relname IN (
            {names}))
        $$
        """
    )
