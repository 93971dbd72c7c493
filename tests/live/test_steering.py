"""A run obeys another terminal: it pauses before the next batch, stays paused through a kill, goes on, works slower."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import psycopg
import pytest

from alembic import command
from app import database
from app.catalog import Snapshot
from app.cli import main
from app.engine import deployments
from app.project import PROJECT, VERSIONS
from tests.conftest import alembic_config
from tests.database.conftest import login
from tests.live.application import Application
from tests.live.command_line import Run, alembic, connect, value, wait_for
from tests.live.conftest import MESSAGES, USERS, fill, locked_message, snapshot
from tests.postgres_binaries import ROOT

TINY = ("batch-time=1ms", "lock-timeout=50ms")
ONE_OR_TWO = pytest.mark.parametrize("workers", [1, 2])
MOVED = "SELECT count(conversation_id) FROM chat_messages"
CONTROL = "SELECT to_regclass('chat_internal.alembic_version_control')"
PAUSED = "Paused. No batch runs, no lock is held. `chat-schema resume` goes on.\n"


def cli(url: str, *words: str) -> tuple[object, str, str]:
    """Run ``chat-schema`` within this process; return its exit status and what it wrote on both streams."""
    code: object = 0
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, DATABASE_URL=url),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main(words)
        except SystemExit as end:
            code = end.code
    return code, out.getvalue(), err.getvalue()


def chat_schema(url: str, *words: str, status: int = 0) -> str:
    """Run ``chat-schema``, which has to end with ``status``, and return what it printed, or its message."""
    code, out, err = cli(url, *words)
    assert code == status, out + err
    return err if status else out


def status(url: str) -> dict[str, object]:
    seen = json.loads(chat_schema(url, "status", "--json"))
    assert isinstance(seen, dict)
    return seen


@contextmanager
def paused_halfway(url: str, workers: int = 1) -> Iterator[Run]:
    """Start an upgrade, pause it in the middle of its backfill, and let go of the row that it had come to."""
    x = (*TINY, f"backfill-workers={workers}")
    with locked_message(url) as locked, alembic(url, "upgrade", "head", x=x) as upgrade:
        locked.wait_until_reached()
        assert chat_schema(url, "pause") == PAUSED
        locked.release()
        yield upgrade


@ONE_OR_TWO
def test_no_batch_begins_after_a_pause_was_acknowledged_until_it_is_taken_back(
    old_url: str, client: psycopg.Connection, head: Snapshot, workers: int
) -> None:
    fill(client)
    with Application(old_url) as application, paused_halfway(old_url, workers) as upgrade:
        position = "SELECT position, updated_at FROM chat_internal.backfill_progress"
        before = client.execute(position).fetchone()
        written = (
            "INSERT INTO chat_messages (user_id, role, content) VALUES (md5('1')::uuid, 'user', 'now') RETURNING id"
        )
        key = value(client, written)
        client.execute("DELETE FROM chat_messages WHERE id = %s AND conversation_id IS NOT NULL", [key])
        seen = status(old_url)
        assert (seen["state"], seen["revision"], seen["phase"]) == ("paused", "0033", "backfill")
        assert seen["step"] == "conversations of chat_messages"
        assert 0 < int(str(seen["percent"])) < 100
        assert client.execute(position).fetchone() == before
        in_the_way = (
            "SELECT count(*) FROM pg_stat_activity AS a WHERE application_name = 'chat-schema'"
            " AND datname = current_database() AND (xact_start IS NOT NULL OR EXISTS (SELECT FROM pg_locks AS l"
            " WHERE l.pid = a.pid AND l.locktype = 'relation'))"
        )
        # what reads the wishes is in a transaction for an instant, four times a second
        wait_for(lambda: value(client, in_the_way) == 0, "nobody of the run to be in a transaction")
        assert upgrade.goes_on
        assert upgrade.output.count("Paused since ") == 1
        assert "until `chat-schema resume`" in upgrade.output
        assert chat_schema(old_url, "resume").startswith("Resumed; it was paused since ")
        upgrade.succeeds()
    application.check(client)
    assert snapshot(old_url) == head
    assert value(client, CONTROL) is None


def test_a_pause_outlasts_a_kill_and_the_next_run_waits_for_its_end(
    old_url: str, client: psycopg.Connection, head: Snapshot
) -> None:
    fill(client)
    with paused_halfway(old_url) as killed:
        killed.kill()
    before = value(client, MOVED)
    with alembic(old_url, "upgrade", "head", x=TINY) as again:
        again.says("Paused since ")
        assert value(client, MOVED) == before
        chat_schema(old_url, "resume")
        again.succeeds()
    assert value(client, MOVED) == USERS * MESSAGES
    assert snapshot(old_url) == head
    assert value(client, CONTROL) is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_paused_run_can_be_told_to_stop(old_url: str, client: psycopg.Connection, number: signal.Signals) -> None:
    fill(client)
    with paused_halfway(old_url) as upgrade:
        upgrade.process.send_signal(number)
        assert "FAILED: conversations of chat_messages stopped at " in upgrade.fails()
    with alembic(old_url, "upgrade", "head") as waiting:
        waiting.says("Paused since ")
        waiting.process.send_signal(number)
        assert "FAILED: Interrupted." in waiting.fails()
    assert chat_schema(old_url, "resume").startswith("Resumed")


def test_a_pause_before_a_run_holds_its_first_revision(old_url: str, client: psycopg.Connection) -> None:
    assert chat_schema(old_url, "pause").startswith("Paused. No deployment runs; the next one will wait.")
    with alembic(old_url, "upgrade", "head") as upgrade:
        upgrade.says("Paused since ")
        wait_for(lambda: status(old_url)["state"] == "paused", "the run to have said that it is paused")
        assert "Running upgrade" not in upgrade.output
        chat_schema(old_url, "resume")
        upgrade.succeeds()
    assert chat_schema(old_url, "resume") == "Nothing was paused.\n"


def test_a_run_that_begins_with_a_pause_is_never_said_to_be_running(old_url: str) -> None:
    chat_schema(old_url, "pause")
    seen = list[object]()
    with alembic(old_url, "upgrade", "head") as upgrade:
        while seen.count("paused") < 5:
            now = status(old_url)
            if now["deployment"] is not None:
                seen.append(now["state"])
            assert upgrade.goes_on, upgrade.output
        chat_schema(old_url, "resume")
        upgrade.succeeds()
    assert set(seen) <= {"pausing", "paused"}


def test_a_pause_during_an_index_build_is_obeyed_after_it_and_says_so(
    old_url: str, client: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployments, "_PATIENCE", 0.5)
    with connect(old_url, application_name="report") as report:
        report.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        report.execute("SELECT FROM tasks")  # a build waits for its end, and whoever comes after the build does not
        with alembic(old_url, "upgrade", "head") as upgrade:
            building = "SELECT true FROM pg_stat_progress_create_index WHERE phase LIKE 'waiting for%'"
            wait_for(lambda: value(client, building), "the build to wait", lambda: upgrade.output)
            said = chat_schema(old_url, "pause")
            assert "is in the middle of revision 0034, which cannot be left halfway: it pauses after it" in said
            assert (seen := status(old_url))["state"] == "pausing"
            assert "idx_chat_messages_conv" in str(seen["index"])
            told = chat_schema(old_url, "status")
            assert "deployment  pausing: pid " in told
            assert ", after what cannot be left halfway\n" in told
            report.execute("ROLLBACK")
            wait_for(lambda: status(old_url)["state"] == "paused", "the run to pause")
            assert status(old_url)["revisions"] == ["0034"]
            assert "0034 -> 0035" not in upgrade.output
            chat_schema(old_url, "resume")
            upgrade.succeeds()


@contextmanager
def watching(url: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Start ``chat-schema status --watch``; what it prints is read line by line."""
    with subprocess.Popen(
        [sys.executable, "-m", "chat_schema", "status", "--watch", *words],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as watch:
        try:
            yield watch
        finally:
            watch.kill()


def ended(watch: subprocess.Popen[str]) -> int:
    """Press Ctrl-C and return its exit status; whatever it was, nobody wants to read a traceback."""
    watch.send_signal(signal.SIGINT)
    said = watch.communicate(timeout=60)[1]
    assert "Traceback" not in said, said
    return watch.returncode


def test_watching_shows_the_status_anew_until_it_is_interrupted(old_url: str) -> None:
    with watching(old_url, "--json") as watch:
        assert watch.stdout
        seen = json.loads(watch.stdout.readline())
        assert (seen["state"], seen["paused"]) == ("idle", None)
        chat_schema(old_url, "pause")
        states = (json.loads(line)["state"] for line in watch.stdout)
        assert next(state for state in states if state != "idle") == "paused"
        assert ended(watch) == 0


def test_what_is_watched_is_a_line_in_a_log_and_a_screen_in_a_terminal(old_url: str) -> None:
    with watching(old_url) as watch:
        assert watch.stdout
        line = re.compile(r"\d\d:\d\d:\d\dZ revision 0031; deployment none is running\n")
        assert line.fullmatch(watch.stdout.readline())
        assert line.fullmatch(watch.stdout.readline())
        assert ended(watch) == 0
    with (
        mock.patch.object(sys.stdout, "isatty", return_value=True),
        database.connect(database.parse_url(old_url)) as connection,
    ):
        ours = deployments.Deployments(connection, VERSIONS, PROJECT, "chat-schema")
        screen = next(deployments.told([ours], "0099", as_json=False, watch=True))
    assert screen == "\x1b[H\x1b[Jhead        0099\nrevision    0031\ndeployment  none is running"


def test_a_revision_that_waits_for_a_lock_can_be_paused(old_url: str, client: psycopg.Connection) -> None:
    with connect(old_url, application_name="in the way") as blocker:
        blocker.autocommit = False
        blocker.execute("SELECT FROM chat_messages")
        with alembic(old_url, "upgrade", "head") as upgrade:
            upgrade.says("(pid ")
            # a run writes once a second what it does
            wait_for(lambda: status(old_url)["state"] == "waiting", "the status to say that it waits")
            seen = status(old_url)
            assert seen["state"] == "waiting"
            assert f"a lock held by pid {blocker.info.backend_pid} (in the way, " in str(seen["waits_for"])
            assert chat_schema(old_url, "pause") == PAUSED
            blocker.rollback()
            tries = upgrade.output.count("attempt ")
            assert status(old_url)["state"] == "paused"
            assert upgrade.output.count("attempt ") == tries
            chat_schema(old_url, "resume")
            upgrade.succeeds()


def test_a_throttled_backfill_lets_one_worker_at_a_time_and_says_so(old_url: str, client: psycopg.Connection) -> None:
    fill(client)
    assert chat_schema(old_url, "throttle", "50%").startswith("Backfills work 50 % of the time")
    with alembic(old_url, "upgrade", "head", x=(*TINY, "backfill-workers=3")) as upgrade:
        assert upgrade.succeeds().count("Backfills work 50 % of the time from now on.") == 1
    assert value(client, MOVED) == USERS * MESSAGES
    assert status(old_url)["throttle_percent"] == 50
    assert chat_schema(old_url, "throttle", "off") == "No longer throttled to 50 %.\n"
    assert value(client, CONTROL) is None


@pytest.mark.parametrize("share", ["0", "101", "fast", "-5", "25%%", ""])
def test_a_share_that_is_none_is_refused(old_url: str, share: str) -> None:
    said = chat_schema(old_url, "throttle", "--", share, status=1)
    assert "throttle takes the share of the time" in said
    assert "Nothing was changed." in said


@pytest.mark.parametrize("word", ["pause", "resume"])
def test_who_does_not_own_the_schema_may_not_steer(migrated_url: str, word: str) -> None:
    with login(migrated_url) as stranger:
        said = chat_schema(stranger, word, status=1)
    assert "may not steer deployments here" in said
    with connect(migrated_url) as client:
        assert value(client, CONTROL) is None


def test_a_login_of_the_service_may_neither_write_nor_read_what_is_wished(migrated_url: str) -> None:
    chat_schema(migrated_url, "pause")
    with connect(migrated_url) as client:
        client.execute("GRANT ALL ON ALL TABLES IN SCHEMA chat_internal TO authenticated")
        client.execute("SET ROLE authenticated")
        table = "chat_internal.alembic_version_control"
        assert client.execute(f"DELETE FROM {table}".encode()).rowcount == 0
        assert client.execute(f"SELECT FROM {table}".encode()).rowcount == 0
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            client.execute(f"INSERT INTO {table} VALUES ('throttle', '1')".encode())


@pytest.mark.usefixtures("migrated_url")  # whose roles the owner cannot make
def test_what_a_superuser_pauses_the_owner_reads_and_resumes(database_url: str) -> None:
    with login(database_url) as owner, connect(database_url) as superuser:
        database, name = superuser.info.dbname, owner.partition("://")[2].partition("@")[0]
        superuser.execute(f"ALTER DATABASE {database} OWNER TO {name}".encode())
        command.upgrade(alembic_config(owner), "0005")
        chat_schema(database_url, "pause")
        with alembic(owner, "upgrade", "0006") as upgrade:
            upgrade.says("Paused since ")
            assert chat_schema(owner, "resume").endswith("by the login postgres.\n")
            upgrade.succeeds()
        superuser.execute(f"ALTER DATABASE {database} OWNER TO postgres".encode())


def test_nothing_is_steered_before_the_first_revision(database_url: str) -> None:
    assert "there is nothing to steer" in chat_schema(database_url, "pause", status=1)
    assert chat_schema(database_url, "status").splitlines()[1:] == ["revision    none", "deployment  none is running"]


def test_verify_does_not_report_a_pause(migrated_url: str) -> None:
    chat_schema(migrated_url, "pause")
    chat_schema(migrated_url, "throttle", "10")
    assert "control" not in chat_schema(migrated_url, "verify")


def test_base_leaves_nothing_behind_of_a_throttle(database_url: str) -> None:
    command.upgrade(alembic_config(database_url), "0005")
    chat_schema(database_url, "throttle", "10")
    command.downgrade(alembic_config(database_url), "base")
    with connect(database_url) as client:
        assert value(client, "SELECT to_regnamespace('chat_internal')") is None


def test_a_login_without_rights_sees_that_a_deployment_runs_and_what_it_does_not_see(
    old_url: str, client: psycopg.Connection
) -> None:
    fill(client)
    with login(old_url) as stranger, paused_halfway(old_url) as upgrade:
        seen = status(stranger)
        assert seen["revisions"] is None
        assert seen["deployment"]
        hidden = str(seen["hidden"])
        assert "the revision: that shows to who may read chat_internal.alembic_version" in hidden
        assert "how far a deployment is" in hidden
        assert "GRANT pg_monitor" in hidden
        chat_schema(old_url, "resume")
        upgrade.succeeds()


def test_status_names_who_blocks(old_url: str, client: psycopg.Connection) -> None:
    fill(client)
    with locked_message(old_url) as locked, alembic(old_url, "upgrade", "head", x=TINY) as upgrade:
        locked.wait_until_reached()
        wait_for(lambda: status(old_url)["waits_for"], "the status to say that it waits")
        said = chat_schema(old_url, "status")
        assert "runs        upgrade 0033 (backfill): Backfill conversation_id" in said
        assert f"waits for   a row locked by pid {locked.pid} (halfway, idle in transaction" in said
        locked.release()
        upgrade.succeeds()
    assert status(old_url)["state"] == "idle"
