"""The engine as a plugin of Alembic: revisions may call the operations wherever the package is installed.

Alembic loads it at each of its starts, so the operations are named here and imported when the first one is called.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from alembic.operations import MigrateOperation, Operations
from alembic.runtime.plugins import Plugin

OPERATIONS = {
    "access": ("create_policy", "drop_policy", "enable_row_level_security", "grant_to"),
    "backfill": ("backfill",),
    "constraints": (
        "add_not_null_check",
        "drop_not_null_check",
        "set_not_null",
        "validate_constraint",
        "validate_not_null_check",
    ),
    "data_loss": ("refuse_data_loss",),
    "indexes": ("create_index_online", "drop_index_online"),
    "sql": ("sql",),
    "verify": ("verify",),
}
"""The operations of each module of :mod:`app.engine.operations`."""


def setup(plugin: Plugin) -> None:
    """Register every operation under its name; what it does is imported when it is first called."""
    for module, names in OPERATIONS.items():
        for name in names:
            register(f"{__package__}.operations.{module}", name)


def register(module: str, name: str) -> None:
    """Register the operation ``name`` of ``module``, which is imported when it is first called."""

    def proxy(cls: type[MigrateOperation], operations: Operations, *args: Any, **kwargs: Any) -> Any:
        return getattr(import_module(module), name)(operations, *args, **kwargs)

    proxy.__name__ = name
    proxy.__doc__ = f"See :func:`{module}.{name}`."
    holder = type(name, (MigrateOperation,), {name: classmethod(proxy)})
    Operations.register_operation(name)(holder)
