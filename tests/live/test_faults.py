"""What can go wrong in a batch: the disk is full, somebody cancels it, a client waits for what it holds."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator

import psycopg
import pytest

from alembic import command
from app import embedded
from app.catalog import Snapshot
from tests.conftest import SETTINGS, alembic_config, scratch_folder
from tests.live.command_line import alembic, connect, value, wait_for
from tests.live.conftest import MOVED, OLD_SHAPE, USERS, fill, locked_message, snapshot
from tests.live.test_kills import TINY, WORKER
from tests.postgres_binaries import binaries

LARGEST_FILE = 17 << 20  # bytes; a segment of the server's log takes 16 MB
DONE = "SELECT count(*) FROM chat_messages WHERE conversation_id IS NOT NULL"


def test_a_full_disk_keeps_what_is_done_and_says_what_to_do(request: pytest.FixtureRequest) -> None:
    """A quota on the size of the server's files, which the new row versions come to."""
    bin_dir = binaries(request.config.getoption("--postgres"))
    settings = SETTINGS | {"autovacuum": "off"}
    messages = 6900
    with scratch_folder() as folder:
        with embedded.running(folder / "data", bin_dir=bin_dir, settings=settings) as server:
            url = server.url().render_as_string(hide_password=False)
            command.upgrade(alembic_config(url), OLD_SHAPE)
            with connect(url) as client:
                fill(client, messages=messages)
                size = value(client, "SELECT pg_relation_size('chat_messages')")
                assert isinstance(size, int)
                assert LARGEST_FILE - (1 << 18) < size < LARGEST_FILE - (1 << 16)
        with largest_file(), embedded.running(folder / "data", bin_dir=bin_dir, settings=settings) as server:
            url = server.url().render_as_string(hide_password=False)
            with alembic(url, "upgrade", MOVED) as upgrade:
                said = upgrade.fails()
            assert "The server's disk or its quota is full; make room and run the command again to go on." in said
            with connect(url) as client:
                done = value(client, DONE)
                assert isinstance(done, int)
                assert 0 < done < USERS * messages
        with embedded.running(folder / "data", bin_dir=bin_dir, settings=settings) as server:
            url = server.url().render_as_string(hide_password=False)
            with alembic(url, "upgrade", MOVED) as again:
                again.succeeds()
            with connect(url) as client:
                assert value(client, DONE) == USERS * messages


@contextlib.contextmanager
def largest_file() -> Iterator[None]:
    """Let no file of a server that is started meanwhile grow beyond :data:`LARGEST_FILE`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_cancelled_batch_is_one_message(old_url: str, client: psycopg.Connection, moved: Snapshot) -> None:
    """As a statement_timeout would do it, if the run let one stand."""
    fill(client)
    with locked_message(old_url) as locked, alembic(old_url, "upgrade", MOVED, x=TINY) as upgrade:
        locked.wait_until_reached()
        wait_for(
            lambda: not upgrade.goes_on or value(client, f"SELECT pg_cancel_backend(({WORKER}))") is None, "its end"
        )
        said = upgrade.fails()
    assert "PostgreSQL refused a statement (57014)" in said
    assert "run the command again to go on" in said
    with alembic(old_url, "upgrade", MOVED) as again:
        assert "conversations of chat_messages: goes on at " in again.succeeds()
    assert snapshot(old_url) == moved


def test_a_client_that_waits_for_a_batch_that_waits_for_it_is_let_through(
    old_url: str, client: psycopg.Connection, moved: Snapshot
) -> None:
    fill(client)
    command.upgrade(alembic_config(old_url), "0032")
    first, later = (
        f"UPDATE chat_messages SET content = '{word}' WHERE ctid = '(0,{line})'"
        for word, line in (("first", 1), ("later", 9))
    )
    with connect(old_url) as writer:
        writer.autocommit = False
        writer.execute(later)
        with alembic(old_url, "upgrade", MOVED) as upgrade:
            blocked = f"SELECT {writer.info.backend_pid} = ANY (pg_blocking_pids(({WORKER})))"
            wait_for(lambda: value(client, blocked), "a batch that has the first row and waits for the ninth")
            assert writer.execute(first).rowcount == 1
            writer.commit()
            upgrade.succeeds()
    assert value(client, "SELECT count(*) FROM chat_messages WHERE content IN ('first', 'later')") == 2
    assert snapshot(old_url) == moved
