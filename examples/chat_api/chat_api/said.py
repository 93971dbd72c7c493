"""The statements about what is said: messages, their files and ratings, and the turns that they make.

As those of :mod:`chat_api.store`, each sees its user's rows whatever it asks for.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from uuid import UUID, uuid4

from pydantic import BaseModel, Field
from sqlalchemy import exists, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api import store
from chat_api.markdown import to_html
from chat_api.problems import ProblemError
from chat_schema.models import Attachment, Conversation, Feedback, Message, MessageRole, MessageStatus
from chat_schema.models.feedback import Rating
from chat_schema.queries import Generation, append_message, branch, reply_key, switch_branch, write_reply

TITLE_LENGTH = 60
BROKEN = ("interrupted", "error")  # how a reply ends that is not whole

# Only a conversation that has branched is asked, and each of its messages for what stands in its place.
VERSIONS = text(
    "SELECT m.id, ARRAY(SELECT s.id FROM chat_internal.siblings(m.conversation_id, m.id) AS s"
    " ORDER BY s.created_at, s.seq) AS versions"
    " FROM public.messages AS m JOIN public.conversations AS c ON c.id = m.conversation_id"
    " WHERE m.id = ANY (CAST(:messages AS uuid[])) AND c.head_message_id IS NOT NULL"
)


class AttachmentOut(BaseModel):
    """One attachment."""

    id: UUID
    conversation_id: UUID
    message_id: UUID | None
    name: str
    media_type: str
    size_bytes: int
    created_at: datetime

    @classmethod
    def of(cls, attachment: Attachment) -> AttachmentOut:
        """Return what a client sees of ``attachment``."""
        return cls.model_validate(attachment, from_attributes=True)


@dataclass(frozen=True)
class Around:
    """What stands around messages, by their ids."""

    files: Mapping[UUID, Sequence[Attachment]] = field(default_factory=dict)
    ratings: Mapping[UUID, Rating] = field(default_factory=dict)
    versions: Mapping[UUID, Sequence[UUID]] = field(default_factory=dict)


class MessageOut(BaseModel):
    """One message."""

    id: UUID
    conversation_id: UUID
    role: MessageRole
    status: MessageStatus = Field(description="A reply is `streaming` while it is being written")
    error: str | None = Field(description="Why there is no more of a reply")
    model: str | None = Field(description="Which model wrote it")
    content: str
    html: str | None = Field(description="A reply as HTML that is safe to show; null: show `content` as text")
    attachments: list[AttachmentOut]
    rating: Rating | None
    versions: list[UUID] = Field(description="What stands in its place on any branch, itself too; empty: no other")
    created_at: datetime
    cursor: str

    @classmethod
    def of(cls, message: Message, around: Around | None = None) -> MessageOut:
        """Return what a client sees of ``message``. Rendering takes its time: call it in no event loop."""
        around = around or Around()
        return cls(
            id=message.id,
            conversation_id=message.conversation_id,
            role=message.role,
            status=message.status,
            error=_detail(message.error),
            model=message.model,
            content=message.content,
            html=to_html(message.content) if message.role in ("assistant", "agent") else None,
            attachments=[AttachmentOut.of(one) for one in around.files.get(message.id, ())],
            rating=around.ratings.get(message.id),
            versions=list(around.versions.get(message.id, ())),
            created_at=message.created_at,
            cursor=store.cursor_of(message),
        )


def _detail(error: object) -> str | None:
    detail = error.get("detail") if isinstance(error, dict) else None
    return detail if isinstance(detail, str) else None


async def look_around(session: AsyncSession, messages: Sequence[Message]) -> Around:
    """Return what stands around ``messages``, however many, by a statement for each kind."""
    ids = [message.id for message in messages]
    files: dict[UUID, list[Attachment]] = defaultdict(list)
    attached = select(Attachment).where(Attachment.message_id.in_(ids))
    for attachment in await session.scalars(attached.order_by(Attachment.created_at, Attachment.id)):
        if attachment.message_id is not None:
            files[attachment.message_id].append(attachment)
    rated = select(Feedback.message_id, Feedback.rating).where(Feedback.message_id.in_(ids))
    ratings = dict((await session.execute(rated)).all())
    found = await session.execute(VERSIONS, {"messages": ids})
    versions = {message_id: alternatives for message_id, alternatives in found if len(alternatives) > 1}
    return Around(files, ratings, versions)


async def get_message(session: AsyncSession, message_id: UUID) -> Message:
    """Return one message; raises the problem 404."""
    message = await session.get(Message, message_id)
    if message is None:
        raise ProblemError(404, "You have no such message.")
    return message


async def list_messages(
    session: AsyncSession, conversation_id: UUID, limit: int, before: UUID | None = None
) -> Sequence[Message]:
    """Return the last messages of the branch that is shown, or the last before one; raises the problem 404."""
    await store.get_conversation(session, conversation_id)
    return await _backwards(session, conversation_id, before, limit)


async def show_branch(session: AsyncSession, user_id: UUID, conversation_id: UUID, message_id: UUID) -> Conversation:
    """Show the branch of a message; raises the problems 404 and 409."""
    conversation = await store.get_conversation(session, conversation_id)
    store.refuse_trashed(conversation)
    await _message_in(session, conversation_id, message_id)
    await session.execute(switch_branch(conversation_id, user_id, message_id))
    await session.refresh(conversation)
    return conversation


async def _message_in(session: AsyncSession, conversation_id: UUID, message_id: UUID) -> Message:
    message = await get_message(session, message_id)
    if message.conversation_id != conversation_id:
        raise ProblemError(404, "You have no such message.")
    return message


class Said(NamedTuple):
    """What the user says and where: in a conversation, or to begin one, of a tenant or personal."""

    conversation_id: UUID | None
    tenant_id: UUID | None
    content: str
    key: str
    attachment_ids: Sequence[UUID] = ()
    instead_of: UUID | None = None


class Turn(NamedTuple):
    """A stored question, what was said up to it (itself last), its answer if it has one, and the one it replaces.

    The answer may be streaming, or broken; then the next try takes its place.
    """

    question: Message
    history: Sequence[Message]
    answer: Message | None
    instead_of: UUID | None = None


async def store_question(session: AsyncSession, user_id: UUID, said: Said, history: int) -> Turn:
    """Store what the user said, once for each key; the first message names a conversation that has no name.

    Raises the problems 403 and 404, and 409 where the key was used for something else.
    """
    if said.conversation_id is None:
        conversation = await _begun_by(session, user_id, said)
    else:
        conversation = await store.get_conversation(session, said.conversation_id)
        store.refuse_trashed(conversation)
    if conversation.title == store.DEFAULT_TITLE and not await session.scalar(
        select(exists().where(Message.conversation_id == conversation.id))
    ):
        conversation.title = _title(said.content)
    if said.instead_of is not None:
        await _message_in(session, conversation.id, said.instead_of)
    once = append_message(conversation.id, user_id, "user", said.content, key=said.key, instead_of=said.instead_of)
    question: Message | None = await session.scalar(once)
    if question is None or question.content != said.content:
        raise ProblemError(
            409, "This Idempotency-Key was used for another message. Take a new one.", kind="idempotency-key-reused"
        )
    await send_along(session, question, said.attachment_ids)
    before = await _backwards(session, conversation.id, question.id, history - 1)
    return Turn(question, [*before, question], await _answer_of(session, user_id, said.key))


async def repeat_question(session: AsyncSession, user_id: UUID, message_id: UUID, key: str, history: int) -> Turn:
    """Return the question that a reply answers, for another reply, or one without a reply, for its first.

    Raises the problems 404 and 409.
    """
    message = await get_message(session, message_id)
    store.refuse_trashed(await store.get_conversation(session, message.conversation_id))
    answer = await _answer_of(session, user_id, key)
    if message.role == "user":
        last = await _backwards(session, message.conversation_id, None, 1)
        if answer is None and [one.id for one in last] != [message.id]:
            raise ProblemError(409, "There is a reply to this already.", kind="answered")
        before = await _backwards(session, message.conversation_id, message.id, history - 1)
        return Turn(message, [*before, message], answer)
    before = await _backwards(session, message.conversation_id, message.id, history)
    if message.role not in ("assistant", "agent") or not before or before[-1].role != "user":
        raise ProblemError(409, "Only a reply to what you said can be made again.", kind="no-reply-to-you")
    return Turn(before[-1], before, answer, instead_of=message.id)


async def _backwards(
    session: AsyncSession, conversation_id: UUID, before: UUID | None, limit: int
) -> Sequence[Message]:
    return (await session.scalars(branch(conversation_id, before=before, limit=limit))).all()[::-1]


async def _answer_of(session: AsyncSession, user_id: UUID, key: str) -> Message | None:
    of_key = select(Message).where(Message.user_id == user_id, Message.idempotency_key == reply_key(key))
    answer: Message | None = await session.scalar(of_key)
    return answer


async def _begun_by(session: AsyncSession, user_id: UUID, said: Said) -> Conversation:
    """Return the conversation that the message with this key began, or begin it."""
    # One request with this key at a time: the second one finds what the first one began.
    await session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"{user_id}/{said.key}", 0))))
    of_key = select(Message.conversation_id).where(Message.user_id == user_id, Message.idempotency_key == said.key)
    begun = await session.scalar(of_key)
    if begun is not None:
        return await store.get_conversation(session, begun)
    return await store.create_conversation(session, user_id, None, said.tenant_id)


async def begin_answer(session: AsyncSession, turn: Turn, key: str) -> tuple[Message, bool]:
    """Store that a reply is being written and return it, and whether it is new: another process may be at it."""
    question = turn.question
    if turn.answer is not None and turn.answer.status in BROKEN:  # it gives its key to the next try
        broken = update(Message).where(Message.id == turn.answer.id, Message.status.in_(BROKEN))
        await session.execute(broken.values(idempotency_key=None))
        turn = turn._replace(instead_of=turn.answer.id)
    conversation = await session.get(Conversation, question.conversation_id)
    if turn.instead_of is None and conversation and conversation.head_message_id not in (None, question.id):
        # Its user looks at another branch by now: a reply continues the one that is shown.
        await session.execute(switch_branch(question.conversation_id, question.user_id, question.id))
    chosen = uuid4()
    row = append_message(
        question.conversation_id,
        question.user_id,
        "assistant",
        "",
        key=reply_key(key),
        instead_of=turn.instead_of,
        status="streaming",
        message_id=chosen,
    )
    answer = (await session.scalars(row)).one()
    return answer, answer.id == chosen


async def write_answer(
    session: AsyncSession,
    answer: Message,
    content: str,
    status: MessageStatus,
    generation: Generation,
    error: str | None = None,
) -> bool:
    """Store what there is of a reply; tell whether it still is one to be written."""
    statement = write_reply(
        answer.conversation_id,
        answer.user_id,
        answer.id,
        content,
        status=status,
        error=None if error is None else {"detail": error},
        generation=generation,
    )
    return (await session.scalars(statement)).one_or_none() is not None


async def send_along(session: AsyncSession, message: Message, attachment_ids: Collection[UUID]) -> None:
    """Give a message its files; raises the problem 409 for one that is not there, or that another message has."""
    if not attachment_ids:
        return
    sent = update(Attachment).where(
        Attachment.id.in_(attachment_ids),
        Attachment.conversation_id == message.conversation_id,
        Attachment.message_id.is_(None) | (Attachment.message_id == message.id),
    )
    taken = await session.scalars(sent.values(message_id=message.id).returning(Attachment.id))
    if len(taken.all()) < len(set(attachment_ids)):
        raise ProblemError(409, "A file is not there, or was sent already. Add it again.", kind="no-such-file")


async def storage_keys(session: AsyncSession, conversation_id: UUID) -> Sequence[str]:
    """Return the names by which the bytes of a conversation's files are kept."""
    keys = select(Attachment.storage_key).where(Attachment.conversation_id == conversation_id)
    return (await session.scalars(keys)).all()


def _title(content: str) -> str:
    line = re.sub(r"\s+", " ", content).strip()
    if len(line) <= TITLE_LENGTH:
        return line or store.DEFAULT_TITLE
    return line[:TITLE_LENGTH].rsplit(" ", 1)[0] + "…"
