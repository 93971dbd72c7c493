"""Somebody who uses the service over HTTP."""

from __future__ import annotations

import contextlib
import json
import queue
import threading
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple
from uuid import UUID

import httpx

from chat_api import tokens
from chat_api.settings import Settings


class Event(NamedTuple):
    """A server-sent event."""

    name: str
    data: Any


def events_in(response: httpx.Response) -> Iterator[Event]:
    name, data = "", ""
    for line in response.iter_lines():
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            data = value
        elif not line and data:
            yield Event(name, json.loads(data))
            name, data = "", ""


class Person:
    """A user with a token. Requests are real ones."""

    def __init__(self, url: str, settings: Settings, user_id: UUID) -> None:
        self.user_id = user_id
        self.token = tokens.issue(user_id, settings)
        self.http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {self.token}"}, timeout=30)

    def at(self, url: str) -> Person:
        """Return the same person before another service."""
        other = object.__new__(Person)
        other.user_id, other.token = self.user_id, self.token
        other.http = httpx.Client(base_url=url, headers=self.http.headers, timeout=30)
        return other

    def begins(self, **given: Any) -> dict[str, Any]:
        """Start a conversation."""
        answer = self.http.post("/api/conversations", json=given)
        assert answer.status_code == 201, answer.text
        conversation: dict[str, Any] = answer.json()
        return conversation

    def says(self, conversation_id: str | None, content: str, key: str | None = None) -> list[Event]:
        """Say something and hear the reply to its end."""
        with self.saying(conversation_id, content, key) as response:
            assert response.status_code == 200, response.read()
            return list(events_in(response))

    @contextlib.contextmanager
    def saying(
        self, conversation_id: str | None, content: str, key: str | None = None, **more: Any
    ) -> Iterator[httpx.Response]:
        """Say something, in a conversation or (None) to begin one."""
        body = {"conversation_id": conversation_id, "content": content, **more}
        headers = {"Idempotency-Key": key or uuid.uuid4().hex}
        with self.http.stream("POST", "/api/chat", json=body, headers=headers) as response:
            yield response

    def deletes(self, conversation_id: str) -> None:
        """Delete a conversation for good: by way of the trash."""
        for forever in (False, True):
            answer = self.http.delete(f"/api/conversations/{conversation_id}", params={"forever": forever})
            assert answer.status_code == 204

    def sees(self) -> list[str]:
        """Return the ids of its conversations, the latest active first."""
        return [one["id"] for one in self.http.get("/api/conversations", params={"limit": 100}).json()["items"]]

    def reads(self, conversation_id: str) -> list[tuple[str, str]]:
        """Return who said what in a conversation."""
        found = self.http.get(f"/api/conversations/{conversation_id}/messages", params={"limit": 100})
        assert found.status_code == 200, found.text
        return [(message["role"], message["content"]) for message in found.json()["items"]]

    @contextlib.contextmanager
    def window(self) -> Iterator[Window]:
        """Listen for live updates."""
        window = Window()
        with self.http.stream("GET", "/api/events") as response:
            assert response.status_code == 200
            thread = threading.Thread(target=window.listen, args=[response], daemon=True)
            thread.start()
            yield window


class Window:
    """What one window was told."""

    def __init__(self) -> None:
        self._told: queue.Queue[Event] = queue.Queue()

    def listen(self, response: httpx.Response) -> None:
        with contextlib.suppress(httpx.HTTPError):
            for event in events_in(response):
                self._told.put(event)

    def hears(self, seconds: float = 10) -> Event:
        return self._told.get(timeout=seconds)

    def hears_nothing(self, seconds: float = 0.5) -> bool:
        try:
            event = self._told.get(timeout=seconds)
        except queue.Empty:
            return True
        raise AssertionError(event)
