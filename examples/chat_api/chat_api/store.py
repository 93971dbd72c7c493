"""The statements of the service.

Each runs within a transaction that acts for one user, and sees that user's rows whatever it asks for.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.dml import ReturningUpdate

from chat_api.problems import ProblemError, not_found
from chat_schema.models import Conversation, Message, MessageRole, Tenant, User
from chat_schema.queries import (
    ConversationPosition,
    Hit,
    HitPosition,
    MarkPosition,
    MessagePosition,
    archive,
    archived_conversations,
    conversations_of_user,
    mark_read,
    move_to_tenant,
    pin,
    pinned_conversations,
    rename,
    restore,
    search,
    throw_away,
    trash,
    unarchive,
    unpin,
    unread,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
DEFAULT_TITLE = "New Conversation"  # the schema's
METADATA_LENGTH = 16_000

# Where a page ends: its last row's place in the order. Every text of these shapes is a place, so none is refused later.
CONVERSATION_CURSOR = r"^-?[0-9]{1,18}_[0-9a-f]{32}$"
MESSAGE_CURSOR = r"^-?[0-9]{1,18}_[0-9]{1,18}$"
HIT_CURSOR = r"^(chat_)?messages_(-?[0-9]{1,18}|x)_[0-9a-f]{32}_[0-9]{1,9}(\.[0-9]{1,17})?(e-[0-9]{1,3})?$"
IDEMPOTENCY_KEY = r"^[!-.0-~]{1,200}$"  # no slash: a reply's key is its question's with one


def cursor_of(row: Conversation | Message) -> str:
    """Return the place of a row: microseconds since 1970, then what settles ties."""
    if isinstance(row, Conversation):
        at = row.deleted_at or row.archived_at or row.updated_at  # its place in the list that it is in
        return cursor_at(at, row.id)
    return message_cursor(row.created_at, row.seq)


def message_cursor(created_at: datetime, seq: int) -> str:
    """Return the place of a message in its conversation."""
    return f"{(created_at - _EPOCH) // _MICROSECOND}_{seq}"


def message_place(cursor: str) -> MessagePosition:
    """Return the place that a message's cursor names."""
    at, tie = _place(cursor)
    return MessagePosition(at, int(tie))


def cursor_at(at: datetime, conversation_id: UUID) -> str:
    """Return the place of a conversation in a list by ``at``."""
    return f"{(at - _EPOCH) // _MICROSECOND}_{conversation_id.hex}"


def _place(cursor: str) -> tuple[datetime, str]:
    microseconds, _, tie = cursor.partition("_")
    try:
        return _EPOCH + int(microseconds) * _MICROSECOND, tie
    except OverflowError:  # before the year 1, or after 9999
        return (datetime.min if microseconds.startswith("-") else datetime.max).replace(tzinfo=UTC), tie


async def own_account(session: AsyncSession, user_id: UUID) -> tuple[User | None, Sequence[Tenant]]:
    """Return the caller's account, None where it has none, and the tenants it is a member of, by name."""
    tenants = await session.scalars(select(Tenant).order_by(Tenant.name, Tenant.id))
    return await session.get(User, user_id), tenants.all()


Which = Literal["inbox", "pinned", "archive", "trash"]


async def list_conversations(
    session: AsyncSession, user_id: UUID, which: Which, limit: int, before: str | None = None
) -> Sequence[Conversation]:
    """Return the first conversations of a list, or those after a cursor."""
    place = None
    if before is not None:
        at, tie = _place(before)
        place = at, UUID(tie)
    if which == "inbox":
        page = conversations_of_user(user_id, after=ConversationPosition(*place) if place else None, limit=limit)
    else:
        marked = {"pinned": pinned_conversations, "archive": archived_conversations, "trash": trash}[which]
        page = marked(user_id, after=MarkPosition(*place) if place else None, limit=limit)
    return (await session.scalars(page)).all()


async def count_unread(session: AsyncSession, conversations: Sequence[Conversation]) -> dict[UUID, int]:
    """Return the number of unread replies of each conversation, counted to 100."""
    found = await session.execute(unread([one.id for one in conversations]))
    return dict(found.all())


async def get_conversation(session: AsyncSession, conversation_id: UUID) -> Conversation:
    """Return one conversation; raises the problem 404."""
    conversation = await session.get(Conversation, conversation_id)
    if conversation is None:
        raise not_found()
    return conversation


async def create_conversation(
    session: AsyncSession, user_id: UUID, title: str | None, tenant_id: UUID | None
) -> Conversation:
    """Start a conversation, personal or within a tenant; raises the problem 403 for a tenant the user is not in."""
    await refuse_foreign_tenant(session, tenant_id)
    conversation = Conversation(user_id=user_id, tenant_id=tenant_id)
    if title is not None:
        conversation.title = title
    session.add(conversation)
    await session.flush()
    return conversation


async def refuse_foreign_tenant(session: AsyncSession, tenant_id: UUID | None) -> None:
    """Raise the problem 403 for a tenant the user is not in."""
    if tenant_id is not None and await session.get(Tenant, tenant_id) is None:
        raise ProblemError(403, "You are not a member of this tenant.", kind="not-a-member")


class Changes(NamedTuple):
    """What is to be another; what is None stays. ``tenant``: (a tenant, or None: personal)."""

    title: str | None = None
    metadata: Mapping[str, Any] | None = None
    archived: bool | None = None
    pinned: bool | None = None
    tenant: tuple[UUID | None] | None = None


