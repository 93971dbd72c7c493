"""Columns that several tables repeat, as `Annotated` types: `created_at: Mapped[CreatedAt]` is all of it.

JSON values are replaced, not edited: `conversation.metadata_ = {**conversation.metadata_, "pinned": True}`.
A change inside the value is not seen: what would track it (`MutableDict`) raises when it loads another JSON
shape, and adopted rows may hold one.
"""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID, uuid4

from sqlalchemy import CheckConstraint, FetchedValue, ForeignKey, Numeric, String, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import mapped_column

# Made by the ORM; the server default is for every other client. Each model adds `insert_sentinel=True`, which
# an Annotated type does not hand on: by the id the ORM then matches the rows of RETURNING to its objects, and
# many go in one INSERT. Beside a server default it does not take the id for that unasked: one INSERT a row.
UuidPk = Annotated[
    UUID,
    mapped_column(
        primary_key=True,
        default=uuid4,
        server_default=func.gen_random_uuid(),
        comment="The key of the row: a UUID from the client, or from the database where the client sends none.",
    ),
]

UserId = Annotated[
    UUID,
    mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"),
        comment="The owner of the row. It never changes, and the row is deleted with its user.",
    ),
]

CreatedAt = Annotated[datetime, mapped_column(server_default=func.now(), comment="When the row was made.")]

# By the trigger `update_updated_at()`.
UpdatedAt = Annotated[
    datetime,
    mapped_column(
        server_default=func.now(),
        server_onupdate=FetchedValue(),
        comment="When the row was last changed. A trigger moves it, unless the UPDATE sets it itself.",
    ),
]


def readable_times(*columns: str, name: str = "times") -> CheckConstraint:
    """Return the CHECK ``name`` that keeps `columns` within what Python's `datetime` holds, in any time zone.

    PostgreSQL also has infinite times and years before 1 and after 9999. A driver raises when it reads one, so a
    single such row would break every listing it is in. NULL passes.
    """
    names = ", ".join(columns)
    return CheckConstraint(
        f"least({names}) >= timestamp '0001-01-02' AT TIME ZONE 'UTC'"
        f" AND greatest({names}) < timestamp '9999-12-31' AT TIME ZONE 'UTC'",
        name=name,
    )


Str50 = Annotated[str, mapped_column(String(50))]
Str100 = Annotated[str, mapped_column(String(100))]
Str255 = Annotated[str, mapped_column(String(255))]

# US dollars, to the millionth: one call of a small model costs less than a hundredth of a cent.
Usd = Annotated[Decimal, mapped_column(Numeric(10, 6))]

# The shape that the application writes; the database checks none. None is SQL NULL, never JSON null, so that
# `IS NULL` finds it.
JsonObject = Annotated[dict[str, Any], mapped_column(JSONB(none_as_null=True))]
JsonArray = Annotated[list[Any], mapped_column(JSONB(none_as_null=True))]
