"""The statements that chat services need, on the models: pass them to ``execute`` or ``scalars`` of any session.

They are the same for users and for the service: under ``acting_as`` policies narrow them to what the user may see. A
page takes constant time, however much is stored: an index, named with each, has the rows in the order that is asked
for, and the page begins where the last one ended (keyset), not at an offset.

Where it ended is the position of its last row, ``ConversationPosition.of(page[-1])``; None is the beginning. A page
shorter than ``limit`` is the last.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    ColumnElement,
    Date,
    DateTime,
    Double,
    FunctionElement,
    Integer,
    LargeBinary,
    Numeric,
    Select,
    Text,
    Update,
    Uuid,
    cast,
    column,
    func,
    literal,
    literal_column,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import InstrumentedAttribute, aliased
from sqlalchemy.sql.dml import ReturningInsert, ReturningUpdate

from .models import (
    Attachment,
    Conversation,
    ConversationMessage,
    Feedback,
    Message,
    MessageRole,
    MessageStatus,
    Rating,
    Share,
)


class ConversationPosition(NamedTuple):
    """Where a conversation stands among others by activity; the id settles ties."""

    updated_at: datetime
    id: UUID

    @classmethod
    def of(cls, conversation: Conversation) -> ConversationPosition:
        """Return the position of ``conversation``, from which the next page goes on."""
        return cls(conversation.updated_at, conversation.id)


class MarkPosition(NamedTuple):
    """Where a conversation stands among those that are pinned, archived or in the trash; the id settles ties."""

    at: datetime
    id: UUID


class MessagePosition(NamedTuple):
    """Where a message stands in its conversation; ``seq`` settles ties, which are the rule within a turn."""

    created_at: datetime
    seq: int

    @classmethod
    def of(cls, message: Message | ConversationMessage) -> MessagePosition:
        """Return the position of ``message``, from which the next page goes on."""
        return cls(message.created_at, message.seq)


def conversations_of_user(
    user_id: UUID, *, after: ConversationPosition | None = None, limit: int = 50
) -> Select[Conversation]:
    """Return a page of a user's conversations, the latest active first, but for the archive and the trash.

    Yields Conversation. A conversation that becomes active while somebody pages moves to the front, before the pages
    that are still to come. Index: idx_conversations_sidebar.
    """
    return _by_activity(after, limit).where(Conversation.user_id == user_id)


def conversations_of_tenant(
    tenant_id: UUID, *, after: ConversationPosition | None = None, limit: int = 50
) -> Select[Conversation]:
    """Return a page of a tenant's conversations, the latest active first, but for the archive and the trash.

    Yields Conversation: to the service those of all members, to a user its own ones in this tenant.
    Index: idx_conversations_tenant_id for the service, idx_conversations_user_id_tenant_id for a user.
    """
    return _by_activity(after, limit).where(Conversation.tenant_id == tenant_id)


def pinned_conversations(user_id: UUID, *, after: MarkPosition | None = None, limit: int = 50) -> Select[Conversation]:
    """Return a page of what a user has pinned, the latest pinned first, but for the archive and the trash.

    Yields Conversation; they are among :func:`conversations_of_user` too. Where a page ended is
    ``MarkPosition(page[-1].pinned_at, page[-1].id)``. Index: idx_conversations_pinned.
    """
    c = Conversation
    page = _by_mark(c.pinned_at, after, limit).where(c.user_id == user_id)
    return page.where(c.archived_at.is_(None), c.deleted_at.is_(None))


def archived_conversations(
    user_id: UUID, *, after: MarkPosition | None = None, limit: int = 50
) -> Select[Conversation]:
    """Return a page of a user's archive, the latest archived first.

    Yields Conversation. Where a page ended is ``MarkPosition(page[-1].archived_at, page[-1].id)``.
    Index: idx_conversations_archive.
    """
    page = _by_mark(Conversation.archived_at, after, limit).where(Conversation.user_id == user_id)
    return page.where(Conversation.deleted_at.is_(None))


def trash(user_id: UUID, *, after: MarkPosition | None = None, limit: int = 50) -> Select[Conversation]:
    """Return a page of a user's trash, the latest thrown away first.

    Yields Conversation. Where a page ended is ``MarkPosition(page[-1].deleted_at, page[-1].id)``.
    Index: idx_conversations_trash.
    """
    return _by_mark(Conversation.deleted_at, after, limit).where(Conversation.user_id == user_id)


def _by_activity(after: ConversationPosition | None, limit: int) -> Select[Conversation]:
    place = tuple_(Conversation.updated_at, Conversation.id)
    page = select(Conversation).order_by(Conversation.updated_at.desc(), Conversation.id.desc()).limit(limit)
    page = page.where(Conversation.archived_at.is_(None), Conversation.deleted_at.is_(None))
    return page if after is None else page.where(place < after)


def _by_mark(
    mark: InstrumentedAttribute[datetime | None], after: MarkPosition | None, limit: int
) -> Select[Conversation]:
    page = select(Conversation).where(mark.is_not(None)).order_by(mark.desc(), Conversation.id.desc()).limit(limit)
    return page if after is None else page.where(tuple_(mark, Conversation.id) < after)


def archive(conversation_id: UUID, user_id: UUID) -> ReturningUpdate[Conversation]:
    """Return the UPDATE that moves a conversation to the archive; one that is there keeps its place.

    It yields the Conversation, as each that follows here, or none where ``user_id`` has no such conversation outside
    the trash: also the service names whose it is. None of them moves ``updated_at``.
    """
    return _mark(conversation_id, user_id, archived_at=func.coalesce(Conversation.archived_at, func.now()))


def unarchive(conversation_id: UUID, user_id: UUID) -> ReturningUpdate[Conversation]:
    """Return the UPDATE that brings a conversation back from the archive."""
    return _mark(conversation_id, user_id, archived_at=None)


def pin(conversation_id: UUID, user_id: UUID) -> ReturningUpdate[Conversation]:
    """Return the UPDATE that pins a conversation; one that is pinned keeps its place."""
    return _mark(conversation_id, user_id, pinned_at=func.coalesce(Conversation.pinned_at, func.now()))


def unpin(conversation_id: UUID, user_id: UUID) -> ReturningUpdate[Conversation]:
    """Return the UPDATE that unpins a conversation."""
    return _mark(conversation_id, user_id, pinned_at=None)


def rename(conversation_id: UUID, user_id: UUID, title: str) -> ReturningUpdate[Conversation]:
    """Return the UPDATE that gives a conversation another title."""
    return _mark(conversation_id, user_id, title=title)


def move_to_tenant(conversation_id: UUID, user_id: UUID, tenant_id: UUID | None) -> ReturningUpdate[Conversation]:
    """Return the UPDATE that moves a conversation, with its messages, to a tenant, or with None to none.

    Policies refuse a tenant that the user is not a member of; the service has to ask that itself.
    """
    return _mark(conversation_id, user_id, tenant_id=tenant_id)


def mark_read(conversation_id: UUID, user_id: UUID, until: datetime) -> ReturningUpdate[Conversation]:
    """Return the UPDATE that marks a conversation's messages as read up to the time ``until``, and never unread again.

    ``until`` is the ``created_at`` of the last message that was shown: a later one, which is just being stored, stays
    unread. It changes no index.
    """
    return _mark(conversation_id, user_id, last_read_at=func.greatest(Conversation.last_read_at, until))


def throw_away(conversation_id: UUID, user_id: UUID) -> ReturningUpdate[Conversation]:
    """Return the UPDATE that moves a conversation to the trash: it is in no other list until :func:`restore`.

    What it was, archived or pinned, it is again after that.
    """
    return _mark(conversation_id, user_id, deleted_at=func.now())


def restore(conversation_id: UUID, user_id: UUID) -> ReturningUpdate[Conversation]:
    """Return the UPDATE that takes a conversation out of its owner's trash."""
    c = Conversation
    found = update(c).where(c.id == conversation_id, c.user_id == user_id, c.deleted_at.is_not(None))
    return found.values(deleted_at=None).returning(c)


