"""A message has the tenant of its conversation, whatever a client sends and whoever writes at the same moment."""

from __future__ import annotations

import threading
import time
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.conftest import libpq
from tests.policies.acting import Refusal, acting, outcome, refused, values
from tests.policies.world import ACME, GLOBEX, OF_ACME, OF_OTHER, OTHER, OWNER, PERSONAL, ROWS

TABLES = ("messages", "chat_messages")
WAITING = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


def differing(connection: psycopg.Connection) -> list[UUID]:
    """Return the messages whose tenant is not their conversation's."""
    return values(
        connection,
        " UNION ALL ".join(
            f"SELECT m.id FROM {table} AS m JOIN conversations AS c ON c.id = m.conversation_id"
            " WHERE c.tenant_id IS DISTINCT FROM m.tenant_id"
            for table in TABLES
        ),
    )


@pytest.mark.parametrize("role", ["authenticated", "service_role"])
@pytest.mark.parametrize("sent", [None, ACME, GLOBEX], ids=["none", "the conversation's", "another's"])
@pytest.mark.parametrize("table", TABLES)
def test_a_tenant_that_a_client_sends_is_not_believed(
    world: psycopg.Connection, table: str, sent: UUID | None, role: str
) -> None:
    with acting(world, OWNER, role=role):
        for conversation, tenant in ((OF_ACME, ACME), (PERSONAL, None)):
            stored = values(
                world,
                f"INSERT INTO {table} (conversation_id, user_id, role, content, tenant_id)"
                " VALUES (%s, %s, 'user', 'Hi', %s) RETURNING tenant_id",
                *(conversation, OWNER, sent),
            )
            assert stored == [tenant]
        world.execute(f"UPDATE {table} SET tenant_id = %s WHERE user_id = %s", [sent, OWNER])
    assert differing(world) == []


@pytest.mark.parametrize("sent", [None, GLOBEX], ids=["none", "a tenant of its own"])
@pytest.mark.parametrize("table", TABLES)
def test_who_left_gets_into_the_tenant_by_no_tenant_that_it_sends(
    world: psycopg.Connection, table: str, sent: UUID | None
) -> None:
    world.execute("DELETE FROM tenant_users WHERE user_id = %s", [OWNER])
    world.execute("INSERT INTO tenant_users (tenant_id, user_id) VALUES (%s, %s)", [GLOBEX, OWNER])
    with acting(world, OWNER):
        with refused(world, Refusal.BY_POLICY):
            world.execute(
                f"INSERT INTO {table} (conversation_id, user_id, role, content, tenant_id)"
                " VALUES (%s, %s, 'user', 'Hi', %s)",
                [OF_ACME, OWNER, sent],
            )
        assert outcome(world, f"UPDATE {table} SET tenant_id = NULL WHERE conversation_id = '{OF_ACME}'") == 0
        with refused(world, Refusal.BY_POLICY):
            world.execute(f"UPDATE {table} SET conversation_id = %s, tenant_id = %s", [OF_ACME, sent])
    assert differing(world) == []


@pytest.mark.parametrize("table", TABLES)
def test_a_message_that_is_refused_moves_nobodys_conversation(world: psycopg.Connection, table: str) -> None:
    old = "UPDATE conversations SET updated_at = '2020-01-01', created_at = '2020-01-01'"
    world.execute(old)
    for owner, conversation in ((OTHER, OF_OTHER), (OWNER, OF_OTHER)):
        with acting(world, OWNER):
            assert outcome(
                world,
                f"INSERT INTO {table} (conversation_id, user_id, role, content)"
                f" VALUES ('{conversation}', '{owner}', 'user', 'Hi')",
            ) in (Refusal.BY_POLICY, Refusal.BY_KEY)
    assert values(world, "SELECT count(*) FROM conversations WHERE updated_at <> '2020-01-01'") == [0]


def test_a_conversation_that_is_missing_is_refused_by_its_key(world: psycopg.Connection) -> None:
    with acting(world, OWNER), refused(world, Refusal.BY_KEY):
        world.execute(
            "INSERT INTO messages (conversation_id, user_id, role, content) VALUES (%s, %s, 'user', 'Hi')",
            [uuid4(), OWNER],
        )


