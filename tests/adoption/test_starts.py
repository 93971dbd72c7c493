"""Each starting point on each platform it exists on: loaded by the login that migrates it, and by nobody else."""

import pytest

from tests.adoption.legacy import PLATFORMS, STARTS, SUPABASE, Place, Rows, lost, rows

EACH = [(start, platform) for start, described in STARTS.items() for platform in described.platforms]


@pytest.mark.parametrize(("start", "platform"), EACH)
def test_a_start_belongs_to_a_login_that_is_no_superuser(place: Place, start: str, platform: str) -> None:
    place.load(start)
    assert place.chain.value("SELECT current_user::text") == PLATFORMS[platform].login
    assert place.chain.value("SELECT rolsuper FROM pg_roles WHERE rolname = current_user") == (platform == "plain")
    found = rows(place.chain.session)
    assert all(found.values())
    assert bool(found) == (start != "empty")
    assert lost(found, found) == []


@pytest.mark.parametrize("platform", SUPABASE)
def test_default_privileges_are_those_of_the_day(place: Place, platform: str) -> None:
    place.chain.execute("CREATE TABLE public.mine ()")
    allowed = place.chain.value("SELECT has_table_privilege('anon', 'public.mine', 'SELECT')")
    assert allowed == (platform == "supabase-all")
    assert place.chain.value("SELECT has_table_privilege('anon', 'public.mine', 'TRUNCATE')")


def test_what_is_lost_is_named() -> None:
    before: Rows = {"tasks": {"1": {"title": "Buy milk", "description": None}, "2": {"title": "Rest"}}}
    after: Rows = {"tasks": {"1": {"title": "Buy", "description": "1 l", "completed": "t"}}}
    assert lost(before, after) == ["tasks 1: title 'Buy milk' became 'Buy'", "tasks 2: is missing"]
