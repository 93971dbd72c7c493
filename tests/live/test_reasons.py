"""A backfill waits for what else would suffer: held back log, room, autovacuum, and what a query tells."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from alembic import command
from app import database, embedded
from app.engine import reasons
from app.engine.options import Options, Size
from app.project import PROJECT
from tests.conftest import SETTINGS, alembic_config, scratch_folder
from tests.database.conftest import refusal
from tests.live.command_line import alembic, connect, value, wait_for
from tests.live.conftest import MESSAGES, OLD_SHAPE, USERS, fill
from tests.postgres_binaries import binaries

TINY = ("batch-time=1ms", "lock-timeout=50ms")
MOVED = "SELECT count(conversation_id) FROM chat_messages"
AT_WORK = "SELECT true FROM pg_stat_progress_vacuum WHERE relid = 'chat_messages'::regclass"
REVISION = "SELECT version_num FROM chat_internal.alembic_version"
BUSY = "wait-while=SELECT 'p99 is ' || p99 FROM ops.latency WHERE p99 > 200"


def test_a_query_of_the_users_holds_the_backfill_and_lets_it_go_on(old_url: str, client: psycopg.Connection) -> None:
    fill(client)
    client.execute("CREATE SCHEMA ops CREATE TABLE latency (p99 int)")
    client.execute("INSERT INTO ops.latency VALUES (300)")
    told = ": waits for the query of -x wait-while"
    with alembic(old_url, "upgrade", "head", x=(*TINY, BUSY)) as upgrade:
        upgrade.says(f"{told}: p99 is 300\n")
        assert value(client, MOVED) == 0
        client.execute("ALTER TABLE ops.latency RENAME TO gone")
        upgrade.says(f'{told}, which fails: relation "ops.latency" does not exist\n')
        assert value(client, MOVED) == 0
        client.execute("ALTER TABLE ops.gone RENAME TO latency")
        client.execute("UPDATE ops.latency SET p99 = 20")
        said = upgrade.succeeds()
    assert said.count("which fails") == 1
    assert value(client, MOVED) == USERS * MESSAGES


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("SELEC true", "syntax error"),
        ("DELETE FROM public.users RETURNING true", "cannot execute DELETE in a read-only transaction"),
        ("SELECT false; DELETE FROM public.users", "cannot insert multiple commands"),
        ("SELECT pg_catalog.pg_sleep(10)", "statement timeout"),
        ("SELECT 1 FROM users", 'relation "users" does not exist'),
    ],
)
def test_a_query_that_fails_or_writes_is_refused_before_anything_has_run(
    old_url: str, client: psycopg.Connection, query: str, why: str
) -> None:
    fill(client, messages=1)
    said = refusal(old_url, command.upgrade, "head", x=(f"wait-while={query}",))
    assert "The query of -x wait-while failed, so nothing was run: " in said
    assert why in said
    assert value(client, "SELECT count(*) FROM users") == USERS
    assert value(client, REVISION) == OLD_SHAPE


def test_a_replication_slot_that_holds_the_log_back_is_waited_for(old_url: str, client: psycopg.Connection) -> None:
    fill(client)
    client.execute("SELECT pg_create_physical_replication_slot('behind', true)")
    try:
        client.execute("CREATE TABLE large AS SELECT repeat('x', 1000) FROM generate_series(1, 3000)")
        with alembic(old_url, "upgrade", "head", x=(*TINY, "max-wal-held=1MB")) as upgrade:
            upgrade.says("waits for replication slot behind, which holds ")
            assert "of the log back (-x max-wal-held=1MB)" in upgrade.output
            assert value(client, MOVED) == 0
            client.execute("SELECT pg_drop_replication_slot('behind')")
            upgrade.succeeds()
    finally:
        client.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")


def test_a_slot_that_is_about_to_lose_what_it_needs_is_waited_for_whatever_the_limit(own: Own) -> None:
    url, client = own.url, own.client
    fill(client)
    client.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
    client.execute("SELECT pg_reload_conf(), pg_create_physical_replication_slot('behind', true)")
    lost = "SELECT wal_status = 'unreserved' FROM pg_replication_slots"
    while not value(client, lost):
        own.writes_log()
    with alembic(url, "upgrade", "head", x=(*TINY, "max-wal-held=none")) as upgrade:
        upgrade.says("waits for replication slot behind, which holds ")
        assert "of the log back, and is about to lose what it needs" in upgrade.output
        assert value(client, MOVED) == 0
        client.execute("SELECT pg_drop_replication_slot('behind')")
        upgrade.succeeds()


class Own:
    """A server of one test, which archives its log while a file is there, and a database in the older shape on it."""

    def __init__(self, url: str, client: psycopg.Connection, archiving: Path) -> None:
        self.url, self.client, self.archiving = url, client, archiving

    def writes_log(self, files: int = 1) -> None:
        """Fill files of the log."""
        for _ in range(files):
            self.client.execute("SELECT pg_logical_emit_message(false, 'a test', 'x')")
            self.client.execute("SELECT pg_switch_wal()")


@pytest.fixture
def own(request: pytest.FixtureRequest) -> Iterator[Own]:
    bin_dir = binaries(request.config.getoption("--postgres"))
    with scratch_folder() as folder:
        archiving = folder / "archiving"
        settings = SETTINGS | {
            "archive_mode": "on",
            "archive_command": f"test -e {archiving}",
            "autovacuum_naptime": "1s",
        }
        with embedded.running(folder / "data", bin_dir=bin_dir, settings=settings) as server:
            url = server.url().render_as_string(hide_password=False)
            command.upgrade(alembic_config(url), OLD_SHAPE)
            with connect(url) as client:
                yield Own(url, client, archiving)


@pytest.mark.parametrize("before", [0, 1], ids=["from the first file on", "after some files"])
def test_an_archive_that_falls_behind_is_waited_for(own: Own, before: int) -> None:
    """A limit below the size of one file: what is still being written counts as nobody's fault."""
    url, client = own.url, own.client
    fill(client)
    if before:
        own.archiving.touch()
        own.writes_log()
        caught_up = "SELECT last_archived_wal IS NOT NULL FROM pg_stat_archiver"
        wait_for(lambda: value(client, caught_up), "the archive to have a file")
        own.archiving.unlink()
    own.writes_log(files=2)
    wait_for(lambda: value(client, "SELECT failed_count > 0 FROM pg_stat_archiver"), "the archive to fail")
    with alembic(url, "upgrade", "head", x=(*TINY, "max-wal-held=1MB")) as upgrade:
        upgrade.says("waits for the archive, which is ")
        assert "MB of the log behind (-x max-wal-held=1MB)" in upgrade.output
        assert value(client, MOVED) == 0
        own.archiving.touch()
        own.writes_log()  # which wakes the archiver
        upgrade.succeeds()
    assert value(client, MOVED) == USERS * MESSAGES


