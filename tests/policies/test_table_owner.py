"""A plain owner: no superuser, no BYPASSRLS. It sees every row, and the policies bind everyone else just the same."""

from collections.abc import Iterator

import psycopg
import pytest
import sqlalchemy as sa

from alembic import command
from tests.conftest import alembic_config, libpq
from tests.policies.acting import acting, values
from tests.policies.world import ACME, CO_MEMBER, OF_ACME, OWNER, PERSONAL, ROWS

OWNER_ROLE = "chat_schema_test_owner"


@pytest.fixture
def plain_owner(database_url: str, migrated_template: object) -> Iterator[psycopg.Connection]:
    """A connection as the role that ran the whole chain and wrote the rows of `world`.

    It may switch to role authenticated, as a service's login may. (`migrated_template`: that the three roles exist.)
    """
    url = sa.make_url(database_url)
    owners_url = url.set(username=OWNER_ROLE)
    with psycopg.connect(libpq(url), autocommit=True) as administrator:
        administrator.execute(f"CREATE ROLE {OWNER_ROLE} LOGIN IN ROLE authenticated")
        administrator.execute(f"ALTER DATABASE {url.database} OWNER TO {OWNER_ROLE}")
        try:
            command.upgrade(alembic_config(owners_url.render_as_string()), "head")
            with psycopg.connect(libpq(owners_url)) as connection:
                connection.execute(ROWS)
                connection.commit()
                yield connection
        finally:
            administrator.execute(f"REASSIGN OWNED BY {OWNER_ROLE} TO postgres")
            administrator.execute(f"DROP OWNED BY {OWNER_ROLE}")
            administrator.execute(f"DROP ROLE {OWNER_ROLE}")


def test_a_backfill_of_a_plain_owner_touches_every_row(plain_owner: psycopg.Connection) -> None:
    """With FORCE it would touch none and succeed."""
    assert values(plain_owner, "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user") == [False]
    for table, rows in {"tasks": 4, "conversations": 5, "messages": 5, "chat_messages": 5, "tenant_users": 3}.items():
        assert plain_owner.execute(f"SELECT FROM {table}").rowcount == rows
        assert plain_owner.execute(f"UPDATE {table} SET user_id = user_id").rowcount == rows


def test_users_are_bound_as_tightly_where_a_plain_owner_ran_the_chain(plain_owner: psycopg.Connection) -> None:
    """The two functions that run as their owner read its tables, so they need no superuser either."""

    def seen() -> dict[str, set[object]]:
        with acting(plain_owner, OWNER):
            return {
                "conversations": set(values(plain_owner, "SELECT id FROM conversations")),
                "messages": set(values(plain_owner, "SELECT conversation_id FROM messages")),
                "tenant_users": set(values(plain_owner, "SELECT user_id FROM tenant_users")),
            }

    everything = {PERSONAL, OF_ACME}
    assert seen() == {"conversations": everything, "messages": everything, "tenant_users": {OWNER, CO_MEMBER}}
    plain_owner.execute("DELETE FROM tenant_users WHERE tenant_id = %s AND user_id = %s", [ACME, OWNER])
    assert seen() == {"conversations": {PERSONAL}, "messages": {PERSONAL}, "tenant_users": set()}
