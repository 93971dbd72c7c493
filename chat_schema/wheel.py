"""What a wheel holds beside ``app``: the same files under ``chat_schema``, where the chain lies too.

A hook and not a table in pyproject.toml, because an editable installation would copy what such a table names, and then
import the copy.
"""

from typing import Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class BothNames(BuildHookInterface[BuilderConfig]):
    """Adds the files when a wheel is built that is not editable."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add them to ``build_data``."""
        if version == "standard":
            build_data["force_include"] |= {
                "app": "chat_schema",
                "alembic.ini": "chat_schema/chain/alembic.ini",
                "alembic": "chat_schema/chain/alembic",
            }
