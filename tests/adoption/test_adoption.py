"""``upgrade head`` on the databases of the four applications, while these work, and back again.

``READY`` names the starting points that the chain takes; one that it does not take yet is missing there, not marked.
``CHAT_SCHEMA_TEST_KILLS`` is how many times an upgrade is killed on its way to head (default 1).
``CHAT_SCHEMA_TEST_PLATFORMS=all`` tries everything on every platform of a starting point, not only on its richest one,
and what upgrades many times on every starting point, not only on one of each application.
"""

import json
import os
import random
import time
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from app.catalog import Comparison, Snapshot, compare, take_snapshot
from app.embedded import Server
from tests.adoption import legacy
from tests.adoption.legacy import SUPABASE, Place, Rows, lost, old_columns, rows
from tests.adoption.old_clients import CLIENTS, Working
from tests.live.command_line import alembic, wait_for
from tests.migrations.chain import before
from tests.migrations.test_chain import FILES, number
from tests.migrations.test_stairs import differences

READY = ("empty", "1a", "1b", "2", "3a", "3b", "3b-kept", "4a", "4b", "5", "6")
KILLS = int(os.environ.get("CHAT_SCHEMA_TEST_KILLS", "1"))
EVERYWHERE = os.environ.get("CHAT_SCHEMA_TEST_PLATFORMS") == "all"

EACH = [(start, platform) for start in READY for platform in legacy.STARTS[start].platforms]
ONCE = [(start, legacy.STARTS[start].platforms[-1]) for start in READY]
MOST = EACH if EVERYWHERE else ONCE
FEW = [(start, platform) for start, platform in ONCE if EVERYWHERE or start in ("empty", "2", "3b-kept", "4b")]
ALIVE = [(start, platform) for start, platform in MOST if start in CLIENTS]

most = pytest.mark.parametrize(("start", "platform"), MOST)
few = pytest.mark.parametrize(("start", "platform"), FEW)
alive = pytest.mark.parametrize(("start", "platform"), ALIVE)

# What -x on-owner-mismatch=move moves: the message to its writer's conversation, the session's owner and brand to it.
MOVED = {
    ("messages", "b3000000-0000-4000-8000-000000000006"): {"conversation_id"},
    ("conversation_messages", "44000000-0000-4000-8000-000000000004"): {"user_id", "brand_id"},
}
HEADS: dict[str, Snapshot] = {}
COMMIT_ON_THEIR_WAY = {number(file) for file in FILES if "op.finish_table" in file.read_text("utf-8")}


@pytest.fixture
def empty_head(server: Server, platform: str) -> Snapshot:
    """The catalog that the upgrade of an empty database of this platform ends in."""
    if platform not in HEADS:
        with legacy.place(server, platform) as place:
            place.chain.upgrade()
            HEADS[platform] = place.chain.snapshot()
    return HEADS[platform]


@most
def test_it_ends_in_the_catalog_of_an_empty_start_and_keeps_every_row(
    empty_head: Snapshot, place: Place, start: str, platform: str
) -> None:
    place.load(start)
    catalog, columns, before = place.chain.snapshot(), old_columns(place.chain.session), rows(place.chain.session)
    place.chain.upgrade("head", *legacy.STARTS[start].options)
    found = compare(empty_head, place.chain.snapshot())
    assert faults(place, found) == []
    own = [
        f"{extra.kind} {extra.identity}"
        for extra in found.extras
        if extra.expected is None and extra.identity not in catalog[extra.kind]
    ]
    assert own == []
    place.chain.check()
    assert lost(unmoved(before), at_head(place, columns)) == []


def faults(place: Place, found: Comparison) -> list[str]:
    """Name what differs, but for the policies that adoption has kept for the team's own roles and recorded."""
    kept = place.chain.rows(
        "SELECT identity FROM chat_internal.kept WHERE kind = 'policies' AND properties IS NOT NULL"
    )
    return [each.name for each in found.differences if each.kind != "policies" or each.identity not in kept]


def at_head(place: Place, columns: dict[str, list[str]]) -> Rows:
    """Read what the old tables held where it stands at head; an array stands where the original arrays are kept."""
    still = {table: [name for name in names if name != "messages"] for table, names in columns.items()}
    found = rows(place.chain.session, still)
    kept = place.chain.rows("SELECT session_id::text, messages::text FROM chat_internal.chat_session_arrays")
    for table in ("chat_sessions", "conversations"):
        if "messages" in columns.get(table, []):
            for key, array in kept:
                if key in found[table]:
                    found[table][key]["messages"] = array
    for row in [row for table in found.values() for row in table.values() if row.get("metadata")]:
        metadata = json.loads(row["metadata"] or "")
        if "was_null" in metadata.get("legacy", {}):  # what adoption notes there
            del metadata["legacy"]
            row["metadata"] = json.dumps(metadata, ensure_ascii=False)
    return found


