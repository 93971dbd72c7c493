"""What a revision says: its statements, each with its line in the file and the operation that wrote it.

The revision's own function is run as for an offline script, into a buffer. No database is needed and none is reached.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import sqlalchemy as sa
from alembic.config import Config
from alembic.operations import Operations
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import make_url

from alembic import context as alembic_context
from alembic import op

from . import operations  # noqa: F401  registers op.backfill and the rest
from .options import Options
from .statements import Effect, Statement, effects, split


@dataclass(frozen=True)
class Call:
    """An operation of ours that a revision calls, and what it is given."""

    name: str
    arguments: dict[str, Any] = field(hash=False)


@dataclass(frozen=True)
class Step:
    """A statement of a revision.

    ``calls`` are the operations that wrote it, the outermost first; ``conditional`` says that it may not be run;
    ``transaction`` counts the revision's transactions, from 0 on.
    """

    statement: Statement
    line: int
    calls: tuple[Call, ...]
    conditional: bool
    transaction: int

    def by(self, *names: str) -> Call | None:
        """Return the innermost call of one of these operations that wrote it."""
        return next((call for call in reversed(self.calls) if call.name in names), None)

    @property
    def effects(self) -> list[Effect]:
        """What it does to tables."""
        return effects(self.statement)


class _Watch(io.StringIO):
    """Alembic's output buffer, which hears of every statement, and of the operations around it."""

    def __init__(self, file: str) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self._file = file
        self._calls: list[Call] = []
        self._transaction = 0

    @contextlib.contextmanager
    def within(self, name: str, arguments: dict[str, Any]) -> Iterator[None]:
        arguments.pop("operations", None)
        self._calls.append(Call(name, arguments))
        try:
            yield
        finally:
            self._calls.pop()

    def write(self, text: str) -> int:
        self._hear(text, conditional=False)
        return len(text)

    def writes(self, text: str) -> None:
        self._hear(text, conditional=True)

    def _hear(self, text: str, *, conditional: bool) -> None:
        line = self._line()
        for statement in split(text):
            if statement.words in (("BEGIN",), ("COMMIT",)):
                self._transaction += statement.words == ("COMMIT",)
            else:
                calls = tuple(self._calls)
                self.steps.append(Step(statement, line, calls, conditional, self._transaction))

    def _line(self) -> int:
        """Return the line of the revision from which the statement comes, the innermost one."""
        frame = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename != self._file:
            frame = frame.f_back  # type: ignore[assignment]
        return frame.f_lineno if frame is not None else 1


def written(function: Callable[[], Any], options: Options | None = None, **opts: Any) -> list[Step]:
    """Return what ``function``, the ``upgrade`` or ``downgrade`` of a revision, would write into a script.

    Whatever it raises is raised: it may ask a database, and here is none.
    """
    watch = _Watch(function.__code__.co_filename)
    dialect: sa.Dialect = make_url("postgresql+psycopg://").get_dialect()(paramstyle="named")  # type: ignore[call-arg]
    told = logging.getLogger("alembic.runtime.migration")  # each context says that it generates SQL
    before, told.disabled = told.disabled, True
    settings = {"as_sql": True, "literal_binds": True, "output_buffer": watch, "engine_watch": watch, **opts}
    try:
        context = MigrationContext.configure(dialect=dialect, opts={**settings, "engine_options": options or Options()})
    finally:
        told.disabled = before
    environment = EnvironmentContext(Config(), cast("ScriptDirectory", None), as_sql=True)
    environment._migration_context = context
    with _restored(), environment, Operations.context(context):
        function()
    return watch.steps


@contextlib.contextmanager
def _restored() -> Iterator[None]:
    """Give ``alembic.op`` and ``alembic.context`` back to the run that goes on around this one, if there is any."""
    around = [proxy for module in (op, alembic_context) if (proxy := vars(module).get("_proxy")) is not None]
    try:
        yield
    finally:
        for proxy in around:
            proxy._install_proxy()
