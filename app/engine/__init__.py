"""How revisions run on a database that is written to: one deployer, short lock waits with retries, small batches.

``env.py`` of a project is::

    from alembic import context
    from chat_schema.engine import run
    from billing.models import Base

    run(context, target_metadata=Base.metadata)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .options import Options as Options
    from .options import option as option
    from .project import Project as Project

_NAMES = {"Options": "options", "option": "options", "Project": "project"}

__all__ = ["Options", "Project", "option", "run"]


def run(context: Any, target_metadata: Any = None, **arguments: Any) -> None:
    """Run Alembic's command on the database of the project; see :func:`app.engine.environment.run`."""
    from . import operations  # noqa: F401  registers them
    from .environment import run as run_on

    run_on(context, target_metadata, **arguments)


def __getattr__(name: str) -> Any:
    """Import what is named only then: Alembic loads this package at each of its starts, as a plugin."""
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_NAMES[name]}", __name__), name)
