"""Who answers: the offline responder, or any endpoint that speaks the OpenAI chat protocol."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import httpx

from chat_api.problems import ProblemError
from chat_api.settings import Settings
from chat_schema.models import Message


class Responder(Protocol):
    """Answers a conversation, a piece of text at a time."""

    def reply(self, history: Sequence[Message]) -> AsyncIterator[str]:
        """Yield the reply to the last of ``history``; raises :class:`ProblemError` 502 where there is none."""


def responder(settings: Settings, client: httpx.AsyncClient) -> Responder:
    """Return the responder that the settings ask for."""
    if settings.model_url is None:
        return Offline(settings.seconds_a_word)
    return OpenAICompatible(client, settings.model_url, settings.model, settings.model_key)


@dataclass(frozen=True)
class Offline:
    """Says the same to the same conversation every time, and needs no network."""

    seconds_a_word: float

    async def reply(self, history: Sequence[Message]) -> AsyncIterator[str]:
        """Yield the words one by one."""
        said = [" ".join(message.content.split()) for message in history if message.role == "user"]
        text = f"“{_shortened(said[-1])}” I heard {len(said[-1].split())} words. "
        if len(said) == 1:
            text += "I am the offline responder: I repeat what I hear, and say the same every time."
        else:
            text += f"Before that, you said “{_shortened(said[-2])}”"
        for word in re.findall(r"\S+\s*", text):
            await asyncio.sleep(self.seconds_a_word)
            yield word


def _shortened(text: str) -> str:
    return text if len(text) <= 80 else text[:79].rstrip() + "…"


@dataclass(frozen=True)
class OpenAICompatible:
    """Streams from `POST {url}/chat/completions`."""

    client: httpx.AsyncClient
    url: str
    model: str
    key: str

    async def reply(self, history: Sequence[Message]) -> AsyncIterator[str]:
        """Yield the content of each chunk until `[DONE]`."""
        body = {"model": self.model, "stream": True, "messages": _spoken(history)}
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        try:
            async with self.client.stream(
                "POST", f"{self.url}/chat/completions", json=body, headers=headers
            ) as response:
                if response.status_code != 200:
                    raise no_reply(f"The model's endpoint answered {response.status_code}.")
                async for line in response.aiter_lines():
                    field, _, value = line.partition(":")
                    if field != "data":  # comments keep the connection open
                        continue
                    if value.strip() == "[DONE]":
                        return
                    chunk = json.loads(value)
                    if "error" in chunk:
                        raise no_reply("The model's endpoint broke off with an error.")
                    for choice in chunk.get("choices", [])[:1]:
                        if text := choice.get("delta", {}).get("content"):
                            yield text
        except httpx.HTTPError as error:
            raise no_reply(f"The model's endpoint cannot be reached ({type(error).__name__}).") from error
        except (ValueError, AttributeError, TypeError) as error:
            raise no_reply("The model's endpoint does not speak the OpenAI protocol.") from error
        raise no_reply("The model's endpoint stopped in the middle of the reply.")


def storable(text: str) -> str:
    """Return ``text`` without what PostgreSQL's text cannot hold: NUL, and halves of characters."""
    return text.replace("\0", "").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def no_reply(why: str) -> ProblemError:
    """The problem of a question that is stored and has no reply."""
    return ProblemError(
        502, f"{why} Your message is stored; send it again with the same key for another try.", kind="no-reply"
    )


def _spoken(history: Sequence[Message]) -> list[dict[str, str]]:
    """Return the history in the protocol's words; a tool's step means nothing there without the call it answers."""
    roles = {"user": "user", "assistant": "assistant", "agent": "assistant", "system": "system"}
    return [{"role": roles[said.role], "content": said.content} for said in history if said.role in roles]
