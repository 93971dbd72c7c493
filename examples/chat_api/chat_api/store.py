"""The statements of the service.

Each runs within a transaction that acts for one user, and sees that user's rows whatever it asks for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple
from uuid import UUID

from sqlalchemy import delete, exists, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.dml import ReturningUpdate

from chat_api.problems import ProblemError, not_found
from chat_schema.models import Conversation, Message, Tenant, User
from chat_schema.queries import (
    ConversationPosition,
    MarkPosition,
    MessagePosition,
    append_message,
    archive,
    archived_conversations,
    conversations_of_user,
    mark_read,
    move_to_tenant,
    pin,
    pinned_conversations,
    rename,
    reply_key,
    restore,
    thread_backwards,
    throw_away,
    trash,
    unarchive,
    unpin,
    unread,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
DEFAULT_TITLE = "New Conversation"  # the schema's
TITLE_LENGTH = 60
METADATA_LENGTH = 16_000

# Where a page ends: its last row's place in the order. Every text of these shapes is a place, so none is refused later.
CONVERSATION_CURSOR = r"^-?[0-9]{1,18}_[0-9a-f]{32}$"
MESSAGE_CURSOR = r"^-?[0-9]{1,18}_[0-9]{1,18}$"
IDEMPOTENCY_KEY = r"^[!-.0-~]{1,200}$"  # no slash: a reply's key is its question's with one


def cursor_of(row: Conversation | Message) -> str:
    """Return the place of a row: microseconds since 1970, then what settles ties."""
    if isinstance(row, Conversation):
        at = row.deleted_at or row.archived_at or row.updated_at  # its place in the list that it is in
        return cursor_at(at, row.id)
    return f"{(row.created_at - _EPOCH) // _MICROSECOND}_{row.seq}"


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


async def list_messages(
    session: AsyncSession, conversation_id: UUID, limit: int, before: str | None = None
) -> Sequence[Message]:
    """Return the last messages of a conversation, or the last before a cursor, oldest first; raises the problem 404."""
    await get_conversation(session, conversation_id)
    end = None
    if before is not None:
        at, tie = _place(before)
        end = MessagePosition(at, int(tie))
    return (await session.scalars(thread_backwards(conversation_id, before=end, limit=limit))).all()[::-1]


class Said(NamedTuple):
    """What the user says and where: in a conversation, or to begin one, of a tenant or personal."""

    conversation_id: UUID | None
    tenant_id: UUID | None
    content: str
    key: str


class Turn(NamedTuple):
    """A stored question, what was said up to it (itself last), and its answer if it has one."""

    question: Message
    history: Sequence[Message]
    answer: Message | None


async def store_question(session: AsyncSession, user_id: UUID, said: Said, history: int) -> Turn:
    """Store what the user said, once for each key; the first message names a conversation that has no name.

    Raises the problems 403 and 404, and 409 where the key was used for something else.
    """
    if said.conversation_id is None:
        conversation = await _begun_by(session, user_id, said)
    else:
        conversation = await get_conversation(session, said.conversation_id)
        refuse_trashed(conversation)
    if conversation.title == DEFAULT_TITLE and not await session.scalar(
        select(exists().where(Message.conversation_id == conversation.id))
    ):
        conversation.title = _title(said.content)
    once = append_message(conversation.id, user_id, "user", said.content, key=said.key)
    question: Message | None = await session.scalar(once)
    if question is None or question.content != said.content:
        raise ProblemError(
            409, "This Idempotency-Key was used for another message. Take a new one.", kind="idempotency-key-reused"
        )
    earlier = thread_backwards(conversation.id, before=MessagePosition.of(question), limit=history - 1)
    before = (await session.scalars(earlier)).all()[::-1]
    answer = await session.scalar(select(Message).where(Message.idempotency_key == reply_key(said.key)))
    return Turn(question, [*before, question], answer)


async def _begun_by(session: AsyncSession, user_id: UUID, said: Said) -> Conversation:
    """Return the conversation that the message with this key began, or begin it."""
    # One request with this key at a time: the second one finds what the first one began.
    await session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"{user_id}/{said.key}", 0))))
    of_key = select(Message.conversation_id).where(Message.user_id == user_id, Message.idempotency_key == said.key)
    begun = await session.scalar(of_key)
    if begun is not None:
        return await get_conversation(session, begun)
    return await create_conversation(session, user_id, None, said.tenant_id)


async def store_answer(session: AsyncSession, question: Message, content: str, key: str) -> Message:
    """Store the reply to ``question``, or return the one that another process stored first."""
    row = append_message(question.conversation_id, question.user_id, "assistant", content, key=reply_key(key))
    return (await session.scalars(row)).one()


async def ensure_user(session: AsyncSession, email: str) -> UUID:
    """Return the id of the account with this address, made where missing; as the service, for users may not."""
    made = insert(User).values(email=email).on_conflict_do_nothing(index_elements=[User.email]).returning(User.id)
    found = await session.scalar(made) or await session.scalar(select(User.id).where(User.email == email))
    assert found is not None  # noqa: S101  one of the two statements has it
    return found


def _title(content: str) -> str:
    line = re.sub(r"\s+", " ", content).strip()
    if len(line) <= TITLE_LENGTH:
        return line or DEFAULT_TITLE
    return line[:TITLE_LENGTH].rsplit(" ", 1)[0] + "…"
