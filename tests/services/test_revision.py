"""`require_head` at the start of a service, with the login that the service has."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

import chat_schema
from app.acting_as import acting_as
from app.revision import READABLE_FROM, RevisionError, read_revision, require, require_head
from tests.migrations.chain import HEAD, Chain, before
from tests.services.people import ANN

VERSION = "chat_internal.alembic_version"


@pytest.fixture
def says(engine: sa.Engine) -> Callable[..., str]:
    """What the service is told at its start."""

    def start(**arguments: bool) -> str:
        with pytest.raises(RevisionError) as refused:
            require_head(engine, **arguments)
        return str(refused.value)

    return start


def set_revision(administrator: sa.Engine, revision: str) -> None:
    with administrator.begin() as connection:
        connection.exec_driver_sql(f"UPDATE {VERSION} SET version_num = '{revision}'")


def test_a_database_at_head_lets_a_service_start(engine: sa.Engine) -> None:
    chat_schema.require_head(engine)
    with engine.connect() as connection:
        chat_schema.require_head(connection)
        assert not connection.in_transaction()


@pytest.mark.asyncio
async def test_an_asynchronous_service_starts_as_well(async_engine: AsyncEngine, administrator: sa.Engine) -> None:
    await chat_schema.require_head_async(async_engine)
    async with async_engine.connect() as connection:
        await chat_schema.require_head_async(connection)
    with pytest.raises(TypeError, match="await require_head_async"):
        require_head(async_engine)  # type: ignore[arg-type]
    set_revision(administrator, "0030")
    with pytest.raises(RevisionError, match="at revision 0030"):
        await chat_schema.require_head_async(async_engine)


def test_behind_it_is_told_where_the_database_is_and_what_to_run(
    administrator: sa.Engine, says: Callable[..., str]
) -> None:
    set_revision(administrator, "0030")
    assert says() == (
        f"The database is at revision 0030, and {HEAD} is the head of the installed chat-schema: what came since is "
        "not there yet. Run `chat-schema upgrade head`, or let `chat-schema wait --for head` wait for whoever does."
    )


def test_ahead_it_is_refused_unless_a_newer_one_is_welcome(
    administrator: sa.Engine, engine: sa.Engine, says: Callable[..., str]
) -> None:
    set_revision(administrator, "9999")
    assert "at revision 9999, which the installed chat-schema does not have" in says()
    require_head(engine, or_newer=True)
    set_revision(administrator, "0030")
    assert "at revision 0030" in says(or_newer=True)


def test_where_there_is_no_chat_schema_it_says_so(database_url: str) -> None:
    with pytest.raises(RevisionError, match=r"has no chat-schema, and \d{4} is the head"):
        require_head(sa.create_engine(database_url, poolclass=sa.NullPool))


def test_two_revisions_are_none(administrator: sa.Engine, says: Callable[..., str]) -> None:
    with administrator.begin() as connection:
        connection.exec_driver_sql(f"INSERT INTO {VERSION} VALUES ('0017')")
    assert f"holds 2 revisions (0017, {HEAD})" in says()


def test_before_anybody_could_read_it_the_database_is_behind(migrated_url: str, service_login: str) -> None:
    with Chain.on(migrated_url) as chain:
        chain.downgrade(before(READABLE_FROM))
    url = sa.make_url(migrated_url)
    with pytest.raises(RevisionError, match=f"at a revision before {READABLE_FROM}, which the login {service_login}"):
        require_head(sa.create_engine(url.set(username=service_login), poolclass=sa.NullPool))
    with pytest.raises(RevisionError, match=f"at revision {before(READABLE_FROM)}, and"):
        require_head(sa.create_engine(url, poolclass=sa.NullPool))


@pytest.fixture
def stranger(administrator: sa.Engine) -> Iterator[sa.Engine]:
    """A login that is a member of nothing."""
    with administrator.begin() as connection:
        connection.exec_driver_sql("CREATE ROLE chat_schema_test_nobody LOGIN")
    yield sa.create_engine(administrator.url.set(username="chat_schema_test_nobody"), poolclass=sa.NullPool)
    with administrator.begin() as connection:
        connection.exec_driver_sql("DROP OWNED BY chat_schema_test_nobody; DROP ROLE chat_schema_test_nobody")


def test_a_login_that_may_not_ask_is_told_the_grant_that_lets_it(administrator: sa.Engine, stranger: sa.Engine) -> None:
    with pytest.raises(RevisionError, match="may not read which revision") as refused:
        require_head(stranger)
    grant = str(refused.value).splitlines()[-1]
    with administrator.begin() as connection:
        connection.exec_driver_sql(grant)
    require_head(stranger)


@pytest.mark.parametrize("role", ["authenticated", "service_role"])
def test_one_of_the_two_roles_is_enough(administrator: sa.Engine, stranger: sa.Engine, role: str) -> None:
    with administrator.begin() as connection:
        connection.exec_driver_sql(f"GRANT {role} TO chat_schema_test_nobody")
    require_head(stranger)


@pytest.mark.parametrize("role", ["authenticated", "service_role"])
@pytest.mark.parametrize(
    "statement",
    [
        f"UPDATE {VERSION} SET version_num = version_num",
        f"DELETE FROM {VERSION}",
        f"INSERT INTO {VERSION} VALUES ('0001')",
        f"SELECT version_num FROM {VERSION} FOR UPDATE",
        f"SELECT xmin FROM {VERSION}",
        "SELECT actual FROM chat_internal.role_names",
    ],
)
def test_reading_the_number_is_all_that_the_roles_may(engine: sa.Engine, role: str, statement: str) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql(f"SET LOCAL ROLE {role}")
        assert connection.exec_driver_sql(f"SELECT version_num FROM {VERSION}").scalar() == HEAD
        with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
            connection.exec_driver_sql(statement)


def test_anonymous_requests_may_not_even_do_that(administrator: sa.Engine) -> None:
    with administrator.connect() as connection:
        connection.exec_driver_sql("SET LOCAL ROLE anon")
        with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
            connection.exec_driver_sql(f"SELECT version_num FROM {VERSION}")


def test_a_transaction_that_asks_goes_on_as_it_was(engine: sa.Engine) -> None:
    state = "SELECT concat_ws(' ', current_user, current_setting('search_path'), current_setting('role'))"
    with engine.connect() as connection:
        connection.exec_driver_sql("SET LOCAL search_path = public")
        before_it = connection.exec_driver_sql(state).scalar()
        require_head(connection)
        assert connection.in_transaction()
        assert connection.exec_driver_sql(state).scalar() == before_it
        with acting_as(connection, ANN):
            as_ann = connection.exec_driver_sql(state).scalar()
            require_head(connection)
            assert connection.exec_driver_sql(state).scalar() == as_ann
            assert connection.exec_driver_sql("SELECT user_id FROM tasks").scalars().all() == [ANN]


def test_autocommit_is_refused(service_url: sa.URL) -> None:
    with pytest.raises(RevisionError, match="in autocommit"):
        require_head(sa.create_engine(service_url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool))


@pytest.mark.parametrize(
    "trap",
    [
        "CREATE VIEW chat_internal.alembic_version AS SELECT trap.spring()::varchar AS version_num",
        "CREATE TABLE chat_internal.alembic_version (version_num varchar);"
        " INSERT INTO chat_internal.alembic_version VALUES ('0001');"
        " ALTER TABLE chat_internal.alembic_version ENABLE ROW LEVEL SECURITY;"
        " CREATE POLICY trap ON chat_internal.alembic_version USING (trap.spring() IS NOT NULL)",
        "CREATE TABLE chat_internal.alembic_version (version_num varchar);"
        " CREATE TABLE chat_internal.other () INHERITS (chat_internal.alembic_version)",
    ],
)
def test_what_somebody_put_there_before_us_is_not_run(database_url: str, service_login: str, trap: str) -> None:
    administrator = sa.create_engine(database_url, poolclass=sa.NullPool)
    with administrator.begin() as connection:
        connection.exec_driver_sql(
            "CREATE SCHEMA trap; CREATE SEQUENCE trap.sprung; GRANT ALL ON SEQUENCE trap.sprung TO PUBLIC;"
            " GRANT USAGE ON SCHEMA trap TO PUBLIC; CREATE SCHEMA chat_internal; GRANT USAGE ON SCHEMA chat_internal"
            " TO PUBLIC; CREATE FUNCTION trap.spring() RETURNS text LANGUAGE sql AS"
            " 'SELECT nextval(''trap.sprung'')::text'"
        )
        connection.exec_driver_sql(trap)
        connection.exec_driver_sql("GRANT ALL ON chat_internal.alembic_version TO PUBLIC")
    for login in (service_login, administrator.url.username):
        engine = sa.create_engine(administrator.url.set(username=login), poolclass=sa.NullPool)
        with engine.connect() as connection, pytest.raises(RevisionError, match="is no table as chat-schema makes it"):
            read_revision(connection)
    with administrator.connect() as connection:
        assert connection.exec_driver_sql("SELECT is_called FROM trap.sprung").scalar() is False


def test_names_of_the_path_are_not_called(administrator: sa.Engine, service_url: sa.URL) -> None:
    with administrator.begin() as connection:
        connection.exec_driver_sql(
            "CREATE SCHEMA shadow; GRANT USAGE ON SCHEMA shadow TO PUBLIC;"
            " CREATE FUNCTION shadow.pg_has_role(name, oid, text) RETURNS boolean LANGUAGE plpgsql AS"
            " 'BEGIN RAISE ''called''; END';"
            " CREATE FUNCTION shadow.current_setting(text) RETURNS text LANGUAGE plpgsql AS"
            " 'BEGIN RAISE ''called''; END';"
            " CREATE TABLE shadow.pg_class (oid oid)"
        )
    path = {"options": "-c search_path=shadow,pg_catalog"}
    with sa.create_engine(service_url, connect_args=path, poolclass=sa.NullPool).connect() as connection:
        with pytest.raises(sa.exc.DBAPIError, match="called"):
            connection.exec_driver_sql("SELECT current_setting('role')")
        connection.rollback()
        assert require(connection, "0030") == HEAD


def test_other_names_of_the_roles_are_found_by_themselves(server_of_other_names: sa.URL) -> None:
    require_head(sa.create_engine(server_of_other_names, poolclass=sa.NullPool))


@pytest.fixture
def server_of_other_names(database_url: str) -> Iterator[sa.URL]:
    names = {"anon-role": "rev_anon", "authenticated-role": "rev_user", "service-role": "rev_service"}
    with Chain.on(database_url) as chain:
        chain.upgrade("head", *(f"{option}={name}" for option, name in names.items()))
        chain.execute("CREATE ROLE rev_login LOGIN NOINHERIT; GRANT rev_user TO rev_login")
        yield sa.make_url(database_url).set(username="rev_login")
        for role in ("rev_login", *names.values()):
            chain.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
