"""chat-schema in a checkout: the modules of ``chat_schema`` stand in the folder ``app`` beside this one."""

from pathlib import Path

__path__ = [str(Path(__file__).resolve().parents[1] / "app")]

from .offered import __getattr__ as __getattr__  # type: ignore[import-untyped]  # found by the path above
