"""Create retention: how long a tenant keeps what, and which conversations are held.

What:   public.retention_rules, one row a tenant and one without a tenant for everybody else; public.retention_holds,
        the conversations that a service keeps whatever the rules say.
Why:    `chat-schema purge` deletes by them. No rule, or a NULL in it, keeps for ever: nothing goes that nobody has said
        may go. A hold is a row of its own and no column of conversations, for a user may write there: it must not be
        able to lift one. Only services read and write both.
Locks:  ShareRowExclusive on public.conversations, public.tenants and public.users for an instant (the foreign keys).
Undone: both tables are dropped; refused while rules or holds would be lost.

Revision ID: 0060
Revises: 0059
"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import INTERVAL

from alembic import op

revision = "0060"
down_revision = "0059"
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
    WHERE o.name IN ('retention_rules', 'retention_rules_pkey', 'idx_retention_rules_tenant_id', 'retention_holds',
      'retention_holds_pkey', 'idx_retention_holds_user_id')
"""


def upgrade() -> None:
    op.create_table(
        "retention_rules",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=True),
        sa.Column("keep", INTERVAL(), nullable=True),
        sa.Column("trash_keep", INTERVAL(), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="retention_rules_pkey"),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["public.tenants.id"], name="fk_retention_rules_tenant_id", ondelete="CASCADE"
        ),
        sa.CheckConstraint(
            "least(keep, trash_keep) >= interval '0' AND greatest(keep, trash_keep) <= interval '1000 years'",
            name=op.f("ck_retention_rules_keep"),
        ),
        sa.CheckConstraint(
            "least(created_at, updated_at) >= timestamp '0001-01-02' AT TIME ZONE 'UTC'"
            " AND greatest(created_at, updated_at) < timestamp '9999-12-31' AT TIME ZONE 'UTC'",
            name=op.f("ck_retention_rules_times"),
        ),
        schema="public",
    )
    op.create_index(
        "idx_retention_rules_tenant_id",
        "retention_rules",
        ["tenant_id"],
        unique=True,
        postgresql_nulls_not_distinct=True,
        schema="public",
    )
    op.sql(
        "CREATE TRIGGER retention_rules_updated_at BEFORE UPDATE ON public.retention_rules"
        " FOR EACH ROW EXECUTE FUNCTION public.update_updated_at()"
    )
    op.create_table(
        "retention_holds",
        sa.Column("conversation_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("conversation_id", "user_id", name="retention_holds_pkey"),
        sa.ForeignKeyConstraint(
            ["user_id"], ["public.users.id"], name="fk_retention_holds_user_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["conversation_id", "user_id"],
            ["public.conversations.id", "public.conversations.user_id"],
            name="fk_retention_holds_conversation_id",
            ondelete="CASCADE",
        ),
        sa.CheckConstraint(
            "least(created_at) >= timestamp '0001-01-02' AT TIME ZONE 'UTC'"
            " AND greatest(created_at) < timestamp '9999-12-31' AT TIME ZONE 'UTC'",
            name=op.f("ck_retention_holds_times"),
        ),
        schema="public",
    )
    op.create_index("idx_retention_holds_user_id", "retention_holds", ["user_id"], schema="public")
    for table in ("retention_rules", "retention_holds"):
        op.enable_row_level_security(table)
        op.create_service_policy(table)
        op.grant_only(table, service_role="SELECT, INSERT, UPDATE, DELETE")


def downgrade() -> None:
    op.refuse_data_loss("retention rules", "SELECT count(*) FROM public.retention_rules")
    op.refuse_data_loss("held conversations", "SELECT count(*) FROM public.retention_holds")
    op.drop_table("retention_holds", schema="public")
    op.drop_table("retention_rules", schema="public")
