"""The Alembic operations of chat-schema: ``op.create_policy(...)``, ``op.backfill(...)`` and the rest.

Importing this package registers them with Alembic; ``alembic/env.py`` does so. They are written to be frozen into
revisions: an operation renders the SQL it is given and knows nothing of the models.
"""

from . import access, adoption, backfill, constraints, data_loss, indexes, sql, verify

__all__ = ["access", "adoption", "backfill", "constraints", "data_loss", "indexes", "sql", "verify"]
