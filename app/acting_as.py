"""Act for a user, or as the service itself, for as long as a ``with`` block lasts.

    with acting_as(session, user_id):
        session.scalars(select(Conversation))  # that user's, and no others

Role and claims are set for one transaction as it begins, bound and never formatted. psycopg sends them together with
BEGIN, which is a round trip anyway; with another driver, and in a transaction that goes on, they are one of their own.
A transaction that begins within the block is set again, and one that goes on after the block has back what it had.
Nothing is set for the server session, which a pooler hands to the next client.

Where a transaction can see more than one identity, what the connection should act as is compared with what it acts as
before each statement. So leaving a block sends nothing, which a failed transaction or a cancelled task could not do;
and ROLLBACK TO SAVEPOINT, which takes settings back to those of the savepoint, is mended. What the transaction had
before its first block stands in a setting too, ``chat_schema.outside``, so that a savepoint takes it along.

What is sent past SQLAlchemy, by the driver's own connection, acts as the last statement before it did. Transactions end
by ``commit()`` and ``rollback()``: COMMIT in SQL ends the settings too, unseen.
"""

from __future__ import annotations

import json
import re
import weakref
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from functools import lru_cache
from itertools import count
from typing import Any, ClassVar, NamedTuple, cast
from uuid import UUID

import psycopg
import sqlalchemy as sa
from psycopg.pq import TransactionStatus
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session, SessionTransaction, scoped_session


class ActingError(RuntimeError):
    """Acting for somebody is not possible like this: what is wrong, what would follow, what to do."""


class LoginError(ActingError):
    """The login is not fit for a service: what is wrong, what would follow, the statements that mend it."""


@contextmanager
def acting_as(
    session: Session | sa.Connection,
    user_id: UUID | str,
    *,
    role: str = "authenticated",
    claims: Mapping[str, Any] | None = None,
) -> Iterator[None]:
    """Act for the user ``user_id`` within the block; policies show its rows and no others.

    ``claims`` are further claims of its token, for policies of your own. A Session is flushed where the block begins
    and ends, so that what is added within is written as this user; what a block that fails had not written yet is
    forgotten, and never written as somebody else.

    Raises ValueError when ``user_id`` is no uuid, :class:`ActingError` when ``role`` names no role or the connection is
    in autocommit, and :class:`LoginError` when the login may not become ``role``. Errors within the block keep their
    type.
    """
    with _block(session, _user_settings(user_id, role, claims)):
        yield


@asynccontextmanager
async def acting_as_async(
    session: AsyncSession | AsyncConnection,
    user_id: UUID | str,
    *,
    role: str = "authenticated",
    claims: Mapping[str, Any] | None = None,
) -> AsyncIterator[None]:
    """Do as :func:`acting_as` does, for an asynchronous session or connection."""
    async with _async_block(session, _user_settings(user_id, role, claims)):
        yield


@contextmanager
def acting_as_service(session: Session | sa.Connection, *, role: str = "service_role") -> Iterator[None]:
    """Act as the service itself within the block: on every user's rows, for nobody in particular.

    Raises what :func:`acting_as` raises.
    """
    with _block(session, _service_settings(role)):
        yield


@asynccontextmanager
async def acting_as_service_async(
    session: AsyncSession | AsyncConnection, *, role: str = "service_role"
) -> AsyncIterator[None]:
    """Do as :func:`acting_as_service` does, for an asynchronous session or connection."""
    async with _async_block(session, _service_settings(role)):
        yield


class _Settings(NamedTuple):
    """What policies read. ``sub`` is a setting of its own, which wins over the claims: hence it is cleared."""

    role: str
    claims: str
    sub: str = ""


def _user_settings(user_id: UUID | str, role: str, claims: Mapping[str, Any] | None) -> _Settings:
    user = user_id if isinstance(user_id, UUID) else UUID(user_id)
    return _Settings(_named(role), json.dumps({**(claims or {}), "role": role, "sub": str(user)}))


def _service_settings(role: str) -> _Settings:
    return _Settings(_named(role), json.dumps({"role": role}))


def _named(role: object) -> str:
    """Refuse what PostgreSQL takes for the login itself (NULL, none), and what can be no role's name."""
    if isinstance(role, str) and role not in ("", "none"):
        return role
    raise ActingError(
        f"role={role!r} names no role, so nothing was run: PostgreSQL would go on as the login, whom policies may not "
        "bind. Leave role= out, or pass the name that the migrations were told (-x)."
    )