def _mark(conversation_id: UUID, user_id: UUID, **values: Any) -> ReturningUpdate[Conversation]:
    c = Conversation
    found = update(c).where(c.id == conversation_id, c.user_id == user_id, c.deleted_at.is_(None))
    return found.values(**values).returning(c)


def unread(conversation_ids: Sequence[UUID], *, most: int = 100) -> Select[UUID, int]:
    """Return how many replies, of an assistant or an agent, each conversation has after its ``last_read_at``.

    Yields (conversation id, number), one row for each of ``conversation_ids`` that is there: a page of the sidebar in
    one statement. It counts to ``most`` and no further, so that a conversation of any length costs the same.
    Indexes: those of :func:`thread`.
    """
    later = (
        select(literal(1).label("one"))
        .where(
            Message.conversation_id == Conversation.id,
            Message.user_id == Conversation.user_id,
            Message.created_at > Conversation.last_read_at,
            Message.role.in_(("assistant", "agent")),
        )
        .limit(most)
        .correlate(Conversation)
        .subquery()
        .lateral()
    )
    number = select(func.count()).select_from(later).scalar_subquery()
    return select(Conversation.id, number.label("unread")).where(Conversation.id.in_(conversation_ids))


def thread(conversation_id: UUID, *, after: MessagePosition | None = None, limit: int = 50) -> Select[Message]:
    """Return a page of a conversation's messages in order, from its first or from ``after`` on.

    Yields Message. Index: idx_messages_conversation_id (conversation_id, user_id, created_at, seq) for a user,
    to whose query the policy adds user_id; idx_messages_conversation_id_created_at for the service.
    """
    page = select(Message).where(Message.conversation_id == conversation_id)
    page = page.order_by(Message.created_at, Message.seq).limit(limit)
    return page if after is None else page.where(tuple_(Message.created_at, Message.seq) > after)


