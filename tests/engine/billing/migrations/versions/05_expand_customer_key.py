"""Expand invoices by the key to their customers, for new rows."""

from alembic import op

revision = "05"
down_revision = "04"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_foreign_key(
        "fk_invoices_customer_id",
        "invoices",
        "customers",
        ["customer_id"],
        ["id"],
        source_schema="billing",
        referent_schema="billing",
        postgresql_not_valid=True,
    )


def downgrade() -> None:
    op.drop_constraint("fk_invoices_customer_id", "invoices", schema="billing")
