"""What the command prints, and what becomes of it where it cannot be written: a full disk, a reader that has left."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast

from .engine import terminal


class _UnwritableError(Exception):
    """Standard output took no more. No OSError: Alembic and argparse pass over those, and the command would go on."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.reader_has_left = isinstance(error, BrokenPipeError)


class _Checked:
    """A stream whose failures are told apart from all others."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            with terminal.aside():
                return self._stream.write(text)
        except OSError as error:
            raise _UnwritableError(error) from None

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            raise _UnwritableError(error) from None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def checked_output() -> Iterator[None]:
    """Let the command fail where its output is lost: exit 1 with a message, or as SIGPIPE would end it, 141."""
    before = sys.stdout
    with contextlib.ExitStack() as stack:
        # Python has None where standard output was closed before the start
        stream = before or stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
        sys.stdout = cast(TextIO, _Checked(stream))
        try:
            try:
                yield
            finally:
                sys.stdout.flush()
        except _UnwritableError as error:
            _discard_what_is_left(stream)
            if error.reader_has_left:
                raise SystemExit(141) from None
            print(f"chat-schema: the output could not be written whole: {error}", file=sys.stderr)
            raise SystemExit(1) from None
        finally:
            sys.stdout = before


def _discard_what_is_left(stream: TextIO) -> None:
    """Lead the stream's file elsewhere: Python writes the rest when it ends, and would complain once more."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