def thread_backwards(
    conversation_id: UUID, *, before: MessagePosition | None = None, limit: int = 50
) -> Select[Message]:
    """Return a page of a conversation's messages **newest first**, from its end or from ``before`` back.

    Yields Message: what a chat shows when it opens, and on scrolling up; reverse a page to show it. Indexes: those of
    :func:`thread`, read backwards.
    """
    page = select(Message).where(Message.conversation_id == conversation_id)
    page = page.order_by(Message.created_at.desc(), Message.seq.desc()).limit(limit)
    return page if before is None else page.where(tuple_(Message.created_at, Message.seq) < before)


def branch(conversation_id: UUID, *, before: UUID | None = None, limit: int = 50) -> Select[Message]:
    """Return a page of the branch that is shown, **newest first**, from its end or from the message ``before`` back.

    Yields Message; ``before`` is the id of the last message of the page before, on any branch. Without branches it is
    :func:`thread_backwards`. A step costs the same wherever it is in whatever tree. What a model is given as context is
    this; :func:`thread` has the messages of all branches, in the order of time.
    Indexes: idx_messages_user_id from a message to its parent, and those of :func:`thread` along the trunk.
    """
    return _messages_of(func.chat_internal.branch(conversation_id, before, limit))


def siblings(conversation_id: UUID, message_id: UUID) -> Select[Message]:
    """Return what stands at the place of a message, itself among it, in the order it was written: its alternatives.

    Yields Message. Indexes: idx_messages_parent_id; those of :func:`thread`.
    """
    return _messages_of(func.chat_internal.siblings(conversation_id, message_id))


def _messages_of(function: FunctionElement[Any]) -> Select[Message]:
    # by name: the columns of a table that was adopted stand in another order
    columns = (column(each.name, each.type) for each in Message.__table__.columns)
    rows = function.table_valued(*columns, with_ordinality="ordinality", name="told")
    return select(aliased(Message, rows, adapt_on_names=True)).order_by(rows.c.ordinality)


