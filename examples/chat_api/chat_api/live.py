"""Live updates: which conversation changed, told to every open window of its owner.

A change is a hint, not data: a window asks for what changed, and row level security decides what it gets.

By default the service tells its own windows of its own writes, and nothing in the database is slower for it. After
`python -m chat_api.notify install` the database announces every write by NOTIFY: then several processes hear of each
other's, and of those that no service made. Anybody who may connect may send a notification too: what is no number is
ignored, and a number that is made up finds nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Literal
from uuid import UUID

import psycopg
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from chat_api.notify import CHANGES, CHANNEL, HORIZON, INSTALLED, SWEEP
from chat_schema.acting_as import ActingError, acting_as_service_async

WAITING = 100  # changes kept for a window that does not read; then it is told to look at everything again
RECONNECT_SECONDS = 2.0
SWEEP_SECONDS = 60.0
COMPLAINT_SECONDS = 60.0
log = logging.getLogger("chat_api")

Kind = Literal["changed", "deleted"]


class Change(BaseModel):
    """A conversation that was written, or deleted."""

    conversation_id: UUID
    kind: Kind


class _Window:
    """One open window and what it has yet to be told. None: it missed something, or is closed."""

    def __init__(self) -> None:
        self.closed = False
        self._waiting: asyncio.Queue[Change | None] = asyncio.Queue(WAITING)

    def tell(self, change: Change | None) -> None:
        if change is None or self._waiting.full():
            while not self._waiting.empty():
                self._waiting.get_nowait()
            change = None
        self._waiting.put_nowait(change)

    def close(self) -> None:
        self.closed = True
        self.tell(None)

    async def next(self) -> Change | None:
        return await self._waiting.get()


class Live:
    """The open windows of this process. All of it runs in one event loop."""

    def __init__(self) -> None:
        self._windows: dict[UUID, set[_Window]] = {}
        self._listening = False
        self._swept, self._horizon = 0.0, "0"
        self._complained = float("-inf")

    def announce(self, user_id: UUID, conversation_id: UUID, kind: Kind = "changed") -> None:
        """Tell of a write that this process has committed, unless the database tells of it."""
        if not self._listening:
            self._publish(user_id, Change(conversation_id=conversation_id, kind=kind))

    async def follow(self, user_id: UUID, until: datetime) -> AsyncIterator[Change | None]:
        """Yield changes until the token ends; None, which comes first: look at everything."""
        window = _Window()
        self._windows.setdefault(user_id, set()).add(window)
        try:
            change = None
            while not window.closed:
                yield change
                async with asyncio.timeout(until.timestamp() - time.time()):
                    change = await window.next()
        except TimeoutError:
            return
        finally:
            self._windows[user_id].discard(window)
            if not self._windows[user_id]:
                del self._windows[user_id]

    def close(self) -> None:
        """End every window's stream, so that the server can stop."""
        for windows in self._windows.values():
            for window in windows:
                window.close()

    async def listen(self, engine: AsyncEngine) -> None:
        """Where the triggers are installed, hear of every write that the database announces, until cancelled."""
        async with engine.connect() as connection:
            self._listening = bool(await connection.scalar(INSTALLED))
        url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        while self._listening:
            try:
                async with await psycopg.AsyncConnection.connect(url, autocommit=True) as own:
                    await own.execute(f"LISTEN {CHANNEL}")
                    self._publish_all()  # what was announced while nobody listened is gone
                    while True:
                        notifications = own.notifies(timeout=SWEEP_SECONDS, stop_after=1)
                        await self._tell([notification.payload async for notification in notifications], engine)
                        await self._sweep(engine)
            except (psycopg.OperationalError, SQLAlchemyError, ActingError) as error:
                log.warning(
                    "live updates lost the database (%s); trying again in %.0f s",
                    type(error).__name__,
                    RECONNECT_SECONDS,
                )
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _tell(self, payloads: list[str], engine: AsyncEngine) -> None:
        """Read what was written under these numbers, as the service, and tell the windows."""
        numbers = {payload for payload in payloads if _is_number(payload)}
        if len(numbers) < len(set(payloads)) and time.monotonic() > self._complained + COMPLAINT_SECONDS:
            self._complained = time.monotonic()
            log.warning("somebody sends notifications on %s that no trigger sends; they are ignored", CHANNEL)
        if not numbers:
            return
        async with engine.begin() as connection, acting_as_service_async(connection):
            for user_id, conversation_id, kind in await connection.execute(CHANGES, {"numbers": sorted(numbers)}):
                self._publish(user_id, Change(conversation_id=conversation_id, kind=kind))

    async def _sweep(self, engine: AsyncEngine) -> None:
        """Now and then delete the changes that were there the last time."""
        if time.monotonic() < self._swept + SWEEP_SECONDS:
            return
        async with engine.begin() as connection, acting_as_service_async(connection):
            await connection.execute(SWEEP, {"horizon": self._horizon})
            self._horizon = str(await connection.scalar(HORIZON))
        self._swept = time.monotonic()

    def _publish(self, user_id: UUID, change: Change) -> None:
        for window in self._windows.get(user_id, ()):
            window.tell(change)

    def _publish_all(self) -> None:
        for windows in self._windows.values():
            for window in windows:
                window.tell(None)


def _is_number(payload: str) -> bool:
    """Tell whether it can be the number of a transaction."""
    return payload.isascii() and payload.isdecimal() and len(payload) <= 20 and int(payload) < 2**64
