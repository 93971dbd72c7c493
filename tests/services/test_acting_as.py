"""acting_as on one connection: who the database takes the caller for, at every turn a transaction can take."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from typing import TypeAlias
from uuid import UUID

import pytest
import sqlalchemy as sa
from psycopg import errors
from sqlalchemy import event
from sqlalchemy.exc import DataError, DBAPIError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from app.acting_as import (
    ActingError,
    LoginError,
    acting_as,
    acting_as_async,
    acting_as_service,
    acting_as_service_async,
)
from app.check_login import check_login
from app.models import Conversation, Task
from tests.services.conftest import LOGIN
from tests.services.people import ANN, BEN, CAT

Target: TypeAlias = Session | sa.Connection

WHO = sa.text("SELECT current_user::text, nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'")
BROKEN = sa.text("SELECT 1 / 0")
NOBODY = (LOGIN, None)
SERVICE = ("service_role", None)


def user(user_id: UUID) -> tuple[str, str]:
    return ("authenticated", str(user_id))


def who(target: Target) -> tuple[str, str | None]:
    """Return the role and the user that the database takes the caller for."""
    return tuple(target.execute(WHO).one())


@pytest.fixture(params=["session", "connection", "session on a connection"])
def target(request: pytest.FixtureRequest, engine: sa.Engine) -> Iterator[Target]:
    if request.param == "session":
        with Session(engine) as session:
            yield session
    elif request.param == "connection":
        with engine.connect() as connection:
            yield connection
    else:
        with engine.connect() as connection, Session(connection) as session:
            yield session


@pytest.fixture
def sent(engine: sa.Engine) -> Iterator[list[str]]:
    """Collect the statements that the engine sends."""
    statements: list[str] = []

    def collect(*arguments: object) -> None:
        statements.append(str(arguments[2]))

    event.listen(engine, "before_cursor_execute", collect)
    yield statements
    event.remove(engine, "before_cursor_execute", collect)


def test_the_block_shows_the_rows_of_its_user_and_no_others(target: Target) -> None:
    with acting_as(target, BEN):
        assert list(target.scalars(sa.select(Task.user_id))) == [BEN]
        assert who(target) == user(BEN)


def test_the_service_sees_the_rows_of_all(target: Target) -> None:
    with acting_as_service(target):
        assert set(target.scalars(sa.select(Task.user_id))) == {ANN, BEN, CAT}
        assert who(target) == SERVICE


def test_a_user_comes_as_text_and_with_further_claims(target: Target) -> None:
    token = {"app_metadata": {"plan": "free"}, "role": "service_role", "sub": str(BEN)}
    with acting_as(target, str(ANN), claims=token):
        claims = json.loads(target.execute(sa.text("SELECT current_setting('request.jwt.claims')")).scalar_one())
    assert claims == {"app_metadata": {"plan": "free"}, "role": "authenticated", "sub": str(ANN)}


@pytest.mark.parametrize("bad", ["admin", "", "' OR true --", f"{ANN}'"])
def test_what_is_no_uuid_never_reaches_the_database(target: Target, bad: str) -> None:
    with pytest.raises(ValueError, match="UUID"), acting_as(target, bad):
        pytest.fail("the block ran")


def test_a_quote_in_a_claim_is_bound(target: Target) -> None:
    with acting_as(target, ANN, claims={"name": "O'Brien \\ \" % :name"}):
        assert who(target) == user(ANN)


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_each_transaction_of_the_block_is_set_again(target: Target, end: str) -> None:
    with acting_as(target, ANN):
        for _ in range(3):
            assert who(target) == user(ANN)
            getattr(target, end)()


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_nothing_outlives_the_transaction(target: Target, end: str) -> None:
    with acting_as(target, ANN):
        who(target)
        getattr(target, end)()
    assert who(target) == NOBODY
    with pytest.raises(ProgrammingError, match="permission denied"):
        target.execute(sa.text("SELECT FROM tasks"))


def test_a_transaction_that_goes_on_has_back_what_it_had(target: Target) -> None:
    assert who(target) == NOBODY
    with acting_as(target, ANN):
        assert who(target) == user(ANN)
    assert who(target) == NOBODY


def test_settings_made_by_hand_before_the_block_come_back(target: Target) -> None:
    by_hand = sa.text(
        "SELECT set_config('role', 'authenticated', true), set_config('request.jwt.claim.sub', :sub, true)"
    )
    current = sa.text("SELECT chat_internal.current_user_id()")
    for other in (BEN, CAT):
        target.execute(by_hand, {"sub": str(other)})
        with acting_as(target, ANN):
            assert target.execute(current).scalar_one() == ANN
        assert target.execute(current).scalar_one() == other


def test_a_transaction_that_began_within_and_goes_on_is_the_logins(target: Target) -> None:
    with acting_as(target, ANN):
        who(target)
        target.rollback()
        assert who(target) == user(ANN)
    assert who(target) == NOBODY


def test_blocks_nest(target: Target) -> None:
    with acting_as(target, ANN):
        assert who(target) == user(ANN)
        with acting_as(target, BEN):
            assert who(target) == user(BEN)
            with acting_as_service(target):
                assert who(target) == SERVICE
            assert who(target) == user(BEN)
        assert who(target) == user(ANN)
    assert who(target) == NOBODY


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_the_outer_user_is_back_in_a_transaction_that_began_in_the_inner_block(target: Target, end: str) -> None:
    with acting_as(target, ANN):
        with acting_as(target, BEN):
            getattr(target, end)()
            assert who(target) == user(BEN)
        assert who(target) == user(ANN)
        getattr(target, end)()
        assert who(target) == user(ANN)
    assert who(target) == NOBODY


def test_a_savepoint_released_or_rolled_back_changes_nobody(target: Target) -> None:
    with acting_as(target, ANN):
        for end in ("commit", "rollback"):
            savepoint = target.begin_nested()
            assert who(target) == user(ANN)
            getattr(savepoint, end)()
            assert who(target) == user(ANN)


def test_a_savepoint_from_before_the_block_rolled_back_within_it(target: Target) -> None:
    who(target)
    savepoint = target.begin_nested()
    with acting_as(target, ANN):
        assert who(target) == user(ANN)
        savepoint.rollback()
        assert who(target) == user(ANN)
    assert who(target) == NOBODY


@pytest.mark.parametrize("failed", [False, True])
def test_a_savepoint_of_the_block_rolled_back_after_it(target: Target, failed: bool) -> None:
    who(target)
    with acting_as(target, ANN):
        who(target)
        savepoint = target.begin_nested()
        if failed:
            with pytest.raises(DataError):
                target.execute(BROKEN)
    savepoint.rollback()
    assert who(target) == NOBODY


def test_a_savepoint_of_the_inner_block_rolled_back_in_the_outer(target: Target) -> None:
    with acting_as(target, ANN):
        with acting_as(target, BEN):
            who(target)
            savepoint = target.begin_nested()
            who(target)
        assert who(target) == user(ANN)
        savepoint.rollback()
        assert who(target) == user(ANN)


def test_a_rollback_to_a_savepoint_in_plain_sql_is_seen_too(target: Target) -> None:
    target.execute(sa.text("SAVEPOINT mine"))
    with acting_as(target, ANN):
        who(target)
        target.execute(sa.text("\n  rollback to mine"))
        assert who(target) == user(ANN)


def test_a_rollback_behind_a_comment_is_seen_too(target: Target) -> None:
    target.execute(sa.text("SAVEPOINT mine"))
    with acting_as(target, ANN):
        who(target)
        target.execute(sa.text("/* traced */ ROLLBACK TO mine"))
        assert who(target) == user(ANN)
    target.execute(sa.text("/* traced */ ROLLBACK TO mine"))
    assert who(target) == NOBODY


BY_HAND = sa.text("SELECT set_config('role', 'service_role', true), set_config('request.jwt.claims', '', true)")


@pytest.mark.parametrize("within", [False, True])
def test_what_was_set_by_hand_and_rolled_back_does_not_come_back(target: Target, within: bool) -> None:
    who(target)
    target.execute(sa.text("SAVEPOINT mine"))
    target.execute(BY_HAND)
    with acting_as(target, ANN):
        who(target)
        if within:
            target.execute(sa.text("ROLLBACK TO mine"))
            assert who(target) == user(ANN)
    assert who(target) == (NOBODY if within else SERVICE)
    if not within:
        target.execute(sa.text("ROLLBACK TO mine"))
        assert who(target) == NOBODY


def test_what_is_set_by_hand_within_the_block_ends_with_it(target: Target) -> None:
    who(target)
    with acting_as(target, ANN):
        target.execute(BY_HAND)
        target.execute(sa.text("SAVEPOINT mine"))
    assert who(target) == NOBODY
    target.execute(sa.text("ROLLBACK TO mine"))
    assert who(target) == NOBODY


def test_a_retry_within_the_block_acts_for_the_same_user(target: Target) -> None:
    with acting_as(target, ANN):
        for attempt in range(3):
            try:
                assert who(target) == user(ANN)
                if attempt < 2:
                    target.execute(BROKEN)
            except DBAPIError:
                target.rollback()
        assert who(target) == user(ANN)


def test_an_error_keeps_its_type_and_the_next_transaction_is_the_logins(target: Target) -> None:
    with pytest.raises(DataError) as caught, acting_as(target, ANN):
        target.execute(BROKEN)
    assert isinstance(caught.value.orig, errors.DivisionByZero)
    target.rollback()
    assert who(target) == NOBODY

    with pytest.raises(KeyError, match=str(ANN)), acting_as(target, ANN):
        raise KeyError(who(target))
    assert who(target) == NOBODY


def test_a_session_begins_its_transaction_within_the_block(engine: sa.Engine) -> None:
    with Session(engine) as session, acting_as(session, ANN):
        with session.begin():
            assert who(session) == user(ANN)
        with session.begin(), session.begin_nested():
            assert who(session) == user(ANN)


def test_a_connection_begins_its_transaction_within_the_block(engine: sa.Engine) -> None:
    with engine.connect() as connection, acting_as(connection, ANN):
        with connection.begin():
            assert who(connection) == user(ANN)
        with connection.begin(), connection.begin_nested():
            assert who(connection) == user(ANN)


def test_what_is_added_within_the_block_is_written_as_its_user(administrator: sa.Engine) -> None:
    """Not when the session commits, which happens as whoever is the caller then."""
    with Session(administrator) as session, acting_as_service(session):
        with pytest.raises(ProgrammingError, match="row-level security"), acting_as(session, ANN):
            session.add(Conversation(user_id=BEN))
        session.rollback()
        session.add(Conversation(user_id=BEN))
        with acting_as(session, ANN):
            session.add(Conversation(user_id=ANN))
        session.commit()


def test_what_a_failed_block_had_not_written_is_never_written_as_another(administrator: sa.Engine) -> None:
    def fail_as_ben(session: Session, deleted: Task, changed: Task) -> None:
        with acting_as(session, BEN), session.no_autoflush:
            session.add(Task(user_id=ANN, title="forged"))
            session.delete(deleted)
            changed.title = "forged"
            raise KeyError

    with Session(administrator) as session, acting_as_service(session):
        kept = [Task(user_id=ANN, title=title) for title in ("one", "two")]
        session.add_all(kept)
        with pytest.raises(KeyError):
            fail_as_ben(session, *kept)
        session.commit()
        titles = set(session.scalars(sa.select(Task.title).where(Task.user_id == ANN)))
        assert titles >= {"one", "two"}
        assert "forged" not in titles


def test_the_innermost_block_counts_although_a_session_meets_its_connection_later(engine: sa.Engine) -> None:
    with engine.connect() as connection, Session(connection) as session, acting_as(session, ANN):
        with acting_as(connection, BEN):
            assert who(session) == user(BEN)
        assert who(session) == user(ANN)


def test_autocommit_is_refused(service_url: sa.URL) -> None:
    engine = sa.create_engine(service_url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with (
        engine.connect() as connection,
        pytest.raises(ActingError, match="autocommit"),
        acting_as(connection, ANN),
    ):
        pytest.fail("the block ran")
    with (
        Session(engine) as session,
        acting_as(session, ANN),
    ):
        for _ in range(2):  # whoever goes on all the same is refused again
            with pytest.raises(ActingError, match="autocommit"):
                session.execute(WHO)


def test_autocommit_within_the_block_is_refused(engine: sa.Engine) -> None:
    with engine.connect() as connection, acting_as(connection, ANN):
        who(connection)
        connection.commit()
        connection.execution_options(isolation_level="AUTOCOMMIT")
        with pytest.raises(ActingError, match="autocommit"):
            who(connection)


def test_a_scoped_session_is_the_session_of_this_thread(engine: sa.Engine) -> None:
    registry = scoped_session(sessionmaker(engine))
    with acting_as(registry, ANN):
        assert who(registry()) == user(ANN)
        registry.remove()
        with Session(engine) as other:
            assert who(other) == NOBODY


def test_two_sessions_are_two_people(service_url: sa.URL) -> None:
    engine = sa.create_engine(service_url, poolclass=sa.NullPool)
    with Session(engine) as one, Session(engine) as other, acting_as(one, ANN), acting_as(other, BEN):
        assert (who(one), who(other)) == (user(ANN), user(BEN))


def test_a_session_with_two_engines_acts_on_both(service_url: sa.URL) -> None:
    tasks, rest = (sa.create_engine(service_url, poolclass=sa.NullPool) for _ in range(2))
    with Session(binds={Task: tasks, Conversation: rest}) as session:
        session.execute(sa.text("SELECT 1"), bind_arguments={"mapper": Task})
        with acting_as(session, ANN):
            assert list(session.scalars(sa.select(Task.user_id))) == [ANN]
            assert list(session.scalars(sa.select(Conversation.user_id))) == [ANN]


def test_streamed_rows_are_the_users(target: Target) -> None:
    with acting_as(target, ANN):
        result = target.execute(sa.select(Task.user_id).execution_options(yield_per=1))
        assert [row.user_id for row in result] == [ANN]


def test_an_insert_of_many_rows_is_the_users(engine: sa.Engine) -> None:
    with Session(engine) as session, acting_as(session, ANN):
        session.add_all([Task(user_id=ANN, title=str(number)) for number in range(3000)])
        session.flush()
        assert session.scalar(sa.select(sa.func.count()).select_from(Task)) == 3001


def test_a_role_that_the_login_may_not_become_is_named(target: Target) -> None:
    with pytest.raises(ActingError, match="may not become postgres"), acting_as(target, ANN, role="postgres"):
        who(target)
    target.rollback()
    with pytest.raises(ActingError, match="no role nobodys"), acting_as(target, ANN, role="nobodys"):
        who(target)


NO_ROLES = [None, "", "none", b"authenticated", 0]


@pytest.mark.parametrize("role", NO_ROLES)
def test_what_postgresql_takes_for_the_login_is_no_role(target: Target, sent: list[str], role: object) -> None:
    """set_config('role', NULL, true) and 'none' succeed, and go on as the login."""
    with pytest.raises(ActingError, match="names no role"), acting_as(target, ANN, role=role):  # type: ignore[arg-type]
        pytest.fail("the block ran")
    with pytest.raises(ActingError, match="names no role"), acting_as_service(target, role=role):  # type: ignore[arg-type]
        pytest.fail("the block ran")
    assert sent == []
    assert who(target) == NOBODY


@pytest.mark.parametrize(
    "role", ["NONE", "None", " none", "none ", "default", "public", "session_user", "current_user"]
)
def test_no_other_text_makes_anybody_the_login(target: Target, role: str) -> None:
    with pytest.raises(LoginError, match="no role"), acting_as(target, ANN, role=role):
        who(target)
    target.rollback()
    assert who(target) == NOBODY


@pytest.mark.asyncio
@pytest.mark.parametrize("role", NO_ROLES)
async def test_the_async_twins_refuse_the_same(async_engine: AsyncEngine, role: object) -> None:
    async with AsyncSession(async_engine) as session:
        with pytest.raises(ActingError, match="names no role"):
            async with acting_as_async(session, ANN, role=role):  # type: ignore[arg-type]
                pytest.fail("the block ran")
        with pytest.raises(ActingError, match="names no role"):
            async with acting_as_service_async(session, role=role):  # type: ignore[arg-type]
                pytest.fail("the block ran")


FUNCTIONS_OF_A_STRANGER = {
    "set_config(text, text, boolean)": "text",
    "set_config(text, json, boolean)": "text",
    "current_setting(text)": "text",
    "current_setting(text, boolean)": "text",
    "json_build_array(text, text, text)": "json",
    "pg_has_role(name, oid, text)": "boolean",
    "to_regclass(text)": "regclass",
    "unnest(text[])": "text",
}
OPERATORS_OF_A_STRANGER = [
    "->>(json, json)", "->>(json, integer)", "->>(json, text)", "=(text, text)", "<>(text, text)", "=(name, text)",
    "=(name, name)", "=(oid, regclass)", "=(oid, oid)", ">=(integer, integer)",
]  # fmt: skip


@pytest.fixture
def open_public(administrator: sa.Engine) -> None:
    """A database whose public is open, as PostgreSQL 14 made it; a stranger made there what a query could call."""
    body = "LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a stranger was called'; END $$"
    with administrator.begin() as connection:
        connection.exec_driver_sql("GRANT CREATE ON SCHEMA public TO PUBLIC")
        for signature, result in FUNCTIONS_OF_A_STRANGER.items():
            connection.exec_driver_sql(f"CREATE FUNCTION public.{signature} RETURNS {result} {body}")
        for number, operator in enumerate(OPERATORS_OF_A_STRANGER):
            name, left, right = re.fullmatch(r"(\W+)\((\w+), (\w+)\)", operator).groups()  # type: ignore[union-attr]
            result = "text" if name == "->>" else "boolean"
            connection.exec_driver_sql(f"CREATE FUNCTION public.o{number}({left}, {right}) RETURNS {result} {body}")
            arguments = f"FUNCTION = public.o{number}, LEFTARG = {left}, RIGHTARG = {right}"
            connection.exec_driver_sql(f"CREATE OPERATOR public.{name} ({arguments})")
        for name in ("text", "json", "int4"):
            connection.exec_driver_sql(f"CREATE DOMAIN public.{name} AS pg_catalog.{name} CHECK (VALUE IS NULL)")
        for name in ("pg_roles", "pg_class", "before"):
            connection.exec_driver_sql(f"CREATE TABLE public.{name} (rolname name, oid oid)")


@pytest.mark.usefixtures("open_public")
@pytest.mark.parametrize("search_path", ["public", "public, pg_catalog"])
def test_nothing_of_a_stranger_s_is_called(engine: sa.Engine, sent: list[str], search_path: str) -> None:
    current = sa.text(
        "SELECT current_user::pg_catalog.text, pg_catalog.current_setting('request.jwt.claims', true) LIKE"
        " pg_catalog.concat('%', CAST(:user AS pg_catalog.text), '%')"
    )
    with engine.connect() as connection:
        connection.exec_driver_sql(f"SET search_path = {search_path}")
        connection.commit()
        with pytest.raises(LoginError, match="everybody can create objects in schema public"):
            check_login(connection)
        with acting_as(connection, ANN):
            assert connection.execute(current, {"user": str(ANN)}).one() == ("authenticated", True)
            with acting_as_service(connection):
                assert connection.execute(current, {"user": str(ANN)}).one() == ("service_role", False)
            assert connection.execute(current, {"user": str(ANN)}).one() == ("authenticated", True)
        assert connection.execute(current, {"user": str(ANN)}).one() == (LOGIN, False)
    assert len(sent) == 13  # SET, four of check_login, four queries, four switches


@pytest.mark.asyncio
async def test_async_sessions_and_connections_nest_commit_and_roll_back(async_engine: AsyncEngine) -> None:
    async with AsyncSession(async_engine) as session:
        async with acting_as_async(session, ANN):
            assert await session.run_sync(who) == user(ANN)
            await session.commit()
            async with acting_as_service_async(session):
                assert await session.run_sync(who) == SERVICE
                savepoint = await session.begin_nested()
            await savepoint.rollback()
            assert await session.run_sync(who) == user(ANN)
            with pytest.raises(DataError):
                await session.execute(BROKEN)
            await session.rollback()
            assert await session.run_sync(who) == user(ANN)
        assert await session.run_sync(who) == NOBODY
    async with async_engine.connect() as connection:
        async with acting_as_async(connection, BEN):
            assert await connection.run_sync(who) == user(BEN)
        assert await connection.run_sync(who) == NOBODY


@pytest.mark.asyncio
async def test_async_objects_are_flushed_with_the_block(async_engine: AsyncEngine) -> None:
    async with AsyncSession(async_engine) as session:
        with pytest.raises(ProgrammingError, match="row-level security"):
            async with acting_as_async(session, ANN):
                session.add(Conversation(user_id=BEN))
        await session.rollback()


@pytest.mark.asyncio
@pytest.mark.parametrize("after", [0.0, 0.002, 0.05])
async def test_a_cancelled_task_leaves_nothing_behind(async_engine: AsyncEngine, after: float) -> None:
    async def work() -> None:
        async with AsyncSession(async_engine) as session, acting_as_async(session, ANN):
            await session.execute(sa.text("SELECT pg_sleep(5)"))

    task = asyncio.create_task(work())
    await asyncio.sleep(after)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with async_engine.connect() as next_client:
        assert await next_client.run_sync(who) == NOBODY
