"""How a long step tells what it does: a bar on a terminal, plain log lines everywhere else."""

from __future__ import annotations

import collections
import logging
import shutil
import sys
import time

from tqdm import tqdm

from . import terminal

log = logging.getLogger("alembic.engine")

_LOG_EVERY = 10.0  # seconds between log lines where there is no terminal
_LATELY = 30.0  # seconds over which the rate is told to others: a pause or a throttle shows in it
_BAR = "{desc} {percentage:3.0f}% |{bar}| {postfix[0]} [{elapsed}<{remaining}]"


class Progress:
    """Report on :attr:`label` while :meth:`advance` is called; ``total`` and ``done`` are in any unit of work."""

    def __init__(self, label: str, total: int, done: int = 0, unit: str = "rows", *, plain: bool = False) -> None:
        self.label = label
        self._total, self._done, self._unit = total, done, unit
        self.items = 0
        self._started = self._logged = time.monotonic()
        self._first = done
        self._lately: collections.deque[tuple[float, int, int]] = collections.deque([(self._started, done, 0)])
        self._bar = None
        if sys.stderr.isatty() and not plain and total:  # a bar of nothing would stop at 0 %
            screen = shutil.get_terminal_size()  # a container's can say 0 by 0: this takes 80 by 24, tqdm shows nothing
            size = {"ncols": screen.columns - 1, "nrows": screen.lines}
            terminal.hold()
            self._bar = tqdm(desc=label, total=max(total, 1), initial=done, bar_format=_BAR, postfix=[""], **size)

    @property
    def percent(self) -> int:
        """How much of the whole is done, 0 to 100, and 100 only when all of it is."""
        return 100 * min(self._done, self._total) // self._total if self._total else 100

    @property
    def rate(self) -> float:
        """How many items a second lately."""
        began, _, items = self._lately[0]
        return (self.items - items) / max(time.monotonic() - began, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """How long the rest will take at the pace of late, None while there is none."""
        began, done, _ = self._lately[0]
        pace = (self._done - done) / max(time.monotonic() - began, 1e-9)
        return max(self._total - self._done, 0) / pace if pace > 0 else None

    def advance(self, work: int, items: int) -> None:
        """Say that ``work`` units of the total were done and ``items`` rows changed by it."""
        self._done += work
        self.items += items
        now = time.monotonic()
        if now - self._lately[-1][0] >= 1:
            self._lately.append((now, self._done, self.items))
        while len(self._lately) > 2 and now - self._lately[0][0] > _LATELY:
            self._lately.popleft()
        said = f"{self.items:,} {self._unit}, {self.items / max(now - self._started, 1e-9):,.0f}/s"
        if self._bar is not None:
            self._bar.postfix[0] = said
            self._bar.update(work)
        elif now - self._logged >= _LOG_EVERY:
            self._logged = now
            pace = (self._done - self._first) / max(now - self._started, 1e-9)
            left = max(self._total - self._done, 0) / max(pace, 1e-9)
            log.info("%s: %d %%, %s, %.0f s left", self.label, self.percent, said, left, extra=self._figures())

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
            terminal.release()
        else:
            said = f"{self.items:,} {self._unit}"
            log.info("%s: %d %%, %s", self.label, self.percent, said, extra=self._figures())

    def _figures(self) -> dict[str, float | None]:
        """Return what a log of JSON lines holds beside the text."""
        return {
            "percent": self.percent,
            self._unit: self.items,
            "rate": round(self.rate, 1),
            "seconds_left": self.seconds_left if self.seconds_left is None else round(self.seconds_left),
        }
