"""The route that finds what was said."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from chat_api import store
from chat_api.calls import Caller, Limit, ServiceHere
from chat_api.problems import declared
from chat_schema.models import MessageRole
from chat_schema.queries import Hit


class Piece(BaseModel):
    """A piece of a snippet."""

    text: str
    found: bool = Field(description="Whether it is what was searched for")


class HitOut(BaseModel):
    """A message that was found."""

    id: UUID
    conversation_id: UUID
    title: str | None
    role: str
    created_at: datetime | None
    snippet: list[Piece]
    cursor: str

    @classmethod
    def of(cls, hit: Hit, title: str | None) -> HitOut:
        """Return what a client sees of ``hit``."""
        return cls(
            id=hit.id,
            conversation_id=hit.conversation_id,
            title=title,
            role=hit.role,
            created_at=hit.created_at,
            snippet=[Piece(text=text, found=found) for text, found in hit.parts()],
            cursor=store.hit_cursor(hit),
        )


class Found(BaseModel):
    """A page of what was found. `more`: ask again, `before` the last one's cursor."""

    items: list[HitOut]
    more: bool


routes = APIRouter(prefix="/api", responses=declared(401, 422, 500, 503))


@routes.get("/search")
async def search(
    service: ServiceHere,
    caller: Caller,
    q: Annotated[str, Query(min_length=1, max_length=1_000, description='Words, "phrases", -without, or')],
    conversation_id: UUID | None = None,
    role: MessageRole | None = None,
    best: Annotated[bool, Query(description="The best first, instead of the newest")] = False,
    limit: Limit = 20,
    before: Annotated[str | None, Query(pattern=store.HIT_CURSOR)] = None,
) -> Found:
    """Find messages of yours, in all conversations that are not in the trash."""
    async with service.acting(caller.user_id) as session:
        hits = await store.search_messages(session, q, conversation_id, role, best, limit + 1, before)
        titles = await store.titles_of(session, {hit.conversation_id for hit in hits})
    return Found(items=[HitOut.of(hit, titles[hit.conversation_id]) for hit in hits[:limit]], more=len(hits) > limit)
