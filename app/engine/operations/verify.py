"""``op.verify``: a revision that ends by counting."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from alembic.operations import Operations
from alembic.util import CommandError

from .registry import is_offline, literal, operation, scalar, statement

log = logging.getLogger("alembic.engine")


@operation
def verify(operations: Operations, none_of: Mapping[str, str], figures: Mapping[str, str]) -> None:
    """Run each query of ``none_of``, which must count 0, then log ``figures``.

    Raises :class:`alembic.util.CommandError` that names every count that is not 0. Offline the script raises instead.
    """
    advice = "Mend these rows, then run the upgrade again."
    if is_offline(operations):
        for what, query in none_of.items():
            message = literal(f"Verification failed: % {what}. {advice}")
            statement(
                operations,
                f"DO $$ DECLARE found bigint := ({query}); BEGIN IF found > 0 THEN RAISE EXCEPTION {message}, found;"
                " END IF; END $$",
            )
        for what, query in figures.items():
            statement(
                operations,
                f"DO $$ DECLARE found bigint := ({query}); BEGIN RAISE NOTICE {literal(f'% {what}')}, found; END $$",
            )
        return
    failed = [f"{count:,} {what}" for what, query in none_of.items() if (count := scalar(operations, query))]
    if failed:
        raise CommandError(f"Verification failed: {'; '.join(failed)}.\n{advice}")
    counted = ", ".join(f"{scalar(operations, query):,} {what}" for what, query in figures.items())
    log.info("Verified: %d checks found nothing wrong in %s.", len(none_of), counted)
