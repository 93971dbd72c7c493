"""Clients with the kit in pg_temp, beside the chain on its way up and down: no SQL of theirs runs as another role.

Each starting point is walked on its richest platform; ``CHAT_SCHEMA_TEST_PLATFORMS=all`` walks it on each.
"""

import pytest

from tests.adoption.legacy import STARTS, Place
from tests.adoption.test_adoption import MOST
from tests.migrations.chain import REVISIONS, before
from tests.shadows import kit
from tests.shadows.attackers import attackers, attacks, seed
from tests.shadows.functions import unsafe_functions

import time, os
T = {}
def lap(k, t):
    n = time.perf_counter()
    T[k] = T.get(k, 0) + n - t
    return n

@pytest.mark.parametrize(("start", "platform"), MOST)
def test_no_client_runs_code_as_another_role_at_any_revision(place: Place, start: str, platform: str) -> None:
    place.load(start)
    options = (*STARTS[start].options, "allow-data-loss=yes")
    own = unsafe_functions(place.admin)
    t = time.perf_counter()
    with attackers(place, kit.our_relations()) as clients:
        log = kit.Log(place.admin.session)
        t = lap("kit", t)

        def nobody_climbs(at: str) -> None:
            t = time.perf_counter()
            seed(place.admin)
            t = lap("seed", t)
            for client in clients:
                if REVISIONS.index(at.split()[-1]) > REVISIONS.index("0001d"): client.plant(place.admin)
                a = attacks(place.admin, client.name)
                t = lap("list", t)
                client.attack(a)
                t = lap("attack " + client.name, t)
            assert log.sprung() == [], at
            assert unsafe_functions(place.admin) <= own, at
            t = lap("check", t)

        for revision in REVISIONS:
            place.chain.upgrade(revision, *options)
            t = lap("up", t)
            nobody_climbs(f"after the upgrade to {revision}")
            t = time.perf_counter()
        assert all(client.done for client in clients[1:3])
        for revision in reversed(REVISIONS):
            t = time.perf_counter()
            place.chain.downgrade(before(revision), *options)
            t = lap("down", t)
            nobody_climbs(f"after the downgrade of {revision}")
        print({k: round(v, 2) for k, v in T.items()}, [(c.name, c.done, c.refused) for c in clients])
