"""A task: one entry of a user's to-do list, which the user or an agent in a chat writes."""

from typing import TYPE_CHECKING

from sqlalchemy import Index, false, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from .base import Base
from .types import CreatedAt, Str255, UpdatedAt, UserId, UuidPk, readable_times

if TYPE_CHECKING:
    from .user import User


class Task(Base):
    """Something a user wants done."""

    __tablename__ = "tasks"

    id: Mapped[UuidPk] = mapped_column(insert_sentinel=True)
    user_id: Mapped[UserId]
    title: Mapped[Str255] = mapped_column(comment="What is to be done, in one line.")
    description: Mapped[str | None] = mapped_column(comment="More about it.")
    completed: Mapped[bool] = mapped_column(server_default=false(), comment="Whether it is done.")
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]

    __table_args__ = (
        readable_times("created_at", "updated_at"),
        # The cascade from users. The next index could serve it too; adopted databases have this one.
        Index("idx_tasks_user_id", "user_id"),
        # A user's tasks, newest first.
        Index("idx_tasks_user_id_created_at", "user_id", text("created_at DESC")),
        {"comment": "Entries of users' to-do lists, written by the user or by an agent in a chat."},
    )

    user: Mapped["User"] = relationship(back_populates="tasks", lazy="raise_on_sql")
