"""Create tenants and their members.

What:   public.tenants, public.tenant_users, and chat_internal.current_tenant_ids(), the tenants of the caller.
Why:    members read their tenants and see who else is in them; only service_role writes. A policy on tenant_users
        that reads tenant_users would recurse, hence the SECURITY DEFINER function: it takes no argument, answers
        for the caller only and stands in a schema that no API exposes. It reads the claims itself: called under its
        search_path, current_user_id() would be planned again each time, and then again for the policies.
Locks:  ShareRowExclusive on public.users for an instant (the foreign key); on a table that stands already see
        0004.
Undone: both tables are dropped, or given back as they were found; refused while rows would be lost.

Revision ID: 0017
Revises: 0016
"""

import sqlalchemy as sa

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.sql(
        """
        CREATE OR REPLACE FUNCTION chat_internal.current_tenant_ids() RETURNS uuid[]
        LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
          me CONSTANT uuid := coalesce(
            nullif(pg_catalog.current_setting('request.jwt.claim.sub', true), ''),
            nullif(nullif(pg_catalog.current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub', ''));
        BEGIN
          RETURN ARRAY(SELECT tu.tenant_id FROM public.tenant_users AS tu WHERE tu.user_id = me);
        END
        $$
        """
    )
    op.grant_only("FUNCTION chat_internal.current_tenant_ids()", authenticated="EXECUTE", service_role="EXECUTE")

    op.stage_table(
        "tenants",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="tenants_pkey"),
        sa.CheckConstraint(
            "least(created_at, updated_at) >= timestamp '0001-01-02' AT TIME ZONE 'UTC'"
            " AND greatest(created_at, updated_at) < timestamp '9999-12-31' AT TIME ZONE 'UTC'",
            name=op.f("ck_tenants_times"),
        ),
    )
    op.sql(
        "CREATE TRIGGER tenants_updated_at BEFORE UPDATE ON chat_internal.tenants"
        " FOR EACH ROW EXECUTE FUNCTION public.update_updated_at()"
    )
    op.enable_row_level_security("chat_internal.tenants")
    op.create_policy(
        "tenants_select_member",
        "chat_internal.tenants",
        "SELECT",
        to="authenticated",
        using="id = ANY ((SELECT chat_internal.current_tenant_ids())::uuid[])",
    )
    op.create_service_policy("chat_internal.tenants")
    op.grant_only("chat_internal.tenants", authenticated="SELECT", service_role="SELECT, INSERT, UPDATE, DELETE")
    op.adopt_table("tenants")
    op.fill_adopted(
        "tenants",
        {
            "created_at": "coalesce(t.updated_at, pg_catalog.now())",
            "updated_at": "coalesce(t.created_at, pg_catalog.now())",
        },
    )
    op.finish_table("tenants")

    op.stage_table(
        "tenant_users",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("role", sa.String(20), server_default=sa.text("'member'"), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "user_id", name="tenant_users_pkey"),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["public.tenants.id"], name="fk_tenant_users_tenant_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["public.users.id"], name="fk_tenant_users_user_id", ondelete="CASCADE"),
        sa.CheckConstraint("role IN ('owner', 'admin', 'member')", name=op.f("ck_tenant_users_role")),
        sa.CheckConstraint(
            "least(created_at) >= timestamp '0001-01-02' AT TIME ZONE 'UTC'"
            " AND greatest(created_at) < timestamp '9999-12-31' AT TIME ZONE 'UTC'",
            name=op.f("ck_tenant_users_times"),
        ),
    )
    op.create_index("idx_tenant_users_user_id", "tenant_users", ["user_id"], schema="chat_internal")
    op.enable_row_level_security("chat_internal.tenant_users")
    op.create_policy(
        "tenant_users_select_member",
        "chat_internal.tenant_users",
        "SELECT",
        to="authenticated",
        using="tenant_id = ANY ((SELECT chat_internal.current_tenant_ids())::uuid[])",
    )
    op.create_service_policy("chat_internal.tenant_users")
    op.grant_only("chat_internal.tenant_users", authenticated="SELECT", service_role="SELECT, INSERT, UPDATE, DELETE")
    op.adopt_table("tenant_users")

    op.fill_adopted("tenant_users", {"created_at": "pg_catalog.now()"}, key=["tenant_id", "user_id"])
    op.finish_table("tenant_users")


def downgrade() -> None:
    op.release_table("tenant_users", what="members of tenants")
    op.release_table("tenants", what="tenants")
    op.sql("DROP FUNCTION chat_internal.current_tenant_ids()")
