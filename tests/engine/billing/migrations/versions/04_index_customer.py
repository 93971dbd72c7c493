"""Index invoices by customer."""

from alembic import op

revision = "04"
down_revision = "03"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index_online("idx_invoices_customer_id", "billing.invoices", ["customer_id"])


def downgrade() -> None:
    op.drop_index_online("billing.idx_invoices_customer_id")
