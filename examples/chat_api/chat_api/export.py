"""The route that hands everything over: what its user sees of conversations and messages, as JSON Lines.

The whole of a person, what belongs to no conversation included, is `chat-schema export --user`, which reads as the
owner of the tables.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from sqlalchemy import select

from chat_api.calls import Caller, Service, ServiceHere
from chat_api.problems import declared
from chat_schema.models import Base, Conversation
from chat_schema.queries import MessagePosition, thread

PAGE = 200
routes = APIRouter(prefix="/api", responses=declared(401, 422, 500, 503))


@routes.get("/export", response_class=StreamingResponse)
async def export(service: ServiceHere, caller: Caller) -> StreamingResponse:
    """Download all of your conversations, each followed by its messages: one JSON object a line."""
    named = {"Content-Disposition": 'attachment; filename="conversations.jsonl"'}
    return StreamingResponse(_lines(service, caller.user_id), media_type="application/jsonl", headers=named)


async def _lines(service: Service, user_id: UUID) -> AsyncIterator[str]:
    """Yield the lines. Each page is a transaction of its own, so that a slow reader holds none."""
    last = None
    while True:
        page = select(Conversation).where(Conversation.user_id == user_id).order_by(Conversation.id).limit(PAGE)
        async with service.acting(user_id) as session:
            found = (await session.scalars(page if last is None else page.where(Conversation.id > last))).all()
        for conversation in found:
            yield _line("conversation", conversation)
            async for line in _messages(service, user_id, conversation.id):
                yield line
        if len(found) < PAGE:
            return
        last = found[-1].id


async def _messages(service: Service, user_id: UUID, conversation_id: UUID) -> AsyncIterator[str]:
    after = None
    while True:
        async with service.acting(user_id) as session:
            found = (await session.scalars(thread(conversation_id, after=after, limit=PAGE))).all()
        for message in found:
            yield _line("message", message)
        if len(found) < PAGE:
            return
        after = MessagePosition.of(found[-1])


def _line(kind: str, row: Base) -> str:
    values: dict[str, Any] = {each.columns[0].name: getattr(row, each.key) for each in row.__mapper__.column_attrs}
    return json.dumps({kind: values}, default=str, ensure_ascii=False) + "\n"
