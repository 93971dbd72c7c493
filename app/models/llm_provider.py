"""A user's own key of a model provider, which the service encrypts: see `app.provider_keys`."""

from __future__ import annotations

from typing import Any

from sqlalchemy import CheckConstraint, Index, LargeBinary
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from .base import Base
from .types import CreatedAt, UpdatedAt, UserId, readable_times


class Ciphertext(bytes):
    """Bytes that no log and no error shows: SQLAlchemy prints the parameters of a statement that failed."""

    def __repr__(self) -> str:
        return "<ciphertext>"

    __str__ = __repr__


class CiphertextType(TypeDecorator[Ciphertext]):
    """A column of :class:`Ciphertext`."""

    impl = LargeBinary
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Any:
        """Hand the value to the driver as it is; the type's own processor would make plain bytes of it."""
        return None

    def process_result_value(self, value: Any, dialect: Dialect) -> Ciphertext | None:
        """Wrap what was read."""
        return None if value is None else Ciphertext(value)


class UserLlmProvider(Base):
    """One key of one user for one provider. A user sees that it is there, and removes it; the rest is the service's."""

    __tablename__ = "user_llm_providers"

    user_id: Mapped[UserId] = mapped_column(primary_key=True)
    provider: Mapped[str] = mapped_column(primary_key=True, comment="The provider that the key is for.")
    # Only service_role may read both columns, so no ordinary SELECT names them.
    ciphertext: Mapped[Ciphertext] = mapped_column(
        CiphertextType,
        deferred=True,
        deferred_raiseload=True,
        comment="The key, encrypted by the service. Only service_role reads it.",
    )
    key_id: Mapped[str] = mapped_column(
        deferred=True,
        deferred_raiseload=True,
        comment="Which key of the service it is encrypted with. Only service_role reads it.",
    )
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]

    __table_args__ = (
        CheckConstraint("provider <> ''", name="provider"),
        readable_times("created_at", "updated_at"),
        # What `chat-schema rotate-keys` has still to do: rows of a key that is not the current one.
        Index("idx_user_llm_providers_key_id", "key_id", "user_id", "provider"),
        {"comment": "Keys of model providers that users have brought, encrypted by the service."},
    )
