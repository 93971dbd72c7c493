"""Create customers and their invoices."""

import sqlalchemy as sa

from alembic import op

revision = "01"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "customers",
        sa.Column("id", sa.BigInteger(), sa.Identity(), primary_key=True),
        sa.Column("name", sa.Text(), nullable=False),
        schema="billing",
    )
    op.create_table(
        "invoices",
        sa.Column("id", sa.BigInteger(), sa.Identity(), primary_key=True),
        sa.Column("customer_id", sa.BigInteger(), nullable=False),
        sa.Column("cents", sa.BigInteger(), nullable=False),
        schema="billing",
    )
    for table in ("customers", "invoices"):
        op.enable_row_level_security(f"billing.{table}")
        op.create_policy(f"{table}_all", f"billing.{table}", "ALL", to="PUBLIC", using="true", check="true")
        op.grant_to(f"billing.{table}", {})


def downgrade() -> None:
    op.refuse_data_loss("invoices", "SELECT count(*) FROM billing.invoices")
    op.drop_policy("invoices_all", "billing.invoices")
    op.drop_table("invoices", schema="billing")
    op.drop_table("customers", schema="billing")
