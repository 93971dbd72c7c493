"""What the autogenerate of a service leaves alone: our tables in schema public, and all of chat_internal.

    context.configure(..., target_metadata=Base.metadata, include_schemas=True, include_object=include_object)

It holds whether our models stand in the service's metadata, beside it, or not at all. A table of ours is left out
whole: a column or an index of the service's own on it is a revision written by hand, and is not proposed to be dropped.
"""

from __future__ import annotations

import sqlalchemy as sa

from .models import TABLES
from .project import INTERNAL_SCHEMA


def include_object(
    part: sa.schema.SchemaItem, name: str | None, kind: str, reflected: bool, compare_to: sa.schema.SchemaItem | None
) -> bool:
    """Leave out what is ours; with a function of your own: ``lambda *each: mine(*each) and include_object(*each)``.

    A table without a schema is one of public here: PostgreSQL finds ours by the search_path, and Alembic asks it so.
    """
    table = part if isinstance(part, sa.Table) else getattr(part, "table", None)
    if not isinstance(table, sa.Table):
        return True
    return table.schema != INTERNAL_SCHEMA and not (table.schema in (None, "public") and table.name in TABLES)
