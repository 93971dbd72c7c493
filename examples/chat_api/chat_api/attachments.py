"""Files that are sent with a message: the table says what they are, and :mod:`chat_api.files` keeps their bytes.

A file is added before its message is sent, and named by the message when it is. A download is never shown as a page of
this origin: it is always a file, whatever its media type says.
"""

from __future__ import annotations

import hashlib
from typing import Annotated
from urllib.parse import quote
from uuid import UUID, uuid4

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import StringConstraints
from sqlalchemy import delete

from chat_api import store
from chat_api.calls import Caller, ServiceHere
from chat_api.problems import ProblemError, declared
from chat_api.said import AttachmentOut
from chat_schema.models import Attachment

MEDIA_TYPE = r"^[A-Za-z0-9!#$&^_.+-]{1,100}/[A-Za-z0-9!#$&^_.+-]{1,100}$"
Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f/\\]*$")]


routes = APIRouter(prefix="/api", responses=declared(401, 422, 500, 503))
_bytes = {"requestBody": {"content": {"application/octet-stream": {"schema": {"type": "string"}}}}}


@routes.post(
    "/conversations/{conversation_id}/attachments",
    status_code=201,
    responses=declared(404, 409, 413),
    openapi_extra=_bytes,
)
async def attach(
    service: ServiceHere,
    caller: Caller,
    conversation_id: UUID,
    request: Request,
    name: Name,
    media_type: Annotated[str, Query(pattern=MEDIA_TYPE)] = "application/octet-stream",
) -> AttachmentOut:
    """Add a file, whose bytes are the body; a message that is sent later takes it along."""
    content = await request.body()
    async with service.acting(caller.user_id) as session:
        store.refuse_trashed(await store.get_conversation(session, conversation_id))
    key = uuid4().hex
    attachment = Attachment(
        user_id=caller.user_id,
        conversation_id=conversation_id,
        name=name,
        media_type=media_type,
        size_bytes=len(content),
        sha256=hashlib.sha256(content).digest(),
        storage_key=key,
    )
    await service.files.put(key, content)
    try:
        async with service.acting(caller.user_id) as session:
            session.add(attachment)
    except BaseException:
        await service.files.delete(key)
        raise
    return AttachmentOut.of(attachment)


@routes.get("/attachments/{attachment_id}", response_class=Response, responses=declared(404))
async def download(service: ServiceHere, caller: Caller, attachment_id: UUID) -> Response:
    """Download a file."""
    async with service.acting(caller.user_id) as session:
        attachment = await session.get(Attachment, attachment_id)
    content = attachment and await service.files.get(attachment.storage_key)
    if attachment is None or content is None:
        raise _not_found()
    named = f"attachment; filename*=UTF-8''{quote(attachment.name, safe='')}"
    return Response(content, headers={"Content-Disposition": named, "Content-Type": attachment.media_type})


@routes.delete("/attachments/{attachment_id}", status_code=204, responses=declared(404))
async def remove(service: ServiceHere, caller: Caller, attachment_id: UUID) -> None:
    """Delete a file that was not sent yet; one that was sent goes with its conversation."""
    unsent = delete(Attachment).where(Attachment.id == attachment_id, Attachment.message_id.is_(None))
    async with service.acting(caller.user_id) as session:
        key = await session.scalar(unsent.returning(Attachment.storage_key))
    if key is None:
        raise _not_found()
    await service.files.delete(key)


def _not_found() -> ProblemError:
    return ProblemError(404, "You have no such file.")
