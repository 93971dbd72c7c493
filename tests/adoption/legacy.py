"""Databases that exist before ``upgrade head``: what stands in them, on which platform, and who migrates them.

The ``.sql`` files of the four applications lie beside the checkout, in ``../shared/legacy``, or where
``CHAT_SCHEMA_LEGACY`` says. They are psql's (``\\ir``, ``\\if``, ``-v``), so psql loads them.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from app.embedded import Server, installed_binaries
from tests.conftest import libpq
from tests.migrations.chain import Chain
from tests.postgres_binaries import ROOT

LEGACY = Path(os.environ.get("CHAT_SCHEMA_LEGACY", ROOT.parent / "shared" / "legacy"))

Rows = dict[str, dict[str, dict[str, str | None]]]
"""table -> key of a row -> column -> value as text."""


@dataclass(frozen=True)
class Platform:
    """Who owns the database and migrates it, and what the platform has put there before.

    ``login`` is made with ``attributes`` before each test and dropped after it; superuser ``postgres`` is simply there.
    ``prepare`` runs as superuser in the new database: a file beside the legacy ones, or statements.
    """

    login: str
    attributes: str = ""
    file: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    statements: str = ""


NEON = "CREATEROLE CREATEDB BYPASSRLS"
FOREIGN_AUTH = """
    CREATE SCHEMA auth;  -- somebody else's, into which the login may not even look: no uid(), another kind of users
    CREATE TABLE auth.users (id text PRIMARY KEY, email text);
    INSERT INTO auth.users VALUES ('42', 'somebody@example.test');
