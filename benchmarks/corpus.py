"""Real conversations as the flat table of an older application: one history a user, in the order of time."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import psycopg

from examples.demo.conversations import SAMPLE, read, user_id

OWNED_BY_SPEAKERS = ("ubuntu_irc.jsonl.gz",)  # a channel: every speaker keeps a history
OWNED_BY_DIALOGUES = ("sgd.jsonl.gz", "oasst1_en_validation.jsonl.gz", "tau_bench_airline.jsonl.gz")
DIALOGUES_OF_A_USER = 5  # in those files nobody comes twice
BEGIN, END = datetime(2004, 7, 1, tzinfo=UTC), datetime(2019, 1, 1, tzinfo=UTC)  # the span of the channel's logs


class Line(NamedTuple):
    """One message; ``owner`` names whose history it is in."""

    created_at: datetime
    owner: str
    role: str
    content: str


@dataclass(frozen=True)
class Corpus:
    """All messages of some files, in the order of time."""

    files: tuple[str, ...]
    lines: list[Line]

    @classmethod
    def find(cls, folder: Path) -> Corpus:
        """Read the conversations in ``folder``, or the small sample of the demo where there are none."""
        files = {folder / name: name in OWNED_BY_SPEAKERS for name in OWNED_BY_SPEAKERS + OWNED_BY_DIALOGUES}
        files = {file: by_speaker for file, by_speaker in files.items() if file.is_file()}
        files = files or {SAMPLE / "flat.jsonl": True}
        lines = [line for file, by_speaker in files.items() for line in _lines(file, by_speaker)]
        return cls(tuple(file.name for file in files), sorted(lines, key=lambda line: line.created_at))

    def rows(self, number: int) -> Iterator[Line]:
        """Yield ``number`` messages; a corpus that is too small comes again, later and from other users."""
        span = self.lines[-1].created_at - self.lines[0].created_at + timedelta(minutes=1)
        for turn in itertools.count():
            later, other = turn * span, f"{turn}:" if turn else ""
            for line in self.lines:
                if number == 0:
                    return
                number -= 1
                yield Line(line.created_at + later, other + line.owner, line.role, line.content)


def load(connection: psycopg.Connection, corpus: Corpus, number: int) -> int:
    """Write ``number`` messages and their users, as revision 0031 has them, and return how many users there are."""
    owners = {owner: user_id(owner) for owner in {line.owner for line in corpus.rows(number)}}
    with connection.transaction(), connection.cursor() as cursor:
        with cursor.copy("COPY public.users (id) FROM STDIN") as copy:
            for user in owners.values():
                copy.write_row((user,))
        with cursor.copy("COPY public.chat_messages (user_id, role, content, created_at) FROM STDIN") as copy:
            for line in corpus.rows(number):
                copy.write_row((owners[line.owner], line.role, line.content, line.created_at))
    return len(owners)


def _lines(file: Path, by_speaker: bool) -> Iterator[Line]:
    """Yield the messages of ``file``; dialogues without a clock start evenly spread, a minute between messages."""
    dialogues = [list(lines) for _, lines in itertools.groupby(read(file), lambda message: message["dialogue_id"])]
    for number, messages in enumerate(dialogues):
        start = BEGIN + (END - BEGIN) * number / len(dialogues)
        for turn, m in enumerate(messages):
            stamp = m.get("created_at")
            at = datetime.fromisoformat(stamp) if stamp else start + timedelta(minutes=turn)
            owner = m["speaker"] if by_speaker else f"{file.name} {number // DIALOGUES_OF_A_USER}"
            content = json.dumps(m["tool_calls"]) if m["content"] is None else m["content"]
            yield Line(at.replace(tzinfo=at.tzinfo or UTC), owner, m["role"], content)
