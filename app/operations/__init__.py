"""The operations that the chat schema adds to the engine's: who may do what, and the adoption of what stands.

Importing this package registers both with Alembic; ``alembic/env.py`` does so.
"""

from ..engine import operations as engine
from . import access, adoption

__all__ = ["access", "adoption", "engine"]
