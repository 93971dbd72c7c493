"""The chain as a login that owns its database and nothing else: no superuser, no CREATEROLE."""

import re
from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy as sa
from alembic.util import CommandError

from app.catalog import Snapshot, compare, take_snapshot
from app.embedded import Server
from tests.migrations.chain import HEAD, Chain
from tests.migrations.test_stairs import NOTHING

LOGIN = "chat_owner"
OTHER_ROLES = [
    "anon-role=app_guest",
    "authenticated-role=app_user",
    "service-role=app_service",
]


@pytest.fixture
def admin(server: Server) -> Iterator[psycopg.Connection]:
    """The superuser, with the login in question and the three roles made; roles of other names go again."""
    address = server.url("postgres").set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(address, autocommit=True) as admin:
        for role in ("anon", "authenticated", "service_role"):
            if not admin.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).rowcount:
                admin.execute(f"CREATE ROLE {role} NOLOGIN".encode())
        admin.execute(f"CREATE ROLE {LOGIN} LOGIN NOSUPERUSER NOCREATEROLE NOCREATEDB NOBYPASSRLS".encode())
        yield admin
        for role in (LOGIN, "app_guest", "app_user", "app_service"):
            admin.execute(f"DROP ROLE IF EXISTS {role}".encode())


@pytest.fixture
def database(admin: psycopg.Connection) -> Iterator[str]:
    """A database that the login owns."""
    name = f"owned_{uuid4().hex}"
    admin.execute(f"CREATE DATABASE {name} OWNER {LOGIN}".encode())
    yield name
    admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture
def chain(server: Server, database: str) -> Iterator[Chain]:
    with Chain.on(server.url(database, LOGIN).render_as_string(hide_password=False)) as chain:
        yield chain


@pytest.fixture
def administered(server: Server, database: str) -> Iterator[Chain]:
    """The same database as its server's superuser."""
    with Chain.on(server.url(database).render_as_string(hide_password=False)) as chain:
        yield chain


def sees(chain: Chain, role: str, user: object, query: str) -> int:
    with chain.session.transaction():
        chain.execute(
            "SELECT set_config('role', %s, true), set_config('request.jwt.claims', %s, true)",
            [role, f'{{"sub": "{user}"}}'],
        )
        return chain.execute(query)


def fill(chain: Chain) -> None:
    user = chain.new_user()
    chain.execute('INSERT INTO chat_sessions (user_id, messages) VALUES (%s, \'["Hi", {"content": 1}]\')', [user])
    for text in ("one", "two"):
        chain.execute("INSERT INTO chat_messages (user_id, role, content) VALUES (%s, 'user', %s)", [user, text])


def test_the_chain_goes_up_and_down_and_up(chain: Chain) -> None:
    chain.upgrade()
    head = chain.snapshot()
    chain.downgrade("base")
    assert chain.rows(NOTHING) == []
    chain.upgrade()
    assert chain.snapshot() == head


def test_it_ends_in_the_catalog_of_a_superuser(chain: Chain, database_url: str) -> None:
    chain.upgrade()
    with Chain.on(database_url) as superusers:
        superusers.upgrade()
        compared = compare(superusers.snapshot(), chain.snapshot())
    assert compared.differences + compared.extras == ()


def test_its_rows_are_backfilled_and_survive_the_way_down_and_up_again(chain: Chain) -> None:
    chain.upgrade("0021")
    fill(chain)
    sessions = chain.rows("SELECT id, user_id, messages::text, created_at, updated_at FROM chat_sessions")
    messages = chain.rows("SELECT * FROM chat_messages ORDER BY id")
    for _ in range(2):
        chain.upgrade()
        assert chain.rows("SELECT content FROM messages ORDER BY seq") == ["Hi", "1"]
        assert chain.value("SELECT count(DISTINCT conversation_id) FROM chat_messages") == 1
        chain.downgrade("0021")
        assert chain.rows("SELECT id, user_id, messages::text, created_at, updated_at FROM chat_sessions") == sessions
        assert chain.rows("SELECT * FROM chat_messages ORDER BY id") == messages


def test_the_script_works_as_well(chain: Chain) -> None:
    chain.upgrade_by_script("head")
    assert chain.revision() == HEAD
    done = chain.run_script(chain.downgrade_script(f"{HEAD}:base"))
    assert done.returncode == 0, done.stderr
    assert chain.rows(NOTHING) == []


class TestWithoutTheRoles:
    def test_one_message_says_what_an_administrator_is_to_run_and_nothing_is_half_applied(
        self, chain: Chain, admin: psycopg.Connection
    ) -> None:
        with pytest.raises(CommandError, match="may not create roles") as raised:
            chain.upgrade("head", *OTHER_ROLES)
        assert chain.rows(NOTHING) == []

        statements = re.findall(r"^ +(CREATE ROLE .*;)$", str(raised.value), re.MULTILINE)
        assert len(statements) == 3
        for statement in statements:
            admin.execute(statement.encode())
        chain.upgrade("head", *OTHER_ROLES)
        assert chain.revision() == HEAD

    def test_only_the_missing_ones_are_asked_for(self, chain: Chain, admin: psycopg.Connection) -> None:
        admin.execute("CREATE ROLE app_user NOLOGIN")
        with pytest.raises(CommandError, match="may not create roles") as raised:
            chain.upgrade("head", *OTHER_ROLES)
        assert "app_user" not in str(raised.value)
        assert str(raised.value).count("CREATE ROLE") == 2

    def test_a_login_that_may_create_roles_creates_them(self, chain: Chain, admin: psycopg.Connection) -> None:
        admin.execute(f"ALTER ROLE {LOGIN} CREATEROLE".encode())
        chain.upgrade("head", *OTHER_ROLES)
        made = chain.rows("SELECT rolname FROM pg_roles WHERE rolname ~ '^app_' AND NOT rolcanlogin ORDER BY 1")
        assert made == ["app_guest", "app_service", "app_user"]
        chain.downgrade("base")
        assert chain.value("SELECT count(*) FROM pg_roles WHERE rolname ~ '^app_'") == 3, "roles are the server's"


