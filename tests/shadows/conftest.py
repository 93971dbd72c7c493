"""``place``: a database of this test alone, on the platform that it is parametrized with; ``chain``: an empty one."""

from collections.abc import Iterator

import psycopg
import pytest

from app import embedded
from tests.adoption.conftest import place, platform
from tests.adoption.legacy import Place
from tests.conftest import libpq
from tests.migrations.chain import Chain
from tests.migrations.conftest import chain
from tests.shadows.attackers import GATEWAY, STRANGER

__all__ = ["chain", "place", "platform"]

CLIENTS = ("anon", "authenticated", "service_role")


@pytest.fixture(scope="module")
def logins(server: embedded.Server) -> Iterator[None]:
    """A login of nothing but PUBLIC's rights, and one that hands out the three roles."""
    with Chain.on(server.url("postgres").render_as_string(hide_password=False)) as admin:
        for role in CLIENTS:
            if not admin.rows("SELECT true FROM pg_roles WHERE rolname = %s", [role]):
                admin.execute(f"CREATE ROLE {role} NOLOGIN")
        admin.execute(f"CREATE ROLE {STRANGER} LOGIN")
        admin.execute(f"CREATE ROLE {GATEWAY} LOGIN NOINHERIT IN ROLE {', '.join(CLIENTS)}")
        yield
        admin.execute(f"DROP ROLE {STRANGER}; DROP ROLE {GATEWAY}")


@pytest.fixture
def stranger(logins: None, place: Place) -> Iterator[psycopg.Connection]:
    """A session of a login of PUBLIC's rights alone, in a database where these are enough to create in ``public``."""
    place.admin.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")
    with psycopg.connect(libpq(place.url_of(STRANGER)), autocommit=True) as session:
        yield session
