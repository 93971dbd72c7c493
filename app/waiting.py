"""``chat-schema wait``: for an init container, which starts the service when the database is where it needs it.

It only reads, with the login of the service, and through any pooler. It holds no connection between two looks: the
server may be started again, and may be somebody else's the next time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import sqlalchemy as sa
from alembic.util import CommandError

from . import database, revision

_PAUSE = 0.5  # seconds between two looks
_LONGEST_CONNECT = 10  # seconds; a packet that nobody answers must not use up the whole timeout


def wait(url: sa.URL, wanted: str, timeout: float, tell: Callable[[str], None], *, or_newer: bool = False) -> str:
    """Return the revision of the database once it is at ``wanted``; ``tell`` what is waited for whenever that changes.

    Raises :class:`alembic.util.CommandError` after ``timeout`` seconds, and at once where no upgrade would help.
    """
    if wanted != "head" and wanted not in revision.chain():
        raise CommandError(
            f"chat-schema has no revision {wanted}, so there is nothing to wait for: its last one is "
            f"{revision.chain()[-1]}. `chat-schema history` lists them; or wait for head."
        )
    deadline = time.monotonic() + timeout
    told = None
    while True:
        try:
            return _look(url, wanted, or_newer)
        except revision.RevisionError as error:
            if not error.may_pass:
                raise CommandError(str(error)) from None
            reason = error.says
        except sa.exc.DBAPIError as error:
            reason = f"{database.shown(url)} does not answer: {database.first_line(error, url)}"
        if reason != told:
            tell(f"Waiting for {wanted}. {reason}")
            told = reason
        if time.monotonic() >= deadline:
            raise CommandError(
                f"Waited {timeout:g} s for {wanted} in vain. {reason}\nLook at what runs the upgrade, then wait again "
                "(--timeout 30m waits longer)."
            )
        time.sleep(min(_PAUSE, max(0.0, deadline - time.monotonic())))


def _look(url: sa.URL, wanted: str, or_newer: bool) -> str:
    if "connect_timeout" not in url.query:
        url = url.update_query_dict({"connect_timeout": str(_LONGEST_CONNECT)})
    with database.opened(url) as connection:
        return revision.require(connection, wanted, or_newer=or_newer)
