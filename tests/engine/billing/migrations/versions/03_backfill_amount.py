"""Backfill the amounts of invoices from before the trigger."""

from alembic import op

revision = "03"
down_revision = "02"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.backfill(
        "amounts of invoices",
        "billing.invoices",
        "i",
        "UPDATE billing.invoices AS i SET amount = i.cents / 100.0 WHERE {batch} AND i.amount IS NULL",
        "i.amount IS NULL",
    )


def downgrade() -> None:
    pass
