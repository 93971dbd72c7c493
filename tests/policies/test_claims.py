"""Who the database takes the caller for: the role, then the claims that the service has set."""

from __future__ import annotations

import json
from uuid import UUID

import psycopg
import pytest
from psycopg import errors

from tests.policies.acting import Refusal, acting, claims_of, refused, values
from tests.policies.world import CO_MEMBER, OTHER, OWNER

WHO = "SELECT chat_internal.current_user_id()"


def tasks_seen(connection: psycopg.Connection) -> list[UUID]:
    """Return whose tasks the caller sees."""
    return values(connection, "SELECT user_id FROM tasks")


def test_the_caller_is_the_sub_of_the_claims(world: psycopg.Connection) -> None:
    with acting(world, OWNER):
        assert values(world, WHO) == [OWNER]
        assert tasks_seen(world) == [OWNER]


@pytest.mark.parametrize("claim", ["role", "user_role", "app_metadata"])
def test_a_claim_to_be_service_role_gives_nothing_more(world: psycopg.Connection, claim: str) -> None:
    forged = {"sub": str(OTHER), claim: {"role": "service_role"} if claim == "app_metadata" else "service_role"}
    with acting(world, claims=json.dumps(forged)):
        world.execute("SELECT set_config('request.jwt.claim.role', 'service_role', true)")
        assert tasks_seen(world) == [OTHER]
        assert world.execute("DELETE FROM tasks WHERE user_id = %s", [OWNER]).rowcount == 0


def test_anon_gains_nothing_by_the_claims_of_a_user(world: psycopg.Connection) -> None:
    with acting(world, OWNER, role="anon"):
        with refused(world, Refusal.NO_GRANT):
            tasks_seen(world)
        with refused(world, Refusal.NO_GRANT):
            world.execute(WHO)


def test_the_single_claim_sub_wins_over_the_claims(world: psycopg.Connection) -> None:
    with acting(world, OWNER):
        world.execute("SELECT set_config('request.jwt.claim.sub', %s, true)", [str(CO_MEMBER)])
        assert tasks_seen(world) == [CO_MEMBER]
        world.execute("SELECT set_config('request.jwt.claim.sub', '', true)")
        assert tasks_seen(world) == [OWNER]


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param("", id="no claims"),
        pytest.param("{}", id="claims without sub"),
        pytest.param('{"sub": ""}', id="an empty sub"),
        pytest.param('{"sub": null}', id="a null sub"),
        pytest.param("null", id="claims that are null"),
        pytest.param(f'"{OWNER}"', id="claims that are a string"),
        pytest.param('["sub"]', id="claims that are an array"),
    ],
)
def test_without_a_sub_there_is_no_row_and_no_error(world: psycopg.Connection, claims: str) -> None:
    owned = ("users", "tenants", "tenant_users", "tasks", "conversations", "messages", "chat_messages", "chat_sessions")
    with acting(world, claims=claims):
        assert values(world, WHO) == [None]
        for relation in owned:
            assert world.execute(f"SELECT FROM {relation}").rowcount == 0, relation
        with refused(world, Refusal.BY_POLICY):
            world.execute("INSERT INTO tasks (user_id, title) VALUES (%s, 'Mine')", [OWNER])


@pytest.mark.parametrize("claims", ['{"sub": "admin"}', '{"sub": 1}', '{"sub": {"or": "1=1"}}'])
def test_a_sub_that_is_no_uuid_is_an_error(world: psycopg.Connection, claims: str) -> None:
    with acting(world, claims=claims), pytest.raises(errors.InvalidTextRepresentation), world.transaction():
        tasks_seen(world)


@pytest.mark.parametrize("claims", ["sub", "{", "{'sub': 1}"])
def test_claims_that_are_no_json_are_an_error(world: psycopg.Connection, claims: str) -> None:
    with acting(world, claims=claims), pytest.raises(errors.InvalidTextRepresentation), world.transaction():
        tasks_seen(world)


def test_after_the_transaction_the_connection_is_nobody_again(db: psycopg.Connection) -> None:
    db.execute("INSERT INTO users (id) VALUES (%s)", [OWNER])
    db.execute("INSERT INTO tasks (user_id, title) VALUES (%s, 'Buy milk')", [OWNER])
    db.commit()
    db.execute(
        "SELECT set_config('role', 'authenticated', true), set_config('request.jwt.claims', %s, true)",
        [claims_of(OWNER)],
    )
    assert tasks_seen(db) == [OWNER]
    db.commit()

    assert values(db, "SELECT current_user::text") == ["postgres"]
    assert values(db, "SELECT current_setting('request.jwt.claims', true)") == [""]  # not NULL: hence nullif()
    db.execute("SELECT set_config('role', 'authenticated', true)")
    assert tasks_seen(db) == []


def test_a_connection_that_never_had_claims_sees_nothing(db: psycopg.Connection) -> None:
    db.execute("INSERT INTO users (id) VALUES (%s)", [OWNER])
    db.execute("INSERT INTO tasks (user_id, title) VALUES (%s, 'Buy milk')", [OWNER])
    assert values(db, "SELECT current_setting('request.jwt.claims', true)") == [None]
    db.execute("SELECT set_config('role', 'authenticated', true)")
    assert tasks_seen(db) == []


def test_claims_without_the_role_switch_bind_no_table_owner(world: psycopg.Connection) -> None:
    """Why services switch the role: policies speak to role authenticated, and an owner is not it."""
    world.execute("SELECT set_config('request.jwt.claims', %s, true)", [claims_of(OWNER)])
    assert set(tasks_seen(world)) > {OWNER}
