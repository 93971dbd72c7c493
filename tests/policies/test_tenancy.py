"""A conversation of a tenant is open while its owner is a member, and its messages with it."""

from uuid import uuid4

import psycopg
import pytest

from tests.policies.acting import Refusal, acting, outcome, refused, values
from tests.policies.world import ACME, CO_MEMBER, FOREIGNER, GLOBEX, OF_ACME, OWNER, PERSONAL

HELD = {"conversations": "id", "messages": "conversation_id", "chat_messages": "conversation_id", "chat_sessions": "id"}


def leave(connection: psycopg.Connection) -> None:
    connection.execute("DELETE FROM tenant_users WHERE tenant_id = %s AND user_id = %s", [ACME, OWNER])


def come_back(connection: psycopg.Connection) -> None:
    connection.execute("INSERT INTO tenant_users (tenant_id, user_id) VALUES (%s, %s)", [ACME, OWNER])


@pytest.mark.parametrize(("relation", "column"), HELD.items())
def test_a_member_who_leaves_the_tenant_loses_what_it_wrote_there_until_it_comes_back(
    world: psycopg.Connection, relation: str, column: str
) -> None:
    def seen() -> set[object]:
        with acting(world, OWNER):
            return set(values(world, f"SELECT {column} FROM {relation}"))

    assert seen() == {PERSONAL, OF_ACME}
    leave(world)
    assert seen() == {PERSONAL}
    come_back(world)
    assert seen() == {PERSONAL, OF_ACME}


@pytest.mark.parametrize("table", ["messages", "chat_messages"])
def test_who_left_writes_nothing_into_the_tenant_and_moves_nothing_there(world: psycopg.Connection, table: str) -> None:
    leave(world)
    with acting(world, OWNER):
        with refused(world, Refusal.BY_POLICY):
            world.execute(
                f"INSERT INTO {table} (conversation_id, user_id, role, content) VALUES (%s, %s, 'user', 'Hi')",
                [OF_ACME, OWNER],
            )
        with refused(world, Refusal.BY_POLICY):
            world.execute(f"UPDATE {table} SET conversation_id = %s WHERE conversation_id = %s", [OF_ACME, PERSONAL])
        assert outcome(world, f"UPDATE {table} SET content = '' WHERE conversation_id = '{OF_ACME}'") == 0
        assert outcome(world, f"DELETE FROM {table} WHERE conversation_id = '{OF_ACME}'") == 0


def test_who_left_does_not_take_its_conversation_along(world: psycopg.Connection) -> None:
    leave(world)
    with acting(world, OWNER):
        assert outcome(world, f"UPDATE conversations SET tenant_id = NULL WHERE id = '{OF_ACME}'") == 0
        assert outcome(world, f"UPDATE chat_sessions SET tenant_id = NULL WHERE id = '{OF_ACME}'") == 0
        assert outcome(world, "UPDATE conversations SET tenant_id = NULL") == 1
    assert values(world, "SELECT tenant_id FROM conversations WHERE id = %s", OF_ACME) == [ACME]


@pytest.mark.parametrize("table", ["messages", "chat_messages"])
def test_who_left_does_not_take_its_messages_along(world: psycopg.Connection, table: str) -> None:
    leave(world)
    with acting(world, OWNER):
        assert outcome(world, f"UPDATE {table} SET conversation_id = '{PERSONAL}'") == 1
        with refused(world, Refusal.BY_POLICY):
            world.execute(f"UPDATE {table} SET conversation_id = '{OF_ACME}'")
    assert values(world, f"SELECT count(*) FROM {table} WHERE conversation_id = %s", OF_ACME) == [1]


def test_a_member_cannot_make_itself_a_member_of_another_tenant(world: psycopg.Connection) -> None:
    with acting(world, OWNER):
        with refused(world, Refusal.NO_GRANT):
            world.execute("INSERT INTO tenant_users (tenant_id, user_id) VALUES (%s, %s)", [GLOBEX, OWNER])
        with refused(world, Refusal.NO_GRANT):
            world.execute("UPDATE tenant_users SET tenant_id = %s WHERE user_id = %s", [GLOBEX, OWNER])


def test_a_tenant_sees_itself_and_no_other(world: psycopg.Connection) -> None:
    for user, tenant, members in ((OWNER, ACME, {OWNER, CO_MEMBER}), (FOREIGNER, GLOBEX, {FOREIGNER})):
        with acting(world, user):
            assert values(world, "SELECT id FROM tenants") == [tenant]
            assert set(values(world, "SELECT user_id FROM tenant_users")) == members


def test_leaving_one_tenant_closes_nothing_of_another(world: psycopg.Connection) -> None:
    world.execute("INSERT INTO tenant_users (tenant_id, user_id) VALUES (%s, %s)", [GLOBEX, OWNER])
    with acting(world, OWNER):
        (kept,) = values(
            world, "INSERT INTO conversations (user_id, tenant_id) VALUES (%s, %s) RETURNING id", OWNER, GLOBEX
        )
    leave(world)
    with acting(world, OWNER):
        assert set(values(world, "SELECT id FROM conversations")) == {PERSONAL, kept}


def test_who_leaves_several_tenants_loses_what_it_wrote_in_each(world: psycopg.Connection) -> None:
    tenants = sorted(uuid4() for _ in range(5))
    for tenant in tenants:
        world.execute("INSERT INTO tenants (id, name) VALUES (%s, 'One of five')", [tenant])
        world.execute("INSERT INTO tenant_users (tenant_id, user_id) VALUES (%s, %s)", [tenant, OWNER])
    with acting(world, OWNER):
        for tenant in tenants:
            world.execute(
                "INSERT INTO conversations (id, user_id, tenant_id) VALUES (%(tenant)s, %(me)s, %(tenant)s)",
                {"tenant": tenant, "me": OWNER},
            )
            for table in ("messages", "chat_messages"):
                world.execute(
                    f"INSERT INTO {table} (conversation_id, user_id, role, content) VALUES (%s, %s, 'user', 'Hi')",
                    [tenant, OWNER],
                )
    kept = tenants.pop(2)
    world.execute("DELETE FROM tenant_users WHERE user_id = %s AND tenant_id = ANY(%s)", [OWNER, tenants])
    for relation, column in HELD.items():
        with acting(world, OWNER):
            assert set(values(world, f"SELECT {column} FROM {relation}")) == {PERSONAL, OF_ACME, kept}


def test_deleting_a_tenant_deletes_its_conversations_and_leaves_the_personal_ones(world: psycopg.Connection) -> None:
    with acting(world, role="service_role"):
        assert world.execute("DELETE FROM tenants WHERE id = %s", [ACME]).rowcount == 1
    for relation, column in HELD.items():
        with acting(world, OWNER):
            assert set(values(world, f"SELECT {column} FROM {relation}")) == {PERSONAL}


def test_services_see_a_conversation_whose_owner_left(world: psycopg.Connection) -> None:
    leave(world)
    with acting(world, role="service_role"):
        for relation, column in HELD.items():
            assert OF_ACME in values(world, f"SELECT {column} FROM {relation}")