def switch_branch(conversation_id: UUID, user_id: UUID, message_id: UUID) -> ReturningUpdate[Conversation]:
    """Return the UPDATE that shows the branch of ``message_id``: the one through it that was written last.

    Yields the Conversation, or none where ``user_id`` has no such one outside the trash. A message that is not there
    raises IntegrityError.
    """
    return _mark(conversation_id, user_id, head_message_id=func.chat_internal.latest_leaf(conversation_id, message_id))


@dataclass(frozen=True, kw_only=True)
class Generation:
    """Which model wrote a reply, and what it took. None is not known.

    Tokens from the cache are among the input, those of reasoning among the output. ``cost_usd`` is in US dollars.
    """

    provider: str | None = None
    model: str | None = None
    finish_reason: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: Decimal | None = None
    latency_ms: int | None = None


def append_message(
    conversation_id: UUID,
    user_id: UUID,
    role: MessageRole,
    content: str,
    *,
    key: str,
    tool_calls: list[Any] | None = None,
    metadata: dict[str, Any] | None = None,
    instead_of: UUID | None = None,
    status: MessageStatus = "complete",
    parts: list[Any] | None = None,
    generation: Generation | None = None,
    message_id: UUID | None = None,
) -> ReturningInsert[Message]:
    """Return the INSERT of one message that happens once however often it is sent.

    ``key`` is the client's choice for this message, unique among those of its user. Yields the Message: the one that
    was stored first where the key has been used before, be it by another transaction at this very moment, and none
    where that one stands in another conversation. Index: idx_messages_user_id_idempotency_key.

    It continues the branch that is shown. ``instead_of`` is a message that it takes the place of: a question that was
    edited, a reply that was made again. Both stay, each the beginning of its branch, and the new one is shown.

    A reply that takes its time begins with ``status="streaming"``, and :func:`write_reply` ends it. ``parts`` is what
    it is made of beside its plain text: tool calls and their results, files, reasoning. By a ``message_id`` that it has
    chosen the caller tells whether the Message is the one that it has just stored.
    """
    row = _row(conversation_id, user_id, role, content, key, tool_calls, metadata)
    if message_id is not None:
        row[Message.id] = message_id
    if status != "complete":
        row[Message.status] = status
    row |= _made(parts, generation)
    if instead_of is not None:
        row.setdefault(Message.id, uuid4())  # its own parent where it takes the place of a first message
        row[Message.parent_id] = func.coalesce(
            func.chat_internal.parent_of(conversation_id, instead_of), row[Message.id]
        )
    return _append(row)


def append_turn(
    conversation_id: UUID,
    user_id: UUID,
    question: str,
    reply: str,
    *,
    key: str,
    reply_role: MessageRole = "assistant",
    tool_calls: list[Any] | None = None,
    metadata: dict[str, Any] | None = None,
    parts: list[Any] | None = None,
    generation: Generation | None = None,
) -> ReturningInsert[Message]:
    """Return the INSERT of a user's message and the reply to it, in this order, that happens once.

    ``key`` is the client's choice for the turn; the reply's is :func:`reply_key` of it. ``tool_calls``, ``metadata``,
    ``parts`` and ``generation`` are the reply's. Yields both Messages, as stored first. Where the reply takes its time,
    the same turn is a pair: :func:`append_message` with ``key`` in one transaction, with ``reply_key(key)`` in a later
    one; sent again by whichever way, it stays one turn. Fewer than two Messages: the key belongs to another
    conversation of this user, roll back. Index: idx_messages_user_id_idempotency_key.
    """
    made = _made(parts, generation)
    return _append(
        _row(conversation_id, user_id, "user", question, key) | dict.fromkeys(made),
        _row(conversation_id, user_id, reply_role, reply, reply_key(key), tool_calls, metadata) | made,
    )


