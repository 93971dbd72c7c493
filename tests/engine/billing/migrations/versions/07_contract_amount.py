"""Contract the amount of invoices to NOT NULL."""

from alembic import op

revision = "07"
down_revision = "06"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.set_not_null("billing.invoices", "amount")


def downgrade() -> None:
    op.sql("ALTER TABLE billing.invoices ALTER COLUMN amount DROP NOT NULL")
    op.add_not_null_check("billing.invoices", "amount")
    op.validate_not_null_check("billing.invoices", "amount")