def unmoved(found: Rows) -> Rows:
    """Return what is found but for the values in ``MOVED``, and for times of messages that no driver can read."""
    return {
        table: {
            key: {
                column: value
                for column, value in row.items()
                if column not in MOVED.get((table, key), ()) and (table, value) != ("messages", "infinity")
            }
            for key, row in of_table.items()
        }
        for table, of_table in found.items()
    }


@pytest.mark.sampled(3)
@alive
def test_the_application_works_before_during_and_after(place: Place, start: str, platform: str) -> None:
    place.load(start)
    with Working(place, start) as working:
        with alembic(place.url, "upgrade", "head", x=legacy.STARTS[start].options) as upgrade:
            upgrade.succeeds()
        working.goes_on()
    working.check()


@pytest.mark.sampled(4)
@most
def test_the_downgrade_gives_the_old_database_back(place: Place, start: str, platform: str) -> None:
    place.load(start)
    before, old = rows(place.chain.session), public(place)
    place.chain.upgrade("head", *legacy.STARTS[start].options)
    place.chain.downgrade("base")
    assert differences(old, public(place)) == []
    assert rows(place.chain.session) == before
    place.chain.upgrade("head", *legacy.STARTS[start].options)


def public(place: Place) -> Snapshot:
    """The catalog of schema public."""
    engine = sa.create_engine(place.url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        return take_snapshot(connection, ("public",))


@pytest.mark.sampled(4)
@few
def test_a_revision_that_was_done_and_not_recorded_is_done_again(
    empty_head: Snapshot, place: Place, start: str, platform: str
) -> None:
    """As a lock that is lost, or a kill, leaves it: those that commit on their way begin again from their start."""
    place.load(start)
    for revision in sorted(COMMIT_ON_THEIR_WAY):
        place.chain.upgrade(revision, *legacy.STARTS[start].options)
        place.chain.execute(f"UPDATE chat_internal.alembic_version SET version_num = '{before(revision)}'")
        place.chain.upgrade(revision, *legacy.STARTS[start].options)
    place.chain.upgrade("head", *legacy.STARTS[start].options)
    assert faults(place, compare(empty_head, place.chain.snapshot())) == []


@pytest.mark.sampled(2)
@few
def test_an_upgrade_killed_again_and_again_ends_like_one_left_alone(
    empty_head: Snapshot,
    place: Place,
    start: str,
    platform: str,
    record_property: Callable[[str, object], None],
) -> None:
    seed = random.randrange(2**32)  # noqa: S311  dice
    record_property("seed", seed)
    dice = random.Random(seed)  # noqa: S311
    place.load(start)
    columns, before = old_columns(place.chain.session), rows(place.chain.session)
    x = ("batch-time=1ms", "lock-timeout=50ms", *legacy.STARTS[start].options)
    for _ in range(KILLS):
        with alembic(place.url, "upgrade", "head", x=x) as run:
            wait_for(lambda: "Running " in run.output or not run.goes_on, "a revision to begin")
            time.sleep(dice.choice([0, 0.02, 0.1, 0.3]) * dice.random())
    with alembic(place.url, "upgrade", "head", x=x) as run:
        run.succeeds()
    assert faults(place, compare(empty_head, place.chain.snapshot())) == []
    assert lost(unmoved(before), at_head(place, columns)) == []


@pytest.mark.sampled(5)
@most
def test_the_script_ends_where_the_upgrade_does(empty_head: Snapshot, place: Place, start: str, platform: str) -> None:
    place.load(start)
    columns, before = old_columns(place.chain.session), rows(place.chain.session)
    place.chain.upgrade_by_script("head", *legacy.STARTS[start].options)
    assert faults(place, compare(empty_head, place.chain.snapshot())) == []
    assert lost(unmoved(before), at_head(place, columns)) == []


def test_what_is_tried_here_is_every_start_that_is_ready() -> None:
    assert set(READY) <= set(legacy.STARTS)
    assert {platform for _, platform in EACH} >= set(SUPABASE)
