"""What a database's catalog holds, compared with what the package expects of it.

`alembic check` sees tables, columns and keys. Policies, the RLS flag, functions, triggers, views, grants,
disabled triggers, unvalidated keys and INVALID indexes it does not see; each can open a table or lose a row. Nor
does it see roles, settings, or what others have made over our tables.
"""

from .comparison import Comparison, Difference, compare, load_expected, write_expected
from .examination import Examination, examine, keep
from .snapshot import Snapshot, has_auth_users, take_snapshot

__all__ = [
    "Comparison",
    "Difference",
    "Examination",
    "Snapshot",
    "compare",
    "examine",
    "has_auth_users",
    "keep",
    "load_expected",
    "take_snapshot",
    "write_expected",
]