class TestWithoutRights:
    @pytest.fixture
    def database(self, admin: psycopg.Connection) -> Iterator[str]:
        """A database of somebody else, to which the login may connect."""
        name = f"theirs_{uuid4().hex}"
        admin.execute(f"CREATE DATABASE {name}".encode())
        yield name
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())

    def test_one_message_has_the_grants_that_are_missing_and_they_are_enough(
        self, chain: Chain, administered: Chain
    ) -> None:
        with pytest.raises(CommandError, match="may not create objects") as raised:
            chain.upgrade()
        assert chain.rows(NOTHING) == []

        statements = re.findall(r"^ +(GRANT .*;)$", str(raised.value), re.MULTILINE)
        assert [statement.split(" ON ")[0] for statement in statements] == ["GRANT CREATE", "GRANT CREATE"]
        for statement in statements:
            administered.execute(statement)
        chain.upgrade()
        fill(chain)
        chain.downgrade("0021")
        chain.upgrade()
        assert chain.revision() == HEAD


class TestOtherRoleNames:
    """-x authenticated-role=app_user and its like, given once."""

    @pytest.fixture(autouse=True)
    def _roles(self, admin: psycopg.Connection) -> None:
        for role in ("app_guest", "app_user", "app_service"):
            admin.execute(f"CREATE ROLE {role} NOLOGIN".encode())

    def test_policies_and_grants_are_theirs(self, chain: Chain, administered: Chain) -> None:
        chain.upgrade("head", *OTHER_ROLES)
        fill(chain)
        user, stranger = chain.value("SELECT id FROM users"), uuid4()
        query = "SELECT FROM chat_messages"
        assert sees(administered, "app_user", user, query) == 2
        assert sees(administered, "app_user", stranger, query) == 0
        assert sees(administered, "app_service", stranger, query) == 2
        for role in ("app_guest", "anon", "authenticated", "service_role"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                sees(administered, role, user, query)

    def test_the_catalog_is_the_same_but_for_the_names(self, chain: Chain, database_url: str) -> None:
        chain.upgrade("head", *OTHER_ROLES)
        with Chain.on(database_url) as usual:
            usual.upgrade()
            compared = compare(usual.snapshot(), self.snapshot(chain))
        assert compared.differences + compared.extras == ()

    def test_the_next_run_remembers_them(self, chain: Chain, administered: Chain) -> None:
        chain.upgrade("0024", *OTHER_ROLES)
        chain.upgrade()
        fill(chain)
        assert sees(administered, "app_user", chain.value("SELECT id FROM users"), "SELECT FROM brands") == 0
        head = self.snapshot(chain)
        chain.downgrade("0021")
        chain.upgrade("head", *OTHER_ROLES)  # saying it again is fine
        assert self.snapshot(chain) == head
        chain.check()

    def test_the_script_of_a_later_run_is_told_them_again(self, chain: Chain) -> None:
        chain.upgrade("head", *OTHER_ROLES)
        head = self.snapshot(chain)
        chain.downgrade("0024")
        chain.upgrade_by_script("0024:head", *OTHER_ROLES)
        assert self.snapshot(chain) == head

    @pytest.mark.parametrize(
        "said",
        [["authenticated-role=somebody"], ["anon-role=anon"], [*OTHER_ROLES[:2], "service-role=service_role"]],
    )
    def test_names_that_contradict_those_remembered_are_refused(self, chain: Chain, said: list[str]) -> None:
        chain.upgrade("0024", *OTHER_ROLES)
        with pytest.raises(CommandError, match="was set up with"):
            chain.upgrade("head", *said)
        with pytest.raises(CommandError, match="was set up with"):
            chain.downgrade("0001", *said)
        assert chain.revision() == "0024"

    def test_one_of_the_names_may_be_said_again(self, chain: Chain) -> None:
        chain.upgrade("0024", *OTHER_ROLES)
        chain.upgrade("head", OTHER_ROLES[0])
        head = self.snapshot(chain)
        chain.downgrade("0024", *OTHER_ROLES[1:])
        chain.upgrade("head")
        assert self.snapshot(chain) == head

    def test_other_names_are_refused_where_the_usual_ones_stand(self, chain: Chain) -> None:
        chain.upgrade("0024")
        with pytest.raises(CommandError, match="was set up with"):
            chain.upgrade("head", *OTHER_ROLES)
        assert chain.revision() == "0024"

    @staticmethod
    def snapshot(chain: Chain) -> Snapshot:
        names = {"app_guest": "anon", "app_user": "authenticated", "app_service": "service_role"}
        engine = sa.create_engine(chain.url, poolclass=sa.NullPool)
        with engine.connect() as connection:
            return take_snapshot(connection, role_names=names)
