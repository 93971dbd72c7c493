"""chat-schema where a checkout is installed editable: this folder is on Python's path, and has no name but ours.

The checkout itself is not: its ``app`` and ``tests`` would shadow those of the service beside it.
"""

from pathlib import Path

__path__ = [str(Path(__file__).resolve().parents[3] / "app")]

from .offered import __getattr__ as __getattr__  # type: ignore[import-untyped]  # found by the path above
