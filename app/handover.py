"""Everything of a person: handed over as a file, read into another database, erased.

An export is JSON Lines. The first line is the manifest: whose rows, from which revision, how many of which table and
with which columns. Each other line is a row, ``{"table": ..., "row": {...}}``. The server writes and reads the rows, so
a number or a time arrives as it left, and memory stays constant, however much a person has.

An export holds no password hash and no key of a model provider. The bytes of attachments lie where the service has put
them: `storage_key` says where.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any
from uuid import UUID

import psycopg
import sqlalchemy as sa
from alembic.util import CommandError

FORMAT = "chat-schema export"
VERSION = 1
LONGEST_LINE = 2**28  # characters; the server takes no value of more than a gigabyte
_AT_ONCE = 100  # rows that the client holds


@dataclasses.dataclass(frozen=True)
class Owned:
    """A table whose rows have an owner: how they are handed over, read in and erased."""

    name: str
    order: str
    key: tuple[str, ...] = ("id",)
    owner: str = "user_id"
    schema: str = "public"
    withheld: tuple[str, ...] = ()  # columns that no export holds
    renewed: tuple[str, ...] = ()  # columns that the other database gives anew
    afterwards: tuple[str, ...] = ()  # columns that are set when all rows are in: triggers would move them, or a key
    imported: bool = True

    @property
    def relation(self) -> str:
        """The name with its schema."""
        return f"{self.schema}.{self.name}"


# In the order in which rows can be inserted. A test holds every table with an owner against it.
OWNED = (
    Owned("users", "id", owner="id", withheld=("password_hash",)),
    Owned("tenant_users", "tenant_id", key=("tenant_id", "user_id")),
    Owned("tasks", "created_at, id"),
    Owned("conversations", "created_at, id", afterwards=("head_message_id",)),
    # by seq: a parent was there before its answers, whatever their times say
    Owned("messages", "conversation_id, seq", renewed=("seq",)),
    Owned("chat_messages", "conversation_id, created_at, id"),
    Owned("chat_session_arrays", "session_id", key=("session_id",), schema="chat_internal"),
    Owned("brands", "created_at, id"),
    Owned("conversation_sessions", "created_at, id", afterwards=("last_activity_at",)),
    Owned("conversation_messages", "session_id, created_at, seq", renewed=("seq",)),
    Owned("attachments", "created_at, id"),
    Owned("feedback", "message_id", key=("message_id", "user_id")),
    Owned("shares", "created_at, id"),
    Owned(
        "user_llm_providers",
        "provider",
        key=("user_id", "provider"),
        withheld=("ciphertext", "key_id"),
        imported=False,  # the keys of a service are its own: the user enters the API key anew
    ),
    Owned(
        "retention_holds",
        "conversation_id",
        key=("conversation_id", "user_id"),
        imported=False,  # which rows are held is each service's to say
    ),
)
# The tenants of a person's memberships and conversations are not its own. They come along, so that both can be read in.
TENANTS = Owned("tenants", "id")
_READ_WITH_TENANTS = ("tenants", "tenant_users")


def export(connection: sa.Connection, user: UUID) -> Iterator[str]:
    """Yield the lines of the export of ``user``, as of one moment.

    Raises :class:`alembic.util.CommandError` where there is no such user, or the database is not at head.
    """
    connection.rollback()
    connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    for setting in ("TimeZone = 'UTC'", "bytea_output = 'hex'", "extra_float_digits = 1"):
        connection.exec_driver_sql(f"SET LOCAL {setting}")
    try:
        columns = {part.name: _columns(connection, part) for part in (TENANTS, *OWNED)}
        if not connection.scalar(sa.text("SELECT true FROM public.users WHERE id = :user"), {"user": user}):
            raise CommandError(f"There is no user {user} in this database, so nothing was exported.")
        queries = {part.name: _rows_of(part) for part in (TENANTS, *OWNED)}
        counts = {
            name: connection.scalar(sa.text(f"SELECT count(*) {query}"), {"user": user})
            for name, query in queries.items()
        }
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "user": str(user),
            "revision": connection.scalar(sa.text("SELECT version_num FROM chat_internal.alembic_version")),
            "exported_at": connection.scalar(sa.text("SELECT pg_catalog.now()::text")),
            "tables": {name: {"rows": counts[name], "columns": columns[name]} for name in queries},
        }
        yield json.dumps(manifest)
        for part in (TENANTS, *OWNED):
            selected = ", ".join(f't."{column}"' for column in columns[part.name])
            row = (
                f"SELECT pg_catalog.row_to_json(r)::text FROM (SELECT {selected} {queries[part.name]}"
                f" ORDER BY {part.order}) AS r"
            )
            streamed = connection.execute(
                sa.text(row), {"user": user}, execution_options={"stream_results": True, "yield_per": _AT_ONCE}
            )
            for [text] in streamed:
                yield f'{{"table": "{part.name}", "row": {text}}}'
    finally:
        connection.rollback()


def _rows_of(part: Owned) -> str:
    if part is TENANTS:
        return (
            "FROM public.tenants AS t WHERE t.id IN ("
            "SELECT m.tenant_id FROM public.tenant_users AS m WHERE m.user_id = :user"
            " UNION SELECT c.tenant_id FROM public.conversations AS c WHERE c.user_id = :user)"
        )
    return f"FROM {part.relation} AS t WHERE t.{part.owner} = :user"


def _columns(connection: sa.Connection, part: Owned) -> list[str]:
    """Return the columns that an export holds, in their order."""
    found = connection.scalars(
        sa.text(
            "SELECT a.attname::text FROM pg_catalog.pg_attribute AS a"
            " WHERE a.attrelid = to_regclass(:table) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
        ),
        {"table": part.relation},
    ).all()
    if not found:
        raise CommandError(f"This database has no {part.relation} yet: run `chat-schema upgrade head` first.")
    return [name for name in found if name not in part.withheld]


@dataclasses.dataclass(frozen=True)
class Imported:
    """What an import has done: of each table how many rows the file holds, and how many of them are new here."""

    user: UUID
    rows: Mapping[str, int]
    new: Mapping[str, int]


def read_in(connection: sa.Connection, path: Path, *, with_tenants: bool = False) -> Imported:
    """Read the export in the file ``path`` into this database, in one transaction, under the same ids.

    A row that is here already stays as it is, so reading a file twice changes nothing. Tenants and memberships are
    read ``with_tenants`` alone: who wrote the file must not make itself a member.

    Raises :class:`alembic.util.CommandError` for a file that is none, is not whole, or holds a row that is not this
    user's or cannot stand here; nothing is read in then.
    """
    connection.rollback()
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            manifest = _Manifest.of(path, file)
            columns = _importable(connection, path, manifest)
            _stage(connection, path, file, manifest)
        parts = [part for part in (TENANTS, *OWNED) if with_tenants or part.name not in _READ_WITH_TENANTS]
        parts = [part for part in parts if part.imported and part.name in columns]
        new = {part.name: _insert(connection, path, manifest, part, columns[part.name]) for part in parts}
        for part in parts:
            if part.afterwards:
                _set_afterwards(connection, part)
        connection.commit()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path} cannot be read, so nothing was imported: {error}") from None
    except sa.exc.DBAPIError as error:
        raise _refused(path, error.orig) from None
    except psycopg.Error as error:
        raise _refused(path, error) from None
    finally:
        connection.rollback()
    return Imported(manifest.user, {name: manifest.rows[name] for name in new}, new)


def _refused(path: Path, error: object) -> CommandError:
    said = str(error).strip().splitlines()[0]
    missing = "violates foreign key" in said
    return CommandError(
        f"{path} was refused by the database, so nothing was imported: {said}\n"
        + (
            "A row refers to one that is neither in the file nor here. Tenants and memberships come by --with-tenants; "
            "brands of other users and accounts of auth.users come before."
            if missing
            else "Export it again, or correct the file."
        )
    )


@dataclasses.dataclass(frozen=True)
class _Manifest:
    user: UUID
    rows: Mapping[str, int]
    columns: Mapping[str, list[str]]

    @classmethod
    def of(cls, path: Path, file: IO[str]) -> _Manifest:
        """Read the first line."""
        found = _parsed(path, 1, file.readline(LONGEST_LINE))
        try:
            if found["format"] != FORMAT:
                raise KeyError
            if found["version"] != VERSION:
                raise CommandError(
                    f"{path} is an export of version {found['version']!r}, so nothing was imported: this chat-schema "
                    f"reads version {VERSION}. Read it in with the chat-schema that wrote it."
                )
            tables = found["tables"]
            rows = {str(name): int(table["rows"]) for name, table in tables.items()}
            columns = {str(name): [str(column) for column in table["columns"]] for name, table in tables.items()}
            return cls(UUID(found["user"]), rows, columns)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise CommandError(
                f"{path} does not begin with the manifest of an export, so nothing was imported. `chat-schema export "
                "--user ID --output FILE` writes one."
            ) from None


def _parsed(path: Path, number: int, line: str) -> dict[str, Any]:
    if len(line) >= LONGEST_LINE and not line.endswith("\n"):
        raise CommandError(f"Line {number} of {path} has no end, so nothing was imported: it is no export.")
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise CommandError(
            f"Line {number} of {path} is no JSON object, so nothing was imported: the file is no export, or not whole."
        )
    return found


def _importable(connection: sa.Connection, path: Path, manifest: _Manifest) -> dict[str, list[str]]:
    """Return the columns to fill of each table, and refuse a file that has tables or columns which are not here."""
    known = {part.name: part for part in (TENANTS, *OWNED)}
    columns = {}
    for name, named in manifest.columns.items():
        strange = [name] if name not in known else sorted({*named} - {*_columns(connection, known[name])})
        if strange:
            raise CommandError(
                f"{path} has {', '.join(map(repr, strange[:5]))}, which is not here, so nothing was imported: "
                "a newer chat-schema wrote it. Upgrade this one and run `chat-schema upgrade head`."
            )
        columns[name] = [column for column in named if column not in known[name].renewed]
    return columns


def _stage(connection: sa.Connection, path: Path, file: IO[str], manifest: _Manifest) -> None:
    """Copy the rows into a temporary table, and see to it that they are as many as the manifest says."""
    connection.exec_driver_sql(
        "CREATE TEMPORARY TABLE chat_schema_import (number bigint NOT NULL, part text NOT NULL, line json NOT NULL)"
        " ON COMMIT DROP"
    )
    connection.exec_driver_sql(
        "CREATE TEMPORARY TABLE chat_schema_added (part text NOT NULL, id uuid NOT NULL) ON COMMIT DROP"
    )
    found = dict.fromkeys(manifest.rows, 0)
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)  # noqa: S101  ours is no other
    number = 1
    with (
        driver.cursor() as cursor,
        cursor.copy("COPY pg_temp.chat_schema_import (number, part, line) FROM STDIN") as copy,
    ):
        while line := file.readline(LONGEST_LINE):
            number += 1
            parsed = _parsed(path, number, line)
            part = parsed.get("table")
            if part not in found or not isinstance(parsed.get("row"), dict):
                raise CommandError(
                    f"Line {number} of {path} is no row of a table that the manifest names, so nothing was imported."
                )
            found[part] += 1
            copy.write_row((number, part, line))
    wrong = [f"{found[name]:,} of {rows:,} {name}" for name, rows in manifest.rows.items() if found[name] != rows]
    if wrong:
        raise CommandError(
            f"{path} is not whole, so nothing was imported: it holds {', '.join(wrong)}. Copy or export it again."
        )


def _insert(connection: sa.Connection, path: Path, manifest: _Manifest, part: Owned, columns: list[str]) -> int:
    """Insert the rows of a table that are not here yet; all are to be here then, and this user's."""
    inserted = [column for column in columns if column not in part.afterwards]
    names = ", ".join(f'"{column}"' for column in inserted)
    given = ", ".join(f'r."{column}"' for column in inserted)
    rows = (
        f"FROM pg_temp.chat_schema_import AS i"
        f" CROSS JOIN LATERAL pg_catalog.json_populate_record(NULL::{part.relation}, i.line -> 'row') AS r"
        f" WHERE i.part = '{part.name}'"
    )
    added = f"INSERT INTO {part.relation} ({names}) SELECT {given} {rows} ORDER BY i.number ON CONFLICT DO NOTHING"
    if part.afterwards:
        new = connection.exec_driver_sql(
            f"WITH added AS ({added} RETURNING id)"
            f" INSERT INTO pg_temp.chat_schema_added (part, id) SELECT '{part.name}', a.id FROM added AS a"
        ).rowcount
    else:
        new = connection.exec_driver_sql(added).rowcount
    same = " AND ".join(f't."{column}" = r."{column}"' for column in part.key)
    of_user = "" if part is TENANTS else f" AND t.{part.owner} = :user"
    strange = connection.execute(
        sa.text(
            f"SELECT count(*), min(i.number) {rows}"
            f" AND NOT EXISTS (SELECT FROM {part.relation} AS t WHERE {same}{of_user})"
        ),
        {"user": manifest.user},
    ).one()
    if strange[0]:
        raise CommandError(
            f"{path} was refused, so nothing was imported: {strange[0]:,} rows of {part.name}, the first in line "
            f"{strange[1]}, are not of user {manifest.user}, or what they hold is somebody else's here (an id, an "
            "address, a key)."
        )
    return new