async def change_conversation(
    session: AsyncSession, user_id: UUID, conversation_id: UUID, changes: Changes
) -> Conversation:
    """Change a conversation; raises the problems 403, 404, 409 and 422."""
    conversation = await session.get(Conversation, conversation_id, with_for_update={"key_share": True})
    if conversation is None:
        raise not_found()
    refuse_trashed(conversation)
    statements = []
    if changes.title is not None:
        statements.append(rename(conversation_id, user_id, changes.title))
    if changes.archived is not None:
        statements.append((archive if changes.archived else unarchive)(conversation_id, user_id))
    if changes.pinned is not None:
        statements.append((pin if changes.pinned else unpin)(conversation_id, user_id))
    if changes.tenant is not None:
        await refuse_foreign_tenant(session, changes.tenant[0])
        statements.append(move_to_tenant(conversation_id, user_id, changes.tenant[0]))
    for statement in statements:
        await session.execute(statement)
    if changes.metadata:
        conversation.metadata_ = _merged(conversation.metadata_, changes.metadata)
        await session.flush()
    await session.refresh(conversation)
    return conversation


def refuse_trashed(conversation: Conversation) -> None:
    """Raise the problem 409 where a conversation is in the trash."""
    if conversation.deleted_at is not None:
        raise ProblemError(409, "This conversation is in the trash. Restore it first.", kind="in-the-trash")


def _merged(before: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata with keys set or (None) removed."""
    kept = before if isinstance(before, dict) else {}  # old rows hold anything
    after = {key: value for key, value in {**kept, **changes}.items() if value is not None}
    if len(json.dumps(after)) > METADATA_LENGTH:
        raise ProblemError(422, f"Metadata may have {METADATA_LENGTH:,} characters.", kind="metadata-too-long")
    return after


async def read_conversation(session: AsyncSession, user_id: UUID, conversation_id: UUID, until: str) -> Conversation:
    """Mark a conversation as read up to the message at a cursor; raises the problem 404."""
    at = min(max(_place(until)[0], _EPOCH), datetime.now(UTC))
    return await _one(session, mark_read(conversation_id, user_id, at))


async def trash_conversation(session: AsyncSession, user_id: UUID, conversation_id: UUID) -> None:
    """Move a conversation to the trash, where it may be already; raises the problem 404."""
    conversation = await get_conversation(session, conversation_id)
    if conversation.deleted_at is None:
        await _one(session, throw_away(conversation_id, user_id))


async def restore_conversation(session: AsyncSession, user_id: UUID, conversation_id: UUID) -> Conversation:
    """Take a conversation out of the trash, where it may be no more; raises the problem 404."""
    conversation = await get_conversation(session, conversation_id)
    return conversation if conversation.deleted_at is None else await _one(session, restore(conversation_id, user_id))


async def delete_conversation(session: AsyncSession, conversation_id: UUID) -> None:
    """Delete a conversation that is in the trash, its messages with it; raises the problems 404 and 409."""
    conversation = await get_conversation(session, conversation_id)
    if conversation.deleted_at is None:
        raise ProblemError(409, "Only what is in the trash is deleted for good.", kind="not-in-the-trash")
    await session.execute(delete(Conversation).where(Conversation.id == conversation_id))


async def _one(session: AsyncSession, statement: ReturningUpdate[Conversation]) -> Conversation:
    conversation = await session.scalar(statement.execution_options(populate_existing=True))
    if conversation is None:
        raise not_found()
    return conversation


def hit_cursor(hit: Hit) -> str:
    """Return the place of a found message among the others."""
    at = "x" if hit.created_at is None else (hit.created_at - _EPOCH) // _MICROSECOND
    return f"{hit.store}_{at}_{hit.id.hex}_{hit.rank}"


def _hit_place(cursor: str) -> HitPosition:
    where, at, tie, rank = cursor.rsplit("_", 3)
    created_at = None if at == "x" else _place(f"{at}_")[0]
    return HitPosition(where, created_at, UUID(tie), float(rank))


async def search_messages(
    session: AsyncSession,
    query: str,
    conversation_id: UUID | None,
    role: MessageRole | None,
    best_first: bool,
    limit: int,
    before: str | None = None,
) -> Sequence[Hit]:
    """Return the first messages that contain what ``query`` asks for, or those after a cursor."""
    page = search(
        query,
        conversation_id=conversation_id,
        roles=None if role is None else [role],
        best_first=best_first,
        after=None if before is None else _hit_place(before),
        limit=limit,
    )
    return [Hit(*row) for row in await session.execute(page)]


async def titles_of(session: AsyncSession, conversation_ids: Collection[UUID]) -> dict[UUID, str | None]:
    """Return the titles of conversations."""
    found = select(Conversation.id, Conversation.title).where(Conversation.id.in_(conversation_ids))
    return dict((await session.execute(found)).all())


async def ensure_user(session: AsyncSession, email: str) -> UUID:
    """Return the id of the account with this address, made where missing; as the service, for users may not."""
    made = insert(User).values(email=email).on_conflict_do_nothing(index_elements=[User.email]).returning(User.id)
    found = await session.scalar(made) or await session.scalar(select(User.id).where(User.email == email))
    assert found is not None  # noqa: S101  one of the two statements has it
    return found
