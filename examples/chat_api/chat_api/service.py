"""The HTTP side: the application made of its routes, and what holds for every answer.

Every request with a token runs in one transaction as its user, so that row level security decides what it sees; the
commit comes before the answer. For servers that start applications themselves:
`uvicorn --factory chat_api.service:create_app`.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator
from importlib import resources
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chat_api import chat, conversations, problems
from chat_api.calls import Service
from chat_api.settings import Settings

PAGE = Path(str(resources.files("chat_api"))) / "page"
# The page's own files and nothing else: what a message says can never become a script.
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
BODY_BYTES = 512 * 1024  # the longest message, each character escaped as \\uXXXX twice, and some room


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
    routers = [conversations.routes, chat.routes]
    for router in routers:
        app.include_router(router)
    app.add_middleware(_Edge)
    problems.install(app, [route for router in routers for route in router.routes])

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
