"""What a stranger owns under our names, or has put on our tables: a run refuses it before it changes anything."""

from collections.abc import Callable

import psycopg
import pytest
from alembic.config import Config
from alembic.util import CommandError

from alembic import command
from app import cli
from tests.adoption.legacy import STARTS, SUPABASE, Place
from tests.adoption.test_adoption import public
from tests.conftest import alembic_config, libpq
from tests.migrations.test_stairs import differences
from tests.shadows import kit

pytestmark = pytest.mark.sampled(3)  # each case takes seconds

TRAP = "LANGUAGE plpgsql AS $$ BEGIN PERFORM public.trap('{what}'); RETURN NEW; END $$"
NAMESAKES = {
    "a trigger function": (
        f"CREATE FUNCTION public.update_updated_at() RETURNS trigger {TRAP.format(what='update_updated_at')}",
        "function public.update_updated_at() belongs to shadow_stranger",
    ),
    "a function": (
        "CREATE FUNCTION public.get_session_cost(p_session_id uuid) RETURNS numeric LANGUAGE sql AS"
        " $$ SELECT public.trap('get_session_cost'); SELECT 0.0 $$",
        "function public.get_session_cost(uuid) belongs to shadow_stranger",
    ),
    "a table": (
        "CREATE TABLE public.users (id uuid PRIMARY KEY, email text CHECK (public.trap('users')));"
        " CREATE TRIGGER shadow BEFORE INSERT OR UPDATE ON public.users FOR EACH ROW"
        " EXECUTE FUNCTION public.trap_trigger();"
        " INSERT INTO public.users VALUES ('a0000000-0000-4000-8000-000000000001', 'ana@example.test')",
        "public.users belongs to shadow_stranger",
    ),
    "a view": (
        "CREATE VIEW public.provider_usage_stats AS SELECT public.trap('provider_usage_stats')",
        "view public.provider_usage_stats belongs to shadow_stranger",
    ),
    "a view for a table": (
        "CREATE VIEW public.tasks AS SELECT public.trap('tasks')",
        "public.tasks is there and is no ordinary table",
    ),
    "a view of rows": (
        "CREATE VIEW public.users AS SELECT NULL::uuid AS id, 'x'::text AS email WHERE public.trap('users')",
        "public.users is there and is no ordinary table",
    ),
    "a row type": ("CREATE TYPE public.messages AS (id uuid)", "public.messages is there and is no ordinary table"),
    "a domain": (
        "CREATE DOMAIN public.messages AS uuid CHECK (public.trap('messages'))",
        "the type public.messages is there",
    ),
}


def refused(place: Place, because: str, *options: str) -> None:
    """Expect an upgrade, and its script, to stop for this reason: nothing is changed, no code of a stranger's runs."""
    log = kit.Log(place.admin.session)
    before = public(place)
    done = place.chain.run_script(place.chain.upgrade_script("head", *options))
    assert (done.returncode, because in done.stderr) == (3, True), done.stderr
    assert differences(before, public(place)) == []
    with pytest.raises(CommandError) as error:  # from where the script has stopped
        place.chain.upgrade("head", *options)
    assert because in str(error.value)
    assert differences(before, public(place)) == []
    assert log.sprung() == []


@pytest.mark.parametrize("platform", ["plain", "owner"])
@pytest.mark.parametrize(("made", "because"), NAMESAKES.values(), ids=NAMESAKES)
def test_what_bears_a_name_of_ours_is_refused(
    place: Place, stranger: psycopg.Connection, made: str, because: str
) -> None:
    kit.make_trap(stranger, "public")
    stranger.execute(made.encode())
    refused(place, because)


@pytest.mark.parametrize("platform", ["plain", "owner"])
def test_a_schema_of_that_name_is_refused(place: Place, stranger: psycopg.Connection) -> None:
    place.admin.execute(f"GRANT CREATE ON DATABASE {place.database} TO PUBLIC")
    kit.make_trap(stranger, "public")
    stranger.execute("CREATE SCHEMA chat_internal")
    stranger.execute("GRANT ALL ON SCHEMA chat_internal TO PUBLIC")
    stranger.execute("CREATE TABLE chat_internal.alembic_version (version_num varchar(32) PRIMARY KEY)")
    stranger.execute("GRANT ALL ON chat_internal.alembic_version TO PUBLIC")
    stranger.execute(
        "CREATE TRIGGER shadow BEFORE INSERT OR UPDATE OR DELETE ON chat_internal.alembic_version"
        " FOR EACH ROW EXECUTE FUNCTION public.trap_trigger()"
    )
    refused(place, "The schema chat_internal is not this login's alone")


@pytest.mark.parametrize("platform", ["plain", "owner"])
def test_a_trigger_of_a_stranger_on_a_table_of_ours_is_refused(place: Place, stranger: psycopg.Connection) -> None:
    place.load("2")
    kit.make_trap(stranger, "public")
    place.chain.execute("GRANT TRIGGER ON public.messages TO PUBLIC")
    stranger.execute(
        "CREATE TRIGGER shadow BEFORE INSERT OR UPDATE OR DELETE ON public.messages"
        " FOR EACH ROW EXECUTE FUNCTION public.trap_trigger()"
    )
    refused(place, "trigger shadow on table public.messages calls function public.trap_trigger()", *STARTS["2"].options)


@pytest.mark.parametrize("platform", SUPABASE)
@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role"])
def test_a_trigger_of_a_role_that_the_migrating_login_is_a_member_of_is_refused(place: Place, role: str) -> None:
    place.load("1b")
    with psycopg.connect(libpq(place.url_of("authenticator")), autocommit=True) as client:
        client.execute(f"SET ROLE {role}")
        kit.make_trap(client, "pg_temp")
        client.execute(
            "CREATE TRIGGER shadow BEFORE INSERT OR UPDATE OR DELETE ON public.chat_messages"
            " FOR EACH ROW EXECUTE FUNCTION pg_temp.trap_trigger()"
        )
        refused(place, "trigger shadow on table public.chat_messages calls function pg_temp")


LOOKS = {
    "current": command.current,
    "check": command.check,
    "plan": cli.plan,
    "verify": cli.verify,
    "purge": lambda config: cli.purge(config, dry_run=True),
}


@pytest.mark.parametrize("platform", ["plain", "owner"])
@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_a_command_that_only_looks_reads_nothing_of_his(
    place: Place, stranger: psycopg.Connection, look: Callable[[Config], object]
) -> None:
    place.admin.execute(f"GRANT CREATE ON DATABASE {place.database} TO PUBLIC")
    stranger.execute("CREATE SCHEMA chat_internal")
    stranger.execute("GRANT USAGE ON SCHEMA public, chat_internal TO PUBLIC")
    for schema in ("public", "chat_internal"):
        kit.make(stranger, schema, kit.our_relations())
        stranger.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO PUBLIC")
    log = kit.Log(place.admin.session)
    config = alembic_config(place.url)
    config.attributes["configure_logging"] = False
    if look is cli.plan:
        with pytest.raises(SystemExit) as ended:
            look(config)
        assert ended.value.code == 2
    else:
        with pytest.raises(CommandError, match="The schema chat_internal is not this login's alone"):
            look(config)
    assert log.sprung() == []
