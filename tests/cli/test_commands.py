"""`chat-schema` as an operator calls it: a process, its output, its exit code."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import socketserver
import subprocess
import sys
import threading
import uuid

import psycopg
import pytest

from app.catalog.comparison import load_expected
from app.catalog.document import as_markdown
from app.database import parse_url
from tests.migrations.chain import HEAD, REVISIONS
from tests.postgres_binaries import ROOT


def chat_schema(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "chat_schema", *arguments],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url},
        capture_output=True,
        text=True,
        timeout=120,
    )


def connect(url: str) -> psycopg.Connection:
    return psycopg.connect(url.replace("+psycopg", ""), autocommit=True)


@pytest.fixture
def user(migrated_url: str) -> uuid.UUID:
    with connect(migrated_url) as connection:
        row = connection.execute("INSERT INTO users (email) VALUES ('ana@example.test') RETURNING id").fetchone()
    assert row
    return uuid.UUID(str(row[0]))


def test_verify_passes_on_a_migrated_database(migrated_url: str) -> None:
    done = chat_schema(migrated_url, "verify")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAIL" not in done.stdout
    assert "Verified" in done.stdout


def test_verify_fails_on_an_empty_database_and_says_what_to_run(database_url: str) -> None:
    done = chat_schema(database_url, "verify")
    assert done.returncode == 1
    assert "chat-schema upgrade head" in done.stdout


def test_verify_fails_below_head(migrated_url: str) -> None:
    assert chat_schema(migrated_url, "downgrade", "-1").returncode == 0
    done = chat_schema(migrated_url, "verify")
    assert done.returncode == 1
    assert "FAIL  revision" in done.stdout


@pytest.mark.parametrize(
    ("drift", "named"),
    [
        ("ALTER TABLE messages DISABLE ROW LEVEL SECURITY", "public.messages"),
        (
            "ALTER TABLE chat_messages DISABLE TRIGGER chat_messages_fill_conversation",
            "chat_messages_fill_conversation",
        ),
        ("CREATE POLICY leftover ON conversations USING (true)", "leftover"),
        ("GRANT SELECT ON users TO anon", "public.users"),
    ],
)
def test_verify_names_what_drifted(migrated_url: str, drift: str, named: str) -> None:
    with connect(migrated_url) as connection:
        connection.execute(drift)  # type: ignore[call-overload]
    done = chat_schema(migrated_url, "verify")
    assert done.returncode == 1
    assert "FAIL  catalog" in done.stdout
    assert named in done.stdout


def test_verify_lists_a_users_own_objects_by_name_and_passes(migrated_url: str) -> None:
    with connect(migrated_url) as connection:
        connection.execute("CREATE TABLE my_own (id int); CREATE INDEX my_index ON messages (role)")
    done = chat_schema(migrated_url, "verify")
    assert done.returncode == 0, done.stdout
    assert "objects of your own" in done.stdout
    assert "        index my_index on public.messages" in done.stdout.splitlines()
    assert "        table public.my_own" in done.stdout.splitlines()


READER = "CREATE VIEW own AS SELECT id, email FROM users; GRANT SELECT ON own TO anon"


@pytest.mark.parametrize(
    ("drift", "check"),
    [
        ("GRANT CREATE ON SCHEMA public TO anon", "catalog"),
        ("ALTER ROLE {login} NOINHERIT; GRANT service_role TO {login} WITH ADMIN OPTION", "roles"),
        (READER, "what stands around the tables"),
    ],
)
def test_verify_names_what_weakens_the_tables_and_its_statements_mend_it(
    migrated_url: str, drift: str, check: str
) -> None:
    login = f"chat_cli_{uuid.uuid4().hex}"
    with connect(migrated_url) as connection:
        connection.execute(f"CREATE ROLE {login} LOGIN")  # type: ignore[call-overload]
        try:
            connection.execute(drift.format(login=login))  # type: ignore[call-overload]
            done = chat_schema(migrated_url, "verify")
            assert done.returncode == 1
            assert f"FAIL  {check}" in done.stdout
            for statement in re.findall(r"(?m)^            ([A-Z].*;)$", done.stdout):
                connection.execute(statement)
            assert chat_schema(migrated_url, "verify").returncode == 0
        finally:
            connection.execute(f"DROP ROLE {login}")  # type: ignore[call-overload]


def test_what_is_kept_is_a_warning_and_a_fault_again_once_it_changes(migrated_url: str) -> None:
    with connect(migrated_url) as connection:
        connection.execute(READER)
    assert chat_schema(migrated_url, "verify").returncode == 1
    kept = chat_schema(migrated_url, "verify", "--keep", "public.own")
    assert kept.returncode == 0, kept.stdout + kept.stderr
    assert kept.stdout.startswith("kept as yours: reader public.own\n")
    assert "warning: reader public.own: shows rows of public.users to anon" in kept.stdout
    again = chat_schema(migrated_url, "verify")
    assert again.returncode == 0
    assert "warning: reader public.own" in again.stdout
    with connect(migrated_url) as connection:
        connection.execute("GRANT SELECT ON own TO authenticated")
    changed = chat_schema(migrated_url, "verify")
    assert changed.returncode == 1
    assert "it has changed since it was recorded as yours" in changed.stdout


@pytest.mark.parametrize(
    ("drift", "identity", "told"),
    [
        ("SELECT 1", "public.own", "the name of nothing"),
        ("ALTER TABLE messages DISABLE ROW LEVEL SECURITY", "public.messages", "an object of this schema"),
    ],
)
def test_keep_refuses_unknown_names_and_objects_of_ours(
    migrated_url: str, drift: str, identity: str, told: str
) -> None:
    with connect(migrated_url) as connection:
        connection.execute(READER.replace("own", "other"))  # type: ignore[call-overload]
        connection.execute(drift)  # type: ignore[call-overload]
        done = chat_schema(migrated_url, "verify", "--keep", "public.other", "--keep", identity)
        assert done.returncode == 1
        assert f"Nothing was recorded: {identity}" in done.stderr
        assert told in done.stderr
        assert connection.execute("SELECT count(*) FROM chat_internal.kept").fetchone() == (0,)


def test_keep_before_there_is_a_schema_says_what_to_run(database_url: str) -> None:
    done = chat_schema(database_url, "verify", "--keep", "public.own")
    assert done.returncode == 1
    assert "chat-schema upgrade head" in done.stderr


def test_verify_prints_one_json_document(migrated_url: str) -> None:
    passed = chat_schema(migrated_url, "verify", "--json")
    assert passed.returncode == 0
    report = json.loads(passed.stdout)
    assert (report["version"], report["revision"], report["passed"]) == (1, HEAD, True)

    with connect(migrated_url) as connection:
        connection.execute(READER)
        connection.execute("GRANT TRUNCATE ON tasks TO anon; CREATE INDEX my_index ON messages (role)")
    done = chat_schema(migrated_url, "verify", "--json")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report["passed"] is False
    checks = {check["name"]: check for check in report["checks"]}
    [grant] = checks["catalog"]["differences"]
    assert (grant["kind"], grant["identity"]) == ("tables", "public.tasks")
    assert (grant["expected"], grant["found"]) == ({"grants": {"anon": []}}, {"grants": {"anon": ["TRUNCATE"]}})
    assert grant["mend"]["statements"] == ["REVOKE TRUNCATE ON TABLE public.tasks FROM anon CASCADE;"]
    [reader] = checks["what stands around the tables"]["differences"]
    assert (reader["kind"], reader["identity"], reader["found"]["reach"]) == ("readers", "public.own", ["anon"])
    assert "index my_index on public.messages" in checks["objects of your own"]["notes"]

    kept = json.loads(chat_schema(migrated_url, "verify", "--json", "--keep", "public.own").stdout)
    [own] = [check for check in kept["checks"] if check["name"] == "objects of your own"]
    assert [each["identity"] for each in own["kept"]] == ["public.own"]
    assert own["warnings"] == ["reader public.own: shows rows of public.users to anon, whatever their policies say"]


def test_verify_below_head_is_json_too(database_url: str) -> None:
    done = chat_schema(database_url, "verify", "--json")
    assert done.returncode == 1
    [check] = json.loads(done.stdout)["checks"]
    assert "chat-schema upgrade head" in check["problems"][0]


def test_two_revisions_at_once_are_not_head(migrated_url: str) -> None:
    with connect(migrated_url) as connection:
        connection.execute("INSERT INTO chat_internal.alembic_version VALUES ('0041')")
    done = chat_schema(migrated_url, "verify")
    assert done.returncode == 1
    assert f"0041, {HEAD}" in done.stdout


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        (
            "ALTER TABLE chat_messages DROP CONSTRAINT fk_chat_messages_conversation;"
            "INSERT INTO chat_messages (user_id, role, content, conversation_id)"
            " VALUES ('{user}', 'user', 'lost', gen_random_uuid())",
            "chat messages in another user's conversation",
        ),
        (
            "ALTER TABLE chat_messages ALTER conversation_id DROP NOT NULL;"
            "ALTER TABLE chat_messages DISABLE TRIGGER USER;"
            "INSERT INTO chat_messages (user_id, role, content) VALUES ('{user}', 'user', 'nowhere')",
            "chat messages without a conversation",
        ),
        (
            "ALTER TABLE messages DROP CONSTRAINT fk_messages_conversation_id;"
            "INSERT INTO messages (conversation_id, user_id, role, content)"
            " VALUES (gen_random_uuid(), '{user}', 'user', 'lost')",
            "messages in another user's conversation",
        ),
        (
            "INSERT INTO conversations (user_id) VALUES ('{user}');"
            "INSERT INTO messages (conversation_id, user_id, role, content, seq)"
            " SELECT id, user_id, 'user', 'tied', 7 FROM conversations, generate_series(1, 2)",
            "messages whose place in their conversation is not settled",
        ),
        (
            "ALTER TABLE conversation_messages DROP CONSTRAINT fk_conversation_messages_brand_id;"
            "INSERT INTO brands (user_id, name) VALUES ('{user}', 'Acme');"
            "INSERT INTO conversation_sessions (user_id, brand_id) SELECT user_id, id FROM brands;"
            "INSERT INTO conversation_messages (session_id, user_id, brand_id, role, content)"
            " SELECT id, user_id, gen_random_uuid(), 'user', 'astray' FROM conversation_sessions",
            "session messages with another brand than their session's",
        ),
    ],
)
def test_verify_counts_rows_that_break_a_rule(migrated_url: str, user: uuid.UUID, damage: str, rule: str) -> None:
    with connect(migrated_url) as connection:
        connection.execute(damage.format(user=user))  # type: ignore[call-overload]
    done = chat_schema(migrated_url, "verify")
    assert done.returncode == 1
    assert f"FAIL  {rule}" in done.stdout


def test_verify_changes_nothing_and_runs_on_a_read_only_session(migrated_url: str) -> None:
    with connect(migrated_url) as connection:
        read_only = f"ALTER DATABASE {connection.info.dbname} SET default_transaction_read_only = on"
        connection.execute(read_only)  # type: ignore[call-overload]
    assert chat_schema(migrated_url, "verify").returncode == 0


def test_plan_lists_the_pending_revisions_and_no_lock_of_an_empty_database(
    database_url: str, migrated_url: str
) -> None:
    pending = chat_schema(database_url, "plan")
    assert pending.returncode == 0
    assert "  0030  contract  Contract chat_sessions: the table becomes" in pending.stdout
    assert "Exclusive" not in pending.stdout
    assert "nothing to do" in chat_schema(migrated_url, "plan").stdout


def test_plan_from_the_middle_lists_only_what_is_left(migrated_url: str) -> None:
    assert chat_schema(migrated_url, "downgrade", "0040").returncode == 0
    lines = [line for line in chat_schema(migrated_url, "plan").stdout.splitlines() if line.startswith("  00")]
    assert [line.split()[0] for line in lines] == REVISIONS[REVISIONS.index("0041") :]


@pytest.fixture
def sessions(migrated_url: str, user: uuid.UUID) -> str:
    """Sessions of every state: 7 delivered and 5 cancelled 100 days ago, 3 delivered yesterday, 4 in progress."""
    with connect(migrated_url) as connection:
        connection.execute(
            """
            WITH brand AS (INSERT INTO brands (user_id, name) VALUES (%(user)s, 'Nova') RETURNING id),
            session AS (
              INSERT INTO conversation_sessions (brand_id, user_id, state, completed_at, last_activity_at)
              SELECT brand.id, %(user)s, s.state, now() - s.ended, now() - coalesce(s.ended, interval '3 years')
              FROM brand, (VALUES ('delivered', interval '100 days', 7), ('cancelled', interval '100 days', 5),
                                  ('delivered', interval '1 day', 3), ('initial', NULL, 4)) AS s (state, ended, n),
                   generate_series(1, s.n)
              RETURNING id, brand_id, user_id
            )
            INSERT INTO conversation_messages (session_id, brand_id, user_id, role, content)
            SELECT id, brand_id, user_id, 'user', 'text' FROM session, generate_series(1, 2)
            """,
            {"user": user},
        )
    return migrated_url


def left(url: str) -> tuple[int, int]:
    with connect(url) as connection:
        row = connection.execute(
            "SELECT (SELECT count(*) FROM conversation_sessions), (SELECT count(*) FROM conversation_messages)"
        ).fetchone()
    assert row
    return row[0], row[1]


def test_a_dry_purge_counts_and_deletes_nothing(sessions: str) -> None:
    done = chat_schema(sessions, "purge", "--dry-run")
    assert done.returncode == 0
    assert "12 sessions with 24 messages" in done.stdout
    assert left(sessions) == (19, 38)


def test_a_purge_deletes_ended_sessions_with_their_messages_and_no_others(sessions: str) -> None:
    done = chat_schema(sessions, "purge", "--batch-size", "5")
    assert done.returncode == 0, done.stderr
    assert "Deleted 12 of 12 sessions" in done.stdout
    assert left(sessions) == (7, 14)
    assert "Deleted 0 of 0" in chat_schema(sessions, "purge").stdout


def test_a_purge_honours_its_number_of_days(sessions: str) -> None:
    assert "Would delete 0 sessions" in chat_schema(sessions, "purge", "--older-than", "101", "--dry-run").stdout
    assert "Would delete 15 sessions" in chat_schema(sessions, "purge", "--older-than", "1", "--dry-run").stdout


def test_a_purge_leaves_a_session_in_use_to_the_next_one(sessions: str) -> None:
    with psycopg.connect(sessions.replace("+psycopg", "")) as busy:
        busy.execute("SELECT FROM conversation_sessions WHERE state = 'cancelled' LIMIT 1 FOR UPDATE")
        done = chat_schema(sessions, "purge")
    assert done.returncode == 0
    assert "1 were in use" in done.stdout
    assert "Deleted 1 of 1" in chat_schema(sessions, "purge").stdout


@pytest.mark.sampled(4)
@pytest.mark.parametrize("option", ["--older-than", "--batch-size"])
@pytest.mark.parametrize("number", ["", "x", "0", "-3", "1.5", "1e9999", "100001", str(2**31), str(2**63), "9" * 5000])
def test_a_purge_refuses_numbers_that_it_cannot_count_by(option: str, number: str) -> None:
    done = chat_schema("postgresql://nowhere.invalid/db", "purge", f"{option}={number}")
    assert done.returncode == 2
    assert f"argument {option}: invalid whole number from 1 to 100,000 value" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_purge_takes_the_largest_numbers(sessions: str) -> None:
    done = chat_schema(sessions, "purge", "--older-than=100000", "--batch-size=100000")
    assert done.returncode == 0, done.stderr
    assert "Deleted 0 of 0" in done.stdout


@pytest.mark.parametrize(
    "words", [("current",), ("check",), ("verify",), ("plan",), ("purge",), ("upgrade", "head"), ("downgrade", "-1")]
)
def test_a_command_says_which_database_it_worked_on(migrated_url: str, words: tuple[str, ...]) -> None:
    done = chat_schema(migrated_url, *words)
    assert done.returncode == 0, done.stderr
    with connect(migrated_url) as connection:
        name = connection.info.dbname
        [data] = connection.execute("SHOW data_directory").fetchone() or ()
    assert f"Database: postgresql://postgres@/{name} of the server whose data lie in {data}\n" in done.stderr


class Forward(socketserver.BaseRequestHandler):
    """Hands what comes by network to the socket of the server, and back."""

    path: str

    def handle(self) -> None:
        with socket.socket(socket.AF_UNIX) as server:
            server.connect(self.path)
            back = threading.Thread(target=self.pump, args=(server, self.request))
            back.start()
            self.pump(self.request, server)
            back.join()

    @staticmethod
    def pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


def test_of_several_hosts_the_command_names_the_one_that_answered_and_no_password(migrated_url: str) -> None:
    given = parse_url(migrated_url)
    path = f"{given.query['host']}/.s.PGSQL.{given.query['port']}"
    forward = type("ForwardThere", (Forward,), {"path": path})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), forward) as by_network:
        threading.Thread(target=by_network.serve_forever, daemon=True).start()
        there = f"127.0.0.1:{by_network.server_address[1]}"
        done = chat_schema(f"postgresql://postgres:s3cr3t@127.0.0.1:1,{there}/{given.database}", "verify", "--json")
        by_network.shutdown()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["database"] == f"postgresql://postgres@{there}/{given.database}"
    assert "s3cr3t" not in done.stdout + done.stderr


def test_a_purge_before_there_are_sessions_says_what_to_run(database_url: str) -> None:
    done = chat_schema(database_url, "purge")
    assert done.returncode == 1
    assert "chat-schema upgrade head" in done.stderr
    assert "Traceback" not in done.stderr


def test_upgrade_and_downgrade_are_alembics_own(database_url: str) -> None:
    assert chat_schema(database_url, "upgrade", "head").returncode == 0
    assert chat_schema(database_url, "current").stdout.split() == [HEAD, "(head)"]
    assert chat_schema(database_url, "downgrade", "base").returncode == 0


def test_help_lists_our_commands_and_the_options_of_x(database_url: str) -> None:
    done = chat_schema(database_url, "--help")
    assert done.returncode == 0
    for word in (
        "plan",
        "verify",
        "purge",
        "export",
        "import",
        "erase",
        "rotate-keys",
        "lock-timeout",
        "allow-data-loss",
    ):
        assert word in done.stdout


def test_docs_show_the_schema_as_it_is() -> None:
    assert (ROOT / "docs" / "schema.md").read_text("utf-8") == as_markdown(load_expected())
