"""public.users as a table of profiles on a hosted platform: the team's trigger, its columns, and our addresses."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import errors

from tests.adoption.legacy import SUPABASE, Place, rows
from tests.adoption.old_clients import NEIGHBOUR, USER, Api, Auth
from tests.adoption.test_kept import examined
from tests.catalog.planting import told
from tests.migrations.test_stairs import differences

ALL = "supabase-all"


@pytest.fixture
def platform() -> str:
    return ALL


def kept_policies(place: Place) -> set[str]:
    """What is kept of policies, where nothing is wrong."""
    found = examined(place)
    assert not found.faults, told(found)
    return {each.identity for each in found.kept if each.kind == "policies"}


@pytest.fixture
def auth(place: Place) -> Iterator[Auth]:
    place.load("5")
    auth = Auth(place.admin.url)
    yield auth
    auth.close()


@pytest.fixture
def api(place: Place) -> Iterator[Api]:
    api = Api(place.url_of("authenticator"))
    yield api
    api.close()


@pytest.mark.parametrize("platform", SUPABASE)
def test_a_sign_up_makes_the_profile_and_its_address(place: Place, auth: Auth, platform: str) -> None:
    place.chain.upgrade()
    user = auth.sign_up("New@Example.test", full_name="Newcomer")
    made = "SELECT full_name, email FROM public.users WHERE id = %s"
    assert place.chain.rows(made, [user]) == [("Newcomer", "new@example.test")]
    auth.change(user, "email = 'other@example.test'")
    assert place.chain.rows(made, [user]) == [("Newcomer", "other@example.test")]
    auth.delete(user)
    assert place.chain.rows(made, [user]) == []
    anonymous = auth.sign_up()
    assert place.chain.rows(made, [anonymous]) == [(None, None)]


@pytest.mark.parametrize("by_script", [False, True])
def test_profiles_that_stood_get_the_addresses_and_times_of_their_accounts(
    place: Place, auth: Auth, by_script: bool
) -> None:
    place.chain.upgrade_by_script("head") if by_script else place.chain.upgrade()
    same = (
        "SELECT count(*) FROM public.users AS u JOIN auth.users AS a USING (id, created_at)"
        " WHERE u.full_name = 'somebody'"
        " AND (u.email IS NOT DISTINCT FROM a.email OR a.is_sso_user AND u.email IS NULL)"
    )
    assert place.chain.value(same) == 8
    assert place.chain.value("SELECT count(email) FROM public.users") == 6
    assert kept_policies(place) == {"users_update_own on public.users"}


def test_a_user_reads_and_changes_its_own_columns_of_its_own_row_and_no_other(
    place: Place, auth: Auth, api: Api
) -> None:
    place.chain.upgrade()
    assert [row["full_name"] for row in api.request(USER, "SELECT full_name FROM public.users")] == ["somebody"]
    changed = "UPDATE public.users SET full_name = %s, preferences = '{}' WHERE id = %s RETURNING full_name, email"
    assert api.request(USER, changed, ["Ana", USER]) == [{"full_name": "Ana", "email": "ana@example.test"}]
    assert api.request(USER, changed, ["x", NEIGHBOUR]) == []
    for refused in ("email = 'x@example.test'", "id = gen_random_uuid()", "created_at = now()", "password_hash = 'x'"):
        with pytest.raises(errors.InsufficientPrivilege):
            api.request(USER, f"UPDATE public.users SET {refused} WHERE id = %s RETURNING id", [USER])
    with pytest.raises(errors.InsufficientPrivilege):
        api.request(USER, "SELECT password_hash FROM public.users")
    with pytest.raises(errors.InsufficientPrivilege):
        api.request(USER, "SELECT full_name FROM public.users", role="anon")


@pytest.mark.parametrize(
    ("before", "readable", "changeable"),
    [
        ("REVOKE UPDATE ON users FROM authenticated; GRANT UPDATE (avatar_url) ON users TO authenticated", True, False),
        ('DROP POLICY "Own profile can be changed" ON users', True, False),
        ("REVOKE ALL ON users FROM authenticated", False, False),
        ("SELECT", True, True),
    ],
)
def test_what_clients_could_not_do_they_cannot_do(
    place: Place, auth: Auth, api: Api, before: str, readable: bool, changeable: bool
) -> None:
    place.chain.execute(before)
    place.chain.upgrade()

    def allowed(statement: str) -> bool:
        try:
            return bool(api.request(USER, statement))
        except psycopg.errors.InsufficientPrivilege:
            return False

    assert allowed("SELECT full_name FROM public.users") == readable
    assert allowed("UPDATE public.users SET full_name = 'x' RETURNING id") == changeable
    assert allowed("UPDATE public.users SET avatar_url = 'x' RETURNING id") == (changeable or "avatar_url" in before)
    assert bool(kept_policies(place)) == (changeable or "avatar_url" in before)


@pytest.mark.parametrize("platform", SUPABASE)
def test_the_way_back_keeps_the_profiles_and_gives_the_table_back(place: Place, auth: Auth, platform: str) -> None:
    before, stored = place.chain.snapshot(), rows(place.chain.session)
    place.chain.upgrade()
    user = auth.sign_up("new@example.test", full_name="Newcomer")
    place.chain.downgrade("base")
    assert differences(before, place.chain.snapshot()) == []
    assert place.chain.value("SELECT full_name FROM public.users WHERE id = %s", [user]) == "Newcomer"
    found = rows(place.chain.session)
    del found["users"][user]
    assert found == stored
    another = auth.sign_up("another@example.test", full_name="Another")
    place.chain.upgrade()
    assert place.chain.value("SELECT email FROM public.users WHERE id = %s", [another]) == "another@example.test"
    assert bool(kept_policies(place)) == (platform == ALL)
