"""Create shares: a conversation up to one of its messages, for whoever has the link.

What:   public.shares, and chat_internal.open_share(), by which a service reads what a share shows.
Why:    the link holds a token, the table its SHA-256 alone: who reads the table opens nothing. The owner lists its
        shares without the digest, makes, revokes and deletes them, and changes nothing else in them. A share ends with
        a message, not with a number: rows that come later are not in it, wherever they are restored. The function
        runs as service_role, which sees every row, so it repeats what closes a share: revoked, expired, the
        conversation in the trash, the owner no longer a member of its tenant. It shows what users and assistants wrote;
        system prompts and the steps of tools stay with the owner. The trunk is one range of an index, from where the
        page begins; the part of a branch that is not the trunk is walked from its last message back.
Locks:  ShareRowExclusive on public.conversations, public.messages and public.users for an instant (the foreign keys).
Undone: the function and the table are dropped; refused while rows would be lost.

Revision ID: 0058
Revises: 0057
"""

import sqlalchemy as sa

from alembic import op

revision = "0058"
down_revision = "0057"
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
    WHERE o.name IN ('shares', 'shares_pkey', 'idx_shares_conversation_id', 'idx_shares_message_id',
      'idx_shares_token_hash', 'idx_shares_user_id')
"""

# Every column but the digest; and what an owner writes.
SHOWN = "id, user_id, conversation_id, message_id, created_at, expires_at, revoked_at"
MADE = "id, user_id, conversation_id, message_id, token_hash, expires_at"
CHANGED = "expires_at, revoked_at"


def upgrade() -> None:
    op.create_table(
        "shares",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("conversation_id", sa.Uuid(), nullable=False),
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="shares_pkey"),
        sa.ForeignKeyConstraint(["user_id"], ["public.users.id"], name="fk_shares_user_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["conversation_id", "user_id"],
            ["public.conversations.id", "public.conversations.user_id"],
            name="fk_shares_conversation_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["message_id", "conversation_id", "user_id"],
            ["public.messages.id", "public.messages.conversation_id", "public.messages.user_id"],
            name="fk_shares_message_id",
            onupdate="CASCADE",
            ondelete="CASCADE",
        ),
        sa.CheckConstraint("octet_length(token_hash) = 32", name=op.f("ck_shares_token_hash")),
        sa.CheckConstraint(
            "least(created_at, expires_at, revoked_at) >= timestamp '0001-01-02' AT TIME ZONE 'UTC'"
            " AND greatest(created_at, expires_at, revoked_at) < timestamp '9999-12-31' AT TIME ZONE 'UTC'",
            name=op.f("ck_shares_times"),
        ),
        schema="public",
    )
    for name, columns in (
        ("idx_shares_user_id", ["user_id", "created_at", "id"]),
        ("idx_shares_conversation_id", ["conversation_id", "user_id"]),
        ("idx_shares_message_id", ["message_id", "conversation_id", "user_id"]),
    ):
        op.create_index(name, "shares", columns, schema="public")
    op.create_index("idx_shares_token_hash", "shares", ["token_hash"], unique=True, schema="public")
    op.enable_row_level_security("shares")
    op.create_owner_policies(
        "shares",
        owner="user_id = (SELECT chat_internal.current_user_id())"
        " AND EXISTS (SELECT FROM public.messages AS o WHERE o.id = shares.message_id)",
    )
    op.grant_only(
        "shares",
        authenticated=f"SELECT ({SHOWN}), INSERT ({MADE}), UPDATE ({CHANGED}), DELETE",
        service_role="SELECT, INSERT, UPDATE, DELETE",
    )
    op.sql(
        """
        CREATE FUNCTION chat_internal.open_share(
          p_token_hash bytea, p_after_created_at timestamptz, p_after_seq bigint, p_limit integer
        )
        RETURNS TABLE (share_id uuid, title text, message_id uuid, role text, content text, created_at timestamptz,
                       seq bigint)
        LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
          -- by index, always, as in 0031
          WITH RECURSIVE shared AS (
            SELECT s.id, c.title, s.message_id, s.conversation_id, s.user_id
            FROM public.shares AS s
            JOIN public.conversations AS c ON c.id = s.conversation_id AND c.user_id = s.user_id
            WHERE s.token_hash = p_token_hash
              AND s.revoked_at IS NULL AND c.deleted_at IS NULL
              AND (s.expires_at IS NULL OR s.expires_at > pg_catalog.now())
              AND (c.tenant_id IS NULL OR EXISTS (
                SELECT FROM public.tenant_users AS t WHERE t.tenant_id = c.tenant_id AND t.user_id = c.user_id))
          ), branch AS (
            -- the branch that ends with the message, from parent to parent, until one that has none: it is in the trunk
            SELECT m.id, m.parent_id, m.created_at, m.seq
            FROM shared AS s JOIN public.messages AS m ON m.id = s.message_id
            UNION ALL
            SELECT m.id, m.parent_id, m.created_at, m.seq
            FROM branch AS b JOIN public.messages AS m ON m.id = b.parent_id
            WHERE b.parent_id <> b.id
          )
          SELECT s.id, s.title, m.id, m.role::text, m.content, m.created_at, m.seq
          FROM shared AS s CROSS JOIN LATERAL (
            SELECT m.id, m.role, m.content, m.created_at, m.seq
            FROM branch AS b JOIN public.messages AS m ON m.id = b.id
            WHERE b.parent_id IS NOT NULL
            UNION ALL
            SELECT t.*
            FROM branch AS b CROSS JOIN LATERAL (
              SELECT m.id, m.role, m.content, m.created_at, m.seq
              FROM public.messages AS m
              WHERE m.conversation_id = s.conversation_id AND m.user_id = s.user_id AND m.parent_id IS NULL
                AND (m.created_at, m.seq) <= (b.created_at, b.seq)
                AND (m.created_at, m.seq) >
                  (coalesce(p_after_created_at, '-infinity'::timestamptz), coalesce(p_after_seq, 0))
                AND m.role IN ('user', 'assistant', 'agent')
              ORDER BY m.created_at, m.seq
              LIMIT p_limit
            ) AS t
            WHERE b.parent_id IS NULL
          ) AS m
          WHERE (m.created_at, m.seq) >
              (coalesce(p_after_created_at, '-infinity'::timestamptz), coalesce(p_after_seq, 0))
            AND m.role IN ('user', 'assistant', 'agent')
          ORDER BY m.created_at, m.seq
          LIMIT p_limit
        $$
        """
    )
    op.grant_only(
        "FUNCTION chat_internal.open_share(bytea, timestamptz, bigint, integer)",
        service_role="EXECUTE",
    )


def downgrade() -> None:
    op.refuse_data_loss("shares of conversations", "SELECT count(*) FROM public.shares")
    op.sql("DROP FUNCTION chat_internal.open_share(bytea, timestamptz, bigint, integer)")
    op.drop_table("shares", schema="public")