def _set_afterwards(connection: sa.Connection, part: Owned) -> None:
    for column in part.afterwards:
        connection.exec_driver_sql(
            f"UPDATE {part.relation} AS t SET {column} = r.{column}"
            " FROM pg_temp.chat_schema_added AS a, pg_temp.chat_schema_import AS i"
            f" CROSS JOIN LATERAL pg_catalog.json_populate_record(NULL::{part.relation}, i.line -> 'row') AS r"
            f" WHERE a.part = '{part.name}' AND i.part = '{part.name}' AND r.id = a.id AND t.id = a.id"
            f" AND t.{column} IS DISTINCT FROM r.{column}"
        )


@dataclasses.dataclass(frozen=True)
class Erased:
    """What an erasure has removed: rows by table, and what it leaves."""

    rows: Mapping[str, int]
    empty_tenants: tuple[UUID, ...]
    account: bool  # in auth.users, which the platform deletes


def owned_rows(connection: sa.Connection, user: UUID) -> dict[str, int]:
    """Count the rows of a user by table; tables without one are left out.

    Raises :class:`alembic.util.CommandError` where there is no such user.
    """
    for part in OWNED:
        _columns(connection, part)
    counts = {
        part.name: connection.scalar(sa.text(f"SELECT count(*) {_rows_of(part)}"), {"user": user}) or 0
        for part in OWNED
    }
    if not counts["users"]:
        raise CommandError(f"There is no user {user} in this database, so nothing was erased.")
    return {name: count for name, count in counts.items() if count}


