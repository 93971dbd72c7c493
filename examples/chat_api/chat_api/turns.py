"""A turn: what the user says is stored, the reply is streamed, and stored when it is whole.

A reply belongs to the service, not to the request that asked for it: a window that closes loses nothing, and the same
request sent again, by its idempotency key, follows the reply that is under way or reads the one that is stored. No
transaction is open while a model thinks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from fastapi.sse import ServerSentEvent
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api import store
from chat_api.live import Live
from chat_api.markdown import to_html
from chat_api.problems import ProblemError, from_exception
from chat_api.replies import Responder, no_reply, storable
from chat_schema.models import Message, MessageRole

HISTORY = 40  # messages that a responder is given
REPLY_SECONDS = 300
log = logging.getLogger("chat_api")

Acting = Callable[[UUID], AbstractAsyncContextManager[AsyncSession]]


class MessageOut(BaseModel):
    """One message."""

    id: UUID
    conversation_id: UUID
    role: MessageRole
    content: str
    html: str | None = Field(description="A reply as HTML that is safe to show; null: show `content` as text")
    created_at: datetime
    cursor: str

    @classmethod
    def of(cls, message: Message) -> MessageOut:
        """Return what a client sees of ``message``."""
        return cls(
            id=message.id,
            conversation_id=message.conversation_id,
            role=message.role,
            content=message.content,
            html=to_html(message.content) if message.role in ("assistant", "agent") else None,
            created_at=message.created_at,
            cursor=store.cursor_of(message),
        )


@dataclass
class Reply:
    """One reply under way, and all that was streamed of it so far."""

    question: Message
    _events: list[ServerSentEvent] = field(default_factory=list)
    _whole: bool = False
    _grew: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, event: str, data: Any, *, last: bool = False) -> None:
        """Stream one event to whoever follows."""
        self._events.append(ServerSentEvent(event=event, data=data))
        self._whole = last
        self._grew.set()
        self._grew = asyncio.Event()

    async def follow(self) -> AsyncIterator[ServerSentEvent]:
        """Yield what was streamed so far, then what comes, to the end."""
        seen = 0
        while True:
            while seen < len(self._events):
                yield self._events[seen]
                seen += 1
            if self._whole:
                return
            await self._grew.wait()


class Turns:
    """The replies under way in this process."""

    def __init__(self, acting: Acting, live: Live, responder: Responder) -> None:
        self._acting, self._live, self._responder = acting, live, responder
        self._under_way: dict[tuple[UUID, str], Reply] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def take(self, user_id: UUID, said: store.Said) -> Reply:
        """Store what the user says, once for each key, and return its reply; raises what :mod:`store` raises."""
        key = said.key
        async with self._acting(user_id) as session:
            turn = await store.store_question(session, user_id, said, HISTORY)
        under_way = self._under_way.get((user_id, key))
        if under_way is not None:
            return under_way
        reply = Reply(turn.question)
        reply.add("message", MessageOut.of(turn.question))
        if turn.answer is not None:
            reply.add("done", await asyncio.to_thread(MessageOut.of, turn.answer), last=True)
            return reply
        self._live.announce(user_id, turn.question.conversation_id)
        self._under_way[user_id, key] = reply
        task = asyncio.create_task(self._answer(reply, turn, key))
        self._tasks.add(task)  # the loop itself keeps only a weak reference
        task.add_done_callback(self._tasks.discard)
        return reply

    async def close(self) -> None:
        """Give up the replies under way: their questions are stored, and asked again by key they are answered."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _answer(self, reply: Reply, turn: store.Turn, key: str) -> None:
        question = turn.question
        try:
            parts = []
            async with asyncio.timeout(REPLY_SECONDS):
                async for text in self._responder.reply(turn.history):
                    parts.append(text)
                    reply.add("delta", {"text": text})
            if not (content := storable("".join(parts))):
                raise no_reply("The reply was empty.")
            async with self._acting(question.user_id) as session:
                answer = await store.store_answer(session, question, content, key)
            self._live.announce(question.user_id, question.conversation_id)
            reply.add("done", await asyncio.to_thread(MessageOut.of, answer), last=True)
        except ProblemError as error:
            reply.add("error", error.problem, last=True)
        except TimeoutError:
            reply.add("error", no_reply(f"The reply took more than {REPLY_SECONDS} seconds.").problem, last=True)
        except Exception as error:  # whoever follows must learn of it, whatever it is
            log.exception("a reply failed")
            reply.add("error", from_exception(error), last=True)
        except asyncio.CancelledError:
            reply.add("error", no_reply("The service is stopping.").problem, last=True)
            raise
        finally:
            del self._under_way[question.user_id, key]