# Every function, type and operator is named with its schema: in a database where others may create in public, or with
# a search_path that names pg_catalog late, a stranger's own would be called as the login. NULLIF calls an operator too.
# PostgreSQL evaluates a list of targets from left to right: what stands is kept before it is changed. A path that does
# not name pg_temp has it first: a table that an earlier client of the connection left there would be read and written
# in place of ours. For a login whose own path names it, nothing is set.
_ENTER = sa.text(
    """
    SELECT pg_catalog.set_config(
             'chat_schema.outside',
             CASE
               WHEN pg_catalog.current_setting('chat_schema.outside', true) OPERATOR(pg_catalog.<>) ''
                 THEN pg_catalog.current_setting('chat_schema.outside', true)
               ELSE pg_catalog.json_build_array(
                 pg_catalog.current_setting('role'),
                 pg_catalog.current_setting('request.jwt.claims', true),
                 pg_catalog.current_setting('request.jwt.claim.sub', true)
               )::pg_catalog.text
             END,
             true
           ),
           pg_catalog.set_config('role', :role, true),
           pg_catalog.set_config('request.jwt.claims', :claims, true),
           pg_catalog.set_config('request.jwt.claim.sub', :sub, true),
           CASE WHEN pg_catalog.strpos(pg_catalog.current_setting('search_path'), 'pg_temp') OPERATOR(pg_catalog.=) 0
             THEN pg_catalog.set_config(
               'search_path',
               pg_catalog.concat_ws(
                 ', ',
                 CASE WHEN pg_catalog.current_setting('search_path') OPERATOR(pg_catalog.<>) ''
                   THEN pg_catalog.current_setting('search_path')
                 END,
                 'pg_temp'
               ),
               true
             )
           END
    """
)
_LEAVE = sa.text(
    """
    WITH before AS MATERIALIZED (
      SELECT CASE
        WHEN pg_catalog.current_setting('chat_schema.outside', true) OPERATOR(pg_catalog.<>) ''
          THEN pg_catalog.current_setting('chat_schema.outside', true)::pg_catalog.json
      END AS outside
    )
    SELECT pg_catalog.set_config('role', outside OPERATOR(pg_catalog.->>) 0, true),
           pg_catalog.set_config('request.jwt.claims', coalesce(outside OPERATOR(pg_catalog.->>) 1, ''), true),
           pg_catalog.set_config('request.jwt.claim.sub', coalesce(outside OPERATOR(pg_catalog.->>) 2, ''), true),
           pg_catalog.set_config('chat_schema.outside', '', true)
    FROM before
    WHERE outside IS NOT NULL
    """
)


class _Block:
    """One ``with`` block and the connections that it holds for."""

    _entered = count()

    def __init__(self, settings: _Settings) -> None:
        self.settings = settings
        self.number = next(_Block._entered)  # a session may meet a connection that an inner block holds already
        self._switches: weakref.WeakSet[_Switch] = weakref.WeakSet()

    def cover(self, connection: sa.Connection) -> None:
        """Hold for ``connection`` too, at once if a transaction goes on there."""
        _cover(connection, [self], watched=True)

    def join(self, switch: _Switch) -> None:
        """Have a say in what this connection acts as."""
        if self not in switch.blocks:
            switch.blocks.append(self)
            self._switches.add(switch)

    def end(self) -> None:
        """Hold no more; transactions that go on have back what they had, from their next statement on."""
        for switch in self._switches:
            switch.blocks.remove(self)
            connection = switch.connection()
            if connection is not None and connection.in_transaction():
                switch.watch(connection)


