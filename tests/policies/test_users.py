"""What a user may do with its own row: read all of it but the password's hash, change the email."""

import psycopg
import pytest
from psycopg import errors

from tests.policies.acting import Refusal, acting, refused, values
from tests.policies.world import CO_MEMBER, OTHER, OWNER


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT password_hash FROM users",
        "SELECT * FROM users",
        "SELECT users FROM users",
        "SELECT to_jsonb(users) FROM users",
        "SELECT id FROM users WHERE password_hash LIKE 'h%'",
        "SELECT id FROM users ORDER BY password_hash",
        "SELECT count(password_hash) FROM users",
        "UPDATE users SET email = password_hash",
        "UPDATE users SET email = 'new@example.org' RETURNING password_hash",
        "UPDATE users SET email = 'new@example.org' WHERE password_hash IS NOT NULL",
    ],
)
def test_a_user_cannot_learn_its_password_hash(world: psycopg.Connection, statement: str) -> None:
    with acting(world, OWNER), refused(world, Refusal.NO_GRANT):
        world.execute(statement)


def test_services_read_password_hashes(world: psycopg.Connection) -> None:
    with acting(world, role="service_role"):
        assert values(world, "SELECT password_hash FROM users WHERE id = %s", OWNER) == ["hash"]


def test_a_user_reads_the_rest_of_its_row(world: psycopg.Connection) -> None:
    with acting(world, OWNER):
        assert values(world, "SELECT email FROM users") == ["owner@example.org"]
        assert world.execute("SELECT id, created_at, updated_at FROM users").rowcount == 1


def test_a_user_changes_its_email_and_the_time_of_change_follows(world: psycopg.Connection) -> None:
    world.execute("UPDATE users SET updated_at = '2020-01-01'")
    with acting(world, OWNER):
        assert world.execute("UPDATE users SET email = 'new@example.org'").rowcount == 1
        assert values(world, "SELECT email FROM users WHERE updated_at = now()") == ["new@example.org"]
    assert values(world, "SELECT email FROM users WHERE id = %s", OTHER) == ["other@example.org"]


@pytest.mark.parametrize(
    "change",
    ["password_hash = 'known'", "password_hash = NULL", f"id = '{OTHER}'", "created_at = now()", "updated_at = now()"],
)
def test_a_user_changes_nothing_else_of_its_row(world: psycopg.Connection, change: str) -> None:
    with acting(world, OWNER), refused(world, Refusal.NO_GRANT):
        world.execute(f"UPDATE users SET {change}")
    with acting(world, OWNER), refused(world, Refusal.NO_GRANT):
        world.execute(f"UPDATE users SET email = 'new@example.org', {change}")


def test_a_user_does_not_take_the_address_of_another(world: psycopg.Connection) -> None:
    with acting(world, OWNER), pytest.raises(errors.UniqueViolation), world.transaction():
        world.execute("UPDATE users SET email = 'other@example.org'")


def test_members_see_one_another_as_ids_and_not_as_users(world: psycopg.Connection) -> None:
    with acting(world, OWNER):
        assert set(values(world, "SELECT user_id FROM tenant_users")) == {OWNER, CO_MEMBER}
        assert values(world, "SELECT id FROM users") == [OWNER]
