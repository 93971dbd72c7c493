"""Create user_llm_providers: a user's own keys of model providers, encrypted by the service.

What:   public.user_llm_providers with its keys, index and policies.
Why:    the database holds ciphertext and the id of the key that it was made with, never a key. Both columns are
        readable to service_role alone; a user sees which providers it has given a key for, since when, and removes
        one. Only services write them: what a user put there itself would be no ciphertext of theirs. The index leads
        with key_id, so that a rotation finds what is left of an older key.
Locks:  ShareRowExclusive on public.users for an instant (the foreign key).
Undone: the table is dropped; refused while rows would be lost.

Revision ID: 0059
Revises: 0058
"""

import sqlalchemy as sa

from alembic import op

revision = "0059"
down_revision = "0058"
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
    WHERE o.name IN ('user_llm_providers', 'user_llm_providers_pkey', 'idx_user_llm_providers_key_id')
"""


def upgrade() -> None:
    op.create_table(
        "user_llm_providers",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("ciphertext", sa.LargeBinary(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "provider", name="user_llm_providers_pkey"),
        sa.ForeignKeyConstraint(
            ["user_id"], ["public.users.id"], name="fk_user_llm_providers_user_id", ondelete="CASCADE"
        ),
        sa.CheckConstraint("provider <> ''", name=op.f("ck_user_llm_providers_provider")),
        sa.CheckConstraint(
            "least(created_at, updated_at) >= timestamp '0001-01-02' AT TIME ZONE 'UTC'"
            " AND greatest(created_at, updated_at) < timestamp '9999-12-31' AT TIME ZONE 'UTC'",
            name=op.f("ck_user_llm_providers_times"),
        ),
        schema="public",
    )
    op.create_index(
        "idx_user_llm_providers_key_id",
        "user_llm_providers",
        ["key_id", "user_id", "provider"],
        schema="public",
    )
    op.sql(
        "CREATE TRIGGER user_llm_providers_updated_at BEFORE UPDATE ON public.user_llm_providers"
        " FOR EACH ROW EXECUTE FUNCTION public.update_updated_at()"
    )
    op.enable_row_level_security("user_llm_providers")
    for command in ("SELECT", "DELETE"):
        op.create_policy(
            f"user_llm_providers_{command.lower()}_own",
            "user_llm_providers",
            command,
            to="authenticated",
            using="user_id = (SELECT chat_internal.current_user_id())",
        )
    op.create_service_policy("user_llm_providers")
    op.grant_only(
        "user_llm_providers",
        authenticated="SELECT (user_id, provider, created_at, updated_at), DELETE",
        service_role="SELECT, INSERT, UPDATE, DELETE",
    )


def downgrade() -> None:
    op.refuse_data_loss("keys of model providers", "SELECT count(*) FROM public.user_llm_providers")
    op.drop_table("user_llm_providers", schema="public")
