"""The backfill: a table walked in TID ranges, each range its own commit, at a pace the application does not notice.

A TID range reads each page once and needs no index and no sort; a loop by predicate reads the finished rows again and
again. Rows that come or change behind the walk are the write trigger's, which a revision creates before it backfills.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
import time
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

import sqlalchemy as sa
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

from .blockers import BlockerWatch
from .control import FULL
from .lock_retry import backend_pid, is_lock_error, pauses
from .options import Options
from .positions import Positions
from .progress import Progress
from .project import Project
from .reasons import Reasons
from .replicas import replicas_are_hidden
from .session import session_settings
from .steering import Steering
from .unfinished import StoppedError, StopsBeforeBackfillError

log = logging.getLogger("alembic.engine")

_SMALLEST_TUPLE = 28  # bytes of a page that a row takes at least, its line pointer with it
_FIRST_BATCH = 16  # rows: each can be cheap, or a session with a thousand messages
_LARGEST_BATCH = 16384  # pages
_VACUUM_FROM_PAGES = 1024  # a smaller table is not worth a vacuum on the way, nor more than one pass
_PARTS = 20  # of a table that is walked in several passes: each part has all of them before the next part is begun
_SWEEPS = 10
_LOOK_EVERY = 1.0  # seconds between two looks at what else goes on: who is at work, how far the replicas are
_GIVE_WAY = 4  # how many times shorter a batch is while others are at work; then it is followed by as long a rest
# What this login may not see of a session could be anything, and counts as work.
_OTHERS = sa.text(
    """
    SELECT EXISTS (
      SELECT FROM pg_catalog.pg_stat_activity AS a
      WHERE a.datname = pg_catalog.current_database()
        AND coalesce(a.backend_type, 'client backend') = 'client backend'
        AND a.application_name <> pg_catalog.current_setting('application_name')
        AND coalesce(a.state <> 'idle' OR a.state_change > pg_catalog.now() - interval '1 second', TRUE)
    )
    """
)
# The plans of key checks and functions are kept for the session: one made while the table they look in was small would
# read all of it for every row once it has grown. No batch is worth compiling. A crash of the server may take the last
# batches with it, for their position goes with them; so their commits need not wait for the disk, nor workers for each
# other's. Recording the revision waits for all of them.
_SETTINGS = "SET enable_seqscan = off; SET jit = off; SET synchronous_commit = off"


@dataclasses.dataclass(frozen=True)
class Backfill:
    """What to do to every pending row of a table.

    ``statement`` holds ``{batch}`` where the range of the rows ``alias`` goes and leaves rows alone that are not
    pending, so that it can be run again; ``pending`` is a condition on ``alias`` that no row meets in the end.

    With several ``passes`` a page's rows are not all updated at once. Those of a full page would all have to go
    elsewhere, and into every index anew. So the first pass moves a share of them, and each of the others finds the room
    that the one before has left: a row that is updated within its page (HOT) is not written to the indexes, if no
    column of theirs changes.
    """

    name: str
    table: str
    alias: str
    statement: str
    pending: str
    passes: int = 1

    def batch(self, first: str, after: str, turn: int = 0) -> str:
        """Return the statement for the rows from TID ``first`` (included) to ``after`` (excluded), both as SQL.

        ``turn`` says which of the passes it is for, from 0 on: the last one takes all that is left.
        """
        ctid = f"{self.alias}.ctid"
        share = "" if turn == self.passes - 1 else f" AND abs(pg_catalog.hashtid({ctid}) % {self.passes}) = {turn}"
        return self.statement.replace("{batch}", f"{ctid} >= {first} AND {ctid} < {after}{share}")

    def whole(self) -> str:
        """Return the statement for all rows at once, as an offline script runs it."""
        return self.statement.replace("{batch}", "TRUE")

    def any_pending(self) -> str:
        """Return the query that tells whether a row is left."""
        return f"SELECT EXISTS (SELECT FROM {self.table} AS {self.alias} WHERE {self.pending})"


def run(
    engine: sa.Engine,
    backfill: Backfill,
    options: Options,
    positions: Positions,
    project: Project,
    steering: Steering,
) -> int:
    """Run ``backfill`` to its end and return how many rows it changed.

    Goes on where a killed run stopped. Raises :class:`alembic.util.CommandError` when it was interrupted (what was
    committed stays), when a client keeps a row locked for too long, or when rows stay pending after every sweep.
    """
    changed = 0
    with engine.connect() as control, session_settings(control, options, project):
        positions.make(control)
        for sweep in range(_SWEEPS):
            if sweep and not control.scalar(sa.text(backfill.any_pending())):
                break
            if not sweep and replicas_are_hidden(control):
                log.info("%s: cannot see how far the replicas are (GRANT pg_monitor), so waits for none", backfill.name)
            control.rollback()
            changed += _Walk(engine, control, backfill, options, positions, project, steering, not sweep).run()
        else:
            raise CommandError(
                f"{backfill.name}: rows of {backfill.table} still wait for their backfill after {_SWEEPS} sweeps. "
                "A trigger that fills new rows is missing or disabled: "
                + (f"run `{project.verify}` to see which, enable it" if project.verify else "create or enable it")
                + ", then run the upgrade again."
            )
        control.rollback()
        positions.finish(control, backfill.name)
    return changed


def refuse_rows(connection: sa.Connection, backfill: Backfill, project: Project) -> None:
    """Raise :class:`StopsBeforeBackfillError` where ``backfill`` has rows to do; an empty table does not stop a run."""
    if connection.scalar(sa.text(backfill.any_pending())):
        raise StopsBeforeBackfillError(
            f"Stopped before the backfill {backfill.name}, as -x stop-before-backfill=yes asks. Until another "
            "run goes on, clients read and write as they do now; what needs the new form has to wait. Run "
            f"`{project.command} upgrade head` as a job, without the option: it does the backfill and all after it."
        )


class _Walk:
    """One walk over the table, by one or more workers that share this object.

    A position is a number for a TID: each page has as many as it could hold rows. A worker takes one part of the table
    after the other, and makes all passes over it: by the second one the other workers' batches that were running in
    the first have ended, and with them the need to keep the old versions of rows.
    """

    def __init__(
        self,
        engine: sa.Engine,
        control: sa.Connection,
        backfill: Backfill,
        options: Options,
        positions: Positions,
        project: Project,
        steering: Steering,
        resume: bool,
    ) -> None:
        self._engine, self._control, self._backfill, self._options = engine, control, backfill, options
        self._positions, self._project, self._steering = positions, project, steering
        self._lock = threading.Lock()
        self._reasons = Reasons(engine, backfill.table, options, project)
        self._gives_way = False
        # while others are at work, or somebody throttles it: one worker at a time, and its rest is everybody's
        self._alone = threading.Lock()
        self._look_lock = threading.Lock()
        self._look_at = time.monotonic()
        self._stop = threading.Event()
        self._running: set[int] = set()
        self._changed = 0
        size = control.scalar(
            sa.text("SELECT pg_catalog.pg_relation_size(CAST(:name AS regclass))"), {"name": backfill.table}
        )
        block = int(control.scalar(sa.text("SELECT current_setting('block_size')")) or 0)
        pages = int(size or 0) // block
        self._slots = block // _SMALLEST_TUPLE + 1  # TIDs of a page begin at 1
        self._end = pages * self._slots
        self._next = self._start_position(resume)
        large = pages >= _VACUUM_FROM_PAGES
        self._turns = range(0 if large else backfill.passes - 1, backfill.passes)
        self._part = self._end // _PARTS if len(self._turns) > 1 else 0  # at least a batch
        self._vacuum_step = self._end // 10 if large else self._end + 1
        self._vacuum_at = self._next + self._vacuum_step
        turns = len(self._turns)
        done = turns * min(self._next, self._end)
        self._progress = Progress(backfill.name, turns * self._end, done, plain=options.log_format != "plain")

    def run(self) -> int:
        with (
            contextlib.closing(self._reasons),
            self._steering.backfill(self._progress),
            ThreadPoolExecutor(self._options.backfill_workers, "backfill") as pool,
        ):
            try:
                workers = [pool.submit(self._work) for _ in range(self._options.backfill_workers)]
                wait(workers, return_when=FIRST_EXCEPTION)
            except KeyboardInterrupt:
                self._stop.set()
                pool.shutdown()
                raise StoppedError(f"{self._backfill.name} stopped at {self._progress.percent} %.") from None
            finally:
                self._stop.set()
                self._progress.close()
            for worker in workers:
                worker.result()
        return self._changed

    def _start_position(self, resume: bool) -> int:
        start = self._positions.begin(self._control, self._backfill.name, self._end, resume=resume)
        if start:
            log.info("%s: goes on at %d %%", self._backfill.name, 100 * start // self._end)
        return start

    def _work(self) -> None:
        size, rows = _FIRST_BATCH, 1
        with (
            self._engine.connect().execution_options(no_parameters=True, isolation_level="AUTOCOMMIT") as connection,
            session_settings(connection, self._options, self._project),
            contextlib.ExitStack() as stack,
        ):
            stack.callback(self._steering.waits_for, None)
            connection.exec_driver_sql(_SETTINGS)
            asked = time.monotonic()
            pid = stack.enter_context(self._steering.session(backend_pid(connection)))
            way = time.monotonic() - asked
            while not self._stop.is_set():
                with self._lock:
                    first = self._next
                    if first >= self._end:
                        return
                    after = min(first + max(self._part, self._length(first, size, rows)), self._end)
                    self._next = after
                    self._running.add(first)
                try:
                    for turn in self._turns:
                        size, rows = self._pass(connection, pid, way, first, after, turn, size)
                except BaseException:
                    self._stop.set()
                    raise
                if self._stop.is_set():
                    return  # perhaps in the middle of the part: it stays marked, so that no position passes it
                with self._lock:
                    self._running.discard(first)
                    vacuum = after >= self._vacuum_at
                    if vacuum:
                        self._vacuum_at = after + self._vacuum_step
                if vacuum:
                    self._vacuum()

    def _length(self, at: int, size: int, rows: int) -> int:
        """Return how many positions a batch takes: to the end of its page where the one before found no ``rows``."""
        return size if rows else max(size, self._slots - at % self._slots)

    def _pass(
        self, connection: sa.Connection, pid: int, way: float, first: int, after: int, turn: int, size: int
    ) -> tuple[int, int]:
        """Run positions ``first`` to ``after`` in batches, smaller ones where locks are in the way.

        ``size`` is that of the first batch, in positions; ``way`` what the network takes of each, in seconds. Return
        the size for the next, and how many rows the last one changed.
        """
        at, losses, rows = first, 0, 1
        while at < after and not self._stop.is_set():
            if not losses:
                patience, deadline = pauses(), time.monotonic() + self._options.lock_retry_for
            self._look_around(connection)
            if not losses:
                piece = self._length(at, size, rows)
                piece = -(-(after - at) // -(-(after - at) // piece))  # the rest in equal batches, both rounded up
            upto = min(at + piece, after)
            watch = BlockerWatch(self._engine, pid, self._options.lock_timeout / 4)
            try:
                # the second loss at one place is worth a look
                looking = watch if losses else contextlib.nullcontext()
                done = self._batch(connection, first, at, upto, turn, looking)
            except DBAPIError as error:
                if not is_lock_error(error):
                    raise
                losses += 1
                if losses > 1:
                    self._tell(watch, give_up=time.monotonic() > deadline)
                # A client holds one of these rows. Waiting longer would make others wait for the rows we hold.
                piece = max((upto - at) // 4, 1)
                self._stop.wait(next(patience))
                continue
            if done is None:
                break
            if losses > 1:
                self._steering.waits_for(None)
            losses, (rows, elapsed) = 0, done
            with self._lock:
                self._changed += rows
                self._progress.advance(upto - at, rows)
            if rows or upto - at <= size:  # not from the empty rest of a page
                batch_time = self._options.batch_time / (_GIVE_WAY if self._gives_way else 1)
                fits = int((upto - at) * batch_time / max(elapsed - way, 1e-4))
                size = min(max(fits, size // 5, 1), 2 * size, _LARGEST_BATCH * self._slots)
            at = upto
        return size, rows

    def _tell(self, watch: BlockerWatch, *, give_up: bool) -> None:
        if give_up:
            raise CommandError(
                f"{self._backfill.name} stopped at {self._progress.percent} %: a row was locked for "
                f"{self._options.lock_retry_for:g} s, last by {watch.describe()}.\nEnd that transaction "
                "(SELECT pg_terminate_backend(pid);) or wait for it, then run the command again."
            )
        self._steering.waits_for(f"a row locked by {watch.describe()}")
        self._progress.say(f"{self._backfill.name}: waits for a row locked by {watch.describe()}")

    def _look_around(self, connection: sa.Connection) -> None:
        """See whether others are at work; hold all workers while there is a reason to wait."""
        with self._look_lock:
            said = ""
            while time.monotonic() >= self._look_at and not self._stop.is_set():
                self._gives_way = not self._options.full_speed and bool(connection.scalar(_OTHERS))
                reason = self._reasons.look(connection)
                self._look_at = time.monotonic() + _LOOK_EVERY
                if reason is None:
                    break
                self._steering.waits_for(reason.text)
                if said != reason.kind:
                    self._progress.say(f"{self._backfill.name}: waits for {reason.text}")
                    said = reason.kind
                self._stop.wait(_LOOK_EVERY)
            if said:
                self._steering.waits_for(None)

    def _batch(
        self,
        connection: sa.Connection,
        first: int,
        at: int,
        upto: int,
        turn: int,
        looking: contextlib.AbstractContextManager[object],
    ) -> tuple[int, float] | None:
        """Run one batch, ``looking`` meanwhile; rest as long where others are at work, or longer where it is throttled.

        Return how many rows it changed, and the seconds it took with the way there and back; None when it was told to
        stop before it began.

        Sent together, the statements are one transaction and one round trip.
        """
        with self._lock:
            others = self._running - {first}
        position = min([upto if turn == self._turns[-1] else first, *others])
        with self._alone if self._gives_way or self._steering.share < FULL else contextlib.nullcontext():
            with self._steering.work(self._stop):
                if self._stop.is_set():
                    return None
                with looking:
                    began = time.monotonic()
                    done = connection.exec_driver_sql(
                        f"{self._backfill.batch(self._tid(at), self._tid(upto), turn)};\n"
                        + self._positions.advance(self._backfill.name, position)
                    )
                    elapsed = time.monotonic() - began
            self._steering.rest(elapsed, elapsed if self._gives_way else 0, self._stop)
        return int(done.rowcount), elapsed

    def _tid(self, position: int) -> str:
        return f"'({position // self._slots},{position % self._slots})'::tid"

    def _vacuum(self) -> None:
        """Give the space of the old row versions back to the batches that come, so that the table does not double."""
        with contextlib.suppress(DBAPIError), self._engine.connect() as vacuum:
            vacuum = vacuum.execution_options(isolation_level="AUTOCOMMIT")
            with (
                session_settings(vacuum, self._options, self._project),
                self._steering.interruptible(vacuum) as is_free,
            ):
                # TRUNCATE would take AccessExclusive at the table's end; a lock held by autovacuum is not waited for
                if is_free:
                    vacuum.exec_driver_sql(f"VACUUM (TRUNCATE false, SKIP_LOCKED) {self._backfill.table}")
