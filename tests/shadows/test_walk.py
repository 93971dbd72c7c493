"""Hostile clients beside the chain on its way up and down: nothing of theirs runs as another role at any revision.

Each has the kit in its pg_temp and tries all that it may: every function, every statement on every table and view.
Each starting point is walked on its richest platform; ``CHAT_SCHEMA_TEST_PLATFORMS=all`` walks it on each.
"""

import pytest

from tests.adoption.legacy import STARTS, Place
from tests.adoption.test_adoption import MOST
from tests.migrations.chain import REVISIONS, before
from tests.shadows import kit
from tests.shadows.attackers import attackers, attacks, seed
from tests.shadows.functions import unsafe_functions

CLOSED = "0001d"  # until then a table that stands has the rights that its platform has granted


@pytest.mark.parametrize(("start", "platform"), MOST)
def test_no_client_runs_code_as_another_role_at_any_revision(place: Place, start: str, platform: str) -> None:
    place.load(start)
    options = (*STARTS[start].options, "allow-data-loss=yes")
    own = unsafe_functions(place.admin)
    with attackers(place, kit.our_relations()) as clients:
        log = kit.Log(place.admin.session)

        def nobody_climbs(revision: str) -> None:
            seed(place.admin)
            for client in clients:
                if revision != "base" and revision >= CLOSED:
                    client.plant(place.admin)
                client.attack(attacks(place.admin, client.name))
            assert log.sprung() == [], revision
            assert unsafe_functions(place.admin) <= own, revision

        for revision in REVISIONS:
            place.chain.upgrade(revision, *options)
            nobody_climbs(revision)
        authenticated, service = clients[1:3]
        assert min(authenticated.done, service.done) > 20 * len(REVISIONS), "hardly anything was reached"
        for revision in map(before, reversed(REVISIONS)):
            place.chain.downgrade(revision, *options)
            nobody_climbs(revision)