class _Switch:
    """Keeps what one connection acts as in step with the innermost of its blocks; with none, as before the first."""

    _all: ClassVar[weakref.WeakKeyDictionary[sa.Connection, _Switch]] = weakref.WeakKeyDictionary()

    def __init__(self, connection: sa.Connection) -> None:
        self.connection = weakref.ref(connection)
        self.blocks: list[_Block] = []
        self._watched = False
        self._transaction: weakref.ref[sa.RootTransaction] | None = None  # the one that the next two speak of
        self._current: _Settings | None = None  # what it acts as; None: what it had before the first block
        self._certain = True  # False: a rollback may have changed that
        self._switching = False

    @classmethod
    def of(cls, connection: sa.Connection) -> _Switch:
        switch = cls._all.get(connection)
        if switch is None:
            switch = cls._all[connection] = cls(connection)
        return switch

    def watch(self, connection: sa.Connection) -> None:
        """Look at each statement from now on. It costs every statement of the connection: hence not always."""
        if not self._watched:
            self._watched = True
            event.listen(connection, "before_cursor_execute", self._before_statement)

    def bring_about(self, connection: sa.Connection) -> None:
        """Make the current transaction act as it should, by one round trip at most where it does not."""
        transaction = connection.get_transaction()
        assert transaction is not None  # noqa: S101  both callers have one
        if self._transaction is None or self._transaction() is not transaction:
            self._transaction, self._current, self._certain = weakref.ref(transaction), None, True
        wanted = max(self.blocks, key=lambda block: block.number).settings if self.blocks else None
        if wanted == self._current and self._certain:
            return
        _refuse_autocommit(connection)
        self._switching = True
        try:
            if wanted:
                _send(connection, _ENTER, wanted._asdict())
            else:
                _send(connection, _LEAVE, {})
        except DBAPIError as error:
            if wanted and (explained := _explained(error, wanted.role)):
                raise explained from error
            raise
        finally:
            self._switching = False
        self._current, self._certain = wanted, True

    def _before_statement(self, connection: sa.Connection, _: object, statement: str, *__: object) -> None:
        if self._switching:
            return
        if not _ROLLBACK.match(statement):  # in a transaction that failed nothing else can be sent
            self.bring_about(connection)
        if "ROLLBACK" in statement.upper():  # to a savepoint, maybe behind a comment or another statement
            self._certain = False


_ROLLBACK = re.compile(r"\s*ROLLBACK\b", re.IGNORECASE)

_blocks_of_sessions: weakref.WeakKeyDictionary[Session, list[_Block]] = weakref.WeakKeyDictionary()


@event.listens_for(Session, "after_begin")  # of every session: to listen to one takes longer than what it hears
def _cover_new_transaction(session: Session, transaction: SessionTransaction, connection: sa.Connection) -> None:
    """Let a session's blocks hold for the transaction it has begun; a savepoint acts as its transaction does.

    A connection that the session opened for it need not be watched: every savepoint of a transaction that begins
    within the blocks goes back to the settings of the innermost.
    """
    blocks = _blocks_of_sessions.get(session)
    if blocks and not transaction.nested:
        _cover(connection, blocks, watched=not _connections(transaction)[connection])


def _cover(connection: sa.Connection, blocks: list[_Block], *, watched: bool) -> None:
    switch = _Switch.of(connection)
    for block in blocks:
        block.join(switch)
    if watched:
        switch.watch(connection)
    if connection.in_transaction():
        try:
            switch.bring_about(connection)
        except BaseException:
            switch.watch(connection)  # whoever goes on all the same is refused again
            raise


@contextmanager
def _block(target: Session | sa.Connection, settings: _Settings) -> Iterator[None]:
    block = _Block(settings)
    if isinstance(target, sa.Connection):
        _refuse_autocommit(target)
        try:
            block.cover(target)
            yield
        finally:
            block.end()
        return
    session = target() if isinstance(target, scoped_session) else target
    if session.in_transaction():
        session.flush()
    blocks = _blocks_of_sessions.setdefault(session, [])
    blocks.append(block)
    try:
        for connection in _connections(session.get_transaction()):
            block.cover(connection)
        yield
        session.flush()
    except BaseException:
        _forget_unwritten(session)
        raise
    finally:
        blocks.remove(block)
        block.end()


@asynccontextmanager
async def _async_block(target: AsyncSession | AsyncConnection, settings: _Settings) -> AsyncIterator[None]:
    block = await target.run_sync(_entered, settings)
    try:
        yield
    except BaseException as error:  # a cancelled task too; nothing is sent
        block.__exit__(type(error), error, error.__traceback__)
        raise
    await target.run_sync(lambda _: block.__exit__(None, None, None))


