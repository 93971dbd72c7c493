"""A turn: what the user says is stored, the reply is streamed, and stored from its beginning to its end.

A reply belongs to the service, not to the request that asked for it: a window that closes loses nothing, and the same
request sent again, by its idempotency key, follows the reply that is under way or reads the one that is stored. No
transaction is open while a model thinks.

The stored reply says how it stands: streaming, complete, error where the model gave no more of it, interrupted where
the service stopped. One whose process died stays streaming until a service finds it by its age.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from fastapi.sse import ServerSentEvent
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from chat_api import said
from chat_api.live import Live
from chat_api.problems import Problem, ProblemError, from_exception
from chat_api.replies import NoReplyError, Responder, storable
from chat_api.said import MessageOut
from chat_schema.acting_as import ActingError
from chat_schema.models import Message, MessageStatus
from chat_schema.queries import Generation, interrupt_streaming

HISTORY = 40  # messages that a responder is given
REPLY_SECONDS = 300
SAVE_SECONDS = 2.0  # between the times that a reply is stored as far as it is
DIED = timedelta(seconds=REPLY_SECONDS + 60)  # no process still writes a reply that began before that
SWEEP_SECONDS = 60.0
log = logging.getLogger("chat_api")

Acting = Callable[[UUID], AbstractAsyncContextManager[AsyncSession]]
ActingAsService = Callable[[], AbstractAsyncContextManager[AsyncSession]]


@dataclass
class Reply:
    """One reply under way, and all that was streamed of it so far."""

    question: Message
    answer_id: UUID | None = None  # once it is stored that it has begun
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

    def __init__(self, acting: Acting, as_service: ActingAsService, live: Live, responder: Responder) -> None:
        self._acting, self._as_service, self._live, self._responder = acting, as_service, live, responder
        self._under_way: dict[tuple[UUID, str], Reply] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def take(self, user_id: UUID, spoken: said.Said) -> Reply:
        """Store what the user says, once for each key, and return its reply; raises what :mod:`said` raises."""
        async with self._acting(user_id) as session:
            turn = await said.store_question(session, user_id, spoken, HISTORY)
            around = await said.look_around(session, _of(turn))
        return await self._reply_to(turn, around, spoken.key)

    async def take_again(self, user_id: UUID, message_id: UUID, key: str) -> Reply:
        """Return another reply instead of one, or the first to a question; raises what :mod:`said` raises."""
        for reply in self._under_way.values():
            if reply.question.user_id == user_id and message_id in (reply.question.id, reply.answer_id):
                return reply  # it is being answered
        async with self._acting(user_id) as session:
            turn = await said.repeat_question(session, user_id, message_id, key, HISTORY)
            around = await said.look_around(session, _of(turn))
        return await self._reply_to(turn, around, key)

    async def _reply_to(self, turn: said.Turn, around: said.Around, key: str) -> Reply:
        question = turn.question
        under_way = self._under_way.get((question.user_id, key))
        if under_way is not None:
            return under_way
        reply = Reply(question)
        reply.add("message", MessageOut.of(question, around))
        if turn.answer is not None and turn.answer.status == "complete":
            reply.add("done", await asyncio.to_thread(MessageOut.of, turn.answer, around), last=True)
            return reply
        self._under_way[question.user_id, key] = reply
        task = asyncio.create_task(self._answer(reply, turn, key))
        self._tasks.add(task)  # the loop itself keeps only a weak reference
        task.add_done_callback(self._tasks.discard)
        return reply

    async def mark_died(self) -> None:
        """Mark replies as interrupted that a process was writing which is no more, whoever's they are."""
        async with self._as_service() as session:
            found = (await session.execute(interrupt_streaming(DIED))).all()
        for _, conversation_id, user_id in found:
            self._live.announce(user_id, conversation_id)
        if found:
            log.warning("%d replies were left unfinished by a process that is gone", len(found))

    async def watch(self) -> None:
        """Mark them now and then, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                await self.mark_died()
            except (SQLAlchemyError, ActingError) as error:
                log.warning("replies left unfinished were not looked for (%s)", type(error).__name__)

    async def close(self) -> None:
        """Interrupt the replies under way: their questions are stored, and asked again by key they are answered."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _answer(self, reply: Reply, turn: said.Turn, key: str) -> None:
        user_id, conversation_id = reply.question.user_id, reply.question.conversation_id
        try:
            async with self._acting(user_id) as session:
                answer, new = await said.begin_answer(session, turn, key)
            reply.answer_id = answer.id
            self._live.announce(user_id, conversation_id)  # of the question too
            await (self._write(reply, turn, answer) if new else self._wait_for(answer))
            async with self._acting(user_id) as session:
                answer = await said.get_message(session, answer.id)
                around = await said.look_around(session, [answer])
            whole = await asyncio.to_thread(MessageOut.of, answer, around)
            self._live.announce(user_id, conversation_id)
            reply.add("done", whole, last=True)
        except BaseException as error:  # whoever follows must learn of it, whatever it is
            if not isinstance(error, ProblemError | TimeoutError | asyncio.CancelledError):
                log.exception("a reply failed")
            self._live.announce(user_id, conversation_id)
            reply.add("error", _problem(error), last=True)
            if not isinstance(error, Exception):
                raise
        finally:
            del self._under_way[user_id, key]

    async def _write(self, reply: Reply, turn: said.Turn, answer: Message) -> None:
        """Stream the reply and store it: so far, now and then, and in the end how it ended."""
        pieces: list[str] = []
        generation = Generation()
        began = saved = time.monotonic()

        async def store(status: MessageStatus, error: str | None = None) -> bool:
            taken = round((time.monotonic() - began) * 1000)
            text = storable("".join(pieces))
            async with self._acting(answer.user_id) as session:
                return await said.write_answer(
                    session, answer, text, status, replace(generation, latency_ms=taken), error
                )

        try:
            async with asyncio.timeout(REPLY_SECONDS):
                async for piece in self._responder.reply(turn.history):
                    if isinstance(piece, Generation):
                        generation = piece
                        continue
                    pieces.append(piece)
                    reply.add("delta", {"text": piece})
                    if time.monotonic() > saved + SAVE_SECONDS:
                        if not await store("streaming"):
                            raise _gone()
                        saved = time.monotonic()
                        self._live.announce(answer.user_id, answer.conversation_id)
            if not storable("".join(pieces)):
                raise NoReplyError("The reply was empty.")
            if not await store("complete"):
                raise _gone()
        except BaseException as error:
            stopped = isinstance(error, asyncio.CancelledError)
            try:
                await store("interrupted" if stopped else "error", _why(error))
            except Exception:  # it stays as streaming, and is found by its age
                log.exception("how a reply ended could not be stored")
            raise

    async def _wait_for(self, answer: Message) -> None:
        """Wait for a reply that another process is writing."""
        async with asyncio.timeout(REPLY_SECONDS):
            while answer.status == "streaming":
                await asyncio.sleep(1)
                async with self._acting(answer.user_id) as session:
                    answer = await said.get_message(session, answer.id)
        if answer.status in said.BROKEN:
            raise NoReplyError("The reply broke off.")


def _gone() -> ProblemError:
    return ProblemError(409, "This conversation was deleted or closed to you meanwhile.", kind="gone-meanwhile")


def _why(error: BaseException) -> str:
    """Return what the reader of a broken reply is told."""
    if isinstance(error, NoReplyError):
        return error.why
    if isinstance(error, asyncio.CancelledError):
        return "The service stopped."
    if isinstance(error, TimeoutError):
        return f"It took more than {REPLY_SECONDS} seconds."
    return from_exception(error).detail


def _problem(error: BaseException) -> Problem:
    """Return what whoever follows a reply is told of its end."""
    if isinstance(error, asyncio.CancelledError | TimeoutError):
        error = NoReplyError(_why(error))
    return from_exception(error)


def _of(turn: said.Turn) -> list[Message]:
    return [turn.question] if turn.answer is None else [turn.question, turn.answer]
