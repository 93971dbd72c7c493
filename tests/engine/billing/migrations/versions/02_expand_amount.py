"""Expand invoices by an amount, which a trigger fills from the cents of old clients."""

import sqlalchemy as sa

from alembic import op

revision = "02"
down_revision = "01"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("invoices", sa.Column("amount", sa.Numeric()), schema="billing")
    op.sql(
        """
        CREATE FUNCTION billing.fill_amount() RETURNS trigger
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
          NEW.amount := NEW.cents / 100.0;
          RETURN NEW;
        END
        $$
        """
    )
    op.sql(
        "CREATE TRIGGER fill_amount BEFORE INSERT OR UPDATE ON billing.invoices"
        " FOR EACH ROW EXECUTE FUNCTION billing.fill_amount()"
    )
    op.add_not_null_check("billing.invoices", "amount")


def downgrade() -> None:
    op.sql("DROP TRIGGER fill_amount ON billing.invoices")
    op.sql("DROP FUNCTION billing.fill_amount()")
    op.drop_column("invoices", "amount", schema="billing")