def _entered(target: Session | sa.Connection, settings: _Settings) -> AbstractContextManager[None]:
    block = _block(target, settings)
    block.__enter__()
    return block


def _send(connection: sa.Connection, statement: sa.TextClause, values: dict[str, Any]) -> None:
    """Execute as the driver takes it: what SQLAlchemy does for a result is of no use, and every transaction pays it."""
    text, order = _for_driver(statement, connection.dialect)
    driver = connection.connection.driver_connection
    if not isinstance(driver, psycopg.Connection | psycopg.AsyncConnection) or not _waits_for_begin(driver):
        connection.exec_driver_sql(text, values if order is None else tuple(values[name] for name in order)).close()
        return
    try:
        if isinstance(driver, psycopg.Connection):
            _send_with_begin(driver, text, values)
        else:
            adapted = cast(sa.AdaptedConnection, connection.connection.dbapi_connection)
            adapted.run_async(lambda wrapped: _send_with_begin_async(wrapped, text, values))
    except BaseException as error:  # a lost connection and a cancelled task too: as of any other statement
        connection._handle_dbapi_exception(error, text, values, None, None)


def _waits_for_begin(driver: psycopg.Connection | psycopg.AsyncConnection) -> bool:
    """Whether BEGIN is yet to be sent, and what comes after it need not wait for the answer."""
    return psycopg.capabilities.has_pipeline() and driver.info.transaction_status == TransactionStatus.IDLE


# If BEGIN fails, the server skips what comes after it, up to the end of the pipeline.
def _send_with_begin(driver: psycopg.Connection, text: str, values: dict[str, Any]) -> None:
    with driver.pipeline() as pipeline:
        _queue_begin(driver, pipeline)
        driver.execute(text, values)


async def _send_with_begin_async(driver: psycopg.AsyncConnection, text: str, values: dict[str, Any]) -> None:
    async with driver.pipeline() as pipeline:
        _queue_begin(driver, pipeline)
        await driver.execute(text, values)


def _queue_begin(
    driver: psycopg.Connection | psycopg.AsyncConnection, pipeline: psycopg.Pipeline | psycopg.AsyncPipeline
) -> None:
    """Put BEGIN into the pipeline: psycopg, which would wait for its answer, then takes it for sent."""
    driver.pgconn.send_query_params(driver._get_tx_start_command(), None)
    pipeline.result_queue.append(None)  # its answer is a command's, and no cursor's


@lru_cache(maxsize=64)
def _for_driver(statement: sa.TextClause, dialect: sa.Dialect) -> tuple[str, tuple[str, ...] | None]:
    compiled = statement.compile(dialect=dialect)
    return compiled.string, tuple(compiled.positiontup) if compiled.positiontup is not None else None


def _forget_unwritten(session: Session) -> None:
    """Leave nothing to be written later, as whoever is the caller then. Sends nothing."""
    for instance in session.new:
        if instance in session:  # not expunged with its parent
            session.expunge(instance)
    for instance in session.deleted:
        session.add(instance)
    for instance in session.dirty:
        session.expire(instance)


def _connections(transaction: SessionTransaction | None) -> dict[sa.Connection, bool]:
    """Return the connections of a session's transaction, and of each whether the session opened it itself."""
    entries = () if transaction is None else transaction._connections.values()
    return {connection: opened for connection, _, _, opened in entries}


def _refuse_autocommit(connection: sa.Connection) -> None:
    driver = connection.connection.dbapi_connection
    if driver is not None and connection.dialect.detect_autocommit_setting(driver):
        raise ActingError(
            "This connection is in autocommit (isolation level AUTOCOMMIT), so nothing was run: settings last for a "
            "transaction, and every statement would be one of its own, run as the login. Use an engine or session "
            "without isolation_level='AUTOCOMMIT'."
        )


def _explained(error: DBAPIError, role: str) -> LoginError | None:
    """Return the error to raise when switching failed, where the role is the reason."""
    state = getattr(error.orig, "sqlstate", None)
    if state == "42501":
        return LoginError(
            f"The login may not become {role}, so nothing was run. check_login() prints the GRANT for an administrator."
        )
    if state == "22023":
        return LoginError(
            f"This server has no role {role}, so nothing was run. Run `chat-schema upgrade head`, or pass role= as the "
            "migrations were told to call it (-x)."
        )
    return None