def storage_keys(connection: sa.Connection, user: UUID) -> Iterator[str]:
    """Yield the storage keys of a user's attachments: the bytes there are the service's to remove."""
    yield from connection.execute(
        sa.text(
            "SELECT t.storage_key FROM public.attachments AS t WHERE t.user_id = :user ORDER BY t.created_at, t.id"
        ),
        {"user": user},
        execution_options={"stream_results": True, "yield_per": _AT_ONCE},
    ).scalars()


def lock(connection: sa.Connection, user: UUID) -> None:
    """Keep everybody from adding rows of ``user`` until the transaction ends; begin :func:`erase` with it."""
    connection.execute(sa.text("SELECT FROM public.users WHERE id = :user FOR UPDATE"), {"user": user})


def erase(connection: sa.Connection, user: UUID) -> Erased:
    """Remove a user and every row of it, in the transaction that is open, which the caller commits.

    Raises :class:`alembic.util.CommandError` where there is no such user, or rows of others would go too.
    """
    counts = owned_rows(connection, user)
    others = connection.scalar(
        sa.text(
            "SELECT count(*) FROM public.conversation_sessions AS s JOIN public.brands AS b ON b.id = s.brand_id"
            " WHERE b.user_id = :user AND s.user_id <> :user"
        ),
        {"user": user},
    )
    if others:
        raise CommandError(
            f"{others:,} creative sessions of other users are on brands of user {user} and would go too, so nothing "
            "was erased. Give them another brand or delete them first:\n"
            "  SELECT s.id, s.user_id\n"
            "  FROM public.conversation_sessions AS s JOIN public.brands AS b ON b.id = s.brand_id\n"
            f"  WHERE b.user_id = '{user}' AND s.user_id <> b.user_id;"
        )
    if held := counts.get("retention_holds"):
        raise CommandError(
            f"{held:,} conversations of user {user} are held, so nothing was erased. If they may go, lift the holds "
            "first:\n"
            f"  DELETE FROM public.retention_holds WHERE user_id = '{user}';"
        )
    empty = connection.scalars(
        sa.text(
            "SELECT m.tenant_id FROM public.tenant_users AS m WHERE m.user_id = :user AND NOT EXISTS ("
            "SELECT FROM public.tenant_users AS o WHERE o.tenant_id = m.tenant_id AND o.user_id <> :user) ORDER BY 1"
        ),
        {"user": user},
    ).all()
    noted = 0
    for part in OWNED:  # what adoption has noted of the rows as they were
        if part.key == ("id",):
            noted += connection.execute(
                sa.text(
                    f"DELETE FROM chat_internal.adopted_values AS v USING {part.relation} AS t"
                    f" WHERE v.object = '{part.name}' AND v.key = pg_catalog.jsonb_build_object('id', t.id)"
                    f" AND t.{part.owner} = :user"
                ),
                {"user": user},
            ).rowcount
    connection.execute(sa.text("DELETE FROM public.users WHERE id = :user"), {"user": user})
    if noted:
        counts["values noted when the tables were adopted"] = noted
    account = connection.scalar(sa.text("SELECT chat_internal.has_auth_users()")) and connection.scalar(
        sa.text("SELECT true FROM auth.users WHERE id = :user"), {"user": user}
    )
    return Erased(counts, tuple(empty), bool(account))
