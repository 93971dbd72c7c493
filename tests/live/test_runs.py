"""What a run does for programs beside it: an end before the long step, lines of JSON, a file of figures, hooks."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from alembic.util import CommandError

from alembic import command
from app.catalog import Snapshot
from app.engine.steering import Step
from tests.conftest import alembic_config
from tests.database.conftest import refusal
from tests.live.application import Application
from tests.live.command_line import connect, value, wait_for
from tests.live.conftest import MESSAGES, OLD_SHAPE, USERS, fill, locked_message, snapshot
from tests.live.test_steering import chat_schema, cli
from tests.migrations.chain import REVISIONS
from tests.postgres_binaries import ROOT

REVISION = "SELECT version_num FROM chat_internal.alembic_version"
MOVED = "SELECT count(conversation_id) FROM chat_messages"
QUICK = ("-x", "rehearse=no", "-x", "batch-time=1ms")


def test_a_run_that_stops_before_the_backfill_leaves_it_to_a_later_one_and_clients_go_on(
    old_url: str, client: psycopg.Connection, head: Snapshot
) -> None:
    fill(client)
    with Application(old_url) as application:
        said = chat_schema(old_url, *QUICK, "-x", "stop-before-backfill=yes", "upgrade", "head", status=3)
        assert "Stopped before the backfill " in said
        assert "Revision 0033 was rolled back; what was finished before it stays." in said
        assert "Run `chat-schema upgrade head` as a job" in said
        assert value(client, REVISION) == "0032"
        chat_schema(old_url, *QUICK, "-x", "stop-before-backfill=yes", "upgrade", "head", status=3)
        chat_schema(old_url, *QUICK, "upgrade", "head")
    application.check(client)
    assert snapshot(old_url) == head


def test_without_rows_to_backfill_it_goes_to_head(database_url: str, head: Snapshot) -> None:
    chat_schema(database_url, *QUICK, "-x", "stop-before-backfill=yes", "upgrade", "head")
    assert snapshot(database_url) == head


def test_each_line_of_a_json_log_is_an_object_that_names_what_runs(old_url: str, client: psycopg.Connection) -> None:
    fill(client)
    code, _, said = cli(old_url, *QUICK, "upgrade", "head", "--log-format", "json")
    assert code == 0
    lines = [json.loads(line) for line in said.splitlines()]
    [last] = [line for line in lines if line["message"] == "conversations of chat_messages: 100 %, 1,000 rows"]
    assert last["revision"] == "0033"
    assert (last["direction"], last["phase"], last["step"]) == ("upgrade", "backfill", "conversations of chat_messages")
    assert (last["percent"], last["rows"]) == (100, 1000)
    assert last["level"] == "INFO"


def test_the_error_of_a_run_with_a_json_log_is_an_object_too(old_url: str) -> None:
    said = chat_schema(old_url, "--log-format", "json", *QUICK, "-x", "wait-while=SELEC", "upgrade", "head", status=1)
    lines = [json.loads(line) for line in said.splitlines()]
    assert "The query of -x wait-while failed" in lines[-1]["message"]
    assert lines[-1]["level"] == "ERROR"


def test_the_file_for_prometheus_is_whole_and_says_how_far_the_run_is(
    old_url: str, client: psycopg.Connection, tmp_path: Path
) -> None:
    fill(client)
    file = tmp_path / "migration.prom"
    words = [sys.executable, "-m", "chat_schema", *QUICK, "upgrade", "head", "--metrics", str(file)]
    environment = {**os.environ, "DATABASE_URL": old_url}
    with (
        locked_message(old_url) as locked,
        subprocess.Popen(words, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL) as upgrade,
    ):
        try:
            locked.wait_until_reached()
            info = 'migration_revision_info{revision="0033",direction="upgrade",phase="backfill",step="conversations of'
            wait_for(lambda: info in file.read_text(), "the run to write how far it is")
            wait_for(lambda: read(file)["migration_backfill_done_ratio"] > 0, "the run to write that it has come on")
            figures = read(file)
            assert figures["migration_backfill_done_ratio"] < 1
            assert figures["migration_running"] == 1
            locked.release()
            assert upgrade.wait(100) == 0
        finally:
            upgrade.kill()
    figures = read(file)
    assert (figures["migration_running"], figures["migration_succeeded"]) == (0, 1)
    assert figures["migration_revisions_done"] == len([each for each in REVISIONS if each > "0032"])
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert [each.name for each in tmp_path.iterdir()] == [file.name]


def read(file: Path) -> dict[str, float]:
    """Read the figures that bear no label."""
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r'\w+(\{(\w+="[^"]*",?)+\})? [\d.e+-]+', line) for line in lines)
    return {name: float(figure) for name, _, figure in (line.rpartition(" ") for line in lines)}


def test_a_run_that_fails_says_so_in_the_file(old_url: str, client: psycopg.Connection, tmp_path: Path) -> None:
    file = tmp_path / "migration.prom"
    refusal(old_url, command.upgrade, "head", x=(f"metrics={file}", "before-revision=exit 1"))
    assert (read(file)["migration_running"], read(file)["migration_succeeded"]) == (0, 0)


def test_a_file_that_cannot_be_written_is_refused_first(
    old_url: str, client: psycopg.Connection, tmp_path: Path
) -> None:
    for file in (tmp_path / "none" / "file", tmp_path):
        said = refusal(old_url, command.upgrade, "head", x=(f"metrics={file}",))
        assert f"-x metrics={file} cannot be written (" in said
        assert "so nothing was run" in said
    assert value(client, REVISION) == OLD_SHAPE


def test_a_command_before_a_revision_that_fails_ends_the_run_in_front_of_it(
    old_url: str, client: psycopg.Connection, head: Snapshot
) -> None:
    fill(client)
    hook = 'before-revision=[ "$MIGRATION_PHASE" != backfill ]'
    said = chat_schema(old_url, *QUICK, "-x", hook, "upgrade", "head", status=1)
    assert "The hook before revision 0033 failed: the command ended with 1" in said
    assert "it was not begun, and what ended before revision 0033 stays" in said
    assert value(client, REVISION) == "0032"
    chat_schema(old_url, *QUICK, "upgrade", "head")
    assert value(client, MOVED) == USERS * MESSAGES
    assert snapshot(old_url) == head


def test_a_command_after_a_revision_that_fails_ends_the_run_behind_it(
    old_url: str, client: psycopg.Connection, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    hook = (
        f'echo "$MIGRATION_DIRECTION $MIGRATION_REVISION $MIGRATION_ABOUT" >> {told}; [ $MIGRATION_REVISION != 0032 ]'
    )
    said = refusal(old_url, command.upgrade, "head", x=(f"after-revision={hook}",))
    assert "the upgrade of revision 0032 stays, no other was begun" in said
    assert told.read_text().startswith("upgrade 0032 Expand chat_messages by the conversation")
    assert value(client, REVISION) == "0032"


def test_functions_are_hooks_with_no_transaction_open(old_url: str, client: psycopg.Connection) -> None:
    called: list[tuple[str, str]] = []

    def hook(when: str) -> Callable[[Step], None]:
        def call(step: Step) -> None:
            with connect(old_url) as other, other.transaction():
                idle = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND datname = %s"
                # what reads the wishes beside it is in a transaction for an instant
                wait_for(lambda: value(other, idle, other.info.dbname) == 0, "nobody to be in a transaction")
                other.execute("LOCK TABLE chat_messages IN ACCESS EXCLUSIVE MODE NOWAIT")
            called.append((when, step.revision))

        return call

    config = alembic_config(old_url)
    config.attributes["before_revision"] = hook("before")
    config.attributes["after_revision"] = [hook("after")]
    command.upgrade(config, "0033")
    assert called == [("before", "0032"), ("after", "0032"), ("before", "0033"), ("after", "0033")]


def test_a_function_that_raises_ends_the_run_with_one_message(old_url: str, client: psycopg.Connection) -> None:
    def refuse(step: Step) -> None:
        raise ValueError("not approved")

    config = alembic_config(old_url)
    config.attributes["before_revision"] = refuse
    with pytest.raises(CommandError, match="The hook before revision 0032 failed: not approved"):
        command.upgrade(config, "head")
    assert value(client, REVISION) == OLD_SHAPE
