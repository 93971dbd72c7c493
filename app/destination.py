"""Which revision a command is to go to: what Alembic would answer with a failed assertion is refused before it runs."""

from __future__ import annotations

import re

from alembic.script import ScriptDirectory
from alembic.util import CommandError


def refuse_no_revision(script: ScriptDirectory, text: str) -> None:
    """Raise :class:`alembic.util.CommandError` for an empty name and for one that leads past an end of the chain.

    ``text`` is what the user wrote: ``head``, ``0022``, ``-1``, ``0022+2``, or two of them as ``0017:head``.
    """
    ends = text.split(":")
    if len(ends) > 2 or not all(end.strip() for end in ends):
        raise CommandError(
            f"{text!r} names no revision, so nothing was run. Name one, as in `chat-schema upgrade head`, or, where a "
            "script is to be written, two: `chat-schema upgrade 0017:head --sql`."
        )
    for end in ends:
        relative = re.fullmatch(r"(\w+)([+-]\d+)", end)
        if relative is None:  # by its name alone, or counted from where the database is: Alembic says what is wrong
            continue
        chain = ["base", *(each.revision for each in reversed(list(script.walk_revisions())))]
        name = {"head": chain[-1], "heads": chain[-1]}.get(relative[1], relative[1])
        if name != "base":
            name = script.get_revision(name).revision
        if not 0 <= chain.index(name) + int(relative[2]) < len(chain):
            raise CommandError(
                f"{end!r} leads past the end of the chain, so nothing was run: it goes from base to {chain[-1]}. "
                "`chat-schema history` lists it."
            )
