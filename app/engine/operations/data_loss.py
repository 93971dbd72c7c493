"""A downgrade destroys rows only for somebody who said so."""

from __future__ import annotations

from alembic.operations import Operations
from alembic.util import CommandError

from .registry import is_offline, literal, operation, options_of, scalar, statement


@operation
def refuse_data_loss(operations: Operations, what: str, count: str) -> None:
    """Stop a downgrade that would destroy rows, unless ``-x allow-data-loss=yes`` was given.

    ``count`` is a query for one number: how many of ``what`` would be lost.
    Raises :class:`alembic.util.CommandError` with it.
    """
    if options_of(operations).allow_data_loss:
        return
    consequence = 'Nothing of this revision was undone. To destroy them: add -x allow-data-loss=yes before "downgrade".'
    if is_offline(operations):
        message = literal(f"This downgrade would destroy % {what}. {consequence}")
        statement(
            operations,
            f"DO $$ DECLARE lost bigint := ({count}); BEGIN IF lost > 0 THEN RAISE EXCEPTION {message}, lost;"
            " END IF; END $$",
        )
        return
    lost = scalar(operations, count)
    if lost:
        raise CommandError(f"This downgrade would destroy {lost:,} {what}. {consequence}")