@pytest.fixture
def vacuumed(own: Own) -> Own:
    """The same, while autovacuum is at work on its messages, for much longer than any test waits."""
    client = own.client
    fill(client)
    command.upgrade(alembic_config(own.url), "0032")
    client.execute(
        "ALTER TABLE chat_messages SET (autovacuum_vacuum_threshold = 1, autovacuum_vacuum_scale_factor = 0,"
        " autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1)"
    )
    client.execute("DELETE FROM chat_messages WHERE user_id = md5('1')::uuid")  # on every page
    wait_for(lambda: value(client, AT_WORK), "autovacuum to begin")
    return own


def test_autovacuum_is_waited_for_where_that_is_asked_for(vacuumed: Own) -> None:
    url, client = vacuumed.url, vacuumed.client
    with alembic(url, "upgrade", "head", x=(*TINY, "wait-for-autovacuum=yes")) as upgrade:
        upgrade.says("waits for autovacuum, at work on public.chat_messages (pid ")
        assert value(client, MOVED) == 0
        client.execute("ALTER TABLE chat_messages SET (autovacuum_enabled = false)")  # which ends it
        upgrade.succeeds()
    assert value(client, MOVED) == (USERS - 1) * MESSAGES


def test_autovacuum_is_in_nobodys_way_by_default(vacuumed: Own) -> None:
    """Neither in that of a batch, nor in that of a revision that needs the table for an instant."""
    command.downgrade(alembic_config(vacuumed.url), "0031")
    wait_for(lambda: value(vacuumed.client, AT_WORK), "autovacuum to begin again")
    with alembic(vacuumed.url, "upgrade", "head", x=(*TINY, "lock-retry-for=60s")) as upgrade:
        assert "waits for autovacuum" not in upgrade.succeeds()


def test_a_database_that_has_become_small_enough_is_no_reason_any_more(
    old_url: str, client: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reasons, "_SIZE_EVERY", 0)
    client.execute("CREATE TABLE large AS SELECT repeat('x', 1000) FROM generate_series(1, 30000)")
    most = value(client, "SELECT pg_database_size(current_database()) - 1000000")
    assert isinstance(most, int)
    options = Options(max_database_size=Size(most))
    with database.connect(database.parse_url(old_url)) as connection:
        looking = reasons.Reasons(connection.engine, "public.chat_messages", options, PROJECT)
        found = looking.look(connection)
        assert found is not None
        assert found.kind == "size"
        client.execute("DROP TABLE large")
        assert looking.look(connection) is None


def test_a_database_that_is_too_large_is_waited_for_and_the_run_can_be_stopped(
    old_url: str, client: psycopg.Connection
) -> None:
    fill(client)
    with alembic(old_url, "upgrade", "head", x=(*TINY, "max-database-size=1MB")) as upgrade:
        upgrade.says("waits for the database to be smaller than ")
        assert "(-x max-database-size=1MB)" in upgrade.output
        upgrade.process.send_signal(signal.SIGINT)
        upgrade.fails()
    assert value(client, MOVED) == 0


@pytest.mark.parametrize("text", ["1", "10 GB", "-1GB", "1KB", "", "nan", "infGB"])
def test_a_size_that_is_none_is_refused(old_url: str, text: str) -> None:
    said = refusal(old_url, command.upgrade, "head", x=(f"max-wal-held={text}",))
    assert "-x max-wal-held takes none, or a size such as 500MB, 10GB or 2TB" in said
