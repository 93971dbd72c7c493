"""check_login at start-up: which logins are fit for a service, and what the others are told."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from app.acting_as import LoginError, acting_as, check_login, check_login_async
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
