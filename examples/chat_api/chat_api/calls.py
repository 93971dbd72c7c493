"""What the routes share: the service, who calls, and the shapes of what is sent and answered in more than one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

import httpx
from fastapi import Depends, Query, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, StringConstraints
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from chat_api import tokens
from chat_api.files import files
from chat_api.live import Live
from chat_api.problems import ProblemError
from chat_api.replies import responder
from chat_api.settings import Settings
from chat_api.turns import Turns
from chat_schema.acting_as import acting_as_async, acting_as_service_async
from chat_schema.check_login import check_login_async

NO_NUL = r"^[^\x00]*$"  # PostgreSQL's text holds any other character
BODY = (400, 413)  # what may be wrong with a body before it is looked into


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
        self.files = files(settings.files)
        self.turns = Turns(self.acting, self.acting_as_service, self.live, responder(settings, self.client))

    @contextlib.asynccontextmanager
    async def acting(self, user_id: UUID) -> AsyncIterator[AsyncSession]:
        """Yield a session whose one transaction acts for ``user_id`` and commits at the end."""
        async with self.sessions.begin() as session, acting_as_async(session, user_id):
            yield session

    @contextlib.asynccontextmanager
    async def acting_as_service(self) -> AsyncIterator[AsyncSession]:
        """Yield a session whose one transaction no policy narrows: for what has no user."""
        async with self.sessions.begin() as session, acting_as_service_async(session):
            yield session

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Refuse a login that policies do not bind; then listen and watch, and in the end let go of everything."""
        async with self.engine.connect() as connection:
            await check_login_async(connection)
        await self.turns.mark_died()
        working = [asyncio.create_task(self.live.listen(self.engine)), asyncio.create_task(self.turns.watch())]
        try:
            yield
        finally:
            for task in working:
                task.cancel()
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


class Body(BaseModel):
    """What is sent: nothing but what is asked for."""

    model_config = ConfigDict(extra="forbid")
