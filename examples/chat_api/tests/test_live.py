"""Live updates: other windows of the same user hear of every change, nobody else does."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import psycopg
import pytest
from alembic.util import CommandError

from chat_api import notify
from chat_api.settings import Settings
from chat_schema import database, embedded
from tests.conftest import Running, running
from tests.person import Event


def changed(conversation_id: str, kind: str = "changed") -> Event:
    return Event("conversation", {"conversation_id": conversation_id, "kind": kind})


def test_a_second_window_hears_of_everything(chat: Running) -> None:
    ann = chat.person()
    with ann.window() as window:
        assert window.hears() == Event("ready", {})
        conversation = ann.begins()["id"]
        assert window.hears() == changed(conversation)
        ann.says(conversation, "hello")
        assert [window.hears(), window.hears()] == [changed(conversation)] * 2  # the question, the reply
        ann.http.patch(f"/api/conversations/{conversation}", json={"title": "Lyon"})
        assert window.hears() == changed(conversation)
        ann.http.delete(f"/api/conversations/{conversation}")
        assert window.hears() == changed(conversation, "deleted")


def test_nobody_else_hears_anything(chat: Running) -> None:
    ann, bob = chat.person(), chat.person()
    chat.tenant("Acme", ann, bob)
    with bob.window() as window:
        assert window.hears().name == "ready"
        ann.says(ann.begins()["id"], "hello")
        assert window.hears_nothing()


def test_a_message_sent_again_is_no_news(chat: Running) -> None:
    ann = chat.person()
    conversation = ann.begins()["id"]
    ann.says(conversation, "once", key="k")
    with ann.window() as window:
        assert window.hears().name == "ready"
        ann.says(conversation, "once", key="k")
        assert window.hears_nothing()


def test_without_the_triggers_another_process_says_nothing(chat: Running) -> None:
    ann = chat.person()
    with running(chat.settings) as other, ann.window() as window:
        assert window.hears().name == "ready"
        ann.at(other).begins()
        assert window.hears_nothing()


@pytest.fixture
def installed(server: embedded.Server, settings: Settings) -> Iterator[None]:
    with database.connect(server.url()) as connection:
        notify.install(connection)
        notify.install(connection)  # once more changes nothing
        try:
            yield
        finally:
            notify.remove(connection)
            notify.remove(connection)


@pytest.mark.usefixtures("installed")
def test_with_the_triggers_windows_of_every_process_hear_of_every_write(chat: Running) -> None:
    with running(chat.settings) as here, running(chat.settings) as there:
        wait_for_listeners(chat.owner, 2)
        ann = chat.person()
        with ann.at(here).window() as window:
            assert window.hears().name == "ready"
            conversation = ann.at(there).begins()["id"]
            assert window.hears() == changed(conversation)
            chat.owner.execute(  # by no service; older than the conversation's last activity
                "INSERT INTO messages (conversation_id, user_id, role, content, created_at)"
                " VALUES (%s, %s, 'agent', 'nightly', now() - interval '1 day')",
                [conversation, ann.user_id],
            )
            assert window.hears() == changed(conversation)
            chat.owner.execute("DELETE FROM conversations WHERE id = %s", [conversation])
            assert window.hears() == changed(conversation, "deleted")
            assert window.hears_nothing()


@pytest.mark.usefixtures("installed")
def test_a_listener_that_loses_the_database_comes_back_and_says_so(chat: Running) -> None:
    with running(chat.settings) as url:
        wait_for_listeners(chat.owner, 1)
        ann = chat.person().at(url)
        with ann.window() as window:
            assert window.hears().name == "ready"
            ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
            assert chat.owner.execute(ended).fetchall() == [(True,)]
            assert window.hears(30) == Event("ready", {})  # look at everything again
            conversation = ann.begins()["id"]
            assert window.hears() == changed(conversation)


@pytest.mark.usefixtures("installed")
def test_the_triggers_are_no_fault_of_the_schema(server: embedded.Server) -> None:
    url = server.url().render_as_string(hide_password=False)
    verify = [sys.executable, "-c", "from chat_schema.cli import main; main()", "verify"]
    done = subprocess.run(verify, env={"DATABASE_URL": url}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_on_supabase_the_tables_join_the_publication_once(server: embedded.Server, chat: Running) -> None:
    with database.connect(server.url()) as connection:
        with pytest.raises(CommandError, match="no publication supabase_realtime"):
            notify.join_realtime(connection)
        chat.owner.execute("CREATE PUBLICATION supabase_realtime")
        try:
            assert notify.join_realtime(connection) == ["conversations", "messages"]
            assert notify.join_realtime(connection) == []
        finally:
            chat.owner.execute("DROP PUBLICATION supabase_realtime")


def wait_for_listeners(owner: psycopg.Connection, wanted: int) -> None:
    """Wait until so many services listen: of a write before that they hear nothing."""
    for _ in range(200):
        count = "SELECT count(*) FROM pg_stat_activity WHERE query = 'LISTEN chat_api' AND state = 'idle'"
        if owner.execute(count).fetchone() == (wanted,):
            return
        time.sleep(0.05)
    raise AssertionError("the services do not listen")
