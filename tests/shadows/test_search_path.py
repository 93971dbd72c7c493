"""The search_path that the login or the database brings along changes nothing in what a run does."""

import contextlib
from collections.abc import Iterator

import pytest

from app import cli
from app.catalog import Snapshot
from app.embedded import Server
from tests.adoption import legacy
from tests.adoption.legacy import PLATFORMS, STARTS, Place
from tests.conftest import alembic_config
from tests.migrations.chain import HEAD
from tests.migrations.test_stairs import differences

pytestmark = pytest.mark.sampled(6)  # each case takes seconds

# A schema with tables of our names: an unqualified name that finds one of these reads, writes or refers to it.
DECOYS = "; ".join(
    f"CREATE TABLE {{schema}}.{table} (id uuid PRIMARY KEY, user_id uuid, tenant_id uuid, messages jsonb)"
    for table in ("users", "tenants", "tenant_users", "conversations", "messages", "chat_sessions", "chat_messages")
)
PATHS = {
    "elsewhere first": "elsewhere, public",
    "nowhere": "''",
    "the login's own schema": '"$user", public',
    "public before pg_catalog": "public, pg_catalog",
}
HEADS: dict[tuple[str, str], tuple[Snapshot, str]] = {}


@pytest.fixture
def ordinary(server: Server, start: str, platform: str, capsys: pytest.CaptureFixture[str]) -> tuple[Snapshot, str]:
    """The catalog at head, and what ``verify`` says of it, without a path of anybody's."""
    if (start, platform) not in HEADS:
        with legacy.place(server, platform) as place:
            place.load(start)
            place.chain.upgrade("head", *STARTS[start].options)
            HEADS[start, platform] = place.chain.snapshot(), said_by_verify(place, capsys)
    return HEADS[start, platform]


def said_by_verify(place: Place, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the report without its account of what is kept as the team's, the path itself among it."""
    capsys.readouterr()
    with contextlib.suppress(SystemExit):
        cli.verify(alembic_config(place.url))
    return "\n".join(line for line in capsys.readouterr().out.splitlines() if "kept" not in line)


@pytest.fixture
def path(place: Place, start: str, setting: str, where: str) -> Iterator[str]:
    """Set the path for the login or for the database, and put tables of our names into what it leads to."""
    place.load(start)  # by a login that knows nothing of it yet
    login = PLATFORMS[place.platform].login
    for schema in ("elsewhere", login):
        place.admin.execute(f"CREATE SCHEMA {schema} AUTHORIZATION {login}")
        place.admin.execute(DECOYS.format(schema=schema))
    whose = {"role": f"ROLE {login} IN DATABASE {place.database}", "database": f"DATABASE {place.database}"}
    place.admin.execute(f"ALTER {whose[where]} SET search_path = {setting}")
    yield setting
    place.admin.execute(f"ALTER {whose[where]} RESET search_path")


@pytest.mark.parametrize(("start", "platform"), [("empty", "plain"), ("2", "owner"), ("3a", "supabase")])
@pytest.mark.parametrize(
    ("setting", "where"), list(zip(PATHS.values(), ["role", "database"] * 2, strict=True)), ids=PATHS
)
def test_it_changes_nothing(
    ordinary: tuple[Snapshot, str], place: Place, start: str, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    head, verified = ordinary
    options = STARTS[start].options
    old = place.chain.snapshot()

    place.chain.upgrade("head", *options, "chats-elsewhere=leave")
    assert differences(head, place.chain.snapshot()) == []
    place.chain.check()
    assert said_by_verify(place, capsys) == verified
    place.chain.downgrade("base")
    assert differences(old, place.chain.snapshot()) == []

    place.chain.upgrade_by_script("head", *options, "chats-elsewhere=leave")
    assert differences(head, place.chain.snapshot()) == []
    done = place.chain.run_script(place.chain.downgrade_script(f"{HEAD}:base"))
    assert done.returncode == 0, done.stderr
    assert differences(old, place.chain.snapshot()) == []
