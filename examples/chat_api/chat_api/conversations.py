"""The routes of conversations: list, start, read, change, delete; and who calls."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, TypeAlias
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field, FiniteFloat, StringConstraints
from sqlalchemy.ext.asyncio import AsyncSession
from typing_extensions import TypeAliasType

from chat_api import store
from chat_api.calls import BODY, NO_NUL, Body, Caller, Limit, ServiceHere, Title
from chat_api.problems import declared
from chat_schema.models import Conversation

_Text: TypeAlias = Annotated[str, StringConstraints(pattern=NO_NUL)]
# What jsonb holds: no NUL, no NaN.
Json = TypeAliasType("Json", "_Text | bool | int | FiniteFloat | list[Json] | dict[_Text, Json] | None")


class NewConversation(Body):
    """What a conversation may begin with."""

    title: Title | None = None
    tenant_id: UUID | None = Field(default=None, description="A tenant of yours; without one it is personal")


class Changes(Body):
    """What is to be another; what is left out stays."""

    title: Title | None = None
    metadata: dict[_Text, Json] | None = Field(
        default=None, description="Keys that are set; null removes one, the others stay"
    )
    archived: bool | None = None
    pinned: bool | None = None
    tenant_id: UUID | None = Field(default=None, description="A tenant of yours to move it to; null makes it personal")


class Read(Body):
    """How far a conversation was read."""

    until: Annotated[str, StringConstraints(pattern=store.MESSAGE_CURSOR)] = Field(
        description="The cursor of the last message that was shown"
    )


class ConversationOut(BaseModel):
    """One conversation."""

    id: UUID
    title: str | None
    tenant_id: UUID | None
    metadata: Any
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None
    pinned_at: datetime | None
    deleted_at: datetime | None = Field(description="Since when it is in the trash")
    unread: int = Field(description="Replies that were not shown yet, counted to 100")
    cursor: str

    @classmethod
    def of(cls, conversation: Conversation, unread: int) -> ConversationOut:
        """Return what a client sees of ``conversation``."""
        return cls(
            id=conversation.id,
            title=conversation.title,
            tenant_id=conversation.tenant_id,
            metadata=conversation.metadata_,
            created_at=conversation.created_at,
            updated_at=conversation.updated_at,
            archived_at=conversation.archived_at,
            pinned_at=conversation.pinned_at,
            deleted_at=conversation.deleted_at,
            unread=unread,
            cursor=store.cursor_of(conversation),
        )


class Conversations(BaseModel):
    """A page of a list. `more`: ask again, `before` its `cursor`."""

    items: list[ConversationOut]
    more: bool
    cursor: str | None = Field(description="Where the page ends; null where it is empty")


class TenantOut(BaseModel):
    """A tenant of the caller's."""

    id: UUID
    name: str


class Me(BaseModel):
    """Who calls."""

    id: UUID
    email: str | None
    tenants: list[TenantOut]


routes = APIRouter(prefix="/api", responses=declared(401, 422, 500, 503))


@routes.get("/me")
async def me(service: ServiceHere, caller: Caller) -> Me:
    """Who the token speaks of, and the tenants it may start conversations in."""
    async with service.acting(caller.user_id) as session:
        account, tenants = await store.own_account(session, caller.user_id)
    return Me(
        id=caller.user_id,
        email=account.email if account else None,
        tenants=[TenantOut(id=tenant.id, name=tenant.name) for tenant in tenants],
    )


@routes.get("/conversations")
async def list_conversations(
    service: ServiceHere,
    caller: Caller,
    which: Annotated[store.Which, Query(alias="list")] = "inbox",
    limit: Limit = 30,
    before: Annotated[str | None, Query(pattern=store.CONVERSATION_CURSOR)] = None,
) -> Conversations:
    """Your conversations: the latest active, pinned, archived or thrown away first.

    The inbox is all that is in neither the archive nor the trash, pinned ones too.
    """
    async with service.acting(caller.user_id) as session:
        found = await store.list_conversations(session, caller.user_id, which, limit + 1, before)
        unread = await store.count_unread(session, found[:limit])
    items = [ConversationOut.of(one, unread[one.id]) for one in found[:limit]]
    cursor = items[-1].cursor if items else None
    if which == "pinned" and (last := found[:limit][-1:]) and last[0].pinned_at:
        cursor = store.cursor_at(last[0].pinned_at, last[0].id)
    return Conversations(items=items, more=len(found) > limit, cursor=cursor)


@routes.post("/conversations", status_code=201, responses=declared(*BODY, 403, 409))
async def create_conversation(service: ServiceHere, caller: Caller, body: NewConversation) -> ConversationOut:
    """Start a conversation."""
    async with service.acting(caller.user_id) as session:
        created = await store.create_conversation(session, caller.user_id, body.title, body.tenant_id)
    service.live.announce(caller.user_id, created.id)
    return ConversationOut.of(created, unread=0)


@routes.get("/conversations/{conversation_id}", responses=declared(404))
async def get_conversation(service: ServiceHere, caller: Caller, conversation_id: UUID) -> ConversationOut:
    """Read one conversation, from the trash as well; its messages are a resource of their own."""
    async with service.acting(caller.user_id) as session:
        return await _seen(session, await store.get_conversation(session, conversation_id))


@routes.patch("/conversations/{conversation_id}", responses=declared(*BODY, 403, 404, 409))
async def change_conversation(
    service: ServiceHere, caller: Caller, conversation_id: UUID, body: Changes
) -> ConversationOut:
    """Rename a conversation, set its metadata, archive it, pin it, move it to a tenant."""
    tenant = (body.tenant_id,) if "tenant_id" in body.model_fields_set else None
    changes = store.Changes(body.title, body.metadata, body.archived, body.pinned, tenant)
    async with service.acting(caller.user_id) as session:
        changed = await _seen(
            session, await store.change_conversation(session, caller.user_id, conversation_id, changes)
        )
    service.live.announce(caller.user_id, conversation_id)
    return changed


@routes.post("/conversations/{conversation_id}/read", responses=declared(*BODY, 404))
async def read_conversation(service: ServiceHere, caller: Caller, conversation_id: UUID, body: Read) -> ConversationOut:
    """Mark a conversation as read up to a message."""
    async with service.acting(caller.user_id) as session:
        read = await _seen(session, await store.read_conversation(session, caller.user_id, conversation_id, body.until))
    service.live.announce(caller.user_id, conversation_id)
    return read


@routes.post("/conversations/{conversation_id}/restore", responses=declared(404))
async def restore_conversation(service: ServiceHere, caller: Caller, conversation_id: UUID) -> ConversationOut:
    """Take a conversation out of the trash."""
    async with service.acting(caller.user_id) as session:
        restored = await _seen(session, await store.restore_conversation(session, caller.user_id, conversation_id))
    service.live.announce(caller.user_id, conversation_id)
    return restored


@routes.delete("/conversations/{conversation_id}", status_code=204, responses=declared(404, 409))
async def delete_conversation(
    service: ServiceHere, caller: Caller, conversation_id: UUID, forever: bool = False
) -> None:
    """Move a conversation to the trash; from there, `forever` deletes it with all of its messages."""
    async with service.acting(caller.user_id) as session:
        if forever:
            await store.delete_conversation(session, conversation_id)
        else:
            await store.trash_conversation(session, caller.user_id, conversation_id)
    service.live.announce(caller.user_id, conversation_id, "deleted" if forever else "changed")


async def _seen(session: AsyncSession, conversation: Conversation) -> ConversationOut:
    unread = await store.count_unread(session, [conversation])
    return ConversationOut.of(conversation, unread.get(conversation.id, 0))
