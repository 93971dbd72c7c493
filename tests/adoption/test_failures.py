"""A revision that fails after it has committed a part: it undoes that part, says what stands, and can be run again.

``CHAT_SCHEMA_TEST_FAILURES=all`` fails at every step that has a transaction of its own, not at some of them.
"""

import os
import random
from collections.abc import Callable, Iterator

import pytest
from alembic.util import CommandError

from app.catalog import compare
from app.embedded import Server
from tests.adoption import legacy
from tests.adoption.legacy import STARTS, Place, rows
from tests.adoption.steps import Steps
from tests.adoption.test_adoption import public
from tests.live.command_line import alembic
from tests.migrations.chain import REVISIONS, before
from tests.migrations.test_stairs import differences

plain = pytest.mark.parametrize("platform", ["plain"])
LOOKED = before("0013")  # from here on nothing looks at the tables any more before it changes them
ADOPTED = "0042"  # no later revision adopts
LAST_STEP = 60  # there are about as many in an adoption; a run that has fewer comes to its end
EVERY_STEP = os.environ.get("CHAT_SCHEMA_TEST_FAILURES") == "all"


@pytest.fixture
def twin(server: Server, platform: str) -> Iterator[Place]:
    """A second database of the same platform, on which nothing fails."""
    with legacy.place(server, platform) as place:
        yield place


def stride(dice: random.Random) -> int:
    return 1 if EVERY_STEP else dice.randint(4, 12)


@pytest.fixture
def dice(record_property: Callable[[str, object], None]) -> random.Random:
    seed = random.randrange(2**32)  # noqa: S311  dice
    record_property("seed", seed)
    return random.Random(seed)  # noqa: S311


@plain
@pytest.mark.parametrize("start", ["2", "empty"])
def test_an_upgrade_that_fails_leaves_what_stood_before_its_revision(
    place: Place, twin: Place, start: str, dice: random.Random
) -> None:
    options = STARTS[start].options
    for each in (place, twin):
        each.load(start)
        each.chain.upgrade(LOOKED, *options)
    steps = Steps(place.chain)
    revision, failing, undone = LOOKED, 1, 0
    while True:
        steps.fail_at(failing)
        try:
            place.chain.upgrade(ADOPTED, *options)
        except CommandError as error:
            said = str(error)
        else:
            break
        assert "planted: " in said
        if place.chain.revision() == revision:
            failing += stride(dice)
        else:
            revision, failing = place.chain.revision(), 1
            twin.chain.upgrade(revision, *options)
        running = REVISIONS[REVISIONS.index(revision) + 1]
        committed = f"Revision {running} had committed a part, which its downgrade has undone" in said
        undone += committed
        assert committed or f"Revision {running} was rolled back" in said
        assert not differences(twin.chain.snapshot(), place.chain.snapshot()), said
    assert undone
    steps.remove()
    twin.chain.upgrade(ADOPTED, *options)
    assert compare(twin.chain.snapshot(), place.chain.snapshot()).differences == ()


@plain
def test_a_downgrade_that_fails_puts_back_what_it_had_dropped(place: Place, twin: Place, dice: random.Random) -> None:
    for each in (place, twin):
        each.chain.upgrade("0034")
    steps = Steps(place.chain)
    revision, failing, restored = "0034", 2, 0
    while True:
        steps.fail_at(failing)
        try:
            place.chain.downgrade("0022")
        except CommandError as error:
            said = str(error)
        else:
            break
        if place.chain.revision() == revision:
            failing += stride(dice)
        else:
            revision, failing = place.chain.revision(), 2
            twin.chain.downgrade(revision)
        restored += f"Revision {revision} had committed a part, which its upgrade has undone" in said
        assert not differences(twin.chain.snapshot(), place.chain.snapshot()), said
    assert restored


