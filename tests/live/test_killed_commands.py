"""`purge`, `rotate-keys` and `import`, killed in the middle: run again they go on, and nothing is lost or doubled."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import namedtuple_row

from app.provider_keys import KeyRing
from tests.live.command_line import chat_schema, connect, value, wait_for

USER = UUID(int=1)
ROWS, AT_ONCE, REACHED = 30, 5, 12  # how many there are, how many a batch takes, at which one it is killed
HELD = 4711  # an advisory lock
OLD, NEW = (base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2))
WAITS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND NOT granted"
OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name <> 'a test'"


@pytest.fixture
def client(migrated_url: str) -> Iterator[psycopg.Connection]:
    with connect(migrated_url) as client:
        client.execute(f"INSERT INTO users (id) VALUES ('{USER}')".encode())
        yield client


@contextmanager
def held_at(client: psycopg.Connection, url: str, what: str, table: str, row: str) -> Iterator[None]:
    """Let whoever comes to ``row`` wait, until the block ends and the session that waited there has gone."""
    client.execute(
        f"""
        CREATE FUNCTION public.hold() RETURNS trigger LANGUAGE plpgsql AS
          $$ BEGIN PERFORM pg_advisory_xact_lock({HELD}); RETURN coalesce(NEW, OLD); END $$;
        CREATE TRIGGER hold BEFORE {what} ON {table} FOR EACH ROW WHEN ({row}) EXECUTE FUNCTION public.hold();
        """.encode()
    )
    with connect(url) as holder:
        holder.execute("SELECT pg_advisory_lock(%s)", [HELD])
        yield
    wait_for(lambda: value(client, OTHERS) == 0, "the session of the killed command to end")
    client.execute(f"DROP TRIGGER hold ON {table}; DROP FUNCTION public.hold()".encode())


def comes_there(client: psycopg.Connection) -> None:
    wait_for(lambda: value(client, WAITS, HELD), "the command to come to the row")


def storage_keys(said: str) -> list[str]:
    return [line.removeprefix("storage key ") for line in said.splitlines() if line.startswith("storage key ")]


def test_a_purge_goes_on_with_what_is_left_and_has_told_every_storage_key(
    client: psycopg.Connection, migrated_url: str
) -> None:
    client.execute(
        f"""
        INSERT INTO retention_rules (keep) VALUES ('90 days');
        INSERT INTO conversations (id, user_id, title, created_at, updated_at)
          SELECT md5(n::text)::uuid, '{USER}'::uuid, n::text, at, at FROM generate_series(1, {ROWS}) AS n,
            LATERAL (SELECT now() - interval '1 year' + n * interval '1 minute' AS at) AS moment
          UNION ALL SELECT gen_random_uuid(), '{USER}', 'young', now(), now();
        INSERT INTO attachments (conversation_id, user_id, name, media_type, size_bytes, sha256, storage_key)
          SELECT id, user_id, 'a', 'image/png', 1, sha256('a'), title FROM conversations;
        """.encode()
    )
    command = ("purge", "--batch-size", str(AT_ONCE))
    with (
        held_at(client, migrated_url, "DELETE", "conversations", f"OLD.title = '{REACHED}'"),
        chat_schema(migrated_url, *command) as killed,
    ):
        comes_there(client)
        killed.kill()
        told = storage_keys(killed.output)
    left = value(client, "SELECT count(*) FROM conversations WHERE title <> 'young'")
    assert left == ROWS - REACHED // AT_ONCE * AT_ONCE
    with chat_schema(migrated_url, *command) as again:
        said = again.succeeds()
    assert f"Deleted {left} of {left} personal conversations" in said
    assert client.execute("SELECT title FROM conversations").fetchall() == [("young",)]
    assert set(told) | set(storage_keys(said)) == {str(n) for n in range(1, ROWS + 1)}


def test_a_rotation_encrypts_each_key_once_and_none_is_lost(client: psycopg.Connection, migrated_url: str) -> None:
    old, new = KeyRing.parse(f"old:{OLD}"), KeyRing.parse(f"new:{NEW}")
    for n in range(1, ROWS + 1):
        key_id, sealed = old.encrypt(USER, f"provider {n:02}", f"secret {n}")
        client.execute(
            "INSERT INTO user_llm_providers (user_id, provider, ciphertext, key_id) VALUES (%s, %s, %s, %s)",
            [USER, f"provider {n:02}", bytes(sealed), key_id],
        )
    environment = {"CHAT_SCHEMA_PROVIDER_KEYS": f"new:{NEW},old:{OLD}"}
    command = ("rotate-keys", "--batch-size", str(AT_ONCE))
    with (
        held_at(client, migrated_url, "UPDATE", "user_llm_providers", f"OLD.provider = 'provider {REACHED:02}'"),
        chat_schema(migrated_url, *command, environment=environment) as killed,
    ):
        comes_there(client)
        killed.kill()
    rotated = REACHED // AT_ONCE * AT_ONCE
    assert value(client, "SELECT count(*) FROM user_llm_providers WHERE key_id = 'new'") == rotated
    with chat_schema(migrated_url, *command, environment=environment) as again:
        assert f"Encrypted {ROWS - rotated} keys anew with 'new'." in again.succeeds()
    with client.cursor(row_factory=namedtuple_row) as cursor:
        rows = cursor.execute("SELECT * FROM user_llm_providers ORDER BY provider").fetchall()
    assert [new.decrypt(row).reveal() for row in rows] == [f"secret {n}" for n in range(1, ROWS + 1)]


def test_an_import_leaves_nothing_and_then_brings_everything_once(
    client: psycopg.Connection, migrated_url: str, tmp_path: Path
) -> None:
    client.execute(
        f"""
        INSERT INTO conversations (id, user_id) VALUES ('{USER}', '{USER}');
        INSERT INTO messages (conversation_id, user_id, role, content)
          SELECT '{USER}', '{USER}', 'user', n FROM generate_series(1, {ROWS}) AS n;
        INSERT INTO brands (id, user_id, name) VALUES ('{USER}', '{USER}', 'Soap');
        INSERT INTO conversation_sessions (id, brand_id, user_id) VALUES ('{USER}', '{USER}', '{USER}');
        INSERT INTO conversation_messages (session_id, brand_id, user_id, role, content)
          SELECT '{USER}', '{USER}', '{USER}', 'user', n FROM generate_series(1, {ROWS}) AS n;
        """.encode()
    )
    file = str(tmp_path / "user.jsonl")
    with chat_schema(migrated_url, "export", "--user", str(USER), "--output", file) as export:
        export.succeeds()
    everything = (
        "SELECT array_agg(m.content ORDER BY m.created_at, m.seq) FROM messages AS m"
        " UNION ALL SELECT array_agg(m.content ORDER BY m.created_at, m.seq) FROM conversation_messages AS m"
    )
    there = client.execute(everything).fetchall()
    client.execute("DELETE FROM users")
    with (
        held_at(client, migrated_url, "INSERT", "conversation_messages", f"NEW.content = '{REACHED}'"),
        chat_schema(migrated_url, "import", file) as killed,
    ):
        comes_there(client)
        killed.kill()
    assert value(client, "SELECT count(*) FROM users") == 0
    for new in (ROWS, 0):
        with chat_schema(migrated_url, "import", file) as again:
            said = " ".join(again.succeeds().split())
        assert f"conversation_messages {new} of {ROWS} rows were new" in said
        assert client.execute(everything).fetchall() == there
