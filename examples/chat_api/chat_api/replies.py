"""Who answers: the offline responder, or any endpoint that speaks the OpenAI chat protocol."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import httpx

from chat_api.problems import ProblemError
from chat_api.settings import Settings
from chat_schema.models import Message
from chat_schema.queries import Generation


class Responder(Protocol):
    """Answers a conversation, a piece of text at a time."""

    def reply(self, history: Sequence[Message]) -> AsyncIterator[str | Generation]:
        """Yield the reply to the last of ``history``, and who writes it and what it took as that becomes known.

        Raises :class:`NoReplyError` where there is none, or no more of it.
        """


def responder(settings: Settings, client: httpx.AsyncClient) -> Responder:
    """Return the responder that the settings ask for."""
    if settings.model_url is None:
        return Offline(settings.seconds_a_word)
    return OpenAICompatible(client, settings.model_url, settings.model, settings.model_key)


@dataclass(frozen=True)
class Offline:
    """Says the same to the same conversation every time, and needs no network."""

    seconds_a_word: float

    async def reply(self, history: Sequence[Message]) -> AsyncIterator[str | Generation]:
        """Yield the words one by one."""
        generation = Generation(provider="chat_api", model="offline")
        yield generation
        said = [" ".join(message.content.split()) for message in history if message.role == "user"]
        text = f"“{_shortened(said[-1])}” I heard {len(said[-1].split())} words. "
        if len(said) == 1:
            text += "I am the offline responder: I repeat what I hear, and say the same every time."
        else:
            text += f"Before that, you said “{_shortened(said[-2])}”"
        for word in re.findall(r"\S+\s*", text):
            await asyncio.sleep(self.seconds_a_word)
            yield word
        yield replace(generation, finish_reason="stop")


def _shortened(text: str) -> str:
    return text if len(text) <= 80 else text[:79].rstrip() + "…"


@dataclass(frozen=True)
class OpenAICompatible:
    """Streams from `POST {url}/chat/completions`."""

    client: httpx.AsyncClient
    url: str
    model: str
    key: str

    async def reply(self, history: Sequence[Message]) -> AsyncIterator[str | Generation]:
        """Yield the content of each chunk until `[DONE]`, and before that what the chunks say of it."""
        body = {
            "model": self.model,
            "stream": True,
            "stream_options": {"include_usage": True},
            "messages": _spoken(history),
        }
        generation = Generation(provider=httpx.URL(self.url).host, model=self.model)
        yield generation
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        try:
            async with self.client.stream(
                "POST", f"{self.url}/chat/completions", json=body, headers=headers
            ) as response:
                if response.status_code != 200:
                    raise NoReplyError(f"The model's endpoint answered {response.status_code}.")
                async for line in response.aiter_lines():
                    field, _, value = line.partition(":")
                    if field != "data":  # comments keep the connection open
                        continue
                    if value.strip() == "[DONE]":
                        yield generation
                        return
                    chunk = json.loads(value)
                    if "error" in chunk:
                        raise NoReplyError("The model's endpoint broke off with an error.")
                    generation = _known(generation, chunk)
                    for choice in chunk.get("choices", [])[:1]:
                        if text := choice.get("delta", {}).get("content"):
                            yield text
        except httpx.HTTPError as error:
            raise NoReplyError(f"The model's endpoint cannot be reached ({type(error).__name__}).") from error
        except (ValueError, AttributeError, TypeError) as error:
            raise NoReplyError("The model's endpoint does not speak the OpenAI protocol.") from error
        raise NoReplyError("The model's endpoint stopped in the middle of the reply.")


def storable(text: str) -> str:
    """Return ``text`` without what PostgreSQL's text cannot hold: NUL, and halves of characters."""
    return text.replace("\0", "").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class NoReplyError(ProblemError):
    """The problem of a question that is stored and has no reply, or not all of one; ``why`` is for its reader."""

    def __init__(self, why: str) -> None:
        self.why = why
        detail = f"{why} Your message is stored; send it again with the same key for another try."
        super().__init__(502, detail, kind="no-reply")


def _known(before: Generation, chunk: dict[str, Any]) -> Generation:
    """Return what is known of a reply after one more chunk; endpoints leave out what they like."""
    usage = chunk.get("usage") or {}
    of_input, of_output = (usage.get(f"{each}_tokens_details") or {} for each in ("prompt", "completion"))
    found: dict[str, str | int | None] = {"model": _text(chunk.get("model"))}
    for choice in chunk.get("choices", [])[:1]:
        found["finish_reason"] = _text(choice.get("finish_reason"))
    found["input_tokens"] = _count(usage.get("prompt_tokens"))
    found["output_tokens"] = _count(usage.get("completion_tokens"))
    found["cached_tokens"] = _count(of_input.get("cached_tokens"))
    found["reasoning_tokens"] = _count(of_output.get("reasoning_tokens"))
    return replace(before, **{name: value for name, value in found.items() if value is not None})  # type: ignore[arg-type]


def _text(value: object) -> str | None:
    return storable(value) or None if isinstance(value, str) else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and 0 <= value < 2**31 else None


def _spoken(history: Sequence[Message]) -> list[dict[str, str]]:
    """Return the history in the protocol's words; a tool's step means nothing there without the call it answers."""
    roles = {"user": "user", "assistant": "assistant", "agent": "assistant", "system": "system"}
    return [
        {"role": roles[said.role], "content": said.content}
        for said in history
        if said.role in roles and said.content  # a reply that broke off may have none
    ]
