"""A process that runs beside a measurement and tells what it saw when the measurement is over."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from types import TracebackType
from typing import Any


class Companion:
    """While entered, ``work(parent, *arguments)`` runs in a process of its own, so that our Python does not slow it.

    ``work`` sends anything when it is ready, goes on until the pipe ``parent`` has something for it, and then sends
    what it saw, which is :attr:`result` afterwards. Raises EOFError when it died.
    """

    def __init__(self, work: Callable[..., None], *arguments: object) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.result: Any = None
        self._here, self._there = spawn.Pipe()
        self._process = spawn.Process(target=work, args=(self._there, *arguments), daemon=True)

    def __enter__(self) -> Companion:
        self._process.start()
        self._there.close()  # so that we see the end of a companion that dies
        self._here.recv()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._here.send("stop")
        self.result = self._here.recv()
        self._process.join()
