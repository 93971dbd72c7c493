"""chat-schema under the name that cannot collide: ``from chat_schema.models import Conversation``.

In a checkout the modules stand in the folder ``app`` beside this one; a wheel has a copy of them here.
"""

from pathlib import Path

__path__ = [str(Path(__file__).resolve().parents[1] / "app")]
