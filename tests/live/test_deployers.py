"""Several deployments at once: one works, the others wait for it and find the work done.

``CHAT_SCHEMA_TEST_ROUNDS`` is how many times five of them race (default 1).
"""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import psycopg
import pytest
import sqlalchemy as sa

from app.catalog import Snapshot
from app.engine.deployer_lock import deployer_lock
from app.project import VERSIONS
from tests.database.conftest import login
from tests.live.application import Application
from tests.live.command_line import alembic, connect, value, wait_for
from tests.live.conftest import fill, snapshot
from tests.migrations.chain import HEAD, before, planned

ROUNDS = int(os.environ.get("CHAT_SCHEMA_TEST_ROUNDS", "1"))
DEPLOYERS = 5
AS_ANOTHER_DEPLOYMENT = f"SELECT pg_advisory_lock({0x63686174}, 1)"  # the keys that every version of the package uses


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_five_on_an_empty_database(database_url: str, head: Snapshot, round_: int) -> None:
    five_upgrade(database_url)
    assert snapshot(database_url) == head


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_five_on_a_database_in_use(old_url: str, client: psycopg.Connection, head: Snapshot, round_: int) -> None:
    """With a backfill and index builds in the chain: what deadlocked every other kind of deployer lock."""
    fill(client)
    with Application(old_url) as application:
        five_upgrade(old_url)
    application.check(client)
    assert snapshot(old_url) == head
    assert value(client, "SELECT count(*) FROM chat_internal.backfill_progress") == 0


