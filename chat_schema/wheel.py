"""What a wheel holds beside the package: the chain, under ``chat_schema/chain``.

A hook and not a table in pyproject.toml, because an editable installation would copy what such a table names, and then
run the copy.
"""

from typing import Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Chain(BuildHookInterface[BuilderConfig]):
    """Adds the chain when a wheel is built that is not editable."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add it to ``build_data``."""
        if version == "standard":
            build_data["force_include"] |= {
                "alembic.ini": "chat_schema/chain/alembic.ini",
                "alembic": "chat_schema/chain/alembic",
            }
