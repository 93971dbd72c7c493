"""The operations that the chat schema adds to the engine's: who may do what, the adoption of what stands, and what a
service's own revision needs of ours.

Importing this package registers both with Alembic; ``alembic/env.py`` does so.
"""

from ..engine import operations as engine
from . import access, adoption, comments, requirement

__all__ = ["access", "adoption", "comments", "engine", "requirement"]
