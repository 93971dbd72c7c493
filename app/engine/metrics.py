"""A file for Prometheus: what node_exporter's textfile collector, or any other that reads files, picks up."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alembic.util import CommandError

log = logging.getLogger("alembic.engine")

_NUMBERS = {
    "percent": ("migration_backfill_done_ratio", "Share of the backfill that is done, 0 to 1."),
    "rows": ("migration_backfill_rows", "Rows that this run has changed in the backfill."),
    "rate": ("migration_backfill_rows_per_second", "Rows changed per second, of the last half minute."),
    "seconds_left": ("migration_backfill_left_seconds", "Estimated time until the end of the backfill."),
}


class Metrics:
    """Write the status of a run into ``file``, which is at each moment one whole text."""

    def __init__(self, file: Path) -> None:
        self._file, self._warned = file, False
        self._begun = {"began": time.time(), "revisions_done": 0}
        try:
            self._replace(_text(self._begun, ended=True, succeeded=False))  # until the first revision is near
        except OSError as error:
            raise CommandError(
                f"-x metrics={file} cannot be written ({error.strerror}), so nothing was run. Name a file in a folder "
                "that this login of the machine may write to."
            ) from None

    def had_nothing_to_do(self) -> None:
        """Say that the run has ended well without a revision."""
        self.write(self._begun, ended=True, succeeded=True)

    def write(self, status: Mapping[str, Any], *, ended: bool = False, succeeded: bool = False) -> None:
        """Write ``status``, as :meth:`app.engine.steering.Steering.status` returns it."""
        try:
            self._replace(_text(status, ended=ended, succeeded=succeeded))
        except OSError as error:
            if not self._warned:
                log.warning("The metrics could not be written to %s: %s", self._file, error.strerror)
                self._warned = True

    def _replace(self, text: str) -> None:
        """Write beside it and rename: who reads never sees half a file."""
        if self._file.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        number, name = tempfile.mkstemp(prefix=f".{self._file.name}.", dir=self._file.parent)
        try:
            with open(number, "w", encoding="utf-8") as beside:
                beside.write(text)
                os.fchmod(number, 0o644)  # another login's collector reads it
            os.replace(name, self._file)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise


def _text(status: Mapping[str, Any], *, ended: bool, succeeded: bool) -> str:
    lines: list[str] = []

    def gauge(name: str, about: str, value: float, **labels: str | None) -> None:
        given = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items() if text)
        labelled = f"{name}{{{given}}}" if given else name
        lines.append(f"# HELP {name} {about}\n# TYPE {name} gauge\n{labelled} {value:.15g}")

    gauge("migration_running", "1 while a run is under way.", not ended)
    gauge("migration_begun_timestamp_seconds", "When the run began.", status["began"])
    gauge("migration_written_timestamp_seconds", "When this file was written.", time.time())
    gauge("migration_revisions_done", "Revisions that the run has finished.", status["revisions_done"])
    if ended:
        gauge("migration_succeeded", "1 when the run came to its end without an error.", succeeded)
    else:
        gauge("migration_paused", "1 while the run is paused.", status["state"] == "paused")
        gauge("migration_waiting", "1 while the run waits for something.", status["state"] == "waiting")
        gauge("migration_share_ratio", "Share of the time that a backfill may work.", status["share"] / 100)
    if not ended and status["revision"]:
        gauge(
            "migration_revision_info",
            "The revision that runs.",
            1,
            revision=status["revision"],
            direction=status["direction"],
            phase=status["phase"],
            step=status["step"],
        )
        for key, (name, about) in _NUMBERS.items():
            if status[key] is not None:
                gauge(name, about, status[key] / 100 if key == "percent" else status[key])
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
