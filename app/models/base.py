"""What every model shares: one MetaData, one naming convention, one way to load.

Rows load the same way in a `Session` and an `AsyncSession(expire_on_commit=False)`, because no relationship
is fetched by reading it:

- A collection that grows with use (tasks, conversations, messages, sessions) is `WriteOnlyMapped`. It is read
  a page at a time, by executing `conversation.messages.select().limit(50)`, and grows by `.add()`. Its rows
  go by `session.delete()`; `.remove()` would fetch the parent first.
- A small collection (memberships, brands) and every reference to a parent is `lazy="raise_on_sql"`: the query
  names it, `select(User).options(selectinload(User.memberships))`, or reading it raises InvalidRequestError.
- Deletes are the database's: every foreign key cascades, and `passive_deletes=True` keeps the ORM from
  loading what goes.
"""

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import DateTime, MetaData, Text
from sqlalchemy.orm import DeclarativeBase

# `ck` contains the given name, so a CHECK without one fails here instead of getting a name from the server.
NAMING_CONVENTION = {
    "pk": "%(table_name)s_pkey",
    "ix": "idx_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
}


class Base(DeclarativeBase):
    """The declarative base of every table of the schema."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map: ClassVar[dict[Any, Any]] = {datetime: DateTime(timezone=True), str: Text()}

    # What the server sets comes back by RETURNING, on UPDATE as well: a trigger moves `updated_at`, and an
    # attribute left expired would be fetched when it is read, which an AsyncSession cannot do.
    __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012 - the base class declares no ClassVar
