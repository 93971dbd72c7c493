"""`chat-schema wait` in an init container: the server, the database and the upgrade come when they come."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from app import embedded
from tests.cli.test_commands import chat_schema
from tests.conftest import libpq, scratch_folder
from tests.live.command_line import Run, alembic
from tests.migrations.chain import HEAD, Chain
from tests.postgres_binaries import ROOT


@contextmanager
def waiting(url: str, *arguments: str) -> Iterator[Run]:
    """Start ``chat-schema wait`` beside the test."""
    with scratch_folder() as folder, (folder / "said").open("w+b") as said:
        command = [sys.executable, "-m", "chat_schema", "wait", *arguments]
        environment = {"DATABASE_URL": url, "PATH": "/usr/bin:/bin"}
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT
        )
        run = Run(process, said)
        try:
            yield run
        finally:
            if run.goes_on:
                run.kill()


def test_it_waits_for_an_upgrade_that_is_killed_and_run_again(database_url: str) -> None:
    with waiting(database_url) as wait, Chain.on(database_url) as chain:
        wait.says("Waiting for head. The database has no chat-schema")
        chain.upgrade("0017")
        wait.says("Waiting for head. The database is at revision 0017")
        with psycopg.connect(libpq(database_url)) as busy, alembic(database_url, "upgrade", "head") as upgrade:
            busy.execute("LOCK TABLE chat_internal.adopted IN ACCESS EXCLUSIVE MODE")
            upgrade.says("lock not free")
            upgrade.kill()
        assert wait.goes_on, "a revision that was begun is none that was reached"
        chain.upgrade("0041")
        assert wait.goes_on
        with alembic(database_url, "upgrade", "head") as upgrade:
            upgrade.succeeds()
        said = wait.succeeds()
    assert said.splitlines()[-1] == f"The database is at revision {HEAD}."


def test_it_is_content_with_the_revision_that_was_asked_for(database_url: str) -> None:
    with waiting(database_url, "--for", "0030") as wait, Chain.on(database_url) as chain:
        wait.says("Waiting for 0030.")
        chain.upgrade("0031")
        assert wait.succeeds().splitlines()[-1] == "The database is at revision 0031."


def test_it_waits_for_a_server_that_does_not_run_yet_and_for_its_database(
    server: embedded.Server, migrated_url: str, tmp_path: Path
) -> None:
    url = sa.make_url(migrated_url)
    link = tmp_path / "sockets"
    later = url.set(query={**url.query, "host": str(link)}, password="sekret-word")
    name, waited_for = str(url.database), f"{url.database}_later"
    address = later.set(database=waited_for).render_as_string(hide_password=False)
    with waiting(address) as wait:
        wait.says("does not answer: ")
        link.symlink_to(server.socket_dir)
        wait.says(f'database "{waited_for}" does not exist')
        with psycopg.connect(libpq(server.url("postgres")), autocommit=True) as administrator:
            administrator.execute(f"CREATE DATABASE {waited_for} TEMPLATE {name}".encode())
            try:
                said = wait.succeeds()
            finally:
                administrator.execute(f"DROP DATABASE {waited_for} WITH (FORCE)".encode())
    assert "sekret-word" not in said


def test_the_login_of_a_service_can_wait(migrated_url: str) -> None:
    with psycopg.connect(libpq(migrated_url), autocommit=True) as administrator:
        administrator.execute("CREATE ROLE chat_waiter LOGIN NOINHERIT; GRANT service_role TO chat_waiter")
        try:
            service = sa.make_url(migrated_url).set(username="chat_waiter").render_as_string(hide_password=False)
            done = chat_schema(service, "wait")
            assert done.returncode == 0
            assert re.fullmatch(r"Database: postgresql://chat_waiter@/\S+\n", done.stderr)
            assert done.stdout == f"The database is at revision {HEAD}.\n"
            administrator.execute("UPDATE chat_internal.alembic_version SET version_num = '0030'")
            done = chat_schema(service, "wait", "--timeout", "1s")
        finally:
            administrator.execute("DROP OWNED BY chat_waiter; DROP ROLE chat_waiter")
    assert done.returncode == 1
    assert "Waited 1 s for head in vain. The database is at revision 0030" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_no_upgrade_of_this_package_mends_is_not_waited_for(migrated_url: str) -> None:
    with psycopg.connect(libpq(migrated_url), autocommit=True) as administrator:
        administrator.execute("UPDATE chat_internal.alembic_version SET version_num = '9999'")
    done = chat_schema(migrated_url, "wait")
    assert done.returncode == 1
    assert "at revision 9999, which the installed chat-schema does not have" in done.stderr
    assert chat_schema(migrated_url, "wait", "--or-newer").returncode == 0
    assert chat_schema(migrated_url, "wait", "--for", "0030").returncode == 0, "it is above that"


@pytest.mark.parametrize(
    ("arguments", "status", "named"),
    [
        (
            ("--for", "9998"),
            1,
            f"chat-schema has no revision 9998, so there is nothing to wait for: its last one is {HEAD}",
        ),
        (("--timeout", "soon"), 2, "invalid duration such as 30s, 10m or 1h"),
    ],
)
def test_a_call_that_can_come_to_nothing_is_refused(
    migrated_url: str, arguments: tuple[str, ...], status: int, named: str
) -> None:
    done = chat_schema(migrated_url, "wait", *arguments)
    assert done.returncode == status
    assert named in done.stderr


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it(database_url: str, number: signal.Signals, status: int) -> None:
    with waiting(database_url) as wait:
        wait.says("Waiting for head.")
        wait.process.send_signal(number)
        assert wait.ends() == status
        assert "Interrupted." in wait.output
