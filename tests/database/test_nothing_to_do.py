"""A command that leads to where the database is: it asks little, waits for nobody, and refuses what it always does."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
import sqlalchemy as sa

from alembic import command
from tests.conftest import libpq
from tests.database.conftest import login, refusal, run
from tests.live.command_line import connect
from tests.proxy import counting

# To connect and to end; the driver's questions on a new server; is there a pooler; the search_path; over a socket,
# whose data these are; two of our own. Each transaction has a BEGIN and an end of its own.
FEW = 20


@pytest.mark.parametrize("doing", [command.upgrade, command.downgrade])
def test_it_asks_little(migrated_url: str, doing: Callable[..., None]) -> None:
    with counting(sa.make_url(migrated_url)) as (url, trips), trips.counted() as number:
        run(url.render_as_string(hide_password=False), doing, "head")
    assert number[0] <= FEW


def test_it_does_not_wait_for_a_deployment(migrated_url: str) -> None:
    with connect(migrated_url) as other:
        other.execute("SELECT pg_advisory_lock(%s, 1)", [0x63686174])
        assert "Another deployment" in refusal(migrated_url, command.downgrade, "-1", x=("deployer-wait=1ms",))
        run(migrated_url, command.upgrade, "head", x=("deployer-wait=1ms",))


def test_what_strangers_hold_is_refused_all_the_same(migrated_url: str) -> None:
    with login(migrated_url) as url, psycopg.connect(libpq(migrated_url), autocommit=True) as administrator:
        name = sa.make_url(url).username
        administrator.execute(f"GRANT CREATE ON SCHEMA chat_internal TO {name}")
        assert "CREATE on it" in refusal(migrated_url, command.upgrade, "head")


def test_other_role_names_are_refused_all_the_same(migrated_url: str) -> None:
    said = refusal(migrated_url, command.upgrade, "head", x=("anon-role=visitor",))
    assert said.startswith("-x anon-role=visitor: this database was set up with")


def test_a_revision_that_a_killed_run_has_left_unfinished_is_something_to_do(migrated_url: str) -> None:
    with connect(migrated_url) as superuser:
        superuser.execute(
            "CREATE TABLE chat_internal.unfinished_revision AS SELECT version_num::text AS revision,"
            " 'downgrade' AS direction FROM chat_internal.alembic_version"
        )
        run(migrated_url, command.upgrade, "head")
        row = superuser.execute("SELECT to_regclass('chat_internal.unfinished_revision')").fetchone()
        assert row == (None,)
