"""The routes of conversations: list, start, read, change, delete; and who calls."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, TypeAlias
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field, FiniteFloat, StringConstraints
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


class ConversationOut(BaseModel):
    """One conversation."""

    id: UUID
    title: str | None
    tenant_id: UUID | None
    metadata: Any
    created_at: datetime
    updated_at: datetime
    cursor: str

    @classmethod
    def of(cls, conversation: Conversation) -> ConversationOut:
        """Return what a client sees of ``conversation``."""
        return cls(
            id=conversation.id,
            title=conversation.title,
            tenant_id=conversation.tenant_id,
            metadata=conversation.metadata_,
            created_at=conversation.created_at,
            updated_at=conversation.updated_at,
            cursor=store.cursor_of(conversation),
        )


class Conversations(BaseModel):
    """A page of conversations, the latest active first. `more`: ask again, `before` the last one's cursor."""

    items: list[ConversationOut]
    more: bool


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
    limit: Limit = 30,
    before: Annotated[str | None, Query(pattern=store.CONVERSATION_CURSOR)] = None,
) -> Conversations:
    """Your conversations, the latest active first."""
    async with service.acting(caller.user_id) as session:
        found = await store.list_conversations(session, caller.user_id, limit + 1, before)
    return Conversations(items=[ConversationOut.of(one) for one in found[:limit]], more=len(found) > limit)


@routes.post("/conversations", status_code=201, responses=declared(*BODY, 403, 409))
async def create_conversation(service: ServiceHere, caller: Caller, body: NewConversation) -> ConversationOut:
    """Start a conversation."""
    async with service.acting(caller.user_id) as session:
        created = await store.create_conversation(session, caller.user_id, body.title, body.tenant_id)
    service.live.announce(caller.user_id, created.id)
    return ConversationOut.of(created)


@routes.get("/conversations/{conversation_id}", responses=declared(404))
async def get_conversation(service: ServiceHere, caller: Caller, conversation_id: UUID) -> ConversationOut:
    """Read one conversation; its messages are a resource of their own."""
    async with service.acting(caller.user_id) as session:
        return ConversationOut.of(await store.get_conversation(session, conversation_id))


@routes.patch("/conversations/{conversation_id}", responses=declared(*BODY, 404))
async def change_conversation(
    service: ServiceHere, caller: Caller, conversation_id: UUID, body: Changes
) -> ConversationOut:
    """Give a conversation another title, or other metadata."""
    async with service.acting(caller.user_id) as session:
        changed = await store.change_conversation(session, conversation_id, body.title, body.metadata or {})
    service.live.announce(caller.user_id, conversation_id)
    return ConversationOut.of(changed)


@routes.delete("/conversations/{conversation_id}", status_code=204, responses=declared(404))
async def delete_conversation(service: ServiceHere, caller: Caller, conversation_id: UUID) -> None:
    """Delete a conversation and its messages."""
    async with service.acting(caller.user_id) as session:
        await store.delete_conversation(session, conversation_id)
    service.live.announce(caller.user_id, conversation_id, "deleted")
