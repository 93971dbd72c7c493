"""The HTTP side: the application, its routes, and what each may answer.

Every request with a token runs in one transaction as its user, so that row level security decides what it sees; the
commit comes before the answer. For servers that start applications themselves:
`uvicorn --factory chat_api.service:create_app`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Annotated
from uuid import UUID

import httpx
import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request, Security
from fastapi.responses import FileResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi.sse import EventSourceResponse, ServerSentEvent
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chat_api import problems, store, tokens
from chat_api.live import Live
from chat_api.problems import ProblemError, declared
from chat_api.replies import responder
from chat_api.settings import Settings
from chat_api.turns import MessageOut, Reply, Turns
from chat_schema.acting_as import acting_as_async
from chat_schema.check_login import check_login_async
from chat_schema.models import Conversation

PAGE = Path(str(resources.files("chat_api"))) / "page"
# The page's own files and nothing else: what a message says can never become a script.
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
BODY_BYTES = 512 * 1024  # the longest message, each character escaped as \\uXXXX twice, and some room
NO_NUL = r"^[^\x00]*$"  # PostgreSQL's text holds any other character


class Service:
    """What the routes share: one a process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.engine = create_async_engine(
            settings.database_url,
            pool_size=settings.pool_size,
            pool_pre_ping=True,
            hide_parameters=True,  # they are what people write: nothing for a log
            # No named statements: they break behind poolers in transaction mode.
            connect_args={"application_name": "chat-api", "prepare_threshold": None},
        )
        self.sessions = async_sessionmaker(self.engine, expire_on_commit=False)
        self.client = httpx.AsyncClient(timeout=httpx.Timeout(60, connect=5))
        self.live = Live()
        self.turns = Turns(self.acting, self.live, responder(settings, self.client))

    @contextlib.asynccontextmanager
    async def acting(self, user_id: UUID) -> AsyncIterator[AsyncSession]:
        """Yield a session whose one transaction acts for ``user_id`` and commits at the end."""
        async with self.sessions.begin() as session, acting_as_async(session, user_id):
            yield session

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Refuse a login that policies do not bind; then listen, and in the end let go of everything."""
        async with self.engine.connect() as connection:
            await check_login_async(connection)
        listening = asyncio.create_task(self.live.listen(self.engine))
        try:
            yield
        finally:
            listening.cancel()
            await self.turns.close()
            await self.client.aclose()
            await self.engine.dispose()


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


ServiceHere = Annotated[Service, Depends(_service)]
_bearer = HTTPBearer(bearerFormat="JWT", auto_error=False, description="HS256; `sub` is the user's id")


def _caller(
    service: ServiceHere, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
) -> tokens.Caller:
    if credentials is None:
        raise ProblemError(401, "This needs a bearer token.", headers={"WWW-Authenticate": "Bearer"})
    try:
        return tokens.verify(credentials.credentials, service.settings)
    except tokens.TokenError as error:
        headers = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
        raise ProblemError(401, str(error), kind="invalid-token", headers=headers) from None


Caller = Annotated[tokens.Caller, Depends(_caller)]
Limit = Annotated[int, Query(ge=1, le=100)]
Title = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=NO_NUL)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewConversation(_Body):
    """What a conversation may begin with."""

    title: Title | None = None
    tenant_id: UUID | None = Field(default=None, description="A tenant of yours; without one it is personal")


class Rename(_Body):
    """A conversation's new title."""

    title: Title


class Say(_Body):
    """What the user says."""

    conversation_id: UUID
    content: Annotated[str, StringConstraints(min_length=1, max_length=32_000, pattern=NO_NUL)]


class ConversationOut(BaseModel):
    """One conversation."""

    id: UUID
    title: str | None
    tenant_id: UUID | None
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
            created_at=conversation.created_at,
            updated_at=conversation.updated_at,
            cursor=store.cursor_of(conversation),
        )


class Conversations(BaseModel):
    """A page of conversations, the latest active first. `more`: ask again, `before` the last one's cursor."""

    items: list[ConversationOut]
    more: bool


class Messages(BaseModel):
    """A page of messages, oldest first. `more`: there are earlier ones, `before` the first one's cursor."""

    items: list[MessageOut]
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


BODY = (400, 413)  # what may be wrong with a body before it is looked into
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
async def rename_conversation(
    service: ServiceHere, caller: Caller, conversation_id: UUID, body: Rename
) -> ConversationOut:
    """Give a conversation another title."""
    async with service.acting(caller.user_id) as session:
        renamed = await store.rename_conversation(session, conversation_id, body.title)
    service.live.announce(caller.user_id, conversation_id)
    return ConversationOut.of(renamed)


@routes.delete("/conversations/{conversation_id}", status_code=204, responses=declared(404))
async def delete_conversation(service: ServiceHere, caller: Caller, conversation_id: UUID) -> None:
    """Delete a conversation and its messages."""
    async with service.acting(caller.user_id) as session:
        await store.delete_conversation(session, conversation_id)
    service.live.announce(caller.user_id, conversation_id, "deleted")


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
    return Messages(items=[MessageOut.of(one) for one in found[-limit:]], more=len(found) > limit)


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
    return await service.turns.take(caller.user_id, body.conversation_id, body.content, key)


@routes.post("/chat", response_class=EventSourceResponse, responses=declared(*BODY, 403, 404, 409))
async def chat(reply: Annotated[Reply, Depends(_taken)]) -> AsyncIterator[ServerSentEvent]:
    """Say something.

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


class _Edge:
    """Adds the security headers to every answer, lets no cache keep what the API says, and reads no endless body."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caching = "no-store" if scope.get("path", "").startswith("/api/") else "no-cache"
        added = [(name.encode(), value.encode()) for name, value in {**HEADERS, "cache-control": caching}.items()]

        read = 0

        async def receive_within_limit() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > BODY_BYTES:
                raise HTTPException(413, f"A request may have {BODY_BYTES:,} bytes.")
            return message

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [pair for pair in message["headers"] if pair[0] != b"cache-control"]
                message = {**message, "headers": [*kept, *added]}
            await send(message)

        await self.app(scope, receive_within_limit, send_with_headers)


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the application; without ``settings``, as the environment says."""
    service = Service(settings or Settings.from_environment())

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = FastAPI(
        title="chat_api",
        version="0.1.0",
        description="Conversations and messages of the caller, kept apart by row level security.",
        lifespan=lifespan,
        docs_url=None,  # that page loads scripts from elsewhere, which our own headers forbid
        redoc_url=None,
    )
    app.state.service = service
    app.include_router(routes)
    app.add_middleware(_Edge)
    problems.install(app, routes.routes)

    @app.get("/", include_in_schema=False)
    @app.get("/c/{conversation_id}", include_in_schema=False)  # the page's own addresses
    async def page() -> FileResponse:
        return FileResponse(PAGE / "index.html")

    app.mount("/page", StaticFiles(directory=PAGE))
    return app


class Server(uvicorn.Server):
    """Serves the application, and when told to stop ends the streams that would never end by themselves."""

    def __init__(self, settings: Settings) -> None:
        self._app = create_app(settings)
        super().__init__(uvicorn.Config(self._app, log_level="warning", access_log=False, timeout_graceful_shutdown=10))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let requests under way finish, for some seconds."""
        self._app.state.service.live.close()
        await super().shutdown(sockets)
