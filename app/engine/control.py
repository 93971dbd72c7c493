"""What is wished of a deployment from another terminal, and what the deployment says of itself: one small table.

It stands beside the version table, is named after it and has the same owner. Who may write it may steer.
It is made when there is something to say, and dropped by the end of a run that leaves no wish behind. A pause and a
throttle stay until they are taken back, so that the next run obeys them as well.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import sqlalchemy as sa
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

from .project import VersionTable

T = TypeVar("T")

PAUSE, THROTTLE, STATUS = "pause", "throttle", "status"
FULL = 100  # percent of the time that a backfill works while nobody throttles it
_MADE_OR_GONE = ("42P01", "42P07", "23505")  # undefined_table, duplicate_table, unique_violation


@dataclasses.dataclass(frozen=True)
class Wish:
    """What somebody asked for, since when, and by which login."""

    value: Any
    since: datetime.datetime
    login: str

    def __str__(self) -> str:
        return f"since {self.since:%Y-%m-%d %H:%M:%S %Z}, by the login {self.login}"

    @property
    def token(self) -> str:
        """What tells this wish from any other."""
        return self.since.isoformat()


@dataclasses.dataclass(frozen=True)
class Control:
    """The table, by its quoted name; every method commits."""

    versions: VersionTable
    name: str
    table: str

    @classmethod
    def beside(cls, connection: sa.Connection, versions: VersionTable) -> Control:
        """Return the one that steers the chain of ``versions``."""
        name = f"{versions.name}_control"
        quoted = connection.dialect.identifier_preparer.format_table(sa.table(name, schema=versions.schema))
        return cls(versions, name, quoted)

    def stands(self, connection: sa.Connection) -> bool:
        """Tell whether the table is there and this login may read it."""
        readable = sa.text(
            "SELECT c.oid IS NOT NULL AND pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE')"
            " AND pg_catalog.has_table_privilege(c.oid, 'SELECT')"
            " FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"
            " WHERE n.nspname = :schema AND c.relname = :name"
        )
        with _ended(connection):
            return bool(connection.scalar(readable, {"schema": self.versions.schema, "name": self.name}))

    def read(self, connection: sa.Connection) -> dict[str, Wish]:
        """Return what stands there by name: :data:`PAUSE`, :data:`THROTTLE`, :data:`STATUS`."""
        with _ended(connection):
            try:
                rows = connection.execute(sa.text(f"SELECT name, value, since, login FROM {self.table}")).all()
            except DBAPIError as error:
                if _state(error) != "42P01":
                    raise
                return {}
        return {row.name: Wish(row.value, row.since, row.login) for row in rows}

    def make(self, connection: sa.Connection) -> None:
        """Create the table where it is missing, for the owner of the version table alone."""
        with _ended(connection):
            if connection.scalar(sa.text("SELECT pg_catalog.to_regclass(:name)"), {"name": self.table}) is not None:
                return
            owner = connection.scalar(
                sa.text(
                    "SELECT pg_catalog.pg_get_userbyid(c.relowner) FROM pg_catalog.pg_class AS c"
                    " JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"
                    " WHERE n.nspname = :schema AND c.relname = :name AND c.relowner <> current_user::regrole"
                ),
                {"schema": self.versions.schema, "name": self.versions.name},
            )
            given = ""
            if owner is not None:  # made by a superuser or a member: the next deployment's login must read it
                given = f" ALTER TABLE {self.table} OWNER TO {_quoted_role(connection, str(owner))};"
            connection.execution_options(no_parameters=True).exec_driver_sql(
                f"CREATE TABLE {self.table} (name text PRIMARY KEY, value jsonb NOT NULL,"
                " since timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),"
                " login text NOT NULL DEFAULT session_user);"
                f" REVOKE ALL ON TABLE {self.table} FROM PUBLIC;"
                f" ALTER TABLE {self.table} ENABLE ROW LEVEL SECURITY;{given}"
            )

    def write(self, connection: sa.Connection, name: str, value: Any) -> Wish:
        """Let ``name`` be ``value``, make the table where it is missing, and return what stands then."""

        def write() -> Wish:
            self.make(connection)
            return self._put(connection, name, value)

        return _tried_again(write)

    def publish(self, connection: sa.Connection, status: Mapping[str, Any]) -> None:
        """Write what the run says of itself; whoever took the last wish back meanwhile has dropped the table."""
        try:
            self._put(connection, STATUS, status)
        except DBAPIError as error:
            if _state(error) not in _MADE_OR_GONE:
                raise
            self.write(connection, STATUS, status)

    def _put(self, connection: sa.Connection, name: str, value: Any) -> Wish:
        statement = sa.text(
            f"INSERT INTO {self.table} AS c (name, value) VALUES (:name, CAST(:value AS jsonb))"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value, since = excluded.since, login = excluded.login"
            " RETURNING c.value, c.since, c.login"
        )
        with _ended(connection):
            return Wish(*connection.execute(statement, {"name": name, "value": json.dumps(value)}).one())

    def take_back(self, connection: sa.Connection, name: str) -> Wish | None:
        """Remove the wish ``name`` and return it, None where there was none."""
        with _ended(connection):
            try:
                row = connection.execute(
                    sa.text(f"DELETE FROM {self.table} WHERE name = :name RETURNING value, since, login"),
                    {"name": name},
                ).first()
            except DBAPIError as error:
                if _state(error) != "42P01":
                    raise
                return None
        self.leave(connection, keep_status=True)
        return None if row is None else Wish(*row)

    def leave(self, connection: sa.Connection, *, keep_status: bool = False, at_base: bool = False) -> None:
        """Drop the table unless a wish is left in it; ``at_base`` in any case.

        ``keep_status``: nor where a deployment has written what it does.
        """
        left = "true" if keep_status else f"name <> '{STATUS}'"
        with contextlib.suppress(DBAPIError), _ended(connection):  # gone, or somebody writes a wish this moment
            connection.exec_driver_sql(f"LOCK TABLE {self.table} IN ACCESS EXCLUSIVE MODE")
            if at_base or not connection.scalar(sa.text(f"SELECT EXISTS (SELECT FROM {self.table} WHERE {left})")):
                connection.exec_driver_sql(f"DROP TABLE {self.table}")
            elif not keep_status:
                connection.exec_driver_sql(f"DELETE FROM {self.table} WHERE name = '{STATUS}'")


def share(wishes: Mapping[str, Wish]) -> int:
    """Return how many percent of the time a backfill may work."""
    wish = wishes.get(THROTTLE)
    return wish.value if wish is not None and isinstance(wish.value, int) and 1 <= wish.value <= FULL else FULL


def percent(text: str) -> int:
    """Read ``25``, ``25%`` or ``off``. Raises :class:`alembic.util.CommandError` for anything else."""
    if text == "off":
        return FULL
    number = text.removesuffix("%")
    if not number.isdecimal() or not 1 <= int(number[:4]) <= FULL:
        raise CommandError(
            f"throttle takes the share of the time that a backfill may work, 1% to {FULL}%, or off, not {text!r}. "
            "Nothing was changed."
        )
    return int(number)


@contextlib.contextmanager
def _ended(connection: sa.Connection) -> Iterator[None]:
    """Leave no transaction open, whatever happens."""
    try:
        yield
    except BaseException:
        if not connection.invalidated:
            connection.rollback()
        raise
    connection.commit()


def _tried_again(function: Callable[[], T]) -> T:
    """Call it again where the table was dropped, or made, by somebody else between two statements."""
    for _ in range(5):
        try:
            return function()
        except DBAPIError as error:
            if _state(error) not in _MADE_OR_GONE:
                raise
    return function()


def _state(error: DBAPIError) -> str | None:
    return getattr(error.orig, "sqlstate", None)


def _quoted_role(connection: sa.Connection, name: str) -> str:
    return connection.dialect.identifier_preparer.quote_identifier(name)
