"""Hundreds of users at once through a real PgBouncer in transaction mode: nobody sees a row of anybody else.

Twenty clients share five server connections, and each does a random one of the things that services do: commits,
failures, cancelled tasks, savepoints, retries, nested blocks, statements without a block. All the while it looks at
whose rows it sees.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from uuid import UUID

import pytest
import pytest_asyncio
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from app.acting_as import acting_as, acting_as_async, acting_as_service
from app.models import Conversation, Message, Task
from tests.services import pgbouncer

USERS = 300
CLIENTS = 20
TURNS = 600

pytestmark = pytest.mark.skipif(
    pgbouncer.program() is None,
    reason="PgBouncer is not installed, so nothing was tested behind it: apt-get install pgbouncer",
)


class OnPurposeError(Exception):
    """A failure of the service's own."""


class Witness:
    """Counts what was looked at, so that a test which sees nothing cannot pass."""

    def __init__(self) -> None:
        self.looks = 0
        self.foreign: list[tuple[UUID, UUID]] = []
        self._lock = threading.Lock()

    def look(self, session: Session, me: UUID) -> None:
        """Look at my rows in three tables: there are some, and all are mine."""
        owners = [
            owner
            for table in (Task, Conversation, Message)
            for owner in session.scalars(sa.select(table.user_id).where(table.user_id.is_not(None)))
        ]
        assert len(owners) >= 3
        with self._lock:
            self.looks += 1
            self.foreign += [(me, owner) for owner in owners if owner != me]


def scenarios(witness: Witness) -> list[Callable[[Session, UUID, UUID], None]]:
    """Return what a client may do as ``me``; a Session is at its turn's end rolled back and closed."""

    def read(session: Session, me: UUID, _: UUID) -> None:
        with acting_as(session, me):
            witness.look(session, me)

    def write_and_commit_twice(session: Session, me: UUID, _: UUID) -> None:
        with acting_as(session, me):
            for _ in range(2):
                session.add(Task(user_id=me, title="Buy milk"))
                session.commit()
                witness.look(session, me)

    def fail_in_the_database(session: Session, me: UUID, _: UUID) -> None:
        with acting_as(session, me):
            session.execute(sa.text("SELECT 1 / 0"))

    def fail_in_python(session: Session, me: UUID, _: UUID) -> None:
        with acting_as(session, me):
            witness.look(session, me)
            raise OnPurposeError

    def retry(session: Session, me: UUID, _: UUID) -> None:
        with acting_as(session, me):
            for _ in range(2):
                with suppress(DBAPIError):
                    session.execute(sa.text("SELECT 1 / 0"))
                session.rollback()
                witness.look(session, me)

    def savepoints(session: Session, me: UUID, other: UUID) -> None:
        with acting_as(session, other):
            outer = session.begin_nested()
            with acting_as(session, me):
                inner = session.begin_nested()
                session.add(Task(user_id=me, title="Buy milk"))
                witness.look(session, me)
                inner.rollback()
                witness.look(session, me)
                outer.rollback()
                witness.look(session, me)
            witness.look(session, other)

    def nest_and_commit(session: Session, me: UUID, other: UUID) -> None:
        with acting_as_service(session):
            with acting_as(session, me):
                witness.look(session, me)
                session.commit()
                with acting_as(session, other):
                    witness.look(session, other)
                witness.look(session, me)
            session.commit()
        with acting_as(session, other):
            witness.look(session, other)

    def take_of_another(session: Session, me: UUID, other: UUID) -> None:
        with acting_as(session, me):
            assert session.scalar(sa.select(sa.func.count()).where(Message.user_id == other)) == 0
            session.add(Task(user_id=other, title="Forged"))
            session.commit()

    def forget_the_block(session: Session, me: UUID, _: UUID) -> None:
        assert session.execute(sa.text("SELECT current_setting('request.jwt.claims', true)")).scalar() in (None, "")
        session.execute(sa.select(Task.user_id))

    return [
        read,
        write_and_commit_twice,
        fail_in_the_database,
        fail_in_python,
        retry,
        savepoints,
        nest_and_commit,
        take_of_another,
        forget_the_block,
    ]


