"""Whether a database is what the package promises: at head, its catalog as expected, its data consistent.

Everything here only reads, under AccessShare locks, and can run while the application works.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

from .catalog import compare, has_auth_users, load_expected, take_snapshot
from .database import INTERNAL_SCHEMA
from .roles import Roles, recorded_roles

# What must never be found, whoever wrote since: each query counts the rows that break the rule.
INVARIANTS = {
    "accounts in auth.users without a row in users": """
        SELECT count(*) FROM chat_internal.users_to_mend() AS m WHERE m.missing
    """,
    "chat messages without a conversation": """
        SELECT count(*) FROM public.chat_messages WHERE conversation_id IS NULL
    """,
    "chat messages in another user's conversation": """
        SELECT count(*) FROM public.chat_messages AS m
        WHERE NOT EXISTS (
          SELECT FROM public.conversations AS c WHERE c.id = m.conversation_id AND c.user_id = m.user_id
        )
    """,
    "users with chat messages and no conversation": """
        SELECT count(*) FROM public.users AS u
        WHERE EXISTS (SELECT FROM public.chat_messages AS m WHERE m.user_id = u.id)
          AND NOT EXISTS (SELECT FROM public.conversations AS c WHERE c.user_id = u.id)
    """,
    "messages in another user's conversation": """
        SELECT count(*) FROM public.messages AS m
        WHERE NOT EXISTS (
          SELECT FROM public.conversations AS c WHERE c.id = m.conversation_id AND c.user_id = m.user_id
        )
    """,
    "messages whose place in their conversation is not settled": """
        SELECT count(*) FROM (
          SELECT FROM public.messages AS m GROUP BY m.conversation_id, m.seq HAVING count(*) > 1
        ) AS tied
    """,
    "kept chat_sessions arrays without their conversation": """
        SELECT count(*) FROM chat_internal.chat_session_arrays AS a
        WHERE NOT EXISTS (
          SELECT FROM public.conversations AS c WHERE c.id = a.session_id AND c.user_id = a.user_id
        )
    """,
    "session messages in another user's session": """
        SELECT count(*) FROM public.conversation_messages AS m
        WHERE NOT EXISTS (
          SELECT FROM public.conversation_sessions AS s WHERE s.id = m.session_id AND s.user_id = m.user_id
        )
    """,
    "session messages with another brand than their session's": """
        SELECT count(*) FROM public.conversation_messages AS m
        JOIN public.conversation_sessions AS s ON s.id = m.session_id WHERE s.brand_id <> m.brand_id
    """,
}

REMEDIES = {
    "accounts in auth.users without a row in users": "SELECT chat_internal.repair_users()",
}


@dataclasses.dataclass(frozen=True)
class Check:
    """One line of the report: what was looked at, what was found, and what is wrong with it, if anything."""

    name: str
    found: str
    problems: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def verify(connection: sa.Connection, config: Config) -> Iterator[Check]:
    """Yield one :class:`Check` after another; the data is looked at only where the revision is head."""
    head = ScriptDirectory.from_config(config).get_current_head()
    current = _current_revision(connection)
    at_head = current == head
    yield Check(
        "revision",
        str(current or "none"),
        () if at_head else (f"the head of this package is {head}: run `chat-schema upgrade head`",),
    )
    if not at_head:
        return
    roles = recorded_roles(connection) or Roles()
    hosted = has_auth_users(connection)
    yield Check("platform", "users mirrors auth.users" if hosted else "users stands alone: there is no auth.users")
    comparison = compare(load_expected(auth_users=hosted), take_snapshot(connection, role_names=roles.logical_names()))
    problems = tuple(str(difference) for difference in comparison.differences)
    yield Check("catalog", f"{len(problems)} differences, {len(comparison.extras)} objects of your own", problems)
    for name, query in INVARIANTS.items():
        count = connection.scalar(sa.text(query)) or 0
        mend = f": run `{REMEDIES[name]}`" if name in REMEDIES else ""
        yield Check(name, f"{count:,}", (f"{count:,} rows break this rule{mend}",) if count else ())


def _current_revision(connection: sa.Connection) -> str | None:
    table = f"{INTERNAL_SCHEMA}.alembic_version"
    if connection.scalar(sa.text("SELECT to_regclass(:table)"), {"table": table}) is None:
        return None
    current: str | None = connection.scalar(sa.text(f"SELECT version_num FROM {table}"))
    return current
