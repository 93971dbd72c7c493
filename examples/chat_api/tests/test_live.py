"""Live updates: other windows of the same user hear of every change, nobody else does."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from alembic.util import CommandError

from chat_api import live, notify
from chat_api.settings import Settings
from chat_schema import database, embedded
from tests.conftest import Running, libpq, running
from tests.person import Event, Person


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
        assert window.hears() == changed(conversation)  # to the trash
        ann.http.delete(f"/api/conversations/{conversation}", params={"forever": True})
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


@pytest.fixture
def stranger(server: embedded.Server, chat: Running) -> Iterator[psycopg.Connection]:
    """Somebody who may connect, and nothing else."""
    name = f"stranger_{uuid.uuid4().hex}"
    chat.owner.execute(f"CREATE ROLE {name} LOGIN".encode())
    try:
        with psycopg.connect(libpq(server.url(user=name)), autocommit=True) as connection:
            yield connection
    finally:
        chat.owner.execute(f"DROP ROLE {name}".encode())


GARBAGE = [
    "",
    "x",
    "-1",
    "1.0",
    "{}",
    "[",
    "99999999999999999999",
    "\u0661",
    "1" * 7999,
    '{"user_id": 7}',
    "1; DROP TABLE messages",
]


@pytest.mark.usefixtures("installed")
def test_what_anybody_notifies_ends_nothing_and_is_logged_once_in_a_while(
    chat: Running, stranger: psycopg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    with running(chat.settings) as url:
        wait_for_listeners(chat.owner, 1)
        ann = chat.person().at(url)
        with ann.window() as window:
            assert window.hears().name == "ready"
            for payload in [*GARBAGE, "18446744073709551615", "1"]:
                stranger.execute("SELECT pg_notify('chat_api', %s)", [payload])
            assert window.hears_nothing()
            conversation = ann.begins()["id"]
            assert window.hears() == changed(conversation)
    assert [record.message for record in caplog.records if "no trigger sends" in record.message] == [
        "somebody sends notifications on chat_api that no trigger sends; they are ignored"
    ]


@pytest.mark.usefixtures("installed")
def test_who_listens_hears_numbers_and_finds_nothing_under_them(chat: Running, stranger: psycopg.Connection) -> None:
    stranger.execute("LISTEN chat_api")
    ann = chat.person()
    conversation = ann.begins()["id"]
    ann.says(conversation, "hello")
    ann.deletes(conversation)
    heard = [notification.payload for notification in stranger.notifies(timeout=1)]
    assert len(heard) == len(set(heard)) == 6  # begun, asked, a reply begun and whole, trash, deleted: each once
    assert all(payload.isdecimal() for payload in heard)
    for statement in ("SELECT FROM chat_api.changes", "SELECT chat_api.announce()"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            stranger.execute(statement.encode())


@pytest.mark.usefixtures("installed")
def test_a_transaction_notifies_once_and_writes_one_row_for_a_conversation(chat: Running) -> None:
    ann = chat.person()
    chat.owner.execute("DELETE FROM chat_api.changes")
    with chat.owner.transaction():
        ids = [row[0] for row in chat.owner.execute(
            "INSERT INTO conversations (user_id) SELECT %s FROM generate_series(1, 3) RETURNING id", [ann.user_id]
        ).fetchall()]  # fmt: skip
        for _ in range(4):
            chat.owner.execute(
                "INSERT INTO messages (conversation_id, user_id, role, content)"
                " SELECT id, user_id, 'user', 'hello' FROM conversations WHERE user_id = %s",
                [ann.user_id],
            )
        chat.owner.execute("DELETE FROM conversations WHERE id = %s", [ids[0]])
    found = chat.owner.execute("SELECT conversation_id, kind, user_id FROM chat_api.changes").fetchall()
    assert sorted(found) == sorted([(id_, "changed", ann.user_id) for id_ in ids] + [(ids[0], "deleted", ann.user_id)])


@pytest.mark.usefixtures("installed")
def test_a_user_writes_changes_of_its_own_and_reads_none(chat: Running) -> None:
    ann, bob = chat.person(), chat.person()
    with acting(chat, ann) as login:
        for user, number in ((bob, "pg_current_xact_id()"), (ann, "'3'")):
            row = f"(transaction, conversation_id, kind, user_id) VALUES ({number}, %s, 'changed', %s)"
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level"), login.transaction():
                login.execute(f"INSERT INTO chat_api.changes {row}".encode(), [uuid.uuid4(), user.user_id])
        for statement in ("SELECT FROM chat_api.changes", "DELETE FROM chat_api.changes", "TRUNCATE chat_api.changes"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), login.transaction():
                login.execute(statement.encode())
        login.execute("INSERT INTO conversations (user_id) VALUES (%s)", [ann.user_id])  # the trigger, as its caller


@pytest.mark.usefixtures("installed")
def test_a_role_that_has_no_part_in_it_writes_unannounced(chat: Running, stranger: psycopg.Connection) -> None:
    """One that a team made for itself: its writes must not fail because somebody likes live updates."""
    ann, name = chat.person(), stranger.info.user
    chat.owner.execute(f"GRANT INSERT ON conversations TO {name}; ALTER ROLE {name} BYPASSRLS".encode())
    try:
        stranger.execute("INSERT INTO conversations (user_id) VALUES (%s)", [ann.user_id])
    finally:
        chat.owner.execute(f"REVOKE ALL ON conversations FROM {name}".encode())
    assert len(ann.sees()) == 1


def test_changes_from_before_the_column_get_their_tenant_while_services_write(
    server: embedded.Server, chat: Running
) -> None:
    """Several batches of them, a writer beside them, and then the trigger; a conversation that is gone has none."""
    ann = chat.person()
    tenant = chat.tenant("Acme", ann)
    with database.connect(server.url()) as connection:
        with pytest.raises(CommandError, match="Nothing is announced here"):
            notify.waiting(connection)
        connection.rollback()
        try:
            notify.install(connection, "01")
            chat.owner.execute("DELETE FROM chat_api.changes")
            shared = chat.owner.execute(
                "INSERT INTO conversations (user_id, tenant_id) VALUES (%s, %s) RETURNING id", [ann.user_id, tenant]
            ).fetchone()
            assert shared
            chat.owner.execute(
                "INSERT INTO chat_api.changes (transaction, conversation_id, kind, user_id)"
                " SELECT (n + 1000000000)::text::xid8, CASE n %% 2 WHEN 0 THEN %s ELSE gen_random_uuid() END,"
                " 'changed', %s FROM generate_series(1, 2000) AS n",
                [shared[0], ann.user_id],
            )
            with writing(chat, ann, tenant) as written:
                notify.install(connection)
            counts = dict(notify.waiting(connection))
            built = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'chat_api.idx_changes_tenant_id'::regclass"
            assert chat.owner.execute(built.encode()).fetchone() == (True,)
        finally:
            connection.rollback()
            notify.remove(connection)
    assert written
    assert counts == {str(tenant): 1000 + 1 + len(written), "personal": 1000}


@contextlib.contextmanager
def writing(chat: Running, person: Person, tenant: uuid.UUID) -> Iterator[list[uuid.UUID]]:
    """Let somebody begin conversations of a tenant meanwhile; yield them, complete when it is over."""
    begun: list[uuid.UUID] = []
    stop = threading.Event()

    def write() -> None:
        with psycopg.connect(chat.owner.info.dsn, autocommit=True) as writer:
            while not stop.wait(0.005):
                row = writer.execute(
                    "INSERT INTO conversations (user_id, tenant_id) VALUES (%s, %s) RETURNING id",
                    [person.user_id, tenant],
                ).fetchone()
                assert row
                begun.append(row[0])

    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(write)
        try:
            yield begun
        finally:
            stop.set()
            writer.result()


@pytest.mark.usefixtures("installed")
def test_listeners_delete_what_all_of_them_have_read(chat: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "SWEEP_SECONDS", 0.1)
    waiting = "SELECT count(*) FROM chat_api.changes"
    with running(chat.settings) as url, psycopg.connect(libpq(chat.settings.database_url)) as slow:
        ann = chat.person().at(url)
        chat.owner.execute("BEGIN")  # older than every sweep below, and not to be read before it ends
        chat.owner.execute("INSERT INTO conversations (user_id) VALUES (%s)", [ann.user_id])
        wait_for_listeners(slow, 1)
        with ann.window() as window:
            assert window.hears().name == "ready"
            conversation = ann.begins()["id"]
            assert window.hears() == changed(conversation)
            time.sleep(1)
            chat.owner.execute("COMMIT")
            assert window.hears().data["kind"] == "changed"
            for _ in range(200):
                if chat.owner.execute(waiting).fetchone() == (0,):
                    break
                time.sleep(0.05)
            else:
                raise AssertionError("nothing was deleted")


def test_installing_over_an_older_form_replaces_it(server: embedded.Server, chat: Running) -> None:
    older = """
        CREATE SCHEMA chat_api;
        CREATE FUNCTION chat_api.announce() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_notify('chat_api', json_build_object('user_id', NEW.user_id)::text); RETURN NULL; END $$;
        CREATE TRIGGER chat_api_announce AFTER INSERT ON public.conversations
        FOR EACH ROW EXECUTE FUNCTION chat_api.announce();
    """
    chat.owner.execute(older.encode())
    with database.connect(server.url()) as connection:
        try:
            assert not connection.scalar(notify.INSTALLED)
            notify.install(connection)
            assert connection.scalar(notify.INSTALLED)
            chat.owner.execute("LISTEN chat_api")
            chat.person().begins()
            assert [one.payload.isdecimal() for one in chat.owner.notifies(timeout=1)] == [True]
        finally:
            chat.owner.execute("UNLISTEN *")
            notify.remove(connection)


def test_installing_goes_on_once_a_writer_is_out_of_its_way(
    server: embedded.Server, chat: Running, caplog: pytest.LogCaptureFixture
) -> None:
    """It is a revision on the engine: it gives way, tries again, and leaves no lock to those who queue behind it."""
    caplog.set_level("INFO", "alembic.engine")
    person = chat.person()

    def install() -> None:
        with database.connect(server.url()) as connection:
            notify.install(connection)

    try:
        with psycopg.connect(libpq(server.url())) as writer, ThreadPoolExecutor(1) as pool:
            writer.execute("UPDATE conversations SET title = title")
            installing = pool.submit(install)
            for _ in range(600):
                if "lock not free" in caplog.text:
                    break
                time.sleep(0.05)
            person.begins()
            writer.rollback()
            installing.result()
        assert chat.owner.execute("SELECT version_num FROM chat_api.alembic_version").fetchall() == [("04",)]
        assert "lock not free" in caplog.text
    finally:
        with database.connect(server.url()) as connection:
            notify.remove(connection)
    assert chat.owner.execute("SELECT to_regnamespace('chat_api')").fetchone() == (None,)


def test_a_schema_of_somebody_else_s_is_not_written_to(server: embedded.Server, chat: Running) -> None:
    with database.connect(server.url()) as connection:
        chat.owner.execute("CREATE ROLE squatter; CREATE SCHEMA chat_api AUTHORIZATION squatter")
        try:
            with pytest.raises(CommandError, match="belongs to another role"):
                notify.install(connection)
        finally:
            connection.rollback()
            chat.owner.execute("DROP SCHEMA chat_api; DROP ROLE squatter")


@contextlib.contextmanager
def acting(chat: Running, person: Person) -> Iterator[psycopg.Connection]:
    """Act for somebody on a connection of the service's login; nothing of it stays."""
    with psycopg.connect(libpq(chat.settings.database_url)) as login:
        login.execute(
            "SELECT set_config('role', 'authenticated', true), set_config('request.jwt.claims', %s, true)",
            [json.dumps({"sub": str(person.user_id)})],
        )
        yield login
        login.rollback()


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