@pytest.mark.parametrize(("start", "platform"), [("2", "plain"), ("1b", "supabase"), ("3b", "supabase")])
def test_the_way_back_from_wherever_a_kill_left_it(place: Place, start: str, dice: random.Random) -> None:
    place.load(start)
    old, before_ = public(place), rows(place.chain.session)
    steps = Steps(place.admin)
    for step in range(1, LAST_STEP) if EVERY_STEP else dice.sample(range(1, LAST_STEP), 2):
        steps.wait_at(step)
        with alembic(place.url, "upgrade", ADOPTED, x=STARTS[start].options) as run:
            if not steps.kill(run):
                run.succeeds()
        place.chain.downgrade("base")
        assert differences(old, public(place)) == [], f"killed at step {step}"
        assert rows(place.chain.session) == before_, f"killed at step {step}"
        assert place.chain.value("SELECT to_regnamespace('chat_internal')") is None


@plain
def test_the_way_up_from_wherever_a_kill_left_a_downgrade(place: Place, twin: Place, dice: random.Random) -> None:
    for each in (place, twin):
        each.chain.upgrade("0034")
    steps = Steps(place.chain)
    step = 2
    while True:
        steps.wait_at(step)
        with alembic(place.url, "downgrade", "0022") as run:
            if not steps.kill(run):
                run.succeeds()
                break
        place.chain.upgrade("0034")
        assert not differences(twin.chain.snapshot(), place.chain.snapshot()), f"killed at step {step}"
        step += stride(dice)


OWN_TASKS = """
    CREATE TABLE users (id uuid PRIMARY KEY);
    CREATE TABLE tasks (id uuid PRIMARY KEY, user_id uuid NOT NULL, title varchar(255) NOT NULL);
    INSERT INTO users VALUES (md5('1')::uuid);
    INSERT INTO tasks VALUES (md5('a')::uuid, md5('1')::uuid, 'a');
"""
ORPHAN = "INSERT INTO tasks (id, user_id, title) VALUES (%s, md5('nobody')::uuid, 'b')"


@plain
def test_a_row_that_comes_after_the_look_stops_its_revision_and_no_client(place: Place) -> None:
    place.chain.execute(OWN_TASKS)
    old = place.chain.snapshot()
    place.chain.upgrade("0017")
    place.chain.execute(ORPHAN, ["b" * 32])
    with pytest.raises(CommandError) as refused:
        place.chain.upgrade()
    assert "Revision 0018 had committed a part, which its downgrade has undone: the database is at 0017." in str(
        refused.value
    )
    place.chain.execute(ORPHAN, ["c" * 32])  # what it could before

    place.chain.downgrade("base", "allow-data-loss=yes")
    assert not differences(old, place.chain.snapshot())
    assert place.chain.value("SELECT count(*) FROM tasks") == 3

    place.chain.execute("DELETE FROM tasks WHERE user_id NOT IN (SELECT id FROM users)")
    place.chain.upgrade()
    assert place.chain.value("SELECT count(*) FROM tasks") == 1


@plain
def test_a_batch_that_fails_puts_the_values_back_that_others_have_changed(place: Place) -> None:
    place.load("2")
    place.chain.upgrade(before("0020"), *STARTS["2"].options)
    place.chain.execute("ALTER TABLE conversations ALTER COLUMN updated_at DROP NOT NULL")
    place.chain.execute("UPDATE conversations SET updated_at = NULL")
    place.chain.execute("""
        CREATE FUNCTION own_refusal() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
        AS $$ BEGIN RAISE EXCEPTION 'not this one'; END $$;
        CREATE TRIGGER own_refusal BEFORE UPDATE ON conversations FOR EACH ROW
        WHEN (NEW.updated_at IS NOT NULL) EXECUTE FUNCTION own_refusal();
    """)
    stood = place.chain.snapshot()
    with pytest.raises(CommandError, match="not this one") as refused:
        place.chain.upgrade("head", *STARTS["2"].options)
    assert "which its downgrade has undone: the database is at 0019." in str(refused.value)
    assert not differences(stood, place.chain.snapshot())
    place.chain.execute("DROP TRIGGER own_refusal ON conversations; DROP FUNCTION own_refusal()")
    place.chain.upgrade("head", *STARTS["2"].options)
    assert place.chain.value("SELECT count(*) FROM conversations WHERE updated_at IS NULL") == 0
