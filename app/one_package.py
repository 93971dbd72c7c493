"""In a checkout ``app.models`` is ``chat_schema.models``: one module under two names, so that no class exists twice.

Twice would be two registries of models, whose instances do not fit together, and two error classes of one name. The
modules belong to ``chat_schema``, the name that is installed; ``app`` is what their folder is called in a checkout.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

NAME = "chat_schema"


class _SameModule(MetaPathFinder, Loader):
    """Imports ``<alias>.x`` by handing out ``chat_schema.x``."""

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._package = sys.modules[alias]

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        alias, _, rest = fullname.partition(".")
        if alias != self._alias or sys.modules.get(alias) is not self._package:
            return None
        if rest.endswith("__main__"):  # runs under its own name: python -m app.catalog
            return None
        return ModuleSpec(fullname, self) if importlib.util.find_spec(f"{NAME}.{rest}") else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(f"{NAME}{spec.name.removeprefix(self._alias)}")
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Leave the module, which has run already, the spec that the import system has just replaced."""
        alias = module.__spec__
        assert alias is not None  # noqa: S101
        module.__spec__ = alias.loader_state


def lend_name(alias: str) -> None:
    """Let ``import <alias>.x`` mean ``chat_schema.x`` for as long as the package ``alias`` is this one."""
    sys.meta_path.insert(0, _SameModule(alias))
