"""The routes of what is said: read a conversation, say something in it, hear of changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field, StringConstraints

from chat_api import said, store
from chat_api.calls import BODY, NO_NUL, Body, Caller, Limit, ServiceHere
from chat_api.problems import declared
from chat_api.said import MessageOut
from chat_api.turns import Reply


class Say(Body):
    """What the user says."""

    conversation_id: UUID | None = Field(default=None, description="Without one, a new conversation begins")
    tenant_id: UUID | None = Field(default=None, description="Of a conversation that begins: a tenant of yours")
    instead_of: UUID | None = Field(
        default=None, description="A message of yours that this one takes the place of, as another branch"
    )
    attachment_ids: list[UUID] = Field(default=[], max_length=10, description="Files that were added to go with it")
    content: Annotated[str, StringConstraints(min_length=1, max_length=32_000, pattern=NO_NUL)]


class Messages(BaseModel):
    """A page of messages, oldest first. `more`: there are earlier ones, `before` the first one's id."""

    items: list[MessageOut]
    more: bool


routes = APIRouter(prefix="/api", responses=declared(401, 422, 500, 503))


@routes.get("/conversations/{conversation_id}/messages", responses=declared(404))
async def list_messages(
    service: ServiceHere,
    caller: Caller,
    conversation_id: UUID,
    limit: Limit = 50,
    before: Annotated[UUID | None, Query(description="A message's id")] = None,
) -> Messages:
    """The last messages of a conversation, on the branch that is shown, or the last before one."""
    async with service.acting(caller.user_id) as session:
        found = await said.list_messages(session, conversation_id, limit + 1, before)
        around = await said.look_around(session, found[-limit:])
    items = await asyncio.to_thread(lambda: [MessageOut.of(one, around) for one in found[-limit:]])
    return Messages(items=items, more=len(found) > limit)


Key = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        pattern=store.IDEMPOTENCY_KEY,
        description="Chosen by you, new for each message: a request sent again under its key is stored once",
    ),
]


# What is wrong with a request is found out before the stream begins: then it is an ordinary error.
async def _taken(service: ServiceHere, caller: Caller, body: Say, key: Key) -> Reply:
    spoken = said.Said(body.conversation_id, body.tenant_id, body.content, key, body.attachment_ids, body.instead_of)
    return await service.turns.take(caller.user_id, spoken)


async def _taken_again(service: ServiceHere, caller: Caller, message_id: UUID, key: Key) -> Reply:
    return await service.turns.take_again(caller.user_id, message_id, key)


@routes.post("/chat", response_class=EventSourceResponse, responses=declared(*BODY, 403, 404, 409))
async def chat(reply: Annotated[Reply, Depends(_taken)]) -> AsyncIterator[ServerSentEvent]:
    """Say something, in a conversation or to begin one.

    Streams `message` (what you said, stored), `delta` (text of the reply), and in the end `done` (the reply, stored) or
    `error` (a problem).
    """
    async for event in reply.follow():
        yield event


@routes.post("/messages/{message_id}/again", response_class=EventSourceResponse, responses=declared(404, 409))
async def again(reply: Annotated[Reply, Depends(_taken_again)]) -> AsyncIterator[ServerSentEvent]:
    """Ask for another reply instead of one, as another branch, or for the reply that a message of yours never got.

    Streams as what is said does.
    """
    async for event in reply.follow():
        yield event


class Branch(Body):
    """A message of the branch to show."""

    message_id: UUID


@routes.post("/conversations/{conversation_id}/branch", status_code=204, responses=declared(*BODY, 404, 409))
async def show_branch(service: ServiceHere, caller: Caller, conversation_id: UUID, body: Branch) -> None:
    """Show the branch of a message: of those through it, the one that was written last."""
    async with service.acting(caller.user_id) as session:
        await said.show_branch(session, caller.user_id, conversation_id, body.message_id)
    service.live.announce(caller.user_id, conversation_id)


@routes.get("/events", response_class=EventSourceResponse)
async def events(service: ServiceHere, caller: Caller) -> AsyncIterator[ServerSentEvent]:
    """Live updates, until the token ends.

    Streams `ready` (look at everything again: at first, and after a gap) and `conversation` (changed or deleted).
    """
    async for change in service.live.follow(caller.user_id, caller.expires):
        yield ServerSentEvent(event="conversation", data=change) if change else ServerSentEvent(event="ready", data={})
