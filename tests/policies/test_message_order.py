"""messages.seq settles the order, and the database alone gives it: clients and services write everything but it."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from app.models import Message
from tests.policies.acting import Refusal, acting, claims_of, refused, values
from tests.policies.world import OWNER, PERSONAL, ROWS

both = pytest.mark.parametrize("role", ["authenticated", "service_role"])
SAID = f"'{PERSONAL}', '{OWNER}', 'user', 'Hi'"
ORDER = f"SELECT content FROM messages WHERE conversation_id = '{PERSONAL}' ORDER BY created_at, seq"


@both
@pytest.mark.parametrize(
    "statement",
    [
        f"INSERT INTO messages (conversation_id, user_id, role, content, seq) VALUES ({SAID}, 1)",
        "INSERT INTO messages (conversation_id, user_id, role, content, seq) OVERRIDING SYSTEM VALUE"
        f" VALUES ({SAID}, 1)",
        f"INSERT INTO messages (conversation_id, user_id, role, content, seq) OVERRIDING USER VALUE VALUES ({SAID}, 1)",
        f"INSERT INTO messages (conversation_id, user_id, role, content, seq) VALUES ({SAID}, DEFAULT)",
        "INSERT INTO messages SELECT m.* FROM messages AS m",
        "UPDATE messages SET seq = 1",
        "UPDATE messages SET seq = DEFAULT",
        "UPDATE messages SET content = 'x', seq = seq",
        f"INSERT INTO messages (id, conversation_id, user_id, role, content) SELECT id, {SAID} FROM messages"
        " ON CONFLICT (id) DO UPDATE SET seq = 1",
        f"MERGE INTO messages AS m USING (VALUES ({SAID})) AS v ON false WHEN NOT MATCHED THEN"
        f" INSERT (conversation_id, user_id, role, content, seq) VALUES ({SAID}, 1)",
        "COPY messages FROM STDIN",
        "ALTER SEQUENCE messages_seq_seq RESTART",
        "SELECT setval('messages_seq_seq', 1)",
    ],
)
def test_nobody_but_the_owner_of_the_table_gives_it(world: psycopg.Connection, role: str, statement: str) -> None:
    order = values(world, "SELECT (id, seq)::text FROM messages ORDER BY id")
    with acting(world, OWNER, role=role), pytest.raises(psycopg.errors.InsufficientPrivilege), world.transaction():
        world.execute(statement)
    assert values(world, "SELECT (id, seq)::text FROM messages ORDER BY id") == order


@both
def test_everything_else_of_a_message_is_written_and_read(world: psycopg.Connection, role: str) -> None:
    with acting(world, OWNER, role=role):
        world.execute(
            "INSERT INTO messages (id, conversation_id, user_id, role, content, tool_calls, metadata, idempotency_key,"
            f" created_at) VALUES (gen_random_uuid(), {SAID}, '[]', '{{}}', 'once', now())"
        )
        world.execute(
            "UPDATE messages SET role = 'tool', content = 'Ho', tool_calls = NULL, metadata = '{\"a\": 1}',"
            " created_at = now() + interval '1 s' WHERE idempotency_key = 'once'"
        )
        assert values(world, ORDER) == ["Hello", "Ho"]
        assert world.execute("SELECT * FROM messages FOR UPDATE").rowcount >= 2
        assert world.execute("DELETE FROM messages WHERE idempotency_key = 'once'").rowcount == 1


@both
def test_an_upsert_as_postgrest_writes_it(world: psycopg.Connection, role: str) -> None:
    upsert = (
        'WITH pgrst_source AS (INSERT INTO "public"."messages" ("id", "conversation_id", "user_id", "role", "content")'
        ' SELECT b."id", b."conversation_id", b."user_id", b."role", b."content" FROM json_to_recordset(%s)'
        ' AS b("id" uuid, "conversation_id" uuid, "user_id" uuid, "role" varchar, "content" text)'
        ' ON CONFLICT ("id") DO UPDATE SET "id" = EXCLUDED."id", "conversation_id" = EXCLUDED."conversation_id",'
        ' "user_id" = EXCLUDED."user_id", "role" = EXCLUDED."role", "content" = EXCLUDED."content"'
        ' RETURNING "public"."messages".*) SELECT json_agg(s) FROM pgrst_source AS s'
    )
    row: dict[str, Any] = {
        "id": "00000010-0000-4000-8000-000000000001",
        "conversation_id": str(PERSONAL),
        "user_id": str(OWNER),
        "role": "user",
    }
    with acting(world, OWNER, role=role):
        [[first]] = values(world, upsert, json.dumps([{**row, "content": "one"}]))
        [[again]] = values(world, upsert, json.dumps([{**row, "content": "two"}]))
    assert (first["content"], again["content"]) == ("one", "two")
    assert first["seq"] == again["seq"]


@both
def test_the_view_of_arrays_writes_its_messages_in_their_order(world: psycopg.Connection, role: str) -> None:
    array = [{"role": "user", "content": text} for text in ("c", "a", "b")]
    with acting(world, OWNER, role=role):
        world.execute("UPDATE chat_sessions SET messages = %s WHERE id = %s", [json.dumps(array), PERSONAL])
        assert values(world, ORDER.replace("created_at, ", "")) == ["c", "a", "b"]
        world.execute("UPDATE chat_sessions SET messages = %s WHERE id = %s", [json.dumps(array[1:]), PERSONAL])
        assert values(world, ORDER.replace("created_at, ", "")) == ["a", "b"]


@both
def test_the_orm_writes_messages_and_knows_their_order(db: psycopg.Connection, migrated_url: str, role: str) -> None:
    engine = sa.create_engine(migrated_url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql(ROWS)
    with Session(engine) as session, session.begin():
        switch = sa.text("SELECT set_config('role', :role, true), set_config('request.jwt.claims', :claims, true)")
        session.execute(switch, {"role": role, "claims": claims_of(OWNER)})
        said = [
            Message(conversation_id=PERSONAL, user_id=OWNER, role="user", content=str(number)) for number in range(3)
        ]
        session.add_all(said)
        session.flush()
        assert [message.seq for message in said] == sorted(message.seq for message in said)
        said[0].content = "changed"
        session.flush()
        session.delete(said[1])
        session.flush()
        listing = sa.select(Message.content).where(Message.conversation_id == PERSONAL)
        assert session.scalars(listing.order_by(Message.created_at, Message.seq)).all() == ["Hello", "changed", "2"]


def test_the_owner_of_the_table_gives_it(world: psycopg.Connection) -> None:
    """Restores and adoption run as the owner of the table, and write the order that the rows had."""
    world.execute(f"INSERT INTO messages (conversation_id, user_id, role, content, seq) VALUES ({SAID}, -1)")
    assert values(world, ORDER)[0] == "Hi"
    with acting(world, OWNER), refused(world, Refusal.NO_GRANT):
        world.execute("UPDATE messages SET seq = -2")
