"""Hostile clients beside the chain on its way up and down: nothing of theirs runs as another role at any revision.

Each has the kit in its pg_temp and tries all that it may: every function, every statement on every table and view.
They attack where functions, triggers, policies or views change. ``CHAT_SCHEMA_TEST_PLATFORMS=all`` walks every start on
each of its platforms, not only one of each application, and the empty one through every revision.
"""

import re

import pytest

from tests.adoption.legacy import STARTS, Place
from tests.adoption.test_adoption import EVERYWHERE, FEW, MOST
from tests.migrations.chain import REVISIONS, before
from tests.migrations.test_chain import FILES, number
from tests.shadows import kit
from tests.shadows.attackers import attackers, attacks, seed
from tests.shadows.functions import code, unsafe_functions

CLOSED = "0007"  # until then a table that stands has the rights that its platform has granted
CHANGES_CODE = re.compile(r"CREATE (OR REPLACE )?(FUNCTION|TRIGGER|VIEW)|polic|adopt_table|release|close_tables")
TELLING = [number(file) for file in FILES if CHANGES_CODE.search(file.read_text("utf-8").split('"""', 2)[2])]


@pytest.mark.sampled(2)
@pytest.mark.usefixtures("logins")
@pytest.mark.parametrize(("start", "platform"), MOST if EVERYWHERE else FEW)
def test_no_client_runs_code_as_another_role_at_any_revision(place: Place, start: str, platform: str) -> None:
    place.load(start)
    options = (*STARTS[start].options, "allow-data-loss=yes")
    own = unsafe_functions(place.admin)
    tried = set()
    with attackers(place, kit.our_relations()) as clients:
        log = kit.Log(place.admin.session)

        def nobody_climbs(revision: str) -> None:
            seed(place.admin)
            there = code(place.admin)
            for client in clients:
                if revision != "base" and revision >= CLOSED:
                    client.plant(place.admin)
                statements = attacks(place.admin, client.name)
                if (client.name, there, *statements) not in tried:  # as on the way up
                    tried.add((client.name, there, *statements))
                    client.attack(statements)
            assert log.sprung() == [], revision
            assert unsafe_functions(place.admin) <= own, revision

        walk = REVISIONS if start == "empty" and EVERYWHERE else TELLING
        for revision in walk:
            place.chain.upgrade(revision, *options)
            nobody_climbs(revision)
        authenticated, service = clients[1:3]
        assert min(authenticated.done, service.done) > 500, "hardly anything was reached"
        place.chain.upgrade("head", *options)
        for revision in map(before, reversed(walk)):
            place.chain.downgrade(revision, *options)
            nobody_climbs(revision)