def five_upgrade(url: str) -> None:
    """Start five deployments at once; every one must end well, and one alone must have run the last revision."""
    with ExitStack() as stack:
        runs = [stack.enter_context(alembic(url, "upgrade", "head")) for _ in range(DEPLOYERS)]
        said = [run.succeeds() for run in runs]
    assert sum(f"Running upgrade {before(HEAD)} -> {HEAD}" in each for each in said) == 1
    with connect(url) as client:
        assert value(client, "SELECT count(*) FROM pg_index WHERE NOT indisvalid") == 0
        assert value(client, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_five_that_begin_at_the_same_moment_come_one_after_the_other(database_url: str, round_: int) -> None:
    url = database_url.replace("postgresql://", "postgresql+psycopg://", 1)
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    together = threading.Barrier(DEPLOYERS)
    inside: list[int] = []

    def deploy(number: int) -> None:
        with engine.connect() as connection:
            for _ in range(3):
                together.wait()
                with deployer_lock(connection, 60.0, VERSIONS):
                    inside.append(number)
                    time.sleep(0.02)
                    assert inside == [number]
                    inside.remove(number)

    with ThreadPoolExecutor(DEPLOYERS) as pool:
        for deployer in [pool.submit(deploy, number) for number in range(DEPLOYERS)]:
            deployer.result()


def test_a_deployment_waits_for_another_and_says_so(old_url: str, client: psycopg.Connection, head: Snapshot) -> None:
    client.execute(AS_ANOTHER_DEPLOYMENT)
    with alembic(old_url, "upgrade", "head") as upgrade:
        upgrade.says(f"Another deployment is running (pid {client.info.backend_pid}, login postgres, ")
        assert "Running upgrade" not in upgrade.output
        client.execute("SELECT pg_advisory_unlock_all()")
        upgrade.succeeds()
    assert snapshot(old_url) == head


def test_a_deployment_gives_up_waiting_with_nothing_changed(old_url: str, client: psycopg.Connection) -> None:
    before = snapshot(old_url)
    client.execute(AS_ANOTHER_DEPLOYMENT)
    [in_the_way] = planned(old_url).would_stop
    assert in_the_way.says.startswith(f"Another deployment is running (pid {client.info.backend_pid}, login postgres).")
    with alembic(old_url, "upgrade", "head", x=("deployer-wait=300ms",)) as upgrade:
        said = upgrade.fails()
    assert "Another deployment still holds the deployer lock after 0.3 s" in said
    assert f"(pid {client.info.backend_pid}, " in said
    assert "nothing was changed" in said
    assert "-x deployer-wait=" in said
    assert snapshot(old_url) == before


def test_a_deployment_that_waits_blocks_no_index_build(old_url: str, client: psycopg.Connection) -> None:
    """It holds no transaction open while it waits: CREATE INDEX CONCURRENTLY waits for every older one."""
    fill(client, users=1, messages=1)
    client.execute(AS_ANOTHER_DEPLOYMENT)
    with alembic(old_url, "upgrade", "head") as upgrade:
        upgrade.says("Another deployment is running")
        client.execute("CREATE INDEX CONCURRENTLY other ON chat_messages (content)")
        client.execute("DROP INDEX other")
        client.execute("SELECT pg_advisory_unlock_all()")
        upgrade.succeeds()


def test_whoever_may_not_deploy_delays_nobody(database_url: str, head: Snapshot) -> None:
    """Any login may take any advisory lock. It is named once, and does not count before the first revision or after."""
    space = 0x63686174
    with login(database_url) as stranger, connect(stranger) as other:
        other.execute(f"SELECT pg_advisory_lock({space}, key) FROM generate_series(0, 2000) AS key".encode())
        other.execute(f"SELECT pg_advisory_lock({space}, pid) FROM pg_stat_activity".encode())
        other.execute(f"SELECT pg_advisory_lock_shared({space}, -1)".encode())
        for revision in (before(HEAD), "head"):
            with alembic(database_url, "upgrade", revision, x=("deployer-wait=1ms",)) as upgrade:
                said = upgrade.succeeds()
            assert "Another deployment" not in said
            assert said.count("may not deploy here") == 1
            assert f"pid {other.info.backend_pid}, login {other.info.user}" in said
    assert snapshot(database_url) == head


@pytest.mark.parametrize("at_head", [False, True])
@pytest.mark.parametrize("key", ["1", "pg_backend_pid()"])
def test_a_login_with_rights_is_waited_for_whatever_its_key(
    request: pytest.FixtureRequest, at_head: bool, key: str
) -> None:
    """Before the first revision who may create schemas, then the members of the owner of chat_internal."""
    url: str = request.getfixturevalue("migrated_url" if at_head else "database_url")
    with login(url) as deployer, connect(url) as superuser, connect(deployer) as other:
        name, pid = other.info.user, other.info.backend_pid
        superuser.execute(f"CREATE ROLE owner_of_{name}".encode())
        try:
            if at_head:
                superuser.execute(f"GRANT owner_of_{name} TO {name}".encode())
                superuser.execute(f"ALTER SCHEMA chat_internal OWNER TO owner_of_{name}".encode())
            else:
                superuser.execute(f"GRANT CREATE ON DATABASE {superuser.info.dbname} TO {name}".encode())
            other.execute(f"SELECT pg_advisory_lock({0x63686174}, {key})".encode())
            with alembic(url, "upgrade", "head", x=("deployer-wait=300ms",)) as upgrade:
                said = upgrade.fails()
        finally:
            superuser.execute(f"REASSIGN OWNED BY owner_of_{name} TO postgres".encode())
            superuser.execute(f"DROP ROLE owner_of_{name}".encode())
    assert f"(pid {pid}, login {name}, " in said
    assert "may not deploy" not in said


def test_a_deployer_that_waits_holds_no_lock(old_url: str, client: psycopg.Connection) -> None:
    client.execute(AS_ANOTHER_DEPLOYMENT)
    with alembic(old_url, "upgrade", "head") as upgrade:
        upgrade.says("Another deployment is running")
        locks = f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid <> {client.info.backend_pid}"
        for _ in range(50):
            assert value(client, locks) == 0
            time.sleep(0.01)
        client.execute("SELECT pg_advisory_unlock_all()")
        upgrade.succeeds()


def test_looking_needs_no_deployer_lock(migrated_url: str) -> None:
    with connect(migrated_url) as other:
        other.execute(AS_ANOTHER_DEPLOYMENT)
        for arguments in (["current"], ["check"], ["history", "--indicate-current"]):
            with alembic(migrated_url, *arguments) as look:
                assert "Another deployment" not in look.succeeds()


def test_deployments_of_two_databases_do_not_wait_for_each_other(old_url: str, migrated_url: str) -> None:
    with connect(migrated_url) as other:
        other.execute(AS_ANOTHER_DEPLOYMENT)
        with alembic(old_url, "upgrade", "head") as upgrade:
            assert "Another deployment" not in upgrade.succeeds()


def test_two_databases_of_one_server_may_create_the_roles_at_the_same_moment(
    database_url: str, client: psycopg.Connection
) -> None:
    """Roles are the server's and the deployer lock is a database's."""
    with connect(database_url) as other:
        other.autocommit = False
        other.execute("CREATE ROLE anon_of_two")
        with alembic(database_url, "upgrade", "0001", x=("anon-role=anon_of_two", "lock-timeout=50s")) as upgrade:
            waits = f"SELECT pid FROM pg_stat_activity WHERE {other.info.backend_pid} = ANY (pg_blocking_pids(pid))"
            wait_for(lambda: value(client, waits), "the upgrade to create the role")
            other.commit()
            upgrade.succeeds()
        with alembic(database_url, "downgrade", "base") as downgrade:
            downgrade.succeeds()
        other.execute("DROP ROLE anon_of_two")
        other.commit()