"""

PLATFORMS = {
    "plain": Platform("postgres"),
    "owner": Platform("plain_owner", "NOCREATEROLE NOCREATEDB NOBYPASSRLS"),
    "neon": Platform("neon_owner", NEON),
    "neon-auth": Platform("neon_owner", NEON, statements=FOREIGN_AUTH),
    "supabase": Platform("supa_owner", file="supabase_like.sql"),
    "supabase-all": Platform("supa_owner", file="supabase_like.sql", variables={"grants": "all"}),
}
SUPABASE = ("supabase", "supabase-all")
OTHERS = tuple(name for name in PLATFORMS if name not in SUPABASE)

PLATFORM_ROLES = (
    "supa_owner",
    "authenticator",
    "supabase_auth_admin",
    "supabase_admin_like",
    "neon_owner",
    "plain_owner",
    "app_rw",
    "reporting",
)


@dataclass(frozen=True)
class Start:
    """A database to begin with: its file (None: empty), where it exists, and what its upgrade has to be told (-x).

    ``logins`` are those that an administrator has made for it.
    """

    file: str | None
    platforms: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    logins: tuple[str, ...] = ()


MOVE = ("on-owner-mismatch=move",)
STARTS = {
    "empty": Start(None, tuple(PLATFORMS)),
    "1a": Start("1a_soulprint_before_phase8.sql", SUPABASE),
    "1b": Start("1b_soulprint_after_phase8.sql", SUPABASE),
    "2": Start("2_neon_todo_after_003.sql", OTHERS, options=MOVE),
    "3a": Start("3a_chat_sessions_before.sql", SUPABASE),
    "3b": Start("3b_chat_sessions_after.sql", SUPABASE),
    "3b-kept": Start("3b_chat_sessions_after.sql", SUPABASE, variables={"keep_messages": "1"}),
    "4a": Start("4a_brand_infinity_before.sql", SUPABASE),
    "4b": Start("4b_brand_infinity_after_031.sql", SUPABASE, options=MOVE),
    "5": Start("5_supabase_profile_users.sql", SUPABASE),
    "6": Start("6_app_login.sql", OTHERS, options=MOVE, logins=("app_rw", "reporting")),
}


@dataclass(frozen=True)
class Place:
    """A database on a platform. ``chain`` runs as the login that migrates, ``admin`` is the superuser in it."""

    platform: str
    server: Server
    database: str
    chain: Chain
    admin: Chain

    @property
    def url(self) -> str:
        """The address for the login that migrates."""
        return self.chain.url

    def url_of(self, login: str) -> str:
        """The address for another login, as ``authenticator``, under which hosted clients come."""
        return self.server.url(self.database, login).render_as_string(hide_password=False)

    def load(self, start: str) -> None:
        """Load the starting point ``start`` as the login that migrates."""
        file, variables = STARTS[start].file, STARTS[start].variables
        for login in STARTS[start].logins:
            self.admin.execute(f"CREATE ROLE {login} LOGIN")
        if file is not None:
            psql(self.url, file, variables)


@contextmanager
def place(server: Server, platform: str) -> Iterator[Place]:
    """Make a database on ``platform`` and remove it afterwards, with the roles that only the platform has."""
    told = PLATFORMS[platform]
    name = f"adopted_{uuid4().hex}"
    with ExitStack() as stack:
        everywhere = stack.enter_context(Chain.on(server.url("postgres").render_as_string(hide_password=False)))
        stack.callback(_drop_roles, everywhere)
        if told.attributes:
            everywhere.execute(f"CREATE ROLE {told.login} LOGIN {told.attributes}")
        if platform == "owner":  # which cannot make them itself
            _make_client_roles(everywhere)
        everywhere.execute(f"CREATE DATABASE {name}")
        stack.callback(everywhere.execute, f"DROP DATABASE {name} WITH (FORCE)")
        admin = stack.enter_context(Chain.on(server.url(name).render_as_string(hide_password=False)))
        if told.file is not None:
            psql(admin.url, told.file, {"owner": told.login, **told.variables})
        if told.statements:
            admin.execute(told.statements)
        everywhere.execute(f"ALTER DATABASE {name} OWNER TO {told.login}")
        url = server.url(name, told.login).render_as_string(hide_password=False)
        yield Place(platform, server, name, stack.enter_context(Chain.on(url)), admin)


def psql(url: str, file: str, variables: Mapping[str, str]) -> None:
    """Run one of the legacy files; skip the test where there are none."""
    if not (LEGACY / file).exists():
        pytest.skip(f"the databases of the four applications are not in {LEGACY}: set CHAT_SCHEMA_LEGACY")
    command = [str(installed_binaries() / "psql"), "-X", "-q", "-d", libpq(url), "-f", str(LEGACY / file)]
    for name, value in variables.items():
        command += ["-v", f"{name}={value}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def rows(connection: psycopg.Connection, columns: Mapping[str, list[str]] | None = None) -> Rows:
    """Read every row of the tables of schema public, or of ``columns`` (table -> columns) alone."""
    found: Rows = {}
    for table, names in (columns or old_columns(connection)).items():
        pairs = ", ".join(f"'{name}', \"{name}\"::text" for name in names)
        key = "id::text" if "id" in names else "ctid::text"
        if table == "tenant_users":
            key = "concat_ws(' ', tenant_id, user_id)"
        query = f'SELECT {key}, json_build_object({pairs}) FROM public."{table}"'
        with connection.transaction():
            connection.execute("SELECT set_config('TimeZone', 'UTC', true)")
            found[table] = dict(connection.execute(query.encode()).fetchall())
    return found


def old_columns(connection: psycopg.Connection) -> dict[str, list[str]]:
    """Return the columns of each table of schema public."""
    query = (
        "SELECT c.relname, array_agg(a.attname::text ORDER BY a.attnum) FROM pg_class AS c"
        " JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
        " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' GROUP BY c.relname"
    )
    return dict(connection.execute(query).fetchall())


def lost(before: Rows, after: Rows) -> list[str]:
    """Name every row and every value of ``before`` that is not the same in ``after``.

    A NULL may have been filled. What the application has written since, and new columns, do not matter.
    """
    return [
        f"{table} {key}: " + (f"{column} {value!r} became {now[column]!r}" if now else "is missing")
        for table, old in before.items()
        for key, row in old.items()
        for now in [after[table].get(key)]
        for column, value in row.items()
        if now is None or (value is not None and now.get(column, value) != value)
    ]


def _make_client_roles(admin: Chain) -> None:
    for role in ("anon", "authenticated", "service_role"):
        if not admin.rows("SELECT true FROM pg_roles WHERE rolname = %s", [role]):
            admin.execute(f"CREATE ROLE {role} NOLOGIN")


def _drop_roles(admin: Chain) -> None:
    """The roles are the server's: what one platform has must not be there for the tests of another."""
    for role in PLATFORM_ROLES:
        admin.execute(f"DROP ROLE IF EXISTS {role}")
    if admin.rows("SELECT true FROM pg_roles WHERE rolname = 'service_role' AND rolbypassrls"):
        admin.execute("ALTER ROLE service_role NOBYPASSRLS")
