"""check_login at start-up: which logins are fit for a service, and what the others are told."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from app.acting_as import LoginError, acting_as
from app.check_login import check_login, check_login_async
from tests.services.people import ANN

UNFIT = "chat_schema_test_unfit"


@contextmanager
def connected(administrator: sa.Engine, *statements: str) -> Iterator[sa.Connection]:
    """Connect as a login that an administrator made by these statements; nothing of it stays."""
    with administrator.connect() as made:
        made.execute(sa.text(f"CREATE ROLE {UNFIT} LOGIN"))
        for statement in statements:
            made.execute(sa.text(statement.format(login=UNFIT)))
        made.commit()
        engine = sa.create_engine(administrator.url.set(username=UNFIT), poolclass=sa.NullPool)
        try:
            with engine.connect() as connection:
                yield connection
        finally:
            made.execute(sa.text(f"REASSIGN OWNED BY {UNFIT} TO postgres"))
            made.execute(sa.text(f"DROP OWNED BY {UNFIT}"))
            made.execute(sa.text(f"DROP ROLE {UNFIT}"))
            made.commit()


def told(connection: sa.Connection) -> str:
    """Return what the check says."""
    with pytest.raises(LoginError) as caught:
        check_login(connection)
    connection.rollback()
    return str(caught.value)


def test_a_login_that_can_only_switch_is_fit(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        check_login(connection)
        with acting_as(connection, ANN):
            check_login(connection)


def test_the_superuser_is_told_to_use_another_login(administrator: sa.Engine) -> None:
    with administrator.connect() as connection:
        assert "is a superuser" in told(connection)
        assert "CREATE ROLE chat_service LOGIN NOINHERIT" in told(connection)
        check_login(connection, switches_role=True)


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        ("ALTER ROLE {login} BYPASSRLS", "has BYPASSRLS"),
        ("ALTER TABLE conversations OWNER TO {login}", "owns the tables"),
    ],
)
def test_a_login_that_policies_do_not_bind_is_told_so(administrator: sa.Engine, made: str, reason: str) -> None:
    grant = "GRANT authenticated, service_role TO {login}"
    with connected(administrator, "ALTER ROLE {login} NOINHERIT", grant, made) as connection:
        said = told(connection)
        assert reason in said
        assert "switches_role=True" in said
        check_login(connection, switches_role=True)


def test_a_login_that_inherits_service_role_is_told_so_and_how_to_stop(administrator: sa.Engine) -> None:
    with connected(administrator, "GRANT authenticated, service_role TO {login}") as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM tasks")) == 3  # what the check is about
        said = told(connection)
        assert "inherits" in said
        follow(administrator, said)
        check_login(connection)


@pytest.mark.parametrize(
    ("made", "missing"),
    [
        ("SELECT 1", "authenticated or service_role"),
        ("GRANT service_role TO {login}", "authenticated"),
        ("GRANT authenticated TO {login}", "service_role"),
    ],
)
def test_a_login_that_is_no_member_is_told_the_grant(administrator: sa.Engine, made: str, missing: str) -> None:
    with connected(administrator, made) as connection:
        said = told(connection)
        assert f"may not become {missing}," in said
        follow(administrator, said)
        version = connection.dialect.server_version_info or (0,)
        # From 16 on a grant keeps the INHERIT it was made with: the one from before NOINHERIT is to mend next.
        if "GRANT service_role" in made and version >= (16,):
            follow(administrator, told(connection))
        check_login(connection)


def test_a_service_that_acts_for_users_only_needs_no_service_role(administrator: sa.Engine) -> None:
    with connected(administrator, "GRANT authenticated TO {login}") as connection:
        check_login(connection, service_role=None)


def test_a_role_that_is_missing_is_named(engine: sa.Engine) -> None:
    with engine.connect() as connection, pytest.raises(LoginError, match="no role people"):
        check_login(connection, role="people")


def test_a_name_that_needs_quotes_is_quoted(administrator: sa.Engine) -> None:
    with administrator.connect() as connection:
        connection.execute(sa.text('CREATE ROLE "Odd Name"'))
        connection.execute(sa.text("SET SESSION AUTHORIZATION 'Odd Name'"))
        assert 'ALTER ROLE "Odd Name" NOINHERIT' in told(connection)


FIT = ("ALTER ROLE {login} NOINHERIT", "GRANT authenticated, service_role TO {login}")

# What is wrong with a login that only seems fit, and what it is told. {database} and {login} are the test's.
UNFIT_LOGINS = {
    "becomes the owner": (['GRANT "chat owner" TO {login}'], 'may become "chat owner"'),
    "becomes a superuser by way of a group": (
        ["CREATE ROLE chat_group", "GRANT chat_boss TO chat_group", "GRANT chat_group TO {login}"],
        "may become chat_boss",
    ),
    "becomes a role with BYPASSRLS": (["GRANT chat_seer TO {login}"], "may become chat_seer"),
    "becomes the owner as authenticated": (['GRANT "chat owner" TO authenticated'], 'may become "chat owner"'),
    "may create in the database": (
        ['GRANT CREATE ON DATABASE "{database}" TO {login}'],
        "can create objects in database",
    ),
    "everybody may create in the database": (
        ['GRANT CREATE ON DATABASE "{database}" TO PUBLIC'],
        "lives where everybody can create",
    ),
    "may create in public": (["GRANT CREATE ON SCHEMA public TO {login}"], "can create objects in schema public"),
    "everybody may create in public": (["GRANT CREATE ON SCHEMA public TO PUBLIC"], "everybody can create objects"),
    "owns the database": (['ALTER DATABASE "{database}" OWNER TO {login}'], "itself can create objects"),
    "owns schema public": (["ALTER SCHEMA public OWNER TO {login}"], "itself can create objects in schema public"),
    "inherits who may create": (
        [
            "CREATE ROLE chat_group",
            "GRANT CREATE ON SCHEMA public TO chat_group",
            "ALTER ROLE {login} INHERIT",
            "GRANT chat_group TO {login}",
        ],
        "itself can create objects in schema public",
    ),
    "inherits rights on the tables": (
        [
            "CREATE ROLE chat_group",
            "GRANT SELECT ON messages, tasks TO chat_group",
            "ALTER ROLE {login} INHERIT",
            "GRANT chat_group TO {login}",
        ],
        "has rights on public.messages, public.tasks through chat_group",
    ),
    "may truncate": (["GRANT TRUNCATE ON messages TO {login}"], "rights on public.messages that policies do not bind"),
    "begins as service_role": (["ALTER ROLE {login} SET role = 'service_role'"], "role set"),
    "begins as somebody": (["ALTER ROLE {login} SET request.jwt.claim.sub = '1'"], "request.jwt.claim.sub set"),
    "begins as somebody here": (
        ["ALTER ROLE {login} IN DATABASE \"{database}\" SET request.jwt.claims = '1'"],
        "request.jwt.claims set",
    ),
    "the database turns policies into errors": (['ALTER DATABASE "{database}" SET row_security = off'], "meet other"),
    "names are looked up elsewhere": (
        ["CREATE SCHEMA other", "CREATE TABLE other.messages ()", "ALTER ROLE {login} SET search_path = other, public"],
        "search_path set",
    ),
    "names are looked up where everybody creates": (
        [
            "CREATE SCHEMA other",
            "GRANT CREATE ON SCHEMA other TO PUBLIC",
            'ALTER DATABASE "{database}" SET search_path = public, other',
        ],
        "search_path set",
    ),
    "public is not looked at": (["ALTER ROLE {login} SET search_path = pg_catalog"], "search_path set"),
}


@pytest.fixture
def owners(administrator: sa.Engine) -> Iterator[sa.Engine]:
    """The tables belong to a login of their own, and there are roles that policies do not bind."""
    with administrator.begin() as made:
        made.execute(
            sa.text('CREATE ROLE "chat owner"; CREATE ROLE chat_boss SUPERUSER; CREATE ROLE chat_seer BYPASSRLS')
        )
        for table in sa.inspect(administrator).get_table_names():
            made.execute(sa.text(f'ALTER TABLE public.{table} OWNER TO "chat owner"'))
    yield administrator
    with administrator.begin() as made:
        database = administrator.url.database
        made.execute(
            sa.text(f'ALTER DATABASE "{database}" OWNER TO postgres; REASSIGN OWNED BY "chat owner" TO postgres')
        )
        for role in ('"chat owner"', "chat_boss", "chat_seer", "chat_group"):
            if made.scalar(sa.text("SELECT true FROM pg_roles WHERE rolname = :name"), {"name": role.strip('"')}):
                made.execute(sa.text(f"DROP OWNED BY {role}; DROP ROLE {role}"))


@pytest.mark.parametrize(("statements", "told_so"), UNFIT_LOGINS.values(), ids=UNFIT_LOGINS)
def test_a_login_that_only_seems_fit_is_told_why_and_the_statements_make_it_fit(
    owners: sa.Engine, statements: list[str], told_so: str
) -> None:
    database = owners.url.database
    planted = [each.format(login="{login}", database=database) for each in statements]
    with connected(owners, *FIT, *planted) as connection:
        said = told(connection)
        assert f"The login {UNFIT} " in said
        if "inherits the rights of service_role" not in said:  # before 16 a login inherits from all its roles or none
            assert told_so in said
        follow(owners, said)
        check_login(connection)


def test_it_looks_under_a_path_of_its_own_and_gives_the_callers_back(engine: sa.Engine) -> None:
    sent: list[str] = []
    with engine.connect() as connection:
        connection.exec_driver_sql("SET search_path = elsewhere, public")
        connection.commit()
        sa.event.listen(engine, "before_cursor_execute", lambda *arguments: sent.append(arguments[2]))
        check_login(connection)
        assert connection.exec_driver_sql("SHOW search_path").scalar() == "elsewhere, public"
        connection.commit()
        assert connection.exec_driver_sql("SHOW search_path").scalar() == "elsewhere, public"
    assert len(sent) == 6  # its path, a safe one, one query for all of it, the path as it was; and ours above


FIT_ALL_THE_SAME = {
    "a path with a schema of the platform": [
        "CREATE SCHEMA extensions",
        "ALTER ROLE {login} SET search_path = '$user', public, extensions",
    ],
    "a timeout": ["ALTER ROLE {login} SET statement_timeout = '3s'"],
    "a grant of its own that policies bind": ["GRANT SELECT, INSERT ON messages TO {login}"],
    "service_role passes policies on hosted platforms": ["ALTER ROLE service_role BYPASSRLS"],
    "a group that gives nothing here": ["CREATE ROLE chat_group", "GRANT chat_group TO {login}"],
}


@pytest.mark.parametrize("statements", FIT_ALL_THE_SAME.values(), ids=FIT_ALL_THE_SAME)
def test_a_login_is_fit_whatever_else_a_right_platform_gives_it(owners: sa.Engine, statements: list[str]) -> None:
    try:
        with connected(owners, *FIT, *statements) as connection:
            check_login(connection)
    finally:
        with owners.begin() as administrator:
            administrator.execute(sa.text("ALTER ROLE service_role NOBYPASSRLS"))


def test_a_membership_that_may_not_be_set_is_no_danger_from_postgresql_16_on(owners: sa.Engine) -> None:
    with owners.connect() as connection:
        if (connection.dialect.server_version_info or (0,)) < (16,):
            pytest.skip("the option SET came with PostgreSQL 16")
    grant = 'GRANT "chat owner" TO {login} WITH SET FALSE, INHERIT FALSE'
    with connected(owners, *FIT, grant) as connection:
        check_login(connection)


@pytest.mark.asyncio
async def test_the_async_twin_says_the_same(service_url: sa.URL, administrator: sa.Engine) -> None:
    fit, unfit = create_async_engine(service_url), create_async_engine(administrator.url)
    async with fit.connect() as connection:
        await check_login_async(connection)
    async with unfit.connect() as connection:
        with pytest.raises(LoginError, match="is a superuser"):
            await check_login_async(connection)
    await fit.dispose()
    await unfit.dispose()


def follow(administrator: sa.Engine, said: str) -> None:
    """Run the statements of a message, as an administrator would."""
    statements = re.findall(r"(?m)^  ([A-Z].*;)", said)
    assert statements
    with administrator.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))
