"""What somebody at a terminal sees of a command: a log that is easy to read, colour, and that a quiet step still works.

Where standard error is no terminal, the log keeps its plain lines, and nothing here writes anything.
"""

from __future__ import annotations

import contextlib
import logging
import re
import shutil
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from typing import TextIO

_QUIET = 1.0  # seconds without output until it is shown that the command works
_REVISION = re.compile(r"Running (?:(upgrade)|downgrade|stamp_revision) +(\S*) -> ([^,\s]*)(?:, )?(.*)", re.DOTALL)
_WHEEL = "-\\|/"
_HEADS = {"Database": "bold", "Done": "bold green", "Next": "bold"}
_NOISE = ("alembic.runtime.migration", "alembic.runtime.plugins", "alembic.autogenerate")


def width() -> int:
    """Return how many columns the terminal has, 80 where none says."""
    return max(20, shutil.get_terminal_size((80, 24)).columns)


def filled(text: str, first: str, others: str) -> str:
    """Return ``text`` in lines as wide as the terminal; a word that is longer, as an address, is not broken."""
    return textwrap.fill(
        text,
        width(),
        initial_indent=first,
        subsequent_indent=others,
        break_on_hyphens=False,
        break_long_words=False,
    )


def coloured(text: str, style: str, stream: TextIO) -> str:
    """Return ``text`` in a style of rich, as ``bold green``; as it is where ``stream`` is to show no colour."""
    if not stream.isatty():
        return text
    from rich.console import Console  # takes a tenth of a second, which a command without a terminal does not spend
    from rich.text import Text

    console = Console(file=stream)
    if console.no_color or console.color_system is None:
        return text
    with console.capture() as captured:
        console.print(Text(text, style), end="", soft_wrap=True)
    return captured.get()


class _Working:
    """A line at the end of the output that says what the command does and since when, while it says nothing else."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._text = ""
        self._since = self._last = time.monotonic()
        self._drawn = 0
        self._held = 0
        self._ended: threading.Event | None = None

    @contextlib.contextmanager
    def running(self, text: str) -> Iterator[None]:
        """Watch while the body runs; on a terminal alone."""
        if self._ended is not None or not sys.stderr.isatty():
            yield
            return
        ended = self._ended = threading.Event()
        self.says(text)
        threading.Thread(target=self._watch, args=(ended,), daemon=True).start()
        try:
            yield
        finally:
            ended.set()
            with self._lock:
                self._erase()
                self._ended = None

    def says(self, text: str) -> None:
        """Say what is done from now on."""
        with self._lock:
            self._text = text
            self._since = self._last = time.monotonic()

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Take the line, and a bar, away while something else is written."""
        tqdm = sys.modules.get("tqdm")  # loaded where there can be a bar
        with self._lock, tqdm.tqdm.external_write_mode(file=sys.stderr) if tqdm else contextlib.nullcontext():
            self._erase()
            yield
            self._last = time.monotonic()

    def hold(self) -> None:
        """Leave the place to a bar until :meth:`release`."""
        with self._lock:
            self._erase()
            self._held += 1

    def release(self) -> None:
        """Take the place back."""
        with self._lock:
            self._held -= 1
            self._since = self._last = time.monotonic()

    def _watch(self, ended: threading.Event) -> None:
        while not ended.wait(0.25):
            with self._lock:
                if self._held or ended.is_set() or time.monotonic() - self._last < _QUIET:
                    continue
                with contextlib.suppress(OSError, ValueError):
                    self._draw()

    def _draw(self) -> None:
        seconds = int(time.monotonic() - self._since)
        since = f" {seconds // 60}:{seconds % 60:02}"
        turn = _WHEEL[int(time.monotonic() * 4) % len(_WHEEL)]
        line = _shortened(f"{turn} {self._text}", width() - 1 - len(since)) + since
        sys.stderr.write("\r" + line.ljust(self._drawn))
        sys.stderr.flush()
        self._drawn = len(line)

    def _erase(self) -> None:
        if self._drawn:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.write("\r" + " " * self._drawn + "\r")
                sys.stderr.flush()
            self._drawn = 0


_working = _Working()
working, doing, aside = _working.running, _working.says, _working.aside
hold, release = _working.hold, _working.release


def _shortened(text: str, columns: int) -> str:
    one_line = " ".join(text.split())
    return one_line if len(one_line) <= columns else one_line[: max(columns - 3, 0)] + "..."


class Handler(logging.StreamHandler[TextIO]):
    """Writes a log for a reader where there is a terminal, and in the form of its formatter everywhere else."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, and what it says of a step beside the line that tells what is done."""
        try:
            told = self._told(record) if self._is_read() else None
        except Exception:  # as every handler does
            self.handleError(record)
            return
        if told is None:
            with aside():
                super().emit(record)
            return
        if told:
            with aside(), contextlib.suppress(OSError):
                self.stream.write(told + "\n")
                self.stream.flush()

    def _is_read(self) -> bool:
        return self.stream.isatty() and type(self.formatter) is logging.Formatter

    def _told(self, record: logging.LogRecord) -> str | None:
        """Return how it reads on a terminal; nothing for what only says how Alembic goes about it."""
        message = record.getMessage()
        if found := _REVISION.match(message):
            upgrade, below, above, about = found.groups()
            revision = (above if upgrade else below) or "base"
            about = " ".join((about if upgrade else f"undo: {about}").split())
            doing(f"{revision}  {about}")
            return self._line(f"{revision}  ", "cyan", about)
        if record.levelno >= logging.WARNING:
            style = "red" if record.levelno >= logging.ERROR else "yellow"
            return self._line(f"{record.levelname.lower()}: ", style, message)
        if record.name.startswith(_NOISE):
            return ""
        said, _, following = message.partition(" Next: ")
        lines = [self._begun(line) for line in said.splitlines()]
        return "\n".join([*lines, *([self._begun(f"Next: {following}")] if following else [])])

    def _begun(self, line: str) -> str:
        """Fill a line; a word with a colon that commands begin a line with is set off."""
        head, _, rest = line.partition(": ")
        if rest and head in _HEADS:
            return self._line(f"{head}: ", _HEADS[head], rest)
        return filled(line, "", "  ")

    def _line(self, head: str, style: str, text: str) -> str:
        """Return ``text`` beside ``head``."""
        word, blank = head.rstrip(), " " * len(head)
        return coloured(word, style, self.stream) + filled(text, blank, blank)[len(word) :]
