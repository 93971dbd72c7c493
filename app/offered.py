"""What ``chat_schema`` itself offers by name: imported when it is asked for, since the models alone need none of it."""

from __future__ import annotations

from typing import Any

NAMES = ("RevisionError", "require_head", "require_head_async")


def __getattr__(name: str) -> Any:
    if name in NAMES:
        from . import revision

        return getattr(revision, name)
    raise AttributeError(f"module 'chat_schema' has no attribute {name!r}")
