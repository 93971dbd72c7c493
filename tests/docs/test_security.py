"""docs/security.md and docs/zero_downtime.md hold: their SQL does what the pages say, the limits too."""

from __future__ import annotations

import re

import psycopg
import pytest

from tests.conftest import libpq
from tests.postgres_binaries import ROOT

ANN, BEN = "7c1f6f0e-3a52-4f0a-9a57-0d6e5b1c2a11", "00000000-0000-4000-8000-00000000000b"


def blocks(page: str) -> list[list[str]]:
    """Return the statements of each block of SQL."""
    text = (ROOT / "docs" / page).read_text("utf-8")
    found = re.findall(r"^```sql\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [[each.strip() for each in re.sub(r"--.*", "", block).split(";") if each.strip()] for block in found]


@pytest.fixture
def client(migrated_url: str) -> psycopg.Connection[tuple[object, ...]]:
    with psycopg.connect(libpq(migrated_url), autocommit=True) as connection:
        connection.execute(f"INSERT INTO users (id) VALUES ('{ANN}'), ('{BEN}')")
        connection.execute(f"INSERT INTO conversations (user_id, title) VALUES ('{ANN}', 'hers'), ('{BEN}', 'his')")
        yield connection


def test_the_sql_of_the_page_does_what_it_says(client: psycopg.Connection[tuple[object, ...]]) -> None:
    acting, injected, locking = blocks("security.md")
    titles = "SELECT array_agg(title ORDER BY title) FROM conversations"

    begin, act, select, commit = acting
    for statement in (begin, act):
        client.execute(statement)
    assert client.execute(select).rowcount == 1
    assert client.execute(titles).fetchone() == (["hers"],)
    client.execute(commit)

    begin, act, escape, rollback = injected
    for statement in (begin, act):
        client.execute(statement)
    assert client.execute(titles).fetchone() == (["hers"],)
    client.execute(escape)
    assert client.execute(titles).fetchone() == (["hers", "his"],), "the page says that an injection sees every row"
    client.execute(rollback)

    for statement in locking[:-1]:
        client.execute(statement)
    held = "SELECT count(*) FROM pg_catalog.pg_locks WHERE pid = pg_backend_pid() AND mode = 'AccessExclusiveLock'"
    assert client.execute(held).fetchone() == (1,)
    client.execute(locking[-1])


def test_a_login_of_authenticated_alone_cannot_become_the_service(
    client: psycopg.Connection[tuple[object, ...]],
) -> None:
    client.execute("CREATE ROLE only_users LOGIN NOINHERIT; GRANT authenticated TO only_users")
    try:
        client.execute("SET SESSION AUTHORIZATION only_users")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            client.execute("SELECT set_config('role', 'service_role', false)")
        client.execute("RESET SESSION AUTHORIZATION")
    finally:
        client.execute("DROP OWNED BY only_users; DROP ROLE only_users")
