"""Whether a database is what the package promises: at head, its catalog and roles as expected, its data consistent.

Everything here but :func:`keep` only reads, under AccessShare locks, and can run while the application works.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from . import catalog
from .catalog import Difference, Examination, has_auth_users, load_expected
from .engine import terminal
from .engine.unfinished import noted_in
from .project import INTERNAL_SCHEMA
from .roles import Roles, recorded_roles
from .version_table import current_revisions, several_revisions

# What must never be found, whoever wrote since: each query counts the rows that break the rules of its key, in their
# order, and reads a table of messages once for all of them.
INVARIANTS = {
    ("accounts in auth.users without a row in users",): """
        SELECT count(*) FROM chat_internal.users_to_mend() AS m WHERE m.missing
    """,
    (
        "chat messages without a conversation",
        "chat messages in another user's conversation",
        "chat messages of another tenant than their conversation's",
    ): """
        SELECT count(*) FILTER (WHERE m.conversation_id IS NULL),
               count(*) FILTER (WHERE c.user_id IS DISTINCT FROM m.user_id),
               count(*) FILTER (WHERE c.id IS NOT NULL AND c.tenant_id IS DISTINCT FROM m.tenant_id)
        FROM public.chat_messages AS m LEFT JOIN public.conversations AS c ON c.id = m.conversation_id
    """,
    # The few who have no conversation are looked up in the index: not every message is read for them.
    ("users with chat messages and no conversation",): """
        SELECT count(*) FROM public.users AS u
        WHERE NOT EXISTS (SELECT FROM public.conversations AS c WHERE c.user_id = u.id)
          AND (SELECT true FROM public.chat_messages AS m WHERE m.user_id = u.id LIMIT 1)
    """,
    # A sequence gives each message a seq of its own, so that hardly ever one is there twice. Of 64 numbers in a row it
    # is enough to keep which were seen: only where one was seen again, messages are grouped by conversation.
    (
        "messages in another user's conversation",
        "messages of another tenant than their conversation's",
        "messages whose place in their conversation is not settled",
    ): """
        WITH looked_at AS MATERIALIZED (
          SELECT m.numbers, count(*) AS found, bit_or(m.number) AS seen,
                 count(*) FILTER (WHERE m.of_another_user) AS of_another_user,
                 count(*) FILTER (WHERE m.of_another_tenant) AS of_another_tenant
          FROM (
            SELECT m.seq >> 6 AS numbers, 1::bigint << (m.seq & 63)::integer AS number,
                   c.user_id IS DISTINCT FROM m.user_id AS of_another_user,
                   c.id IS NOT NULL AND c.tenant_id IS DISTINCT FROM m.tenant_id AS of_another_tenant
            FROM public.messages AS m LEFT JOIN public.conversations AS c ON c.id = m.conversation_id
            OFFSET 0  -- else the planner takes every message for a group of its own, and sorts them
          ) AS m
          GROUP BY m.numbers
        ), twice AS MATERIALIZED (
          SELECT l.numbers FROM looked_at AS l WHERE l.found <> bit_count(l.seen::bit(64))
        )
        SELECT coalesce(sum(l.of_another_user), 0), coalesce(sum(l.of_another_tenant), 0),
               CASE WHEN EXISTS (SELECT FROM twice) THEN (
                 SELECT count(*) FROM (
                   SELECT FROM public.messages AS m WHERE m.seq >> 6 IN (SELECT t.numbers FROM twice AS t)
                   GROUP BY m.conversation_id, m.seq HAVING count(*) > 1
                 ) AS tied
               ) ELSE 0 END
        FROM looked_at AS l
    """,
    ("kept chat_sessions arrays without their conversation",): """
        SELECT count(*) FROM chat_internal.chat_session_arrays AS a
        WHERE NOT EXISTS (
          SELECT FROM public.conversations AS c WHERE c.id = a.session_id AND c.user_id = a.user_id
        )
    """,
    ("session messages in another user's session", "session messages with another brand than their session's"): """
        SELECT count(*) FILTER (WHERE s.user_id IS DISTINCT FROM m.user_id),
               count(*) FILTER (WHERE s.brand_id <> m.brand_id)
        FROM public.conversation_messages AS m LEFT JOIN public.conversation_sessions AS s ON s.id = m.session_id
    """,
}

REMEDIES = {
    "accounts in auth.users without a row in users": "SELECT chat_internal.repair_users()",
}


@dataclasses.dataclass(frozen=True)
class Check:
    """One line of the report: what was looked at, what was found, and what is wrong with it, if anything.

    ``notes`` name what is there and no fault, ``warnings`` what the team has kept although anybody gets at it.
    """

    name: str
    found: str
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()
    kept: tuple[Difference, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        """Return it as ``verify --json`` prints it."""
        return {
            "name": self.name,
            "passed": self.passed,
            "found": self.found,
            "problems": list(self.problems),
            "warnings": list(self.warnings),
            "notes": list(self.notes),
            "differences": [_as_json(each) for each in self.differences],
            "kept": [_as_json(each) for each in self.kept],
        }


def verify(connection: sa.Connection, config: Config) -> Iterator[Check]:
    """Yield one :class:`Check` after another; all but the revision is looked at only where that is head."""
    head = ScriptDirectory.from_config(config).get_current_head()
    current = current_revisions(connection)
    problems = []
    if len(current) > 1:
        problems.append(several_revisions(current))
    elif current != [head]:
        problems.append(f"the head of this package is {head}: run `chat-schema upgrade head`")
    if (left := noted_in(connection, INTERNAL_SCHEMA)) is not None:
        problems.append(f"`{left}` was begun and has not ended: run it again to go on, or the other way to undo it")
    yield Check("revision", ", ".join(current) or "none", tuple(problems))
    if problems:
        return
    terminal.doing("comparing the catalog with what the package expects")
    hosted = has_auth_users(connection)
    yield Check("platform", "users mirrors auth.users" if hosted else "users stands alone: there is no auth.users")
    found = _examined(connection)
    yield _faults("catalog", "differences", found.catalog)
    yield _faults("roles", "differences", found.roles)
    if found.seen:
        yield _faults("what stands around the tables", "objects that weaken them", found.surroundings)
    else:
        yield Check(
            "what stands around the tables",
            "not looked at",
            ("what lists it is not as expected: mend the catalog by the statements above, then verify again",),
        )
    warnings = tuple(f"{each.name}: {each.says or 'is not part of the package'}" for each in found.open)
    kept = tuple(f"kept: {each.name}" for each in found.kept if each not in found.open)
    yield Check(
        "objects of your own",
        f"{len(found.own)}, and {len(found.kept)} kept that weaken the tables",
        warnings=warnings,
        notes=(*kept, *map(_noted, found.noted), *map(_short, found.own)),
        kept=found.kept,
    )
    for names, query in INVARIANTS.items():
        terminal.doing(f"counting {names[0]}")
        for name, count in zip(names, connection.execute(sa.text(query)).one(), strict=True):
            mend = f": run `{REMEDIES[name]}`" if name in REMEDIES else ""
            yield Check(name, f"{count:,}", (f"{count:,} rows break this rule{mend}",) if count else ())


def refuse_differences(connection: sa.Connection) -> None:
    """Raise :class:`alembic.util.CommandError`, with what mends each, when the catalog at head is not as expected.

    Who may create what in schema public was so before the run: :func:`verify` tells it.
    """
    found = [difference for difference in _examined(connection).catalog if difference.name != "schema public"]
    if found:
        raise CommandError(
            "Every revision was run and the database is at head, but its catalog is not what the package expects:\n- "
            + "\n- ".join(map(str, found))
            + "\nMend it by these statements, then run `chat-schema verify`."
        )


def keep(connection: sa.Connection, identities: Sequence[str]) -> list[str]:
    """Record as the team's own what verify reports under these names, commit, and return what that was.

    Raises :class:`alembic.util.CommandError` for a name of nothing that is reported, or of an object of ours; nothing
    is recorded then.
    """
    if recorded_roles(connection) is None:
        raise CommandError("Nothing was recorded: this database is not at head. Run `chat-schema upgrade head`.")
    found = _examined(connection)
    try:
        kept = catalog.keep(connection, found, identities)
    except ValueError as error:
        connection.rollback()
        raise CommandError(f"Nothing was recorded: {error}.") from None
    connection.commit()
    return [each.name for each in kept]


def _examined(connection: sa.Connection) -> Examination:
    expected = load_expected(auth_users=has_auth_users(connection))
    return catalog.examine(connection, expected, recorded_roles(connection) or Roles())


def _faults(name: str, what: str, differences: Sequence[Difference]) -> Check:
    return Check(name, f"{len(differences)} {what}", tuple(map(str, differences)), differences=tuple(differences))


def _noted(difference: Difference) -> str:
    """Say what is no fault; of a comment of the team's own, what would bring ours back."""
    told = f"{difference.name}: {difference.says}"
    return told if difference.expected is None else "\n  ".join([f"{told}; ours:", *difference.mend.statements])


def _short(addition: Difference) -> str:
    """Name an object of the team's own, or a grant of theirs on one of ours."""
    if addition.expected is None:
        return addition.name
    return f"{addition.name}: granted to {', '.join(sorted((addition.found or {})['grants']))}"


def _as_json(difference: Difference) -> dict[str, Any]:
    cure, found = difference.mend, difference.found
    if found is not None and difference.expected is None:  # the team's own code can hold secrets
        found = {name: value for name, value in found.items() if name != "body"}
    return {
        "kind": difference.kind,
        "identity": difference.identity,
        "says": difference.says,
        "expected": difference.expected,
        "found": found,
        "mend": {"as": cure.by or "the owner of the tables", "statements": list(cure.statements), "note": cure.note},
    }
