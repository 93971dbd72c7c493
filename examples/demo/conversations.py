"""Where the demo's conversations come from, and how they are written the way older applications wrote them.

A file holds one JSON object a line: ``dialogue_id``, ``seq``, ``speaker``, ``role``, ``content`` and, where the source
has it, ``created_at`` (ISO 8601) and ``tool_calls``.
"""

from __future__ import annotations

import gzip
import itertools
import json
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from psycopg.types.json import Jsonb

from app.engine.progress import Progress

T = TypeVar("T")
_EVERY = 1000

SAMPLE = Path(__file__).parent / "sample"
NAMESPACE = uuid.UUID("6f0c4a52-7d55-4f1e-9d6e-3f1f6a1f0d11")  # a speaker has the same id in every run


@dataclass(frozen=True)
class Sources:
    """Two files of conversations: one becomes flat rows, the other one array a conversation."""

    flat: Path
    sessions: Path

    @classmethod
    def find(cls, folder: Path) -> Sources:
        """Return the real conversations in ``folder``, or the small sample of our own where they are missing."""
        real = cls(folder / "ubuntu_irc.jsonl.gz", folder / "tau_bench_airline.jsonl.gz")
        if real.flat.is_file() and real.sessions.is_file():
            return real
        return cls(SAMPLE / "flat.jsonl", SAMPLE / "sessions.jsonl")


@dataclass(frozen=True)
class Loaded:
    """How much was written."""

    users: int
    messages: int
    sessions: int
    elements: int


def read(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the messages of ``file`` in its order, and show how far it is."""
    progress = Progress(f"reading {file.name}", file.stat().st_size, unit="messages")
    with file.open("rb") as raw, gzip.open(raw) if file.suffix == ".gz" else raw as lines:
        at = number = told = 0
        for number, line in enumerate(lines, start=1):
            yield json.loads(line)
            if number % _EVERY == 0:
                progress.advance(raw.tell() - at, number - told)
                at, told = raw.tell(), number
        progress.advance(raw.tell() - at, number - told)
        progress.close()


def user_id(speaker: str) -> uuid.UUID:
    """Return the id of the user that stands for ``speaker``."""
    return uuid.uuid5(NAMESPACE, speaker)


def load(connection: psycopg.Connection, sources: Sources) -> Loaded:
    """Write both files as older applications would have, in one transaction."""
    flat = list(read(sources.flat))
    sessions = [list(lines) for _, lines in itertools.groupby(read(sources.sessions), lambda m: m["dialogue_id"])]
    owners = [_owner(session) for session in sessions]
    speakers = sorted({message["speaker"] for message in flat} | set(owners))
    tenant = uuid.uuid5(NAMESPACE, "tenant")
    with connection.transaction(), connection.cursor() as cursor:
        with cursor.copy("COPY public.users (id, email) FROM STDIN") as copy:
            for speaker in speakers:
                copy.write_row((user_id(speaker), f"{user_id(speaker).hex}@example.test"))
        cursor.execute("INSERT INTO public.tenants (id, name) VALUES (%s, %s)", (tenant, "Support desk"))
        with cursor.copy("COPY public.tenant_users (tenant_id, user_id) FROM STDIN") as copy:
            for owner in sorted(set(owners)):
                copy.write_row((tenant, user_id(owner)))
        with cursor.copy("COPY public.chat_messages (user_id, role, content, created_at) FROM STDIN") as copy:
            for m in _shown("writing chat_messages", flat):
                copy.write_row((user_id(m["speaker"]), m["role"], m["content"], m.get("created_at")))
        with cursor.copy("COPY public.chat_sessions (tenant_id, user_id, messages) FROM STDIN") as copy:
            for owner, session in _shown("writing chat_sessions", list(zip(owners, sessions, strict=True))):
                copy.write_row((tenant, user_id(owner), Jsonb([_element(message) for message in session])))
    return Loaded(len(speakers), len(flat), len(sessions), sum(map(len, sessions)))


def _shown(label: str, items: Sequence[T]) -> Iterator[T]:
    """Yield ``items``, and show how many have been taken."""
    progress = Progress(label, len(items))
    for number, item in enumerate(items, start=1):
        yield item
        if number % _EVERY == 0:
            progress.advance(_EVERY, _EVERY)
    progress.advance(len(items) % _EVERY, len(items) % _EVERY)
    progress.close()


def _owner(session: list[dict[str, Any]]) -> str:
    return next((m["speaker"] for m in session if m["role"] == "user"), session[0]["speaker"])


def _element(message: dict[str, Any]) -> dict[str, Any]:
    kept = ("role", "content", "tool_calls", "tool_call_id", "created_at")
    return {key: message[key] for key in kept if message.get(key) is not None}
