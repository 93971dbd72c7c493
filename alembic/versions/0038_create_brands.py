"""Create brands.

What:   public.brands, what creative sessions work for.
Why:    (user_id) serves "a user's brands" and the key's cascade.
Locks:  ShareRowExclusive on public.users for an instant (the foreign key); on a table that stands already see
        0004.
Undone: the table is dropped, or given back as it was found; refused while rows would be lost.

Revision ID: 0038
Revises: 0037
"""

import sqlalchemy as sa

from alembic import op

revision = "0038"
down_revision = "0037"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.stage_table(
        "brands",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="brands_pkey"),
        sa.ForeignKeyConstraint(["user_id"], ["public.users.id"], name="fk_brands_user_id", ondelete="CASCADE"),
        sa.CheckConstraint(
            "least(created_at, updated_at) >= timestamp '0001-01-02' AT TIME ZONE 'UTC'"
            " AND greatest(created_at, updated_at) < timestamp '9999-12-31' AT TIME ZONE 'UTC'",
            name=op.f("ck_brands_times"),
        ),
    )
    op.create_index("idx_brands_user", "brands", ["user_id"], schema="chat_internal")
    op.sql(
        "CREATE TRIGGER brands_updated_at BEFORE UPDATE ON chat_internal.brands"
        " FOR EACH ROW EXECUTE FUNCTION public.update_updated_at()"
    )
    op.enable_row_level_security("chat_internal.brands")
    op.create_owner_policies("chat_internal.brands", owner="user_id = (SELECT chat_internal.current_user_id())")
    op.grant_only(
        "chat_internal.brands",
        authenticated="SELECT, INSERT, UPDATE, DELETE",
        service_role="SELECT, INSERT, UPDATE, DELETE",
    )
    op.adopt_table("brands")
    op.fill_adopted(
        "brands",
        {
            "created_at": "coalesce(t.updated_at, pg_catalog.now())",
            "updated_at": "coalesce(t.created_at, pg_catalog.now())",
        },
    )
    op.finish_table("brands")


def downgrade() -> None:
    op.release_table("brands", what="brands")
