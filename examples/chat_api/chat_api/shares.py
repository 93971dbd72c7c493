"""Links to a conversation, up to one of its messages, for whoever has the link: no login, and nothing but reading."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query
from pydantic import AwareDatetime, BaseModel, Field
from sqlalchemy import select

from chat_api import said, store
from chat_api.calls import BODY, Body, Caller, Limit, ServiceHere
from chat_api.markdown import to_html
from chat_api.problems import ProblemError, declared
from chat_schema import queries
from chat_schema.models import Share
from chat_schema.queries import SharedMessage


class NewShare(Body):
    """What a link shows, and until when."""

    message_id: UUID = Field(description="The last message that it shows")
    expires_at: AwareDatetime | None = Field(default=None, description="Without one, it is open until it is revoked")


class ShareOut(BaseModel):
    """One link. What it holds is shown once, when it is made."""

    id: UUID
    message_id: UUID
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    @classmethod
    def of(cls, share: Share) -> ShareOut:
        """Return what its owner sees of ``share``."""
        return cls.model_validate(share, from_attributes=True)


class Shares(BaseModel):
    """The links to a conversation, the latest first."""

    items: list[ShareOut]


class NewShareOut(ShareOut):
    """A new link, with what nobody can see again."""

    path: str = Field(description="Where the page shows it; keep it, for the database does not")


class SharedMessageOut(BaseModel):
    """A message as a link shows it."""

    id: UUID
    role: str
    content: str
    html: str | None
    created_at: datetime
    cursor: str

    @classmethod
    def of(cls, message: SharedMessage) -> SharedMessageOut:
        """Return what anybody with the link sees of ``message``."""
        return cls(
            id=message.message_id,
            role=message.role,
            content=message.content,
            html=None if message.role == "user" else to_html(message.content),
            created_at=message.created_at,
            cursor=store.message_cursor(message.created_at, message.seq),
        )


class Shared(BaseModel):
    """A page of what a link shows, in order. `more`: ask again, `after` the last one's cursor."""

    title: str | None
    items: list[SharedMessageOut]
    more: bool


routes = APIRouter(prefix="/api", responses=declared(422, 500, 503))


@routes.post("/conversations/{conversation_id}/shares", status_code=201, responses=declared(*BODY, 401, 404, 409))
async def share(service: ServiceHere, caller: Caller, conversation_id: UUID, body: NewShare) -> NewShareOut:
    """Make a link to a conversation up to one of its messages."""
    if body.expires_at is not None and body.expires_at <= datetime.now(UTC):
        raise ProblemError(409, "A link that has expired already shows nothing. Take a later time.", kind="in-the-past")
    token = queries.new_share_token()
    async with service.acting(caller.user_id) as session:
        store.refuse_trashed(await store.get_conversation(session, conversation_id))
        message = await said.get_message(session, body.message_id)
        if message.conversation_id != conversation_id:
            raise ProblemError(404, "This conversation has no such message.")
        made = queries.share(conversation_id, caller.user_id, message.id, token, expires_at=body.expires_at)
        share = (await session.scalars(made)).one()
    return NewShareOut(**ShareOut.of(share).model_dump(), path=f"/s/{token}")


@routes.get("/conversations/{conversation_id}/shares", responses=declared(401, 404))
async def list_shares(service: ServiceHere, caller: Caller, conversation_id: UUID) -> Shares:
    """The links to a conversation, those that are closed too."""
    async with service.acting(caller.user_id) as session:
        await store.get_conversation(session, conversation_id)
        found = await session.scalars(queries.shares_of(conversation_id))
        return Shares(items=[ShareOut.of(each) for each in found])


@routes.delete("/shares/{share_id}", status_code=204, responses=declared(401, 404))
async def revoke(service: ServiceHere, caller: Caller, share_id: UUID) -> None:
    """Close a link, where it is not closed yet."""
    async with service.acting(caller.user_id) as session:
        if await session.scalar(select(Share.id).where(Share.id == share_id)) is None:
            raise ProblemError(404, "You have no such link.")
        await session.execute(queries.revoke_share(share_id))


@routes.get("/shared/{token}", responses=declared(404))
async def open_share(
    service: ServiceHere,
    token: Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{43}$")],
    limit: Limit = 50,
    after: Annotated[str | None, Query(pattern=store.MESSAGE_CURSOR)] = None,
) -> Shared:
    """What a link shows. It needs no token of a user."""
    place = None if after is None else store.message_place(after)
    async with service.acting_as_service() as session:
        rows = await session.execute(queries.open_share(token, after=place, limit=limit + 1))
        found = [SharedMessage(*row) for row in rows]
    if not found and after is None:
        raise ProblemError(404, "There is nothing under this link, or no longer.")
    items = await asyncio.to_thread(lambda: [SharedMessageOut.of(one) for one in found[:limit]])
    return Shared(title=found[0].title if found else None, items=items, more=len(found) > limit)
