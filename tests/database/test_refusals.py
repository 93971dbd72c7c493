"""What a server or a login must be for a migration, and what is said when it is not: nothing is changed then."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import psycopg
import pytest
import sqlalchemy as sa

from alembic import command
from app import embedded
from app.catalog import take_snapshot
from tests.conftest import SETTINGS, scratch_folder
from tests.database.conftest import login, refusal, run, warning
from tests.live.command_line import alembic, connect, value
from tests.postgres_binaries import binaries
from tests.services import pgbouncer

REFUSED = {
    "lock-timeot=1s": "Unknown option -x lock-timeot, so nothing was run. Did you mean -x lock-timeout=...?\nKnown ",
    "xyz=1": "Unknown option -x xyz, so nothing was run.\nKnown options:\n  -x lock-timeout=100ms ",
    "lock-timeout": "-x lock-timeout takes a duration",
    "lock-timeout=fast": "-x lock-timeout takes a duration from 1ms to 24h, such as 250ms, 10s, 5min or 1h, not 'fast'",
    "lock-timeout=0ms": "-x lock-timeout takes a duration",
    "lock-timeout=0.4ms": "-x lock-timeout takes a duration",  # 0 to PostgreSQL: no limit at all
    "lock-timeout=-1s": "-x lock-timeout takes a duration",
    "lock-timeout=25h": "-x lock-timeout takes a duration",
    "deployer-wait=10": "-x deployer-wait takes a duration",
    "backfill-workers=0": "-x backfill-workers takes a whole number from 1 to 16, not '0'.",
    "backfill-workers=two": "-x backfill-workers takes a whole number from 1 to 16",
    "allow-data-loss=true": "-x allow-data-loss takes yes or no, not 'true'.",
    "anon-role=": "-x anon-role takes a role name of 1 to 63 bytes, not ''.",
    "anon-role=two words": "-x anon-role takes a role name of 1 to 63 bytes",
    'anon-role=a"b': "-x anon-role takes a role name of 1 to 63 bytes",
    "anon-role=" + "ä" * 32: "-x anon-role takes a role name of 1 to 63 bytes",  # the server would cut it off
    "anon-role=public": "-x anon-role=public: PostgreSQL reserves that name, so nothing was run: ",
    "authenticated-role=PUBLIC": "-x authenticated-role=PUBLIC: PostgreSQL reserves that name",
    "service-role=none": "-x service-role=none: PostgreSQL reserves that name",
    "service-role=current_user": "-x service-role=current_user: PostgreSQL reserves that name",
    "service-role=session_user": "-x service-role=session_user: PostgreSQL reserves that name",
    "service-role=current_role": "-x service-role=current_role: PostgreSQL reserves that name",
    "service-role=pg_read_all_data": "-x service-role=pg_read_all_data: PostgreSQL reserves that name",
    "anon-role=authenticated": "anon-role and authenticated-role are both authenticated, so nothing was run: ",
    "authenticated-role=service_role": "authenticated-role and service-role are both service_role, so nothing was run",
}


def snapshot(url: str) -> object:
    """Read everything that is in the catalog of a database."""
    with sa.create_engine(url, poolclass=sa.NullPool).connect() as connection:
        schemas = connection.scalars(sa.text("SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_'")).all()
        connection.rollback()
        return sorted(schemas), take_snapshot(connection)


@pytest.mark.parametrize("option", REFUSED)
def test_an_option_that_cannot_be_meant_is_refused_before_anything_is_run(database_url: str, option: str) -> None:
    before = snapshot(database_url)
    said = refusal(database_url, command.upgrade, "head", x=(option,))
    assert said.startswith(REFUSED[option])
    assert "othing was run" in said
    assert snapshot(database_url) == before


@pytest.mark.parametrize("same", [("anon-role", "authenticated-role"), ("anon-role", "service-role")])
@pytest.mark.parametrize("name", ["one", "authenticated"])
def test_one_name_for_two_roles_is_refused_before_anything_is_run(
    database_url: str, same: tuple[str, str], name: str
) -> None:
    before = snapshot(database_url)
    said = refusal(database_url, command.upgrade, "head", x=tuple(f"{option}={name}" for option in same))
    assert f"are both {name}" in said or f"are all {name}" in said
    assert "so nothing was run: that one role would have the rights of " in said
    assert "Give each role a name of its own: -x anon-role=" in said
    assert snapshot(database_url) == before


def test_names_other_than_the_recorded_are_refused_even_where_they_are_the_defaults(database_url: str) -> None:
    roles = ("anon-role=web_anon", "authenticated-role=web_user", "service-role=web_service")
    with connect(database_url) as superuser:
        for role in roles:
            superuser.execute(f"CREATE ROLE {role.partition('=')[2]}".encode())
        try:
            run(database_url, command.upgrade, "0001", x=roles)
            before = snapshot(database_url)
            for other in ("anon-role=anon", "service-role=service_role", "authenticated-role=somebody"):
                said = refusal(database_url, command.upgrade, "0013", x=(other,))
                assert said.startswith(f"-x {other}: this database was set up with {', '.join(roles)}, so nothing was")
                assert "Leave the -x ...-role options out: the recorded names are used." in said
                assert f"-x {other}: this database was set up with" in warning(database_url, (other,))
                assert snapshot(database_url) == before
            run(database_url, command.upgrade, "0013", x=roles[1:])
            run(database_url, command.downgrade, "base")
        finally:
            for role in roles:
                superuser.execute(f"DROP ROLE {role.partition('=')[2]}".encode())


def test_a_misspelt_option_ends_the_command_line(database_url: str) -> None:
    with alembic(database_url, "upgrade", "head", x=("lock-timeot=1s",)) as process:
        assert f"FAILED: {REFUSED['lock-timeot=1s']}" in process.fails()


@pytest.mark.parametrize("direction", [command.upgrade, command.downgrade, command.stamp])
def test_a_revision_that_does_not_exist_is_named(migrated_url: str, direction: Callable[..., None]) -> None:
    before = snapshot(migrated_url)
    assert refusal(migrated_url, direction, "0999") == "Can't locate revision identified by '0999'"
    assert snapshot(migrated_url) == before


@pytest.mark.parametrize(
    ("do", "revision"),
    [(command.upgrade, ["head"]), (command.downgrade, ["-1"]), (command.current, []), (command.check, [])],
)
def test_a_database_that_a_newer_version_has_migrated_is_left_alone(
    migrated_url: str, do: Callable[..., None], revision: list[str]
) -> None:
    with connect(migrated_url) as client:
        client.execute("UPDATE chat_internal.alembic_version SET version_num = '9999'")
    before = snapshot(migrated_url)
    assert "The database is at revision 9999" in warning(migrated_url)
    said = refusal(migrated_url, do, *revision)
    assert "The database is at revision 9999, which this version of chat-schema does not have" in said
    assert "install that one, then run the command again" in said
    assert snapshot(migrated_url) == before


def test_a_revision_that_nobody_has_can_be_stamped_over(migrated_url: str) -> None:
    with connect(migrated_url) as client:
        client.execute("UPDATE chat_internal.alembic_version SET version_num = '9999'")
    with alembic(migrated_url, "stamp", "--purge", "head") as process:
        process.succeeds()
    with alembic(migrated_url, "current") as process:
        assert "(head)" in process.succeeds()


def test_a_server_that_only_reads(database_url: str) -> None:
    before = snapshot(database_url)
    with connect(database_url) as client:
        client.execute(f"ALTER DATABASE {client.info.dbname} SET default_transaction_read_only = on".encode())
    assert "default_transaction_read_only is on here" in warning(database_url)
    said = refusal(database_url, command.upgrade, "head")
    assert "default_transaction_read_only is on here" in said
    assert "RESET default_transaction_read_only;" in said
    assert snapshot(database_url) == before


def test_a_server_that_only_reads_and_has_everything_already(migrated_url: str) -> None:
    with connect(migrated_url) as client:
        client.execute(f"ALTER DATABASE {client.info.dbname} SET default_transaction_read_only = on".encode())
    run(migrated_url, command.upgrade, "head")


def test_a_login_that_may_create_nothing_gets_the_grants_it_needs(database_url: str) -> None:
    before = snapshot(database_url)
    with login(database_url) as stranger:
        said = refusal(stranger, command.upgrade, "head")
        name = stranger.partition("://")[2].partition("@")[0]
        assert f"The login '{name}' may not create objects in the database 'test_" in said
        grants = [line.strip() for line in said.splitlines() if line.strip().startswith("GRANT")]
        assert len(grants) == 2
        assert all(grant in warning(stranger) for grant in grants)
        assert snapshot(database_url) == before

        with connect(database_url) as superuser:  # what it says is enough
            for grant in grants:
                superuser.execute(grant.encode())
        run(stranger, command.upgrade, "head")


def test_a_login_that_owns_nothing_here_is_told_whose_work_it_is(migrated_url: str) -> None:
    before = snapshot(migrated_url)
    with login(migrated_url) as stranger:
        name = stranger.partition("://")[2].partition("@")[0]
        for do, revision in ((command.upgrade, "head"), (command.downgrade, "base"), (command.stamp, "0001")):
            said = refusal(stranger, do, revision)
            assert "does not own the schema chat_internal" in warning(stranger, to="base")
            assert said.startswith(f"The login '{name}' does not own the schema chat_internal of the database 'test_")
            assert "'postgres' does, so nothing was run. Run the command as that role;" in said
            assert "GRANT" not in said
    assert snapshot(migrated_url) == before


@pytest.mark.parametrize("look", [command.current, command.check])
def test_the_login_of_a_service_is_not_told_to_have_itself_granted_more(
    migrated_url: str, look: Callable[..., object]
) -> None:
    with login(migrated_url, "NOINHERIT") as service, connect(migrated_url) as superuser:
        name = service.partition("://")[2].partition("@")[0]
        superuser.execute(f"GRANT authenticated, service_role TO {name}".encode())
        said = refusal(service, look)
        assert "(42501)" in said
        assert "Run it as the owner of the tables." in said
        assert "to the login of a service it would give too much" in said


def test_a_server_that_is_too_old() -> None:
    try:
        bin_dir = binaries(14)
    except RuntimeError as error:
        pytest.skip(f"PostgreSQL 14 could not be had, so nothing was tested on it: {error}")
    with scratch_folder() as folder, embedded.running(folder / "data", bin_dir=bin_dir, settings=SETTINGS) as server:
        url = server.url().render_as_string(hide_password=False)
        assert "This server is PostgreSQL 14" in warning(url)
        said = refusal(url, command.upgrade, "head")
        assert "This server is PostgreSQL 14, so nothing was run: chat-schema needs 15 or newer" in said
        with connect(url) as client:
            assert value(client, "SELECT to_regnamespace('chat_internal')") is None


behind_pgbouncer = pytest.mark.skipif(
    pgbouncer.program() is None,
    reason="PgBouncer is not installed, so nothing was tested behind it: apt-get install pgbouncer",
)


@behind_pgbouncer
@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_a_pooler_works_by_session_and_is_refused_by_transaction(database_url: str, mode: str) -> None:
    before = snapshot(database_url)
    with pgbouncer.pooled(sa.make_url(database_url), mode) as url:
        address = url.render_as_string(hide_password=False)
        if mode == "session":
            run(address, command.upgrade, "head", x=("backfill-workers=2",))
        else:
            said = refusal(address, command.upgrade, "head")
            assert "leads to a pooler in transaction mode, so nothing was run" in said
            assert "leads to a pooler in transaction" in warning(address)
            assert "Point DATABASE_URL at the server itself" in said
            assert snapshot(database_url) == before
        # what was set for the migration must not have stayed in a session that the pooler keeps
        with psycopg.connect(address.replace("+psycopg", ""), autocommit=True) as client:
            assert value(client, "SHOW lock_timeout") == "0"
            assert value(client, "SHOW enable_seqscan") == "on"


@behind_pgbouncer
def test_a_pooler_in_transaction_mode_is_found_out_among_other_clients(database_url: str) -> None:
    """They keep its sessions changing hands, so that two looks can happen to see what a session pooler would show."""
    with pgbouncer.pooled(sa.make_url(database_url)) as url:
        address = url.render_as_string(hide_password=False)
        stop = threading.Event()

        def work() -> None:
            with psycopg.connect(address.replace("+psycopg", ""), autocommit=True, prepare_threshold=None) as client:
                while not stop.is_set():
                    client.execute("SELECT 1")

        with ThreadPoolExecutor() as pool:
            clients = [pool.submit(work) for _ in range(4)]
            try:
                for _ in range(20):
                    assert "a pooler in transaction mode" in refusal(address, command.current)
            finally:
                stop.set()
            for client in clients:
                client.result()


@pytest.mark.parametrize("at_head", [False, True])
def test_looking_changes_nothing_and_waits_for_nobody(request: pytest.FixtureRequest, at_head: bool) -> None:
    url: str = request.getfixturevalue("migrated_url" if at_head else "database_url")
    before = snapshot(url)
    with connect(url) as busy, login(url, "SUPERUSER") as reader, connect(url) as superuser:
        name = reader.partition("://")[2].partition("@")[0]
        superuser.execute(f"ALTER ROLE {name} SET default_transaction_read_only = on".encode())
        superuser.execute(f"ALTER ROLE {name} SET lock_timeout = '1ms'".encode())
        busy.autocommit = False
        busy.execute(f"SELECT pg_advisory_lock({0x63686174}, 1)".encode())  # a deployment is running
        if at_head:
            busy.execute("LOCK TABLE users, conversations, chat_internal.alembic_version IN EXCLUSIVE MODE")
        for look in (command.current, command.history, command.heads):
            run(reader, look)
        run(reader, partial(command.history, indicate_current=True))
        if at_head:
            run(reader, command.check)
        else:
            assert refusal(reader, command.check) == "Target database is not up to date."
    assert snapshot(url) == before
