"""Thumbs: how a user rates a message."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter
from pydantic import StringConstraints
from sqlalchemy import delete

from chat_api import said
from chat_api.calls import BODY, NO_NUL, Body, Caller, ServiceHere
from chat_api.problems import declared
from chat_schema.models import Feedback
from chat_schema.models.feedback import Rating
from chat_schema.queries import rate


class Rate(Body):
    """A thumb up (1) or down (-1), and why."""

    rating: Rating
    reason: Annotated[str, StringConstraints(max_length=2_000, pattern=NO_NUL)] | None = None


routes = APIRouter(prefix="/api", responses=declared(401, 404, 422, 500, 503))


@routes.put("/messages/{message_id}/rating", status_code=204, responses=declared(*BODY, 409))
async def rate_message(service: ServiceHere, caller: Caller, message_id: UUID, body: Rate) -> None:
    """Rate a message, instead of how it was rated before."""
    async with service.acting(caller.user_id) as session:
        message = await said.get_message(session, message_id)
        await session.execute(rate(message.conversation_id, caller.user_id, message_id, body.rating, body.reason))
    service.live.announce(caller.user_id, message.conversation_id)


@routes.delete("/messages/{message_id}/rating", status_code=204)
async def take_back(service: ServiceHere, caller: Caller, message_id: UUID) -> None:
    """Take a rating back, where there is one."""
    async with service.acting(caller.user_id) as session:
        message = await said.get_message(session, message_id)
        await session.execute(
            delete(Feedback).where(Feedback.message_id == message_id, Feedback.user_id == caller.user_id)
        )
    service.live.announce(caller.user_id, message.conversation_id)
