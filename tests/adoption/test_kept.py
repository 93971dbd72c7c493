"""What a team has on and over our tables stays, is named in the log, and does not fail verify for ever."""

import logging
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from app.catalog import Examination, examine, has_auth_users, load_expected
from app.roles import Roles
from tests.adoption.legacy import Place
from tests.catalog.planting import told
from tests.migrations.test_stairs import differences

OWN = """
    ALTER TABLE chat_sessions ADD CONSTRAINT own_ids CHECK (id <> user_id) NOT VALID;
    CREATE FUNCTION own_stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
    CREATE TRIGGER own_trigger BEFORE UPDATE ON chat_sessions FOR EACH ROW EXECUTE FUNCTION own_stamp();
    CREATE RULE own_rule AS ON DELETE TO tenants DO ALSO NOTHING;
    CREATE VIEW own_titles AS SELECT c.id, c.tenant_id FROM chat_sessions AS c WHERE c.created_at > '2020-01-01';
    CREATE VIEW own_over AS SELECT t.id FROM own_titles AS t;
    CREATE MATERIALIZED VIEW own_counts AS SELECT count(*) AS n FROM tenants;
    CREATE FUNCTION own_count() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM public.tenants';
    CREATE TABLE own_child (PRIMARY KEY (id)) INHERITS (tenants);
    ALTER TABLE own_child ENABLE ROW LEVEL SECURITY;
    GRANT SELECT ON own_titles TO PUBLIC;
    GRANT SELECT ON own_over TO authenticated;
    GRANT SELECT ON own_counts TO anon;
    GRANT TRUNCATE ON tenants TO own_reporting;
    ALTER PUBLICATION supabase_realtime ADD TABLE tenants;
"""
OF_ADMINISTRATORS = """
    CREATE ROLE own_reporting NOLOGIN;
    CREATE PUBLICATION own_changes FOR ALL TABLES;
    GRANT CREATE ON SCHEMA public TO own_reporting;
    ALTER DATABASE "{database}" SET search_path = public, extensions, other;
"""
KEPT = {
    ("constraints", "own_ids on public.conversations"),
    ("triggers", "own_trigger on public.conversations"),
    ("rules", "own_rule on public.tenants"),
    ("readers", "public.own_titles"),
    ("readers", "public.own_over"),
    ("readers", "public.own_counts"),
    ("definers", "public.own_count()"),
    ("inheritance", "public.own_child of public.tenants"),
    ("grants", "own_reporting on table public.tenants"),
    ("grants", "own_reporting on schema public"),
    ("publications", "own_changes of ALL TABLES"),
    ("publications", "supabase_realtime of TABLE public.tenants"),
    ("settings", "search_path in this database"),
}
OPEN = {"public.own_titles", "public.own_counts", "public.own_count()"}  # which anon or PUBLIC can reach


@pytest.fixture
def theirs(place: Place) -> Iterator[Place]:
    """Sessions of tenants on Supabase (a table that is renamed on the way), and what a team has added."""
    place.load("3a")
    place.admin.execute(OF_ADMINISTRATORS.format(database=place.database))
    place.chain.execute(OWN)
    yield place
    place.admin.execute("DROP OWNED BY own_reporting; DROP ROLE own_reporting")


def examined(place: Place) -> Examination:
    engine = sa.create_engine(place.url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        return examine(connection, load_expected(auth_users=has_auth_users(connection)), Roles())


def kept(found: Examination) -> set[tuple[str, str]]:
    """What is kept but for the platform's own default privileges."""
    return {(each.kind, each.identity) for each in found.kept if each.kind != "default privileges"}


def test_what_a_team_has_is_kept_and_each_is_named_in_the_log(theirs: Place, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "chat_schema"):
        theirs.chain.upgrade()
    found = examined(theirs)
    assert not found.faults, told(found)
    assert kept(found) == KEPT
    assert {each.identity for each in found.open} == OPEN
    for kind, identity in KEPT:
        assert f"kept as yours: {kind} {identity}: " in caplog.text


def test_a_script_keeps_the_same_and_says_so(theirs: Place) -> None:
    done = theirs.chain.run_script(theirs.chain.upgrade_script("head"))
    assert done.returncode == 0, done.stderr
    found = examined(theirs)
    assert not found.faults, told(found)
    assert kept(found) == KEPT
    assert "kept as yours: readers public.own_titles: shows rows of public.conversations to PUBLIC" in done.stderr


def test_what_comes_later_or_changes_is_a_fault(theirs: Place) -> None:
    theirs.chain.upgrade()
    theirs.chain.execute("CREATE VIEW own_later AS SELECT * FROM messages; GRANT SELECT ON own_later TO anon")
    theirs.chain.execute("CREATE OR REPLACE VIEW own_over AS SELECT m.id FROM messages AS m")
    theirs.chain.execute("GRANT SELECT ON own_counts TO authenticated")
    faults = {each.identity: each.says for each in examined(theirs).faults}
    assert set(faults) == {"public.own_later", "public.own_over", "public.own_counts"}
    assert "has changed" not in faults["public.own_later"]
    assert "it has changed since it was recorded as yours" in faults["public.own_over"]


def test_a_step_down_and_up_keeps_what_was_kept_and_nothing_that_came_since(theirs: Place) -> None:
    theirs.chain.upgrade()
    theirs.chain.execute("CREATE VIEW own_later AS SELECT * FROM tenants; GRANT SELECT ON own_later TO anon")
    theirs.chain.execute("GRANT SELECT ON own_counts TO authenticated")
    for revision in ("0041", "0027", "0019"):
        theirs.chain.downgrade(revision)
        theirs.chain.upgrade()
        found = examined(theirs)
        assert {each.identity for each in found.faults} == {"public.own_later", "public.own_counts"}, told(found)
        assert kept(found) == KEPT - {("readers", "public.own_counts")}


def test_the_way_back_gives_all_of_it_back(theirs: Place) -> None:
    old = theirs.chain.snapshot()
    theirs.chain.upgrade()
    theirs.chain.downgrade("base")
    assert not differences(old, theirs.chain.snapshot())
    theirs.chain.upgrade()
    assert kept(examined(theirs)) == KEPT


@pytest.mark.parametrize("platform", ["plain"])
def test_an_empty_start_keeps_nothing(place: Place) -> None:
    place.chain.upgrade()
    assert place.chain.value("SELECT count(*) FROM chat_internal.kept") == 0


def test_a_clients_right_to_create_is_no_teams_and_stays_a_fault(place: Place) -> None:
    place.admin.execute(f'GRANT CREATE ON DATABASE "{place.database}" TO anon; GRANT CREATE ON SCHEMA public TO PUBLIC')
    place.chain.upgrade()
    assert {each.identity for each in examined(place).faults} == {"anon on the database", "public"}
