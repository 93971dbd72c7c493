"""A terminal of the test's own, in which a program runs as somebody at a keyboard has it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from types import TracebackType

from tests.live.command_line import PATIENCE
from tests.postgres_binaries import ROOT

_COLOURS = re.compile(r"\x1b\[[\d;]*m")


class Terminal:
    """Runs ``command`` in a window of so many columns; ``said`` is every byte that came out of it, as text."""

    def __init__(self, command: Sequence[str], columns: int = 80, environment: Mapping[str, str] | None = None) -> None:
        self._here, there = pty.openpty()
        fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        without = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**without, "TERM": "xterm-256color", **(environment or {})},
            stdin=there,
            stdout=there,
            stderr=there,
            start_new_session=True,
        )
        os.close(there)
        self._bytes = b""

    @property
    def said(self) -> str:
        return self._bytes.decode(errors="replace").replace("\r\n", "\n")

    @property
    def shown(self) -> str:
        """What was said, without its colours."""
        return _COLOURS.sub("", self.said)

    def reads(self, text: str) -> None:
        """Wait until ``text`` has come."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.shown:
            assert time.monotonic() < deadline, self.said
            assert self._goes_on(), self.said

    def types(self, text: str) -> None:
        os.write(self._here, text.encode())

    def ends(self) -> int:
        """Wait for the end; return the exit code."""
        while self._goes_on():
            pass
        return self.process.wait(PATIENCE)

    def _goes_on(self) -> bool:
        if not select.select([self._here], [], [], PATIENCE)[0]:
            raise TimeoutError(self.said)
        with contextlib.suppress(OSError):  # how Linux tells that nobody holds the other end any more
            if part := os.read(self._here, 1 << 16):
                self._bytes += part
                return True
        return False

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._here)
