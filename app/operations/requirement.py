"""What a service's own revision needs of ours: asked before it changes anything."""

from __future__ import annotations

import re

from alembic.operations import Operations
from alembic.util import CommandError

from .. import revision
from ..engine.operations.registry import is_offline, literal, operation, statement


@operation
def require_chat_schema(operations: Operations, at_least: str) -> None:
    """Refuse the revision of a service where this database is not at our revision ``at_least`` or above.

    It is the first line of an ``upgrade()``. A script checks the same where it runs, as a login that may read the
    revision. Raises :class:`alembic.util.CommandError`; nothing of the revision was run then.
    """
    if not re.fullmatch(r"\d{4}", at_least):
        raise CommandError(
            f"op.require_chat_schema({at_least!r}) names no revision of chat-schema, so nothing of this revision was "
            'run. Name one as in op.require_chat_schema("0030"); `chat-schema history` lists them.'
        )
    if is_offline(operations):
        statement(operations, _script(at_least))
        return
    try:
        revision.require(operations.get_bind(), at_least)
    except revision.RevisionError as error:
        known = at_least in revision.chain()
        install = "" if known else f" The installed chat-schema has no {at_least} yet: install one that has it first."
        raise CommandError(f"Nothing of this revision was run. {error}{install}") from None


def _script(at_least: str) -> str:
    """Return the check for psql, by the revisions that are known to be below: what is unknown is newer."""
    below = ", ".join(literal(each) for each in revision.behind(at_least)) or "NULL"
    return f"""
        DO $$
        DECLARE
          found text;
        BEGIN
          IF pg_catalog.to_regclass('chat_internal.alembic_version') IS NOT NULL THEN
            SELECT v.version_num INTO found FROM chat_internal.alembic_version AS v;
          END IF;
          IF found IS NULL OR found IN ({below}) THEN
            RAISE EXCEPTION 'Nothing of this revision was run: it needs chat-schema at revision {at_least} or above, '
              'and this database is at %. Run: chat-schema upgrade head', coalesce(found, 'none');
          END IF;
        END
        $$
    """
