"""The tables of a service that sends invoices and has no chats."""

import decimal

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    metadata = sa.MetaData(schema="billing")


class Customer(Base):
    __tablename__ = "customers"

    id: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(sa.Text)


class Invoice(Base):
    __tablename__ = "invoices"
    __table_args__ = (sa.Index("idx_invoices_customer_id", "customer_id"),)

    id: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity(), primary_key=True)
    customer_id: Mapped[int] = mapped_column(
        sa.BigInteger, sa.ForeignKey("billing.customers.id", name="fk_invoices_customer_id")
    )
    cents: Mapped[int] = mapped_column(sa.BigInteger)
    amount: Mapped[decimal.Decimal] = mapped_column(sa.Numeric)