MUST_FAIL = {"fail_in_the_database", "fail_in_python", "take_of_another", "forget_the_block"}


@pytest.fixture
def users(administrator: sa.Engine) -> list[UUID]:
    with administrator.begin() as connection:
        connection.execute(
            sa.text(
                f"""
                INSERT INTO users (id) SELECT gen_random_uuid() FROM generate_series(1, {USERS});
                INSERT INTO tasks (user_id, title) SELECT id, 'Buy milk' FROM users;
                INSERT INTO conversations (user_id) SELECT id FROM users;
                INSERT INTO messages (conversation_id, user_id, role, content)
                SELECT id, user_id, 'user', user_id FROM conversations;
                """
            )
        )
        return list(connection.scalars(sa.text("SELECT id FROM users")))


@pytest.fixture
def pooled_url(users: list[UUID], service_url: sa.URL) -> Iterator[sa.URL]:
    with pgbouncer.pooled(service_url) as url:
        yield url


@pytest_asyncio.fixture
async def pooled_engine(pooled_url: sa.URL) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(
        pooled_url, pool_size=CLIENTS, max_overflow=0, connect_args={"prepare_threshold": None}
    )
    yield engine
    await engine.dispose()


def test_threads_never_see_a_row_of_another_user(
    pooled_url: sa.URL, users: list[UUID], administrator: sa.Engine
) -> None:
    engine = sa.create_engine(pooled_url, pool_size=CLIENTS, max_overflow=0, connect_args={"prepare_threshold": None})
    witness = Witness()
    turns = scenarios(witness)

    def turn(seed: int) -> None:
        dice = random.Random(seed)  # noqa: S311  a seed, to run it again
        scenario, (me, other) = dice.choice(turns), dice.sample(users, 2)
        failed = False
        with Session(engine) as session:
            try:
                scenario(session, me, other)
            except (OnPurposeError, DBAPIError):
                failed = True
            if dice.random() < 0.5:
                session.rollback()
                session.connection()  # the same client goes on, as nobody
        assert failed is (scenario.__name__ in MUST_FAIL), scenario.__name__

    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(turn, range(TURNS)))
    engine.dispose()
    check(witness, administrator)


@pytest.mark.asyncio
async def test_tasks_never_see_a_row_of_another_user(
    pooled_engine: AsyncEngine, users: list[UUID], administrator: sa.Engine
) -> None:
    witness = Witness()
    turns = scenarios(witness)
    cancelled = 0

    async def turn(seed: int) -> None:
        dice = random.Random(seed)  # noqa: S311  a seed, to run it again
        scenario, (me, other) = dice.choice(turns), dice.sample(users, 2)
        async with AsyncSession(pooled_engine) as session:
            with suppress(OnPurposeError, DBAPIError):
                await session.run_sync(scenario, me, other)
            await session.rollback()
            async with acting_as_async(session, me):
                await session.run_sync(witness.look, me)
                await session.execute(sa.text("SELECT pg_sleep(:seconds)"), {"seconds": dice.random() * 0.01})

    async def turn_that_may_be_cancelled(seed: int) -> None:
        nonlocal cancelled
        task = asyncio.create_task(turn(seed))
        if seed % 5 == 0:
            await asyncio.sleep((seed % 37) * 0.005)
            cancelled += task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    seeds = iter(range(TURNS))

    async def client() -> None:
        for seed in seeds:
            await turn_that_may_be_cancelled(seed)

    async with asyncio.TaskGroup() as clients:
        for _ in range(CLIENTS):
            clients.create_task(client())
    assert cancelled > TURNS / 20
    await pooled_engine.dispose()
    check(witness, administrator)


def check(witness: Witness, administrator: sa.Engine) -> None:
    assert witness.foreign == []
    assert witness.looks > TURNS / 2
    with administrator.connect() as connection:
        server_side = connection.scalar(
            sa.text(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"  # and no autovacuum
            )
        )
        assert server_side <= pgbouncer.SERVER_CONNECTIONS
        assert connection.scalar(sa.text("SELECT count(*) FROM tasks WHERE title = 'Forged'")) == 0
