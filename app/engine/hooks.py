"""What a team runs before and after each revision: to tell a dashboard, to wait for an approval, to warm a cache.

In ``env.py``, functions that take the :class:`~.steering.Step`::

    run(context, ..., engine_before_revision=announce, engine_after_revision=[announce, check])

From outside, a command for the shell: ``-x before-revision='notify "$MIGRATION_REVISION"'``. It finds what runs in
``MIGRATION_REVISION``, ``MIGRATION_DIRECTION``, ``MIGRATION_PHASE`` and ``MIGRATION_ABOUT``.

No transaction is open and no lock on a table is held meanwhile. Where a hook fails the run ends there: in front of the
revision, or behind it. What was finished stays, and the next run goes on.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError

from . import terminal
from .options import Options
from .steering import Step

Hook = Callable[[Step], object]


class Hooks:
    """The hooks of one run."""

    def __init__(self, before: Sequence[Hook], after: Sequence[Hook]) -> None:
        self._before, self._after = before, after

    @classmethod
    def of(cls, context: MigrationContext, options: Options) -> Hooks:
        """Return those that ``env.py`` and ``-x`` name, the first before the second."""
        return cls(
            [*_listed(context.opts.get("engine_before_revision")), *_command(options.before_revision)],
            [*_listed(context.opts.get("engine_after_revision")), *_command(options.after_revision)],
        )

    def __bool__(self) -> bool:
        return bool(self._before or self._after)

    def before(self, step: Step) -> None:
        """Raise :class:`alembic.util.CommandError` when a hook fails: the revision does not begin then."""
        _run(self._before, step, "before", f"it was not begun, and what ended before revision {step.revision} stays")

    def after(self, step: Step) -> None:
        """Raise :class:`alembic.util.CommandError` when a hook fails: nothing behind the revision begins then."""
        _run(
            self._after,
            step,
            "after",
            f"the {step.direction} of revision {step.revision} stays, no other was begun",
        )


def _run(hooks: Sequence[Hook], step: Step, when: str, stands: str) -> None:
    for hook in hooks:
        try:
            hook(step)
        except Exception as error:
            told = str(error).strip() or type(error).__name__
            raise CommandError(
                f"The hook {when} revision {step.revision} failed: {told}\nSo the run ends: {stands}. Mend the hook or "
                "what it waits for, then run the command again."
            ) from error


def _listed(given: Any) -> list[Hook]:
    return [] if given is None else [given] if callable(given) else list(given)


def _command(command: str) -> list[Hook]:
    if not command:
        return []

    def hook(step: Step) -> None:
        told = {
            "MIGRATION_REVISION": step.revision,
            "MIGRATION_DIRECTION": step.direction,
            "MIGRATION_PHASE": step.phase,
            "MIGRATION_ABOUT": step.about,
        }
        terminal.hold()  # it writes where we do
        try:
            environment = {**os.environ, **told}
            done = subprocess.run(command, shell=True, stdin=subprocess.DEVNULL, env=environment, check=False)  # noqa: S602  the operator's own
        finally:
            terminal.release()
        if done.returncode:
            raise CommandError(f"the command ended with {done.returncode}; what it wrote stands above.")

    return [hook]
