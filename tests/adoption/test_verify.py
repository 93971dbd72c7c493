"""A right adoption passes `chat-schema verify`, from each start, and a drift on a platform is mended as it prints."""

import pytest

from tests.adoption.legacy import STARTS, SUPABASE, Place
from tests.adoption.test_adoption import ONCE
from tests.adoption.test_kept import examined
from tests.catalog.planting import told

SERVICE = """
    CREATE ROLE app_rw LOGIN; CREATE ROLE reporting LOGIN;
    GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app_rw;
    GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO app_rw;
    GRANT SELECT ON ALL TABLES IN SCHEMA public TO reporting;
    ALTER DEFAULT PRIVILEGES FOR ROLE "{owner}" IN SCHEMA public
      GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO app_rw;
    ALTER DEFAULT PRIVILEGES FOR ROLE "{owner}" IN SCHEMA public GRANT SELECT ON TABLES TO reporting;
"""


KEPT = {"5": ("policies", "definers"), "6": ("policies",)}


@pytest.mark.sampled(4)
@pytest.mark.parametrize(("start", "platform"), [*ONCE, ("empty", "supabase-all"), ("empty", "owner"), ("2", "owner")])
def test_a_right_adoption_passes(place: Place, start: str, platform: str) -> None:
    place.load(start)
    place.chain.upgrade("head", *STARTS[start].options)
    found = examined(place)
    assert found.seen
    assert not found.faults, told(found)
    definer = {"public.make_profile()"} if start == "5" else set()  # which anybody can put on a table of its own
    assert {each.identity for each in found.open} == definer, "nobody keeps what anon or PUBLIC can reach"
    assert {each.kind for each in found.kept} <= {"default privileges", *KEPT.get(start, ())}


@pytest.mark.parametrize("platform", ["owner"])
def test_grants_to_a_services_own_logins_are_listed_and_no_fault(place: Place, platform: str) -> None:
    place.load("2")
    owner = place.chain.value("SELECT current_user::text")
    place.admin.execute(SERVICE.format(owner=owner))
    try:
        place.chain.upgrade("head", *STARTS["2"].options)
        found = examined(place)
        assert not found.faults, told(found)
        granted = {each.identity: each.found for each in found.own if each.kind == "tables"}
        assert (granted["public.messages"] or {})["grants"]["reporting"] == ["SELECT"]
    finally:
        place.admin.execute("DROP OWNED BY app_rw, reporting; DROP ROLE app_rw, reporting")


@pytest.mark.sampled(2)
@pytest.mark.parametrize("platform", SUPABASE[:1])
@pytest.mark.parametrize(
    ("drift", "identity"),
    [
        ("ALTER TABLE auth.users DISABLE TRIGGER chat_mirror_user", "chat_mirror_user on auth.users"),
        ("DROP TRIGGER chat_mirror_user ON auth.users", "chat_mirror_user on auth.users"),
        ("ALTER TABLE public.users DROP CONSTRAINT fk_users_id", "fk_users_id on public.users"),
        ("GRANT ALL ON public.messages TO anon", "public.messages"),
        ("ALTER DEFAULT PRIVILEGES FOR ROLE supa_owner GRANT SELECT ON TABLES TO anon", "tables of supa_owner to anon"),
        ("DROP FUNCTION public.get_session_cost(uuid)", "public.get_session_cost(uuid)"),
        ("DROP VIEW public.provider_usage_stats", "public.provider_usage_stats"),
    ],
)
def test_a_drift_on_a_hosted_platform_is_mended_as_it_prints(
    place: Place, platform: str, drift: str, identity: str
) -> None:
    place.chain.upgrade()
    place.admin.execute(drift)
    [fault] = examined(place).faults
    assert fault.identity == identity
    for statement in fault.mend.statements:
        (place.admin if fault.mend.by else place.chain).execute(statement)
    found = examined(place)
    assert not found.faults, told(found)


@pytest.mark.parametrize("platform", SUPABASE[:1])
def test_what_joins_supabases_publication_as_documented_is_no_fault(place: Place, platform: str) -> None:
    place.chain.upgrade()
    place.chain.execute("ALTER PUBLICATION supabase_realtime ADD TABLE public.messages, public.conversations")
    found = examined(place)
    assert not found.faults, told(found)
    place.chain.execute("ALTER PUBLICATION supabase_realtime ADD TABLE public.users")
    [fault] = examined(place).faults
    for statement in fault.mend.statements:
        place.chain.execute(statement)
    assert not examined(place).faults
