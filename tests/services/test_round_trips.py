"""What acting costs on the way to the server, counted at a socket: how often a transaction waits for an answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import psycopg
import pytest
import pytest_asyncio
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from app.acting_as import acting_as, acting_as_async, acting_as_service
from app.models import Task
from tests.proxy import RoundTrips, counting
from tests.services.people import ANN, BEN
from tests.services.test_acting_as import NOBODY, user, who

WITHOUT = 3  # BEGIN, the statement, COMMIT
LEARNING = 7  # runs: psycopg prepares a statement when it has seen it five times
ONE = sa.text("SELECT 1")
ISOLATION = sa.text("SHOW transaction_isolation")

Open = Callable[[sa.Engine], Session | sa.Connection]
TARGETS: list[Open] = [Session, sa.Engine.connect]


@pytest.fixture
def way(service_url: sa.URL) -> Iterator[tuple[sa.URL, RoundTrips]]:
    with counting(service_url) as found:
        yield found


@pytest.fixture
def counted_engine(way: tuple[sa.URL, RoundTrips]) -> Iterator[sa.Engine]:
    engine = sa.create_engine(way[0], pool_size=1, max_overflow=0)
    yield engine
    engine.dispose()


@pytest_asyncio.fixture
async def counted_async_engine(way: tuple[sa.URL, RoundTrips]) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(way[0], pool_size=1, max_overflow=0)
    yield engine
    await engine.dispose()


@pytest.fixture
def trips(way: tuple[sa.URL, RoundTrips]) -> RoundTrips:
    return way[1]


def transaction(engine: sa.Engine, opens: Open, *, acting: bool, **options: Any) -> None:
    with opens(engine, **options) as target, acting_as(target, ANN) if acting else nullcontext():
        target.execute(ONE)
        target.commit()


def cost(trips: RoundTrips, run: Callable[[], None]) -> list[int]:
    """Return the round trips of each of ten runs, after those that learn what the server is and prepare statements."""
    found = []
    for _ in range(LEARNING + 10):
        with trips.counted() as number:
            run()
        found.append(number[0])
    return found[LEARNING:]


@pytest.mark.parametrize("opens", TARGETS)
def test_a_transaction_that_acts_costs_as_many_as_one_that_does_not(
    counted_engine: sa.Engine, trips: RoundTrips, opens: Open
) -> None:
    assert cost(trips, lambda: transaction(counted_engine, opens, acting=False)) == [WITHOUT] * 10
    assert cost(trips, lambda: transaction(counted_engine, opens, acting=True)) == [WITHOUT] * 10


@pytest.mark.asyncio
async def test_an_asynchronous_one_too(counted_async_engine: AsyncEngine, trips: RoundTrips) -> None:
    for acting in (False, True):
        for turn in range(LEARNING + 10):
            with trips.counted() as number:
                async with (
                    AsyncSession(counted_async_engine) as session,
                    acting_as_async(session, ANN) if acting else nullcontext(),
                ):
                    await session.execute(ONE)
                    await session.commit()
            assert number == [WITHOUT] or turn < LEARNING


def test_each_transaction_of_a_block_costs_as_many(counted_engine: sa.Engine, trips: RoundTrips) -> None:
    cost(trips, lambda: transaction(counted_engine, Session, acting=True))
    with trips.counted() as number, Session(counted_engine) as session, acting_as(session, ANN):
        for _ in range(5):
            session.execute(ONE)
            session.commit()
    assert number == [5 * WITHOUT]


@pytest.mark.parametrize("opens", TARGETS)
def test_a_block_without_statements_sends_nothing(counted_engine: sa.Engine, trips: RoundTrips, opens: Open) -> None:
    transaction(counted_engine, opens, acting=True)
    with trips.counted() as number, opens(counted_engine) as target:
        with acting_as(target, ANN):
            pass
        target.commit()
    assert number == [0]


@pytest.mark.parametrize("opens", TARGETS)
def test_without_a_pipeline_it_is_one_more(
    counted_engine: sa.Engine, trips: RoundTrips, opens: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a libpq before 14."""
    monkeypatch.setattr(psycopg.capabilities, "has_pipeline", lambda check=False: False)
    assert cost(trips, lambda: transaction(counted_engine, opens, acting=True)) == [WITHOUT + 1] * 10
    with Session(counted_engine) as session, acting_as(session, BEN):
        assert who(session) == user(BEN)


def test_in_a_transaction_that_goes_on_each_change_is_one(counted_engine: sa.Engine, trips: RoundTrips) -> None:
    cost(trips, lambda: transaction(counted_engine, Session, acting=True))
    with Session(counted_engine) as session, acting_as(session, ANN):
        session.execute(ONE)
        with trips.counted() as number, acting_as_service(session):
            session.execute(ONE)
        assert number == [2]
        with trips.counted() as number:
            session.execute(ONE)
        assert number == [2]


@pytest.mark.parametrize("opens", TARGETS)
def test_the_transaction_is_the_one_that_the_engine_asks_for(
    way: tuple[sa.URL, RoundTrips], opens: Callable[..., Session | sa.Connection]
) -> None:
    engine = sa.create_engine(way[0], isolation_level="REPEATABLE READ", poolclass=sa.NullPool)
    with opens(engine) as target, acting_as(target, ANN):
        assert target.execute(ISOLATION).scalar_one() == "repeatable read"
        target.commit()
    with engine.connect().execution_options(postgresql_readonly=True) as connection, acting_as(connection, ANN):
        assert connection.scalar(sa.text("SHOW transaction_read_only")) == "on"
        assert connection.scalar(sa.select(Task.user_id)) == ANN


def test_a_transaction_in_two_phases_has_begun_already(counted_engine: sa.Engine) -> None:
    with Session(counted_engine, twophase=True) as session, acting_as(session, ANN):
        assert who(session) == user(ANN)
        session.rollback()
        assert who(session) == user(ANN)


@pytest.mark.parametrize("opens", TARGETS)
def test_a_connection_that_the_server_ended_is_replaced(
    counted_engine: sa.Engine, administrator: sa.Engine, opens: Open
) -> None:
    """As after any other statement: the error says so, and the pool opens another."""
    with opens(counted_engine) as target, acting_as(target, ANN):
        assert who(target) == user(ANN)
        target.commit()
    with administrator.begin() as connection:
        connection.execute(
            sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = :login"),
            {"login": counted_engine.url.username},
        )
    with opens(counted_engine) as target:
        with pytest.raises(OperationalError) as caught, acting_as(target, ANN):
            who(target)
        assert caught.value.connection_invalidated
        target.rollback()
    with opens(counted_engine) as target:
        with acting_as(target, BEN):
            assert who(target) == user(BEN)
        assert who(target) == NOBODY


@pytest.mark.parametrize("opens", TARGETS)
def test_the_drivers_own_connection_is_as_ever_after_a_transaction_began(
    counted_engine: sa.Engine, opens: Open
) -> None:
    """No pipeline is left open: COPY, which cannot be used in one, works."""
    with opens(counted_engine) as target, acting_as(target, ANN):
        target.execute(ONE)
        connection = target.connection() if isinstance(target, Session) else target
        driver: AbstractContextManager[Any] = connection.connection.cursor()
        with driver as cursor, cursor.copy("COPY (SELECT user_id FROM public.tasks) TO STDOUT") as rows:
            assert b"".join(rows).decode().split() == [str(ANN)]
