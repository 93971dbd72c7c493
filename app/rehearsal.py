"""The rehearsal: the whole chain, up and down, on a copy of the catalog and of some rows, before the first change.

What a trigger, a rule or an event trigger of the application's own does to an upgrade, no look at the catalog can tell.
So the catalog goes to a scratch database on the embedded server, with the first rows of each table and what those hang
on. What fails there is an obstacle. The scratch server is one of its own in a 0700 folder, and is removed with it.

Columns that hold passwords, tokens or other secrets by their name are filled with random text. Roles are made without
password and, but for the one that migrates, without login.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import psycopg
import sqlalchemy as sa
from psycopg import sql

from . import embedded, unprivileged
from .database import create_engine
from .engine.obstacles import Obstacle
from .options import Options

log = logging.getLogger("chat_schema")

OPEN = (
    "A rehearsal shows nothing of rows outside its sample or that change meanwhile, of rights of the login, and of "
    "what needs an extension or a setting that the scratch server has not."
)
_SAMPLE = 500  # rows of each table, beside those that they hang on
_PATIENCE = 300  # seconds for one command
_SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
# children before what they hang on
_TABLES = (
    "public.conversation_messages", "public.conversation_sessions", "public.messages", "public.chat_messages",
    "public.tasks", "public.chat_sessions", "public.conversations", "public.brands", "public.tenant_users",
    "public.tenants", "public.users", "auth.users",
)  # fmt: skip
_PARENTS = {
    "user_id": ("public.users", "auth.users"),
    "tenant_id": ("public.tenants",),
    "conversation_id": ("public.conversations",),
    "session_id": ("public.conversation_sessions",),
    "brand_id": ("public.brands",),
}
_SECRET = re.compile(r"passw|secret|token|hash|credential|api_?key", re.IGNORECASE)


@dataclass
class Rehearsal:
    """What stands in the way, what could not be rehearsed, and what of the team's own would stay over our tables."""

    obstacles: list[Obstacle] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def is_needed(connection: sa.Connection, heads: tuple[str, ...], options: Options) -> bool:
    """Tell whether a database is not ours yet, and has a table in schema public that no extension has made."""
    if heads or not options.rehearse:
        return False
    found = connection.scalar(
        sa.text(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_class AS c"
            " WHERE c.relnamespace = to_regnamespace('public') AND c.relkind IN ('r', 'p') AND NOT EXISTS ("
            "SELECT FROM pg_catalog.pg_depend AS d WHERE d.objid = c.oid AND d.deptype = 'e'))"
        )
    )
    connection.rollback()
    return bool(found)


