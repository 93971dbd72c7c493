"""How a run obeys: it reads what is wished of it four times a second, and lets nothing begin while it is paused.

What must not be under way during a pause is done within :meth:`Steering.work`: a batch, or a revision up to its
backfill. A pause is acknowledged when nothing of the kind is under way, and from then on nothing begins until it is
taken back. It holds no lock and no transaction.

A thread of its own reads and writes the table of wishes, so that a run that is over in half a second makes no table and
opens no further connection. Where it cannot connect, the run goes on as it was last told.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext, RevisionStep
from sqlalchemy.exc import DBAPIError

from .control import FULL, PAUSE, Control, Wish, share
from .metrics import Metrics
from .options import Options
from .progress import Progress
from .project import Project
from .reasons import UsersQuery
from .session import session_settings

log = logging.getLogger("alembic.engine")

_READ_EVERY = 0.25  # seconds
_WRITE_EVERY = 1.0
_NEVER = threading.Event()
_PHASE = re.compile(r"[^_]+_(create|expand|backfill|index|validate|contract)_")


@dataclasses.dataclass(frozen=True)
class Step:
    """A revision that runs: its name and direction, and of its file's name the phase."""

    revision: str
    direction: str
    phase: str
    about: str

    @classmethod
    def of(cls, step: RevisionStep) -> Step:
        """Return what is told of ``step``."""
        script = step.revision
        phase = _PHASE.match(Path(str(script.path)).name)
        direction = "upgrade" if step.is_upgrade else "downgrade"
        return cls(script.revision, direction, phase[1] if phase else "", script.doc or "")