def write_reply(
    conversation_id: UUID,
    user_id: UUID,
    message_id: UUID,
    content: str,
    *,
    status: MessageStatus = "complete",
    error: dict[str, Any] | None = None,
    tool_calls: list[Any] | None = None,
    parts: list[Any] | None = None,
    generation: Generation | None = None,
) -> ReturningUpdate[Message]:
    """Return the UPDATE that stores a reply which is streaming: whole, or with ``status="streaming"`` so far.

    Yields the Message, or none where it is not streaming any more: somebody else has ended it, or it is gone, so stop
    writing. ``tool_calls`` and ``parts`` that are None stay as they are. Index: messages_pkey.
    """
    m = Message
    values = {m.content: content, m.status: status, m.error: error} | _made(parts, generation)
    if tool_calls is not None:
        values[m.tool_calls] = tool_calls
    found = update(m).where(m.id == message_id, m.conversation_id == conversation_id, m.user_id == user_id)
    return found.where(m.status == literal_column("'streaming'")).values(values).returning(m)


def interrupt_streaming(older_than: timedelta, *, limit: int = 1000) -> ReturningUpdate[UUID, UUID, UUID]:
    """Return the UPDATE that marks replies as interrupted which began ``older_than`` ago and still are streaming.

    For the service, under ``acting_as_service``: so it finds what died with its process, whoever's it is. Give more
    time than a reply may take. Yields (message id, conversation id, user id), the oldest first ``limit`` of them: fewer
    were the last. Those that somebody writes at this moment are left out. Index: idx_messages_streaming.
    """
    m = Message
    dead = (
        select(m.id)
        .where(m.status == literal_column("'streaming'"), m.created_at < func.now() - older_than)
        .order_by(m.created_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("dead")
    )
    marked = update(m).where(m.id == dead.c.id).values(status="interrupted")
    return marked.returning(m.id, m.conversation_id, m.user_id)


class DailyUsage(NamedTuple):
    """What one model did for one user in one tenant (None: personal) on one day of UTC.

    A sum is None where nobody noted it; ``latency_ms`` is the average.
    """

    user_id: UUID
    tenant_id: UUID | None
    day: date
    provider: str | None
    model: str
    messages: int
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    reasoning_tokens: int | None
    cost_usd: Decimal | None
    latency_ms: Decimal | None


def usage(
    *,
    user_id: UUID | None = None,
    tenant_id: UUID | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Select[Any]:
    """Return what models did, by user, tenant, day and model, the latest day first; ``DailyUsage(*row)`` names it.

    It is the view ``message_usage`` of the replies from ``since`` on and before ``until``. A user gets its own rows
    alone; the service names a user or a tenant. Indexes: idx_messages_user_id, idx_messages_tenant_usage.
    """
    m = Message
    day = cast(func.timezone(literal_column("'UTC'"), m.created_at), Date).label("day")
    told: list[Any] = [m.user_id, m.tenant_id, day, m.provider, m.model]
    sums: list[Any] = [
        func.count().label("messages"),
        func.sum(m.input_tokens).label("input_tokens"),
        func.sum(m.output_tokens).label("output_tokens"),
        func.sum(m.cached_tokens).label("cached_tokens"),
        func.sum(m.reasoning_tokens).label("reasoning_tokens"),
        func.sum(m.cost_usd).label("cost_usd"),
        func.avg(m.latency_ms).label("latency_ms"),
    ]
    found = select(*told, *sums).where(m.model.is_not(None)).group_by(*told)
    if user_id is not None:
        found = found.where(m.user_id == user_id)
    if tenant_id is not None:
        found = found.where(m.tenant_id == tenant_id)
    if since is not None:
        found = found.where(m.created_at >= since)
    if until is not None:
        found = found.where(m.created_at < until)
    return found.order_by(day.desc(), m.model, m.provider, m.user_id, m.tenant_id)


def reply_key(key: str) -> str:
    """Return the idempotency key of the reply to the message with ``key``."""
    return f"{key}/reply"


def _row(
    conversation_id: UUID,
    user_id: UUID,
    role: MessageRole,
    content: str,
    key: str,
    tool_calls: list[Any] | None = None,
    metadata: dict[str, Any] | None = None,
) -> dict[Any, Any]:
    return {
        Message.conversation_id: conversation_id,
        Message.user_id: user_id,
        Message.role: role,
        Message.content: content,
        Message.idempotency_key: key,
        Message.tool_calls: tool_calls,
        Message.metadata_: metadata or {},
    }


def _made(parts: list[Any] | None, generation: Generation | None) -> dict[Any, Any]:
    made: dict[Any, Any] = {} if parts is None else {Message.parts: parts}
    if generation is not None:
        made |= {getattr(Message, name): value for name, value in asdict(generation).items()}
    return made


def _append(*rows: dict[Any, Any]) -> ReturningInsert[Message]:
    new = insert(Message).values(list(rows))
    # DO NOTHING would not return the row that is there, nor wait for the transaction that is just writing it.
    return new.on_conflict_do_update(
        index_elements=[Message.user_id, Message.idempotency_key],
        index_where=Message.idempotency_key.is_not(None),
        set_={"content": Message.content},
        where=Message.conversation_id == new.excluded.conversation_id,
    ).returning(Message)


class AttachmentPosition(NamedTuple):
    """Where an attachment stands in its conversation; the id settles ties."""

    created_at: datetime
    id: UUID

    @classmethod
    def of(cls, attachment: Attachment) -> AttachmentPosition:
        """Return the position of ``attachment``, from which the next page goes on."""
        return cls(attachment.created_at, attachment.id)


def attachments_of(
    conversation_id: UUID, *, after: AttachmentPosition | None = None, limit: int = 50
) -> Select[Attachment]:
    """Return a page of a conversation's attachments, the first added first; those of no message yet among them.

    Yields Attachment. Index: idx_attachments_conversation_id for a user, idx_attachments_conversation_id_created_at for
    the service.
    """
    page = select(Attachment).where(Attachment.conversation_id == conversation_id)
    page = page.order_by(Attachment.created_at, Attachment.id).limit(limit)
    return page if after is None else page.where(tuple_(Attachment.created_at, Attachment.id) > after)


def rate(
    conversation_id: UUID, user_id: UUID, message_id: UUID, rating: Rating, reason: str | None = None
) -> ReturningInsert[Feedback]:
    """Return the INSERT of a user's rating of a message, which replaces the rating that it has given before.

    Yields Feedback. To take it back, delete that. Index: feedback_pkey (message_id, user_id).
    """
    new = insert(Feedback).values(
        message_id=message_id, conversation_id=conversation_id, user_id=user_id, rating=rating, reason=reason
    )
    return new.on_conflict_do_update(
        index_elements=[Feedback.message_id, Feedback.user_id],
        set_={"rating": new.excluded.rating, "reason": new.excluded.reason},
    ).returning(Feedback)


def ratings_of(conversation_id: UUID) -> Select[Feedback]:
    """Return the ratings of a conversation's messages. Yields Feedback. Index: idx_feedback_conversation_id."""
    return select(Feedback).where(Feedback.conversation_id == conversation_id)


def new_share_token() -> str:
    """Return what a link to a share holds: 256 random bits. It is stored nowhere, so give it to the user at once."""
    return secrets.token_urlsafe(32)


def share(
    conversation_id: UUID, user_id: UUID, message_id: UUID, token: str, *, expires_at: datetime | None = None
) -> ReturningInsert[Share]:
    """Return the INSERT of a share of a conversation up to a message, for whoever has ``token``.

    Yields Share. ``token`` comes from :func:`new_share_token`; the database gets its digest alone.
    """
    new = insert(Share).values(
        conversation_id=conversation_id,
        user_id=user_id,
        message_id=message_id,
        token_hash=_token_hash(token),
        expires_at=expires_at,
    )
    return new.returning(Share)


def shares_of(conversation_id: UUID) -> Select[Share]:
    """Return the shares of a conversation, closed ones too, the latest first.

    Yields Share. Index: idx_shares_conversation_id.
    """
    return select(Share).where(Share.conversation_id == conversation_id).order_by(Share.created_at.desc(), Share.id)


def revoke_share(share_id: UUID) -> Update:
    """Return the UPDATE that closes a share; one that is closed stays as it is. Index: shares_pkey."""
    return update(Share).where(Share.id == share_id, Share.revoked_at.is_(None)).values(revoked_at=func.now())


class SharedMessage(NamedTuple):
    """A message as a share shows it, with the title of its conversation."""

    share_id: UUID
    title: str | None
    message_id: UUID
    role: str
    content: str
    created_at: datetime
    seq: int

    def position(self) -> MessagePosition:
        """Return the position of this message, from which the next page goes on."""
        return MessagePosition(self.created_at, self.seq)


def open_share(token: str, *, after: MessagePosition | None = None, limit: int = 50) -> Select[Any]:
    """Return a page of what the share of ``token`` shows, in order; ``SharedMessage(*row)`` names the columns.

    For the service alone, under ``acting_as_service``: who has the link need not be a user. No row on the first page:
    there is no such share, or it has expired, was revoked, its conversation is in the trash, or its owner has left the
    tenant. Messages of users and assistants are shown; system prompts and the steps of tools are not. Indexes:
    idx_shares_token_hash, idx_messages_conversation_id_created_at.
    """
    page = func.chat_internal.open_share(
        cast(_token_hash(token), LargeBinary),
        cast(after and after.created_at, DateTime(timezone=True)),
        cast(after and after.seq, BigInteger),
        cast(limit, Integer),
    ).table_valued(
        column("share_id", Uuid),
        column("title", Text),
        column("message_id", Uuid),
        column("role", Text),
        column("content", Text),
        column("created_at", DateTime(timezone=True)),
        column("seq", BigInteger),
        name="shared",
    )
    return select(*page.c).order_by(page.c.created_at, page.c.seq)


def _token_hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


class Hit(NamedTuple):
    """A message that a search found. ``store`` is "messages" or "chat_messages", ``rank`` greater for a better one."""

    store: str
    id: UUID
    conversation_id: UUID
    role: str
    created_at: datetime | None
    snippet: str
    rank: float

    def parts(self) -> list[tuple[str, bool]]:
        """Return the snippet in pieces, each with whether it is what was searched for: escape the text, mark those."""
        return [
            (text, found)
            for piece in self.snippet.split("\x02")
            for text, found in zip(piece.rpartition("\x03")[::2], (True, False), strict=True)
            if text
        ]


class HitPosition(NamedTuple):
    """Where a found message stands among all that were found."""

    store: str
    created_at: datetime | None
    id: UUID
    rank: float

    @classmethod
    def of(cls, hit: Hit) -> HitPosition:
        """Return the position of ``hit``, from which the next page goes on."""
        return cls(hit.store, hit.created_at, hit.id, hit.rank)


def search(
    query: str,
    *,
    user_id: UUID | None = None,
    conversation_id: UUID | None = None,
    roles: Sequence[str] | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    best_first: bool = False,
    after: HitPosition | None = None,
    limit: int = 20,
) -> Select[str, UUID, UUID, str, datetime | None, str, float]:
    """Return a page of a user's messages of both stores that contain what ``query`` asks for, the newest first.

    Yields rows for ``Hit(*row)``; a page has up to 200. ``query`` is what people type: words, "phrases", -without, OR;
    upper and lower case are one, and 1,000 characters are allowed. A user searches its own messages, those that it sees
    elsewhere too; the service says whose by ``user_id``. ``best_first`` orders the newest hundred of each store by how
    often and how densely they contain it. Index: idx_messages_search and idx_chat_messages_search, with
    idx_messages_user_id and idx_chat_messages_user_created.
    """
    found = func.chat_internal.search_messages(
        literal(query.replace("\x00", " "), Text),
        literal(user_id, Uuid),
        literal(conversation_id, Uuid),
        literal(None if roles is None else list(roles), ARRAY(Text)),
        literal(since, DateTime(timezone=True)),
        literal(until, DateTime(timezone=True)),
        literal(best_first, Boolean),
        literal(after and after.store, Text),
        literal(after and after.created_at, DateTime(timezone=True)),
        literal(after and after.id, Uuid),
        literal(after and after.rank, Double),
        literal(limit, Integer),
    ).table_valued(
        column("store", Text),
        column("id", Uuid),
        column("conversation_id", Uuid),
        column("role", Text),
        column("created_at", DateTime(timezone=True)),
        column("snippet", Text),
        column("rank", Double),
        name="found",
    )
    return select(*found.c)


def session_history(
    session_id: UUID, *, after: MessagePosition | None = None, limit: int = 50
) -> Select[ConversationMessage]:
    """Return a page of a creative session's messages in order, from its first or from ``after`` on.

    Yields ConversationMessage; where a page ended is ``MessagePosition.of(page[-1])``.
    Index: idx_conversation_messages_session for a user, idx_conversation_messages_session_created for the service.
    """
    m = ConversationMessage
    page = select(m).where(m.session_id == session_id).order_by(m.created_at, m.seq).limit(limit)
    return page if after is None else page.where(tuple_(m.created_at, m.seq) > after)


def session_history_backwards(
    session_id: UUID, *, before: MessagePosition | None = None, limit: int = 50
) -> Select[ConversationMessage]:
    """Return a page of a creative session's messages **newest first**, from its end or from ``before`` back.

    Yields ConversationMessage. Indexes: those of :func:`session_history`, read backwards.
    """
    m = ConversationMessage
    page = select(m).where(m.session_id == session_id).order_by(m.created_at.desc(), m.seq.desc()).limit(limit)
    return page if before is None else page.where(tuple_(m.created_at, m.seq) < before)


def session_cost(session_id: UUID) -> Select[Decimal]:
    """Return what a creative session has cost, in US dollars: one Decimal, 0 for a session without messages.

    Index: idx_conversation_messages_session.
    """
    return select(_total_cost()).where(ConversationMessage.session_id == session_id)


def user_cost(user_id: UUID) -> Select[Decimal]:
    """Return what a user's creative sessions have cost, in US dollars: one Decimal, 0 for a user without messages.

    Index: idx_conversation_messages_user.
    """
    return select(_total_cost()).where(ConversationMessage.user_id == user_id)


class Usage(NamedTuple):
    """What one model did in a session. ``cost_usd`` in US dollars, ``latency_ms`` the average in milliseconds."""

    provider: str | None
    model_used: str | None
    messages: int
    tokens: int
    cost_usd: Decimal
    latency_ms: Decimal | None


def session_usage(session_id: UUID) -> Select[str | None, str | None, int, int, Decimal, Decimal | None]:
    """Return what each model did in a creative session, the dearest first; ``Usage(*row)`` names the columns.

    Turns that no model wrote, which have neither provider nor model, are one row of their own.
    Index: idx_conversation_messages_session.
    """
    m = ConversationMessage
    cost = _total_cost().label("cost_usd")
    return (
        select(
            m.provider,
            m.model_used,
            func.count().label("messages"),
            func.coalesce(func.sum(m.tokens_used), 0).label("tokens"),
            cost,
            func.avg(m.latency_ms).label("latency_ms"),
        )
        .where(m.session_id == session_id)
        .group_by(m.provider, m.model_used)
        .order_by(cost.desc(), m.provider, m.model_used)
    )


def _total_cost() -> ColumnElement[Decimal]:
    return func.coalesce(func.sum(ConversationMessage.cost_usd), Decimal(0), type_=Numeric)