def rehearse(url: sa.URL, options: Options) -> Rehearsal:
    """Run the chain up and down on a copy of the database at ``url``; nothing is changed there."""
    found = Rehearsal()
    try:
        programs = embedded.installed_binaries()
        with _folder() as folder, embedded.running(folder / "data", settings=_SETTINGS) as server:
            scratch = _Scratch(url, server, programs, options, found)
            with contextlib.closing(create_engine(url).raw_connection()) as raw:
                source = cast("psycopg.Connection[Any]", raw.driver_connection)
                if scratch.has_copy_of(source) and scratch.goes("upgrade", "head"):
                    found.kept += scratch.kept()
                    scratch.goes("downgrade", "base")
    except (embedded.EmbeddedServerError, psycopg.Error, sa.exc.DBAPIError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        found.notes.append(f"No rehearsal: {reason}")
    return found


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """Yield a 0700 folder of the account that the server runs as, and remove it with all that is in it."""
    base = tempfile.gettempdir()
    if not unprivileged.reaches(unprivileged.account_for(Path(base, "data")), Path(base)):
        base = "/tmp"  # noqa: S108  mkdtemp makes it ours alone
    folder = Path(tempfile.mkdtemp(prefix="chat-schema-rehearsal-", dir=base))
    try:
        unprivileged.hand_over(folder, unprivileged.account_for(folder / "data"))
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class _Scratch:
    """The copy of the database at ``url`` on the scratch server."""

    url: sa.URL
    server: embedded.Server
    programs: Path
    options: Options
    found: Rehearsal
    database: str = ""
    login: str = "postgres"

    def has_copy_of(self, source: psycopg.Connection[Any]) -> bool:
        """Copy roles, catalog and the sample; tell whether there is enough of them to rehearse on."""
        source.execute("SET default_transaction_read_only = on")
        source.execute("SET search_path = pg_catalog, pg_temp")
        source.commit()
        source.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        [(self.database, login)] = source.execute("SELECT current_database(), current_user")
        with self._connection("postgres") as everywhere:
            if login != "postgres":
                self.login = login
            for statement in self._roles(source, login):
                with contextlib.suppress(psycopg.Error):  # a member of a role that is none of the database's own
                    everywhere.execute(statement)
        dumped = self._run("pg_dump", *self._told(source), environment=_libpq(self.url))
        if dumped.returncode:
            said = dumped.stderr.decode(errors="replace").strip().splitlines()
            self.found.notes.append(f"No rehearsal: the catalog could not be read ({said[0] if said else 'pg_dump'}).")
            return False
        place = ("-h", str(self.server.socket_dir), "-p", str(self.server.port), "-U", "postgres")
        restored = self._run("psql", "-X", "-q", *place, "-d", self.database, given=dumped.stdout)
        errors = re.findall(r"ERROR: +(.+)", restored.stderr.decode(errors="replace"))
        with self._connection(self.database) as copy:
            there = {name for name in _TABLES if _columns(copy, name)}
            lost = [name for name in _TABLES if _columns(source, name) and name not in there]
            first = errors[0] if errors else "this login may not read it"
            if any(name.startswith("public.") for name in lost):
                self.found.notes.append(f"No rehearsal: {', '.join(lost)} cannot be copied ({first}).")
                return False
            if errors:
                self.found.notes.append(f"{len(errors)} statements of the catalog could not be copied ({first}).")
            copy.execute("SET session_replication_role = replica")  # no trigger fires, no key is checked
            _copy_sample(source, copy, [name for name in _TABLES if name in there])
        source.rollback()
        return True

    def goes(self, *arguments: str) -> bool:
        """Run a command of ours on the copy; tell whether it ended well, and note the obstacle if not."""
        options = [
            f"{name.replace('_', '-')}={getattr(self.options, name)}"
            for name in ("anon_role", "authenticated_role", "service_role", "on_owner_mismatch", "chats_elsewhere")
        ]
        words = [word for option in (*options, "rehearse=no", "full-speed=yes") for word in ("-x", option)]
        run = "from chat_schema.cli import main; main()"
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PG")},
            "DATABASE_URL": self.server.url(self.database, self.login).render_as_string(hide_password=False),
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        try:
            done = subprocess.run(
                [sys.executable, "-c", run, *words, *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=_PATIENCE,
            )
        except subprocess.TimeoutExpired:
            self.found.notes.append(f"No rehearsal: {' '.join(arguments)} took longer than {_PATIENCE} s on the copy.")
            return False
        if done.returncode:
            said = done.stderr.rpartition("chat-schema: ")[2].strip()
            mends = "\n".join(self._mends(said))
            told = f"`{' '.join(arguments)}`, rehearsed on a copy of the catalog and some rows, failed: {said}"
            self.found.obstacles.append(Obstacle(told, mends))
        return not done.returncode

    def kept(self) -> list[str]:
        """Return the readers and grants that the upgrade of the copy has left to the team."""
        with self._connection(self.database) as copy:
            return [
                str(says)
                for (says,) in copy.execute(
                    "SELECT format('%s %s: %s', s.kind, s.identity, s.says) FROM chat_internal.kept AS k"
                    " JOIN chat_internal.surroundings() AS s USING (kind, identity)"
                    " WHERE k.properties IS NOT NULL ORDER BY 1"
                )
            ]

    def _mends(self, said: str) -> Iterator[str]:
        """Give the statements that take the application's own triggers out of the way that ``said`` speaks of."""
        function = re.search(r"(?:raised|called) by (\w+\.\w+)", said)
        table = re.search(r"rows of (public\.\w+) still wait", said)
        with self._connection(self.database) as copy:
            if function or table:
                for tab, name in copy.execute(
                    "SELECT g.tgrelid::regclass::text, quote_ident(g.tgname) FROM pg_trigger AS g"
                    " WHERE NOT g.tgisinternal AND (g.tgfoid::regproc::text = %s OR g.tgrelid = to_regclass(%s)"
                    "   AND g.tgtype & 18 = 18 AND g.tgfoid::regproc::text !~ '^(chat_internal\\.|public.update_up)')",
                    [function and function[1], table and table[1]],
                ):
                    yield f"ALTER TABLE {tab} DISABLE TRIGGER {name};  -- and enable it after the upgrade"
            if function:
                for (name,) in copy.execute(
                    "SELECT quote_ident(e.evtname) FROM pg_event_trigger AS e WHERE e.evtfoid::regproc::text = %s",
                    [function[1]],
                ):
                    yield f"ALTER EVENT TRIGGER {name} DISABLE;  -- and enable it after the upgrade"

    def _connection(self, database: str) -> psycopg.Connection[Any]:
        return psycopg.connect(
            host=str(self.server.socket_dir),
            port=self.server.port,
            user="postgres",
            dbname=database,
            autocommit=True,
            options="-c search_path=pg_catalog,pg_temp",
        )

    def _roles(self, source: psycopg.Connection[Any], login: str) -> Iterator[sql.Composed]:
        """Give the statements for the database, its roles and settings."""
        attributes = "rolsuper, rolcreaterole, rolbypassrls, rolinherit"
        for name, *has in source.execute(f"SELECT rolname, {attributes} FROM pg_roles WHERE rolname !~ '^pg_'"):
            words = ("SUPERUSER", "CREATEROLE", "BYPASSRLS", "INHERIT")
            told = " ".join(word if each else f"NO{word}" for word, each in zip(words, has, strict=True))
            yield sql.SQL("CREATE ROLE {} {} {}").format(
                sql.Identifier(name),
                sql.SQL("LOGIN" if name == login else "NOLOGIN"),
                sql.SQL(told),
            )
        for role, member in source.execute(
            "SELECT r.rolname, m.rolname FROM pg_auth_members AS a JOIN pg_roles AS r ON r.oid = a.roleid"
            " JOIN pg_roles AS m ON m.oid = a.member WHERE m.rolname !~ '^pg_'"
        ):
            yield sql.SQL("GRANT {} TO {}").format(sql.Identifier(role), sql.Identifier(member))
        [(owner,)] = source.execute(
            "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()"
        )
        database = sql.Identifier(self.database)
        yield sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0").format(database, sql.Identifier(owner))
        yield sql.SQL("GRANT ALL ON DATABASE {} TO {}").format(database, sql.Identifier(login))
        for name, value in source.execute(  # a setting of an application's own can be a secret
            "SELECT split_part(c, '=', 1), substr(c, strpos(c, '=') + 1)"
            " FROM pg_db_role_setting AS s CROSS JOIN unnest(s.setconfig) AS c"
            " JOIN pg_database AS d ON d.oid = s.setdatabase AND d.datname = current_database()"
            " WHERE s.setrole = 0 AND strpos(split_part(c, '=', 1), '.') = 0"
        ):
            yield sql.SQL("ALTER DATABASE {} SET {} = {}").format(database, sql.Identifier(name), sql.Literal(value))

    def _told(self, source: psycopg.Connection[Any]) -> list[str]:
        """Return the options of pg_dump: what this login may not read is left out."""
        unread = source.execute(
            "SELECT 'schema', quote_ident(n.nspname) FROM pg_namespace AS n"
            " WHERE n.nspname !~ '^pg_' AND NOT has_schema_privilege(n.oid, 'USAGE')"
            " UNION ALL SELECT 'table', format('%I.%I', n.nspname, c.relname)"
            " FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
            " WHERE n.nspname !~ '^(pg_|information_schema$)' AND c.relkind IN ('r', 'p')"
            "  AND has_schema_privilege(n.oid, 'USAGE') AND NOT has_table_privilege(c.oid, 'SELECT')"
        ).fetchall()
        source.rollback()  # pg_dump has a snapshot of its own
        return [
            "--schema-only", "--no-publications", "--no-subscriptions", "--no-security-labels", "--no-tablespaces",
            "--lock-wait-timeout=10s", *(f"--exclude-{kind}={name}" for kind, name in unread),
        ]  # fmt: skip

    def _run(
        self, program: str, *arguments: str, environment: dict[str, str] | None = None, given: bytes | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        own = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
        return subprocess.run(
            [self.programs / program, *arguments],
            env={**own, **(environment or {})},
            input=given or b"",
            capture_output=True,
            check=False,
            timeout=_PATIENCE,
        )


def _libpq(url: sa.URL) -> dict[str, str]:
    """Return the address as libpq's environment, where no other user of this machine sees a password."""
    named = {"host": url.host, "port": url.port, "user": url.username, "dbname": url.database, "password": url.password}
    queried = {name: ",".join(values) for name, values in url.normalized_query.items()}
    told = {**queried, **{name: value for name, value in named.items() if value is not None}}
    variables = {option.keyword.decode(): option.envvar for option in psycopg.pq.Conninfo.get_defaults()}
    return {
        variable.decode(): f"{value}" for name, value in told.items() if (variable := variables.get(name)) is not None
    }


def _columns(connection: psycopg.Connection[Any], table: str) -> list[tuple[str, str, bool]]:
    """Return name, type and whether it must be given of each column that can be written; none where no table stands."""
    schema, name = table.split(".")
    return connection.execute(
        "SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull AND NOT a.atthasdef"
        " FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid"
        " JOIN pg_namespace AS n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relname = %s AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped"
        " AND a.attgenerated = '' ORDER BY a.attnum",
        [schema, name],
    ).fetchall()


def _copy_sample(source: psycopg.Connection[Any], copy: psycopg.Connection[Any], tables: list[str]) -> None:
    """Copy the first rows of each table, and of the tables that they hang on the rows that they name."""
    wanted: dict[str, set[str]] = {table: set() for table in tables}
    for table in tables:
        columns = _columns(source, table)
        if "uuid" not in (kind for column, kind, _ in columns if column.endswith("id")):
            continue  # accounts of another kind than those that an upgrade mirrors
        if source.execute("SELECT has_table_privilege(%s, 'SELECT')", [table]).fetchone() != (True,):
            continue
        if table == "auth.users":  # the platform's own: no more than an upgrade reads
            columns = [each for each in columns if each[0] in ("id", "email", "created_at") or each[2]]
        name = sql.Identifier(*table.split("."))
        rows = source.execute(sql.SQL("SELECT ctid::text FROM {} LIMIT %s").format(name), [_SAMPLE]).fetchall()
        if wanted[table]:
            by_id = sql.SQL("SELECT ctid::text FROM {} WHERE id = ANY (%s::uuid[])").format(name)
            rows += source.execute(by_id, [list(wanted[table])]).fetchall()
        places = sql.SQL("ctid = ANY ({}::tid[])").format(sql.Literal(sorted({place for (place,) in rows})))
        for column, parents in _PARENTS.items():
            if any(column == each[0] for each in columns):
                named = sql.SQL("SELECT DISTINCT {0}::text FROM {1} WHERE {0} IS NOT NULL AND {2}")
                ids = {each for (each,) in source.execute(named.format(sql.Identifier(column), name, places))}
                for parent in parents:
                    wanted.setdefault(parent, set()).update(ids)
        names = sql.SQL(", ").join(sql.Identifier(column) for column, _, _ in columns)
        values = sql.SQL(", ").join(_value(column, kind) for column, kind, _ in columns)
        chosen = sql.SQL("COPY (SELECT {} FROM {} WHERE {}) TO STDOUT").format(values, name, places)
        taken = sql.SQL("COPY {} ({}) FROM STDIN").format(name, names)
        with source.cursor().copy(chosen) as read, copy.cursor().copy(taken) as written:
            for data in read:
                written.write(data)


def _value(column: str, kind: str) -> sql.Composable:
    """Return the expression for a column: random text for one that holds a secret by its name."""
    if not (_SECRET.search(column) and kind.startswith(("text", "character varying"))):
        return sql.Identifier(column)
    length = re.search(r"\d+", kind)
    return sql.SQL("CASE WHEN {0} IS NOT NULL THEN left(md5(random()::text), {1}) END").format(
        sql.Identifier(column), sql.Literal(int(length[0]) if length else 32)
    )
