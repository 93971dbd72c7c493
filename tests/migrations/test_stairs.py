"""Each step up, down and up again, online and as a script: the same catalog each time, and nothing left behind."""

from app.catalog import Snapshot
from tests.migrations.chain import HEAD, REVISIONS, Chain, before

NOTHING = """
    SELECT 'relation ' || c.oid::regclass FROM pg_class AS c WHERE c.relnamespace = 'public'::regnamespace
    UNION ALL SELECT 'function ' || p.oid::regprocedure FROM pg_proc AS p WHERE p.pronamespace = 'public'::regnamespace
    UNION ALL SELECT 'type ' || t.oid::regtype FROM pg_type AS t WHERE t.typnamespace = 'public'::regnamespace
    UNION ALL SELECT 'schema ' || n.nspname FROM pg_namespace AS n
      WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('public', 'information_schema')
    UNION ALL SELECT 'default privileges' FROM pg_default_acl
    UNION ALL SELECT 'event trigger ' || e.evtname FROM pg_event_trigger AS e
"""


def differences(expected: Snapshot, found: Snapshot) -> list[str]:
    """Name every object that is not the same in both, whether or not `app.catalog.compare` would let it pass."""
    return [
        f"{kind} {identity}: {expected[kind].get(identity)} became {found[kind].get(identity)}"
        for kind in expected
        for identity in sorted({*expected[kind], *found[kind]})
        if expected[kind].get(identity) != found[kind].get(identity)
    ]


def test_every_revision_goes_up_and_down_and_up_again_as_a_script(chain: Chain) -> None:
    below = chain.snapshot()
    for revision in REVISIONS:
        previous = before(revision)
        chain.upgrade(revision)
        above = chain.snapshot()

        chain.downgrade(previous)
        assert not differences(below, chain.snapshot()), f"{revision}: its downgrade leaves something behind"

        done = chain.run_script(chain.upgrade_script(f"{previous}:{revision}"))
        assert done.returncode == 0, f"{revision}: {done.stderr}"
        below = chain.snapshot()
        assert not differences(above, below), f"{revision}: its script ends elsewhere than its upgrade"


def test_a_downgrade_to_base_leaves_nothing_and_a_second_upgrade_ends_where_the_first_did(chain: Chain) -> None:
    empty = chain.snapshot()
    chain.upgrade()
    head = chain.snapshot()
    chain.downgrade("base")
    assert chain.rows(NOTHING) == []
    assert not differences(empty, chain.snapshot())
    chain.upgrade()
    assert not differences(head, chain.snapshot())


def test_the_whole_chain_as_a_script_ends_where_the_upgrade_does(chain: Chain) -> None:
    done = chain.run_script(chain.upgrade_script("head"))
    assert done.returncode == 0, done.stderr
    assert chain.revision() == HEAD
    by_script = chain.snapshot()

    done = chain.run_script(chain.downgrade_script(f"{HEAD}:base"))
    assert done.returncode == 0, done.stderr
    assert chain.rows(NOTHING) == []

    chain.upgrade()
    assert not differences(chain.snapshot(), by_script)


def test_a_script_from_the_first_revision_on_finds_the_schema_of_its_version_table(chain: Chain) -> None:
    chain.upgrade("0001")
    done = chain.run_script(chain.upgrade_script("0001:head"))
    assert done.returncode == 0, done.stderr
    assert chain.revision() == HEAD
