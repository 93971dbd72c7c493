"""Validate the key and the NOT NULL of old rows, and count."""

from alembic import op

revision = "06"
down_revision = "05"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.validate_not_null_check("billing.invoices", "amount")
    op.validate_constraint("fk_invoices_customer_id", "billing.invoices")
    op.verify(
        none_of={"invoices of another amount": "SELECT count(*) FROM billing.invoices WHERE amount <> cents / 100.0"},
        figures={"invoices": "SELECT count(*) FROM billing.invoices"},
    )


def downgrade() -> None:
    pass
