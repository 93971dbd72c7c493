"""The routes of what is said: read a conversation, say something in it, hear of changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field, StringConstraints

from chat_api import store
from chat_api.calls import BODY, NO_NUL, Body, Caller, Limit, ServiceHere
from chat_api.problems import declared
from chat_api.turns import MessageOut, Reply


class Say(Body):
    """What the user says."""

    conversation_id: UUID | None = Field(default=None, description="Without one, a new conversation begins")
    tenant_id: UUID | None = Field(default=None, description="Of a conversation that begins: a tenant of yours")
    content: Annotated[str, StringConstraints(min_length=1, max_length=32_000, pattern=NO_NUL)]


class Messages(BaseModel):
    """A page of messages, oldest first. `more`: there are earlier ones, `before` the first one's cursor."""

    items: list[MessageOut]
    more: bool


routes = APIRouter(prefix="/api", responses=declared(401, 422, 500, 503))


@routes.get("/conversations/{conversation_id}/messages", responses=declared(404))
async def list_messages(
    service: ServiceHere,
    caller: Caller,
    conversation_id: UUID,
    limit: Limit = 50,
    before: Annotated[str | None, Query(pattern=store.MESSAGE_CURSOR)] = None,
) -> Messages:
    """The last messages of a conversation, or the last before a cursor."""
    async with service.acting(caller.user_id) as session:
        found = await store.list_messages(session, conversation_id, limit + 1, before)
    # Rendering takes its time: not in the loop that streams to everybody.
    items = await asyncio.to_thread(lambda: [MessageOut.of(one) for one in found[-limit:]])
    return Messages(items=items, more=len(found) > limit)


async def _taken(
    service: ServiceHere,
    caller: Caller,
    body: Say,
    key: Annotated[
        str,
        Header(
            alias="Idempotency-Key",
            pattern=store.IDEMPOTENCY_KEY,
            description="Chosen by you, new for each message: a request sent again under its key is stored once",
        ),
    ],
) -> Reply:
    """Store the message before the stream begins, so that what is wrong with it is an ordinary error."""
    said = store.Said(body.conversation_id, body.tenant_id, body.content, key)
    return await service.turns.take(caller.user_id, said)


@routes.post("/chat", response_class=EventSourceResponse, responses=declared(*BODY, 403, 404, 409))
async def chat(reply: Annotated[Reply, Depends(_taken)]) -> AsyncIterator[ServerSentEvent]:
    """Say something, in a conversation or to begin one.

    Streams `message` (what you said, stored), `delta` (text of the reply), and in the end `done` (the reply, stored) or
    `error` (a problem).
    """
    async for event in reply.follow():
        yield event


@routes.get("/events", response_class=EventSourceResponse)
async def events(service: ServiceHere, caller: Caller) -> AsyncIterator[ServerSentEvent]:
    """Live updates, until the token ends.

    Streams `ready` (look at everything again: at first, and after a gap) and `conversation` (changed or deleted).
    """
    async for change in service.live.follow(caller.user_id, caller.expires):
        yield ServerSentEvent(event="conversation", data=change) if change else ServerSentEvent(event="ready", data={})
