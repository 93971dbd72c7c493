"""Retention: what a purge deletes, in small batches, and how it finds it without reading the rest.

Rules stand in `retention_rules`: one of a tenant goes before the one without a tenant, which is everybody else's and
that of personal conversations. `keep` counts from a conversation's last message or change, `trash_keep` from when it
was thrown away; NULL keeps for ever. Messages of both stores go with their conversation. A pinned conversation is not
idle; a held one (`retention_holds`) stays in the trash too. Creative sessions have no tenant: they follow `keep` of
the rule without a tenant from when they were delivered or cancelled.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from alembic.util import CommandError

SESSIONS_KEPT = timedelta(days=90)  # where no rule says else

_BATCH = "chat_internal.purge_conversation_session_batch"
_ENDED = """
    SELECT {columns}
    FROM public.conversation_sessions AS s
    {join}
    WHERE s.state IN ('delivered', 'cancelled') AND coalesce(s.completed_at, s.last_activity_at) < :before
"""
# The two lists of a tenant, or of no tenant, each by an index that has it in this order.
_IDLE = (
    "c.deleted_at IS NULL AND c.pinned_at IS NULL AND (c.updated_at, c.id) > (:after, :id) AND c.updated_at < :before"
)
_TRASH = "c.deleted_at IS NOT NULL AND (c.deleted_at, c.id) > (:after, :id) AND c.deleted_at < :before"
_NOT_HELD = (
    " AND NOT EXISTS (SELECT FROM public.retention_holds AS h WHERE h.conversation_id = c.id AND h.user_id = c.user_id)"
)


@dataclasses.dataclass(frozen=True)
class Due:
    """One list to purge: conversations of a tenant, or of none, that are idle or in the trash since ``before``."""

    tenant: UUID | None
    trash: bool
    before: datetime

    @property
    def what(self) -> str:
        """Name it for people."""
        of = "personal conversations" if self.tenant is None else f"conversations of tenant {self.tenant}"
        return f"{of}, {'in the trash' if self.trash else 'idle'} since {self.before:%Y-%m-%d %H:%M}"

    def _where(self) -> str:
        tenant = "c.tenant_id IS NULL" if self.tenant is None else "c.tenant_id = :tenant"
        return f"{tenant} AND {_TRASH if self.trash else _IDLE}{_NOT_HELD}"

    def _values(self, after: tuple[Any, UUID] | None = None) -> dict[str, Any]:
        at, row = after or ("-infinity", UUID(int=0))
        return {"tenant": self.tenant, "before": self.before, "after": at, "id": row}


@dataclasses.dataclass(frozen=True)
class Counted:
    """How many conversations, or sessions, and messages in them."""

    rows: int
    messages: int


def lists(connection: sa.Connection) -> list[Due]:
    """Return what the rules say is to be looked at now.

    Raises :class:`alembic.util.CommandError` on a database whose revision knows no purge yet.
    """
    if connection.scalar(sa.text("SELECT to_regclass('public.retention_rules')")) is None:
        raise CommandError("This database has nothing to purge by yet: run `chat-schema upgrade head` first.")
    rows = connection.execute(
        sa.text(
            """
            SELECT t.id, pg_catalog.now() - r.keep AS idle, pg_catalog.now() - r.trash_keep AS trash
            FROM (SELECT NULL::uuid AS id UNION ALL SELECT t.id FROM public.tenants AS t) AS t
            JOIN LATERAL (
              SELECT r.keep, r.trash_keep FROM public.retention_rules AS r
              WHERE r.tenant_id = t.id OR r.tenant_id IS NULL
              ORDER BY r.tenant_id NULLS LAST LIMIT 1
            ) AS r ON true
            ORDER BY t.id NULLS FIRST
            """
        )
    ).all()
    connection.rollback()
    return [
        Due(row.id, trash, before)
        for row in rows
        for trash, before in ((False, row.idle), (True, row.trash))
        if before is not None
    ]


def sessions_before(connection: sa.Connection, days: int | None) -> datetime:
    """Return before when a creative session must have ended: ``days`` ago, else as the rule says, else 90 days ago."""
    before: datetime = connection.scalar(
        sa.text(
            "SELECT pg_catalog.now() - coalesce(pg_catalog.make_interval(days => :days),"
            " (SELECT r.keep FROM public.retention_rules AS r WHERE r.tenant_id IS NULL), :kept)"
        ).bindparams(sa.bindparam("days", type_=sa.Integer), sa.bindparam("kept", type_=sa.Interval)),
        {"days": days, "kept": SESSIONS_KEPT},
    )
    connection.rollback()
    return before


def count(connection: sa.Connection, due: Due) -> Counted:
    """Count the conversations of a list, and their messages in both stores."""
    messages = " + ".join(
        f"(SELECT count(*) FROM public.{table} AS m WHERE m.conversation_id = d.id AND m.user_id = d.user_id)"
        for table in ("messages", "chat_messages")
    )
    found = connection.execute(
        sa.text(
            f"SELECT count(*) AS rows, coalesce(sum({messages}), 0) AS messages"
            f" FROM (SELECT c.id, c.user_id FROM public.conversations AS c WHERE {due._where()}) AS d"
        ),
        due._values(),
    ).one()
    connection.rollback()
    return Counted(int(found.rows), int(found.messages))


def count_sessions(connection: sa.Connection, before: datetime) -> Counted:
    """Count the creative sessions that ended before then, and their messages."""
    join = "JOIN public.conversation_messages AS m ON m.session_id = s.id AND m.user_id = s.user_id"
    sessions = connection.scalar(sa.text(_ENDED.format(columns="count(*)", join="")), {"before": before})
    messages = connection.scalar(sa.text(_ENDED.format(columns="count(*)", join=join)), {"before": before})
    connection.rollback()
    return Counted(sessions or 0, messages or 0)


@dataclasses.dataclass(frozen=True)
class Purged:
    """The conversations that a batch has deleted, and the storage keys of the attachments that went."""

    ids: tuple[UUID, ...]
    storage_keys: tuple[str, ...]


def purge(connection: sa.Connection, due: Due, batch_size: int) -> Iterator[Purged]:
    """Delete a list batch by batch, each its own commit, in its order: what was looked at is not read again.

    A purge that was killed is gone on with by the next, for what it has deleted is due no more. A conversation that
    somebody has locked is left to the next one. Storage keys are yielded before their rows are committed away.
    """
    time = "deleted_at" if due.trash else "updated_at"
    batch = sa.text(
        f"SELECT c.id, c.user_id, c.{time} AS at FROM public.conversations AS c WHERE {due._where()}"
        f" ORDER BY c.{time}, c.id LIMIT :size FOR UPDATE OF c SKIP LOCKED"
    )
    keys = sa.text("SELECT a.storage_key FROM public.attachments AS a WHERE a.conversation_id = ANY(:ids) ORDER BY 1")
    delete = sa.text("DELETE FROM public.conversations AS c WHERE c.id = ANY(:ids)")
    after: tuple[Any, UUID] | None = None
    while True:
        with connection.begin():
            rows = connection.execute(batch, {**due._values(after), "size": batch_size}).all()
            if not rows:
                return
            ids = [row.id for row in rows]
            purged = Purged(tuple(ids), tuple(connection.scalars(keys, {"ids": ids})))
            connection.execute(delete, {"ids": ids})
            yield purged
        after = (rows[-1].at, rows[-1].id)


def purge_sessions(connection: sa.Connection, before: datetime, batch_size: int) -> Iterator[int]:
    """Delete creative sessions batch by batch, each its own commit, and yield how many each batch deleted.

    A session that somebody has locked is left to the next purge.
    """
    batch = sa.text(f"SELECT {_BATCH}(:before, :size)")
    while True:
        with connection.begin():
            deleted = connection.scalar(batch, {"before": before, "size": batch_size}) or 0
        if not deleted:
            return
        yield deleted
