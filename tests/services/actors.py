"""Who asks the statements of `chat_schema.queries`: a user, and the service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from app.acting_as import acting_as, acting_as_service
from tests.services.people import ANN

Acting = Callable[[Session], AbstractContextManager[None]]
ACTORS: dict[str, Acting] = {"a user": lambda session: acting_as(session, ANN), "the service": acting_as_service}
each_actor = pytest.mark.parametrize("actor", ACTORS.values(), ids=ACTORS)


@contextmanager
def begun_anew(engine: sa.Engine, rows: str) -> Iterator[Session]:
    """Yield a session on the database of ``engine``, which holds ``rows`` and those of no user beside."""
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM users"))
        connection.execute(sa.text(rows))
    with Session(engine) as session:
        yield session
