"""What revisions of any project may call: ``op.backfill(...)``, ``op.create_index_online(...)`` and the rest.

Importing this package registers them with Alembic. They are written to be frozen into revisions: an operation renders
the SQL it is given and knows nothing of the models.
"""

from . import access, backfill, constraints, data_loss, indexes, sql, verify

__all__ = ["access", "backfill", "constraints", "data_loss", "indexes", "sql", "verify"]