class Steering:
    """What a run was last told, and what it says of itself. Without :meth:`attached` nobody steers it."""

    def __init__(self, metrics: Metrics | None = None) -> None:
        self._changed = threading.Condition()
        self._pause: Wish | None = None
        self._share = FULL
        self._at_work = 0
        self._told: str | None = None
        self._interruptible: set[sa.Connection] = set()
        self._waits: dict[int, str] = {}
        self._metrics = metrics
        self._pid = 0
        self._pids: set[int] = set()
        self._progress: Progress | None = None
        self._began = time.time()
        self._resume = ""
        self.step: Step | None = None
        """The revision that is about to run, runs, or has just ended."""
        self.done = 0
        """Revisions that were finished in this run."""

    @property
    def share(self) -> int:
        """How many percent of the time a backfill may work."""
        return self._share

    @contextlib.contextmanager
    def work(self, stop: threading.Event = _NEVER) -> Iterator[None]:
        """Do what is not under way during a pause; wait for the end of one, or until ``stop``, before it begins."""
        try:
            self._enter(stop)
            yield
        finally:
            self._leave()

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Within :meth:`work`, do something that may be under way during a pause, as sleeping is."""
        self._leave()
        try:
            yield
        except BaseException:
            with self._changed:
                self._at_work += 1
            raise
        self._enter(_NEVER)

    def rest(self, worked: float, least: float, stop: threading.Event) -> None:
        """Rest after a batch of ``worked`` seconds for as long as the throttle says now, at least ``least`` seconds."""
        began = time.monotonic()
        while not stop.is_set():
            left = began + max(least, worked * (FULL / self._share - 1)) - time.monotonic()
            if left <= 0:
                return
            stop.wait(min(left, 0.1))

    @contextlib.contextmanager
    def interruptible(self, connection: sa.Connection) -> Iterator[bool]:
        """Yield whether there is no pause; cancel what ``connection`` runs when one comes."""
        with self._changed:
            self._interruptible.add(connection)
            free = not self.is_paused
        try:
            yield free
        finally:
            with self._changed:
                self._interruptible.discard(connection)

    def waits_for(self, what: str | None) -> None:
        """Say what this thread waits for, None when it waits for nothing any more."""
        if what is None:
            self._waits.pop(threading.get_ident(), None)
        else:
            self._waits[threading.get_ident()] = what

    def sleep(self, seconds: float) -> None:
        """Sleep between two attempts of a revision; a pause makes it longer."""
        with self.aside():
            time.sleep(seconds)

    @property
    def is_paused(self) -> bool:
        """Whether there is a pause now."""
        return self._pause is not None

    def hold(self) -> None:
        """Wait for the end of a pause, where nothing is under way."""
        with self.work():
            pass

    @contextlib.contextmanager
    def revision(self) -> Iterator[None]:
        """Run a revision within it, in a transaction that has begun: so it does not wait for the end of a pause."""
        with self._changed:
            self._at_work += 1
        try:
            yield
            self.done += 1
        finally:
            self._leave()
            self.waits_for(None)

    @contextlib.contextmanager
    def backfill(self, progress: Progress) -> Iterator[None]:
        """Let batches do the work meanwhile; ``progress`` says how far they are."""
        self._progress = progress
        try:
            with self.aside():
                yield
        finally:
            self._progress = None

    @contextlib.contextmanager
    def session(self, pid: int) -> Iterator[int]:
        """Count the server process ``pid`` among those of the run."""
        self._pids.add(pid)
        try:
            yield pid
        finally:
            self._pids.discard(pid)

    @contextlib.contextmanager
    def attached(
        self, connection: sa.Connection, control: Control, options: Options, project: Project
    ) -> Iterator[None]:
        """Obey what others write into ``control`` while entered. No transaction is left open on ``connection``."""
        self._resume = (
            f"DELETE FROM {control.table} WHERE name = '{PAUSE}'"
            if project.command == "alembic"  # which has no command for it
            else f"{project.command} resume"
        )
        self._pid = int(connection.scalar(sa.text("SELECT pg_catalog.pg_backend_pid()")) or 0)
        connection.rollback()
        if options.wait_while:
            with UsersQuery(connection.engine, options, project) as query:
                query.try_out()
        stood = control.stands(connection)
        if stood:
            self.obey(control.read(connection))
            if self.is_paused:  # and says so before anybody can ask
                control.publish(connection, self.status())
        if self._metrics:
            self._metrics.write(self.status())
        reporter = _Reporter(self, connection.engine, control, options, project, stood=stood)
        succeeded = False
        try:
            with reporter:
                yield
                succeeded = True
        finally:
            if self._metrics:
                self._metrics.write(self.status(), ended=True, succeeded=succeeded)

    def obey(self, wishes: dict[str, Wish]) -> None:
        """Take over what is wished."""
        with self._changed:
            before, self._pause = self._pause, wishes.get(PAUSE)
            was, self._share = self._share, share(wishes)
            interrupted = list(self._interruptible) if self._pause else []
            self._changed.notify_all()
        for connection in interrupted:
            driver = cast(Any, connection.connection.driver_connection)
            with contextlib.suppress(Exception):  # it has ended meanwhile
                driver.cancel_safe(timeout=1.0)
        if self._pause is not None and before is None:
            self._say(f"Paused {self._pause}. It waits, without a lock or a transaction, until `{self._resume}`.")
        elif self._pause is None and before is not None:
            self._say("Resumed.")
        if was != self._share:
            self._say(f"Backfills work {self._share} % of the time from now on.")

    def write_metrics(self) -> None:
        """Write the file for Prometheus, where one is asked for."""
        if self._metrics:
            self._metrics.write(self.status())

    def named(self) -> dict[str, str]:
        """Return the names of what runs, for a line of the log."""
        step, progress = self.step, self._progress
        names = {"revision": step.revision, "direction": step.direction, "phase": step.phase} if step else {}
        return names | ({"step": progress.label} if progress else {})

    def status(self) -> dict[str, Any]:
        """Return what is published of the run."""
        step, progress = self.step, self._progress
        with self._changed:
            pause, idle = self._pause, not self._at_work
        waits = "; ".join(dict.fromkeys(list(self._waits.values()))) or None
        held = pause is not None and idle
        return {
            "pid": self._pid,
            "pids": [self._pid, *sorted(self._pids)],
            "began": self._began,
            "state": "paused" if held else "waiting" if waits else "running",
            "acknowledged": pause.token if pause is not None and held else None,
            "share": self._share,
            "revisions_done": self.done,
            "revision": step.revision if step else None,
            "direction": step.direction if step else None,
            "phase": step.phase if step else None,
            "about": step.about if step else None,
            "step": progress.label if progress else None,
            "percent": progress.percent if progress else None,
            "rows": progress.items if progress else None,
            "rate": round(progress.rate, 1) if progress else None,
            "seconds_left": _rounded(progress.seconds_left) if progress else None,
            "waits_for": waits,
        }

    def _say(self, text: str) -> None:
        progress = self._progress
        if progress is not None:
            progress.say(text)
        else:
            log.info("%s", text)

    def _enter(self, stop: threading.Event) -> None:
        with self._changed:
            try:
                while self._pause is not None and not stop.is_set():
                    self._changed.wait(0.1)  # now and then: nobody notifies of a stop
            finally:
                self._at_work += 1

    def _leave(self) -> None:
        with self._changed:
            self._at_work -= 1
            self._changed.notify_all()


class _Reporter:
    """The thread that reads the wishes and publishes the status."""

    def __init__(
        self,
        steering: Steering,
        engine: sa.Engine,
        control: Control,
        options: Options,
        project: Project,
        *,
        stood: bool,
    ) -> None:
        self._steering, self._engine, self._control = steering, engine, control
        self._options, self._project = options, project
        self._stands = stood
        self._end = threading.Event()
        self._failed = False
        self._thread = threading.Thread(target=self._run, name="steering", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        over = self._end.wait(2 * _READ_EVERY)
        while not over:
            try:
                self._report()
                over = True
            except DBAPIError as error:
                if not self._failed:
                    reason = str(error.orig).strip().partition("\n")[0]
                    log.warning("The run cannot be steered at the moment: %s", reason)
                    self._failed = True
                over = self._end.wait(_WRITE_EVERY)
        if self._stands:
            with contextlib.suppress(DBAPIError), self._connected() as connection:
                self._control.leave(connection, at_base=self._is_at_base(connection))

    def _report(self) -> None:
        with self._connected() as connection:
            written, said = 0.0, None
            while True:
                self._steering.obey(self._control.read(connection))
                status = self._steering.status()
                now = time.monotonic()
                urgent = (status["state"], status["acknowledged"], status["revision"])
                if urgent != said or now - written >= _WRITE_EVERY:
                    self._control.publish(connection, status)
                    self._stands = True
                    self._steering.write_metrics()
                    written, said = now, urgent
                self._failed = False
                if self._end.wait(_READ_EVERY):
                    return

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sa.Connection]:
        with (
            self._engine.connect() as connection,
            session_settings(connection, self._options, self._project),
        ):
            connection.exec_driver_sql("SET synchronous_commit = off")
            connection.commit()
            yield connection

    def _is_at_base(self, connection: sa.Connection) -> bool:
        """Tell whether nothing of the chain is left, so that nothing of ours may be left either."""
        versions = self._control.versions
        table = connection.dialect.identifier_preparer.format_table(sa.table(versions.name, schema=versions.schema))
        empty = not connection.scalar(sa.text(f"SELECT EXISTS (SELECT FROM {table})"))
        connection.rollback()
        return empty


def steering_of(context: MigrationContext) -> Steering:
    """Return what steers this run; where env.py hands over nothing, something that nobody steers."""
    return cast(Steering, context.opts.setdefault("engine_steering", None) or _nobodys(context))


def _nobodys(context: MigrationContext) -> Steering:
    context.opts["engine_steering"] = steering = Steering()
    return steering


def _rounded(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds)
