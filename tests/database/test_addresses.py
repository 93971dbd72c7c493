"""Any address that a user can put into DATABASE_URL: it works, or one message says why not, and never the password."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import quote

import psycopg
import pytest
import sqlalchemy as sa
from alembic.util import CommandError

from alembic import command
from app import embedded, unprivileged
from app.database import parse_url, shown
from tests.conftest import SETTINGS, scratch_folder
from tests.database.conftest import refusal, run
from tests.live.command_line import alembic
from tests.postgres_binaries import ROOT, binaries

PASSWORD = "s3cr3t"  # of whatever is refused below: it must never be printed

UNREACHABLE = "Cannot reach PostgreSQL at postgresql+psycopg://"
REFUSED = {
    f"mysql://u:{PASSWORD}@h/db": "DATABASE_URL speaks of 'mysql', so nothing was run. Expected postgresql://",
    f"postgresql+asyncpg://u:{PASSWORD}@h/db": "DATABASE_URL speaks of 'postgresql+asyncpg', so nothing was run.",
    f"u:{PASSWORD}@h/db": "DATABASE_URL is not an address, so nothing was run. Expected postgresql://",
    f"postgresql://u:{PASSWORD}@h:port/db": "DATABASE_URL is not an address, so nothing was run.",
    f"postgresql://u:{PASSWORD}@127.0.0.1:1/db": f"{UNREACHABLE}u:***@127.0.0.1:1/db: ",
    f"postgresql://u:{PASSWORD}@no-such-host.invalid/db": f"{UNREACHABLE}u:***@no-such-host.invalid/db: ",
    f"postgresql://u:@{PASSWORD}@127.0.0.1:1/db": f"{UNREACHABLE}u:***@127.0.0.1:1/db: ",
    f"postgresql://127.0.0.1:1/db?user=u&password={PASSWORD}": f"{UNREACHABLE}127.0.0.1:1/db?password=***&user=u: ",
    f"postgresql://127.0.0.1:1/db?password={PASSWORD}&password=b": f"{UNREACHABLE}127.0.0.1:1/db?password=***&pass",
    f"postgresql://no-such-host.invalid/db?password={PASSWORD}": f"{UNREACHABLE}no-such-host.invalid/db?password=***: ",
    "postgresql://127.0.0.1:1/db?password=%73%33cr3t": f"{UNREACHABLE}127.0.0.1:1/db?password=***: ",
    "postgresql://127.0.0.1:1/db?p%61ssword=%73%33cr3t": f"{UNREACHABLE}127.0.0.1:1/db?password=***: ",
    f"postgresql://127.0.0.1:1/db?sslpassword={PASSWORD}": f"{UNREACHABLE}127.0.0.1:1/db?sslpassword=***: ",
    f"postgresql://127.0.0.1:1/db?options=-c%20x.secret%3D{PASSWORD}": f"{UNREACHABLE}127.0.0.1:1/db?options=***: ",
    f"postgresql://127.0.0.1:1/db?token={PASSWORD}": 'invalid connection option "token"',
    f"postgresql://127.0.0.1:1/db?service={PASSWORD}": 'definition of service "***" not found',
    f"postgresql://127.0.0.1:1/db?conninfo={PASSWORD}": 'missing "=" after "***" in connection info string',
    f"postgresql://127.0.0.1:1/db?prepare_threshold={PASSWORD}": f"{UNREACHABLE}127.0.0.1:1/db?prepare_threshold=***: ",
    f"postgresql://127.0.0.1:1/db?scram_client_key={PASSWORD}": "invalid SCRAM client key",
    f"postgresql://u:a@b/{PASSWORD}@127.0.0.1:1/db": "in a password that has an @ beside a / or ?, write them as %40, ",
    f"postgresql://u:a@b?{PASSWORD}@127.0.0.1:1/db": "in a password that has an @ beside a / or ?, write them as %40, ",
    f"postgresql://u:a@b?c={PASSWORD}@127.0.0.1:1/db": "in a password that has an @ beside a / or ?, write them as",
    f"postgresql://u:{PASSWORD}@127.0.0.1:1,[::1]:1/db": f"{UNREACHABLE}u:***@/db?host=127.0.0.1%2C%3A%3A1&",
    f"postgresql://u:{PASSWORD}@127.0.0.1:1,h:port/db": "DATABASE_URL is not an address, so nothing was run.",
    f"postgresql://u:a/b@{PASSWORD}@127.0.0.1:1/db": "in a password that has an @ beside a / or ?, write them as %40, ",
    f"postgresql://u:{PASSWORD}@127.0.0.1:1/db?pgbouncer=true": 'invalid connection option "pgbouncer"',
    f"postgresql://u:{PASSWORD}@127.0.0.1:1/db?connect_timeout=x": "bad value for connect_timeout",
}


@pytest.mark.parametrize("url", REFUSED)
def test_what_leads_nowhere_is_one_message_without_the_password(url: str) -> None:
    said = refusal(url, command.upgrade, "head")
    assert REFUSED[url] in said
    assert "unset DATABASE_URL to use the embedded server" in said
    assert PASSWORD not in said


@pytest.mark.sampled(3)
@pytest.mark.parametrize("url", [url for url in REFUSED if "?" in url or url == next(iter(REFUSED))])
def test_what_leads_nowhere_ends_the_command_line(url: str) -> None:
    with alembic(url, "upgrade", "head") as process:
        said = process.fails()
    assert REFUSED[url] in said
    assert PASSWORD not in said


@pytest.mark.parametrize(
    ("parameter", "says"),
    [
        (f"options=-c work_mem={PASSWORD}", 'invalid value for parameter "***": "***"'),
        (f"options=-c other={PASSWORD}", 'unrecognized configuration parameter "***"'),
        (f"options=--{PASSWORD}", "*** requires a value"),
        (f"row_factory={PASSWORD}", "TypeError: 'str' object is not callable"),
        (f"token={PASSWORD}", 'invalid connection option "token"'),
    ],
)
@pytest.mark.parametrize("words", [["upgrade", "head"], ["--raiseerr", "current"]])
def test_what_a_server_refuses_of_an_address_is_quoted_without_its_secrets(
    database_url: str, parameter: str, says: str, words: list[str]
) -> None:
    """Nor does a traceback hold one, for whoever asks for it."""
    name, _, given = parameter.partition("=")
    command_line = [sys.executable, "-m", "alembic", *words]
    environment = {**os.environ, "DATABASE_URL": f"{database_url}&{name}={quote(given)}"}
    done = subprocess.run(command_line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode > 0
    assert ("Traceback" in said) == (words[0] == "--raiseerr")
    assert says in said
    assert f"{name}=***" in said
    assert PASSWORD not in said


@pytest.mark.parametrize(
    ("text", "login", "password", "host"),
    [
        ("postgresql://ana:pw@h/db", "ana", "pw", "h"),
        ("postgres://ana:pw@h/db", "ana", "pw", "h"),
        ("postgresql+psycopg://ana:pw@h/db", "ana", "pw", "h"),
        ("postgresql://ana:a%40b%3Ac%25d@h/db", "ana", "a@b:c%d", "h"),
        ("postgresql://ana:a:b@h/db", "ana", "a:b", "h"),
        ("postgresql://ana:a@b@h/db", "ana", "a@b", "h"),
        ("postgresql://ana:a@b:c@@h:5/db?application_name=x@y", "ana", "a@b:c@", "h"),
        ("postgresql://ana:a/b?c#d@h/db", "ana", "a/b?c#d", "h"),
        ("postgresql://ana@h/db?options=-c%20a=b@c", "ana", None, "h"),
        ("postgresql://h/db?user=a@b", None, None, "h"),
        ("postgresql://ana:a,b@h/db", "ana", "a,b", "h"),
        ("postgresql://ana:a,b@c@h/db", "ana", "a,b@c", "h"),
        ("postgresql:///db", None, None, None),
    ],
)
def test_what_an_address_means(text: str, login: str | None, password: str | None, host: str | None) -> None:
    url = parse_url(text)
    assert (url.drivername, url.username, url.password, url.host) == ("postgresql+psycopg", login, password, host)
    assert url.database == "db"


@pytest.mark.parametrize(
    ("hosts", "host", "port"),
    [
        ("h1:1,h2:2", "h1,h2", "1,2"),
        ("h1,h2", "h1,h2", "5432,5432"),
        ("[::1]:1,h2,10.0.0.1:3", "::1,h2,10.0.0.1", "1,5432,3"),
    ],
)
def test_several_hosts_are_tried_as_libpq_tries_them(hosts: str, host: str, port: str) -> None:
    url = parse_url(f"postgresql://ana:a,b@{hosts}/db?sslmode=require")
    assert (url.username, url.password, url.host, url.database) == ("ana", "a,b", None, "db")
    assert dict(url.query) == {"sslmode": "require", "host": host, "port": port}


@pytest.mark.parametrize("text", ["", " ", "\n"])
def test_an_address_that_is_set_and_empty_is_refused(text: str) -> None:
    with alembic(text, "current") as process:
        assert "DATABASE_URL is set and empty, so nothing was run" in process.fails()


@pytest.mark.parametrize("text", ["", "db", "postgresql", "://", "sqlite:///x", "postgresql//h/db", "http://h/db"])
def test_what_is_no_address_of_ours(text: str) -> None:
    with pytest.raises(CommandError, match="so nothing was run"):
        parse_url(text)


def test_an_address_is_shown_without_its_secrets() -> None:
    url = sa.make_url("postgresql://u:one@h/db?password=two&sslmode=require&anything=else&user=a%26b&anything=more")
    assert shown(url) == "postgresql://u:***@h/db?anything=***&anything=***&password=***&sslmode=require&user=a%26b"
    assert shown(sa.make_url("postgresql://u:one@h/db")) == "postgresql://u:***@h/db"


@pytest.fixture(scope="module")
def strict_server(request: pytest.FixtureRequest) -> Iterator[embedded.Server]:
    """A server that asks every login for its password, except ``postgres``."""
    with scratch_folder() as folder:
        rules = folder / "pg_hba.conf"
        rules.write_text("local all postgres trust\nlocal all all scram-sha-256\n")
        unprivileged.hand_over(rules, unprivileged.account_for(folder / "data"))
        settings = {**SETTINGS, "hba_file": str(rules)}
        bin_dir = binaries(request.config.getoption("--postgres"))
        with embedded.running(folder / "data", bin_dir=bin_dir, settings=settings) as server:
            yield server


@pytest.mark.parametrize("password", ["simple", "a@b", "a:b", "50%", "a/b?c=d&e#f", "ä ö", "%40"])
def test_a_password_of_any_characters_logs_in(strict_server: embedded.Server, password: str) -> None:
    login(strict_server, password)
    run(address(strict_server, quote(password, safe="")), command.current)


@pytest.mark.parametrize("password", ["a@b", "a:b@c"])
def test_a_password_that_was_not_encoded_logs_in(strict_server: embedded.Server, password: str) -> None:
    login(strict_server, password)
    run(address(strict_server, password), command.current)


def test_a_wrong_password_is_one_message(strict_server: embedded.Server) -> None:
    login(strict_server, "right")
    said = refusal(address(strict_server, PASSWORD), command.upgrade, "head")
    assert 'password authentication failed for user "ana"' in said
    assert "In a password @ : / ? # % are written %40 %3A %2F %3F %23 %25." in said
    assert PASSWORD not in said


def login(server: embedded.Server, password: str) -> None:
    """Make that the password of the login ``ana``."""
    with psycopg.connect(host=str(server.socket_dir), port=server.port, user="postgres", dbname="chat") as superuser:
        superuser.execute("DROP ROLE IF EXISTS ana")
        superuser.execute(f"CREATE ROLE ana LOGIN PASSWORD {psycopg.sql.Literal(password).as_string(superuser)}")


def address(server: embedded.Server, password: str) -> str:
    """Return what the user of ``ana`` writes into DATABASE_URL."""
    return f"postgresql://ana:{password}@/chat?host={server.socket_dir}&port={server.port}"


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_every_spelling_of_the_scheme_reaches_the_server(database_url: str, scheme: str) -> None:
    with alembic(database_url.replace("postgresql+psycopg", scheme, 1), "current") as process:
        process.succeeds()


@pytest.mark.parametrize(
    ("part", "wrong", "says"), [("/test_", "/no_such_", "database"), ("postgres@", "nobody@", "role")]
)
def test_a_database_or_login_that_is_not_there_is_one_message(
    database_url: str, part: str, wrong: str, says: str
) -> None:
    said = refusal(database_url.replace(part, wrong, 1), command.upgrade, "head")
    assert "Cannot reach PostgreSQL at " in said
    assert f'{says} "no' in said
    assert "does not exist" in said
