"""How a long step tells what it does: a bar on a terminal, plain log lines everywhere else."""

from __future__ import annotations

import logging
import shutil
import sys
import time

from tqdm import tqdm

log = logging.getLogger("alembic.engine")

_LOG_EVERY = 10.0  # seconds between log lines where there is no terminal
_BAR = "{desc} {percentage:3.0f}% |{bar}| {postfix[0]} [{elapsed}<{remaining}]"


class Progress:
    """Report on ``label`` while :meth:`advance` is called; ``total`` and ``done`` are in any unit of work."""

    def __init__(self, label: str, total: int, done: int = 0, unit: str = "rows") -> None:
        self._label, self._total, self._done, self._unit = label, total, done, unit
        self._items = 0
        self._started = self._logged = time.monotonic()
        self._first = done
        self._bar = None
        if sys.stderr.isatty():
            screen = shutil.get_terminal_size()  # a container's can say 0 by 0: this takes 80 by 24, tqdm shows nothing
            size = {"ncols": screen.columns - 1, "nrows": screen.lines}
            self._bar = tqdm(desc=label, total=max(total, 1), initial=done, bar_format=_BAR, postfix=[""], **size)

    @property
    def percent(self) -> int:
        """How much of the whole is done, 0 to 100, and 100 only when all of it is."""
        return 100 * min(self._done, self._total) // self._total if self._total else 100

    def advance(self, work: int, items: int) -> None:
        """Say that ``work`` units of the total were done and ``items`` rows changed by it."""
        self._done += work
        self._items += items
        now = time.monotonic()
        said = f"{self._items:,} {self._unit}, {self._items / max(now - self._started, 1e-9):,.0f}/s"
        if self._bar is not None:
            self._bar.postfix[0] = said
            self._bar.update(work)
        elif now - self._logged >= _LOG_EVERY:
            self._logged = now
            pace = (self._done - self._first) / max(now - self._started, 1e-9)
            left = max(self._total - self._done, 0) / max(pace, 1e-9)
            log.info("%s: %d %%, %s, %.0f s left", self._label, self.percent, said, left)

    def say(self, text: str) -> None:
        """Say something else meanwhile."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            log.info("%s", text)

    def close(self) -> None:
        """End the report; off a terminal with one line that sums it up."""
        if self._bar is not None:
            self._bar.close()
        else:
            log.info("%s: %d %%, %s %s", self._label, self.percent, f"{self._items:,}", self._unit)