@pytest.mark.parametrize("table", TABLES)
def test_a_message_that_moves_gets_the_tenant_of_where_it_goes(world: psycopg.Connection, table: str) -> None:
    with acting(world, OWNER):
        for conversation, tenant in ((OF_ACME, ACME), (PERSONAL, None)):
            world.execute(f"UPDATE {table} SET conversation_id = %s", [conversation])
            assert values(world, f"SELECT DISTINCT tenant_id FROM {table}") == [tenant]


def test_a_conversation_takes_its_messages_to_another_tenant_and_back(world: psycopg.Connection) -> None:
    world.execute("INSERT INTO tenant_users (tenant_id, user_id) VALUES (%s, %s)", [GLOBEX, OWNER])
    for tenant in (GLOBEX, None, ACME):
        with acting(world, OWNER):
            moved = world.execute("UPDATE conversations SET tenant_id = %s WHERE id = %s", [tenant, OF_ACME])
            assert moved.rowcount == 1
            for table in TABLES:
                found = values(world, f"SELECT tenant_id FROM {table} WHERE conversation_id = %s", OF_ACME)
                assert found == [tenant]
    assert differing(world) == []


@pytest.mark.parametrize("table", TABLES)
def test_a_conversation_that_one_statement_inserts_after_its_messages_takes_them(
    world: psycopg.Connection, table: str
) -> None:
    conversation = uuid4()
    with acting(world, OWNER):
        world.execute(
            "WITH late AS (INSERT INTO conversations (id, user_id, tenant_id) VALUES (%(id)s, %(me)s, %(tenant)s))"
            f" INSERT INTO {table} (conversation_id, user_id, role, content) VALUES (%(id)s, %(me)s, 'user', 'Hi')",
            {"id": conversation, "me": OWNER, "tenant": ACME},
        )
    assert values(world, f"SELECT tenant_id FROM {table} WHERE conversation_id = %s", conversation) == [ACME]


@pytest.mark.parametrize("table", TABLES)
def test_a_move_waits_for_who_is_writing_a_message_and_takes_it_along(migrated_url: str, table: str) -> None:
    with psycopg.connect(libpq(migrated_url)) as writer, psycopg.connect(libpq(migrated_url)) as mover:
        writer.execute(ROWS)
        writer.commit()
        writer.execute(
            f"INSERT INTO {table} (conversation_id, user_id, role, content) VALUES (%s, %s, 'user', 'Hi')",
            [PERSONAL, OWNER],
        )
        moving = threading.Thread(target=_move, args=[mover])
        moving.start()
        _until_somebody_waits(migrated_url)
        writer.commit()
        moving.join()
        assert values(writer, f"SELECT tenant_id FROM {table} WHERE conversation_id = %s", PERSONAL) == [ACME] * 2
        assert differing(writer) == []


@pytest.mark.parametrize("table", TABLES)
def test_who_writes_a_message_waits_for_a_move_and_follows_it(migrated_url: str, table: str) -> None:
    with psycopg.connect(libpq(migrated_url)) as writer, psycopg.connect(libpq(migrated_url)) as mover:
        mover.execute(ROWS)
        mover.commit()
        mover.execute("UPDATE conversations SET tenant_id = %s WHERE id = %s", [ACME, PERSONAL])
        writing = threading.Thread(
            target=writer.execute,
            args=[
                f"INSERT INTO {table} (conversation_id, user_id, role, content) VALUES (%s, %s, 'user', 'Hi')",
                [PERSONAL, OWNER],
            ],
        )
        writing.start()
        _until_somebody_waits(migrated_url)
        mover.commit()
        writing.join()
        writer.commit()
        assert values(writer, f"SELECT tenant_id FROM {table} WHERE conversation_id = %s", PERSONAL) == [ACME] * 2
        assert differing(writer) == []


def _move(mover: psycopg.Connection) -> None:
    mover.execute("UPDATE conversations SET tenant_id = %s WHERE id = %s", [ACME, PERSONAL])
    mover.commit()


def _until_somebody_waits(url: str) -> None:
    with psycopg.connect(libpq(url), autocommit=True) as watcher:
        for _ in range(500):
            if watcher.execute(WAITING).rowcount:
                return
            time.sleep(0.02)
    raise AssertionError("nobody waits")
