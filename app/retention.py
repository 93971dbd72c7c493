"""Retention: creative sessions that were delivered or cancelled long ago go, with their messages, in small batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import sqlalchemy as sa
from alembic.util import CommandError

_BATCH = "chat_internal.purge_conversation_session_batch"
_ENDED = """
    SELECT {columns}
    FROM public.conversation_sessions AS s
    {join}
    WHERE s.state IN ('delivered', 'cancelled')
      AND coalesce(s.completed_at, s.last_activity_at) < now() - make_interval(days => :days)
"""


@dataclasses.dataclass(frozen=True)
class Purgeable:
    """How many sessions, and messages in them, a purge would delete."""

    sessions: int
    messages: int


def count_purgeable(connection: sa.Connection, days: int) -> Purgeable:
    """Count the sessions that ended more than ``days`` days ago, and their messages.

    Raises :class:`alembic.util.CommandError` on a database whose revision knows no purge yet.
    """
    if connection.scalar(sa.text("SELECT to_regprocedure(:name)"), {"name": _BATCH + "(timestamptz, integer)"}) is None:
        raise CommandError("This database has no creative sessions to purge yet: run `chat-schema upgrade head` first.")
    join = "JOIN public.conversation_messages AS m ON m.session_id = s.id AND m.user_id = s.user_id"
    sessions = connection.scalar(sa.text(_ENDED.format(columns="count(*)", join="")), {"days": days})
    messages = connection.scalar(sa.text(_ENDED.format(columns="count(*)", join=join)), {"days": days})
    connection.rollback()
    return Purgeable(sessions or 0, messages or 0)


def purge(connection: sa.Connection, days: int, batch_size: int) -> Iterator[int]:
    """Delete batch by batch, each its own commit, and yield how many sessions each batch deleted.

    A session that somebody has locked is left to the next purge.
    """
    before = connection.scalar(sa.text("SELECT now() - make_interval(days => :days)"), {"days": days})
    connection.rollback()
    batch = sa.text(f"SELECT {_BATCH}(:before, :size)")
    while True:
        with connection.begin():
            deleted = connection.scalar(batch, {"before": before, "size": batch_size}) or 0
        if not deleted:
            return
        yield deleted
