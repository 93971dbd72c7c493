"""The package as a plugin of Alembic: what the revisions of any project may call, wherever it is installed.

These are the engine's operations and op.require_chat_schema(). The others of the chat schema, such as policies of
owners and grants to its roles, need its options. An env.py that gives these to run() imports chat_schema.operations.
"""

from __future__ import annotations

from alembic.runtime.plugins import Plugin

from .engine import plugin as engine


def setup(plugin: Plugin) -> None:
    """Register them; what each does is imported when it is first called."""
    engine.setup(plugin)
    engine.register(f"{__package__}.operations.requirement", "require_chat_schema")
