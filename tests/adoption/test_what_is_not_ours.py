"""What an application has added to our tables, and databases that cannot be adopted as they are."""

import json
import logging
import re

import psycopg
import pytest
from alembic.util import CommandError

from app.catalog import compare, load_expected
from tests.adoption.legacy import STARTS, Place, rows
from tests.live.command_line import alembic
from tests.migrations.chain import HEAD, REVISIONS
from tests.migrations.test_stairs import differences

pytestmark = pytest.mark.sampled(3)  # each case takes seconds

plain = pytest.mark.parametrize("platform", ["plain"])
MOVE = "on-owner-mismatch=move"

OWN = """
    CREATE ROLE reporting NOLOGIN;
    ALTER TABLE conversations ADD COLUMN colour varchar(10) NOT NULL DEFAULT 'blue' CHECK (colour <> 'red');
    CREATE INDEX own_colours ON conversations (colour);
    CREATE INDEX own_twin ON tasks (user_id, created_at DESC);
    ALTER TABLE messages ADD CONSTRAINT own_length CHECK (length(content) < 100000);
    CREATE FUNCTION own_stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
    CREATE TRIGGER own_trigger BEFORE UPDATE ON messages FOR EACH ROW EXECUTE FUNCTION own_stamp();
    CREATE VIEW own_titles WITH (security_barrier = true) AS
      SELECT c.id, c.title, length(c.title) AS letters FROM conversations AS c;
    CREATE VIEW own_long_titles AS SELECT t.title FROM own_titles AS t WHERE t.letters > 3;
    COMMENT ON VIEW own_titles IS 'for the dashboard';
    GRANT SELECT ON own_titles TO reporting;
    GRANT SELECT ON tasks TO reporting WITH GRANT OPTION;
"""


@plain
def test_what_an_application_added_stays_through_upgrade_and_downgrade(place: Place) -> None:
    place.load("2")
    place.chain.execute(OWN)
    before, old = rows(place.chain.session), place.chain.snapshot()
    titles = place.chain.rows("SELECT id, title, letters FROM own_titles ORDER BY id")
    try:
        place.chain.upgrade("head", MOVE)
        found = compare(load_expected(), place.chain.snapshot())
        assert [each.name for each in found.differences] == ["policy granted_select on public.tasks"]
        assert {extra.identity for extra in found.extras} >= {
            "colour on public.conversations",
            "own_colours on public.conversations",
            "own_length on public.messages",
            "own_trigger on public.messages",
        }
        at_head = place.chain.snapshot()
        for view in ("public.own_titles", "public.own_long_titles"):
            for each in ("options", "owner", "grants"):
                assert at_head["views"][view][each] == old["views"][view][each]
        assert at_head["tables"]["public.tasks"]["grants"]["reporting"] == ["GRANT OPTION FOR SELECT", "SELECT"]
        assert place.chain.rows("SELECT id, title, letters FROM own_titles ORDER BY id") == titles
        comment = place.chain.value("SELECT obj_description('public.own_titles'::regclass, 'pg_class')")
        assert comment == "for the dashboard"

        place.chain.downgrade("base")
        assert not differences(old, place.chain.snapshot())
        assert rows(place.chain.session) == before
    finally:
        place.chain.execute("DROP OWNED BY reporting; DROP ROLE reporting")


def test_clients_go_on_with_columns_that_their_application_added(place: Place) -> None:
    place.load("3b")
    place.chain.execute("ALTER TABLE messages ADD COLUMN mood text")
    old = place.chain.snapshot()
    [(user, conversation)] = place.chain.rows(
        "SELECT user_id, c.id FROM conversations AS c JOIN tenant_users USING (tenant_id, user_id) LIMIT 1"
    )

    def write(role: str) -> None:
        with place.chain.session.transaction():
            claims = json.dumps({"sub": str(user)})
            place.chain.execute(
                "SELECT set_config('role', %s, true), set_config('request.jwt.claims', %s, true)", [role, claims]
            )
            insert = "INSERT INTO messages (conversation_id, role, content, mood) VALUES (%s, 'user', 'Hi', 'glad')"
            message = place.chain.value(f"{insert} RETURNING id", [conversation])
            assert place.chain.execute("UPDATE messages SET mood = 'calm' WHERE id = %s", [message]) == 1
            assert place.chain.execute("DELETE FROM messages WHERE mood = 'calm' AND id = %s", [message]) == 1

    write("service_role")
    place.chain.upgrade()
    write("service_role")
    write("authenticated")
    found = compare(load_expected(auth_users=True), place.chain.snapshot())
    assert found.differences == ()
    assert "mood on public.messages" in {extra.identity for extra in found.extras}
    place.chain.downgrade("base")
    assert not differences(old, place.chain.snapshot())


def test_a_view_of_the_arrays_reads_the_rows_afterwards_and_the_arrays_again_after_a_downgrade(place: Place) -> None:
    place.load("3a")
    place.chain.execute(
        "CREATE VIEW own_lengths AS SELECT id, messages ->> 0 AS first FROM chat_sessions"
        " WHERE jsonb_typeof(messages) = 'array' AND jsonb_array_length(messages) = 500"
    )
    old, first = place.chain.snapshot(), place.chain.rows("SELECT first FROM own_lengths")
    assert len(first) == 1
    place.chain.upgrade()
    assert place.chain.rows("SELECT first FROM own_lengths") == first
    place.chain.downgrade("base")
    assert place.chain.rows("SELECT first FROM own_lengths") == first
    assert not differences(old, place.chain.snapshot())


@pytest.mark.parametrize(
    ("start", "platform", "told"),
    [
        ("2", "plain", r"1 rows of public\.messages .*b3000000-0000-4000-8000-000000000006.*on-owner-mismatch=move"),
        ("4b", "supabase", r"1 rows of public\.conversation_messages .*44000000-0000-4000-8000-000000000004"),
    ],
)
def test_owners_that_disagree_stop_it_before_anything_is_changed(
    place: Place, start: str, platform: str, told: str
) -> None:
    place.load(start)
    before, old = rows(place.chain.session), place.chain.snapshot()
    with pytest.raises(CommandError, match=told):
        place.chain.upgrade()
    assert not differences(old, place.chain.snapshot())
    assert rows(place.chain.session) == before


@plain
def test_a_moved_message_stands_in_its_writers_earliest_conversation_and_goes_back(place: Place) -> None:
    place.load("2")
    where = "SELECT conversation_id::text FROM messages WHERE id = 'b3000000-0000-4000-8000-000000000006'"
    place.chain.upgrade("head", MOVE)
    assert place.chain.value(where) == "b2000000-0000-4000-8000-000000000001"
    place.chain.downgrade("base")
    assert place.chain.value(where) == "b2000000-0000-4000-8000-000000000003"


@plain
@pytest.mark.parametrize(
    ("statements", "told"),
    [
        (
            "CREATE TABLE conversations (id uuid PRIMARY KEY, user_id uuid);"
            "CREATE TABLE chat_sessions (id uuid PRIMARY KEY, user_id uuid, messages jsonb)",
            "both there",
        ),
        ("CREATE TABLE messages (id bigint PRIMARY KEY, body text)", "table of another application"),
        ("CREATE VIEW tasks AS SELECT 1 AS id", "no ordinary table"),
        (
            "CREATE TABLE users (id uuid PRIMARY KEY, email text);"
            "INSERT INTO users SELECT gen_random_uuid(), 'a@example.test' FROM generate_series(1, 2)",
            "1 rows of public.users have the address of another one",
        ),
    ],
    ids=["two generations", "foreign table", "view", "twin addresses"],
)
def test_a_database_that_cannot_be_adopted_is_refused_at_once(place: Place, statements: str, told: str) -> None:
    place.chain.execute(statements)
    old = place.chain.snapshot()
    with pytest.raises(CommandError, match=told):
        place.chain.upgrade()
    assert not differences(old, place.chain.snapshot())


# (table, a change that breaks a row of it, what the refusal says of it)
UNFIT = {
    "an infinite time": ("tasks", "created_at = 'infinity'", "times that a driver cannot read"),
    "a time before year 1": ("tasks", "updated_at = '0001-01-01 BC'", "times that a driver cannot read"),
    "a time after 9999": ("conversations", "updated_at = '294000-01-01'", "times that a driver cannot read"),
    "an id of another's": ("conversations", "id = '63686174-6465-8abc-8000-000000000000'", "kept for the default"),
    "a password alone": ("users", "email = ''", "have a password and no address"),
}


@plain
@pytest.mark.parametrize("unfit", UNFIT)
def test_a_row_that_this_schema_cannot_hold_is_counted_named_and_shown(place: Place, unfit: str) -> None:
    table, change, told = UNFIT[unfit]
    place.load("2")
    place.chain.execute("DELETE FROM messages")
    key = place.chain.value(
        f"UPDATE {table} SET {change} WHERE id = (SELECT min(id::text)::uuid FROM {table}) RETURNING id"
    )
    before = rows(place.chain.session)
    with pytest.raises(CommandError, match=rf"1 rows of public\.{table} .*{told}") as refusal:
        place.chain.upgrade("head", MOVE)
    assert str(key) in str(refusal.value)
    shown = re.search("(SELECT \\* FROM .*;)", str(refusal.value))
    assert shown is not None
    assert place.chain.value(f"SELECT id FROM ({shown[1].rstrip(';')}) AS shown") == key
    assert rows(place.chain.session) == before
    place.chain.execute(f"DELETE FROM {table} WHERE id = %s", [key])
    place.chain.upgrade("head", MOVE)


def test_a_message_of_an_unreadable_time_takes_its_conversations_and_has_it_back_after_a_downgrade(
    place: Place,
) -> None:
    place.load("3b")
    infinite = "SELECT id FROM messages WHERE created_at = 'infinity'"
    (message,) = place.chain.rows(infinite)
    place.chain.upgrade()
    assert place.chain.rows(infinite) == []
    same_time = (
        "SELECT m.created_at = c.created_at FROM messages AS m JOIN conversations AS c ON c.id = m.conversation_id"
        " WHERE m.id = %s"
    )
    assert place.chain.value(same_time, [message])
    place.chain.downgrade("base")
    assert place.chain.rows(infinite) == [message]


@plain
def test_default_conversations_of_an_earlier_stay_are_no_obstacle(place: Place) -> None:
    place.load("2")
    user = place.chain.value("INSERT INTO users (email, password_hash) VALUES ('new@example.test', 'x') RETURNING id")
    place.chain.upgrade("head", MOVE)
    conversation = place.chain.value("SELECT chat_internal.default_conversation(%s)", [user])
    place.chain.execute(
        "INSERT INTO messages (conversation_id, user_id, role, content) VALUES (%s, %s, 'user', 'Hi')",
        [conversation, user],
    )
    place.chain.downgrade("base")
    place.chain.upgrade("head", MOVE)
    assert place.chain.value("SELECT chat_internal.default_conversation(%s)", [user]) == conversation


@plain
def test_the_formats_that_the_database_writes_times_in_change_nothing(place: Place) -> None:
    place.load("2")
    for setting in ("DateStyle = 'SQL, DMY'", "TimeZone = 'Europe/Berlin'", "IntervalStyle = 'iso_8601'"):
        place.admin.execute(f"ALTER DATABASE {place.database} SET {setting}")
    place.chain.upgrade("head", MOVE)
    assert compare(load_expected(), place.chain.snapshot()).differences == ()
    place.chain.downgrade("base")
    place.chain.upgrade("head", MOVE)
    assert compare(load_expected(), place.chain.snapshot()).differences == ()


def test_a_session_on_anothers_brand_is_kept_and_stays_its_users(place: Place) -> None:
    place.load("4b")
    place.chain.upgrade("head", MOVE)
    session = "41000000-0000-4000-8000-000000000004"
    with place.chain.session.transaction():
        place.chain.execute(
            "SELECT set_config('role', 'authenticated', true), set_config('request.jwt.claims', %s, true)",
            ['{"sub": "a0000000-0000-4000-8000-000000000001"}'],
        )
        place.chain.execute("SELECT complete_conversation_session(%s)", [session])
    state = (
        "SELECT state FROM conversation_sessions WHERE id = %s AND brand_id = '40000000-0000-4000-8000-000000000003'"
    )
    assert place.chain.value(state, [session]) == "delivered"


@plain
def test_a_downgrade_refuses_rows_that_the_older_shape_cannot_hold(place: Place) -> None:
    place.load("2")
    place.chain.upgrade("head", MOVE)
    place.chain.execute(
        "INSERT INTO messages (conversation_id, user_id, role, content) SELECT id, user_id, 'assistant', 'newer'"
        " FROM conversations LIMIT 1"
    )
    with pytest.raises(CommandError, match="would destroy 1 "):
        place.chain.downgrade("base")
    assert place.chain.value("SELECT count(*) FROM messages WHERE content = 'newer'") == 1
    place.chain.downgrade("base", "allow-data-loss=yes")
    assert place.chain.value("SELECT count(*) FROM messages") == 6
    with pytest.raises(psycopg.errors.CheckViolation):
        place.chain.execute(
            "INSERT INTO messages (conversation_id, user_id, role, content) SELECT id, user_id, 'assistant', 'newer'"
            " FROM conversations LIMIT 1"
        )


def test_every_policy_that_gives_way_is_named_in_the_log(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.load("1a")
    with caplog.at_level(logging.INFO, "chat_schema"):
        place.chain.upgrade("0019")
    for policy in place.chain.rows(
        "SELECT undo FROM chat_internal.adopted WHERE undo LIKE 'CREATE POLICY %' AND undo LIKE '%chat_messages%'"
    ):
        assert f"chat_messages: policy {policy.split(' ON ')[0].removeprefix('CREATE POLICY ')} dropped" in caplog.text
    assert "Service role full access" in caplog.text


def test_row_level_security_holds_at_every_step_up_and_down(place: Place) -> None:
    place.load("1b")
    open_tables = (
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
        " AND NOT relrowsecurity"
    )
    adopting = REVISIONS[: REVISIONS.index("0042") + 1]
    for revision in [*adopting, HEAD]:
        place.chain.upgrade(revision, MOVE)
        assert place.chain.rows(open_tables) == [], revision
    for revision in reversed(adopting):
        place.chain.downgrade(revision)
        assert place.chain.rows(open_tables) == [], revision


AUDIT = """
    CREATE TABLE audit (message uuid, at timestamptz DEFAULT now());
    CREATE FUNCTION audit_message() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      {audits};
      RETURN NULL;
    END
    $$;
    CREATE TRIGGER audits AFTER UPDATE ON messages FOR EACH ROW EXECUTE FUNCTION audit_message();
"""


@plain
def test_a_trigger_that_finds_its_tables_by_its_callers_path_is_named_with_the_statement_that_mends_it(
    place: Place,
) -> None:
    place.load("2")
    place.chain.execute(AUDIT.format(audits="INSERT INTO audit (message) VALUES (NEW.id)"))
    with pytest.raises(CommandError) as refused:
        place.chain.upgrade("head", MOVE)
    assert "trigger audits on public.messages calls public.audit_message(), which names audit " in str(refused.value)
    assert place.chain.value("SELECT to_regnamespace('chat_internal')") is None
    place.chain.execute(re.findall("^    (.+;)$", str(refused.value), re.MULTILINE)[0])
    place.chain.upgrade("head", MOVE)
    assert place.chain.value("SELECT count(*) FROM messages WHERE id NOT IN (SELECT message FROM audit)") == 0


@plain
def test_one_that_nobody_could_see_beforehand_is_named_when_it_fails(place: Place) -> None:
    place.load("2")
    hidden = "EXECUTE 'INSERT INTO ' || 'audit' || ' (message) VALUES ($1)' USING NEW.id"
    place.chain.execute(AUDIT.format(audits=hidden))
    with alembic(place.url, "upgrade", "head", x=(MOVE,)) as process:
        said = process.fails()
    assert 'relation "audit" does not exist' in said
    assert "called by public.audit_message, a function of your own" in said
    place.chain.execute(said.split("then run the command again:\n")[1].splitlines()[0])
    place.chain.upgrade("head", MOVE)
    assert place.chain.value("SELECT count(*) FROM messages WHERE id NOT IN (SELECT message FROM audit)") == 0


@plain
def test_a_trigger_that_qualifies_its_names_or_needs_none_is_no_obstacle(place: Place) -> None:
    place.load("2")
    qualified = "INSERT INTO public.audit (message) VALUES (NEW.id); PERFORM now(), 'from audits' -- into audit"
    place.chain.execute(AUDIT.format(audits=qualified + "\n"))
    place.chain.upgrade("head", MOVE)
    assert place.chain.value("SELECT count(*) FROM audit") > 0


def test_a_view_in_whose_place_ours_stands_does_not_stop_the_downgrade(place: Place) -> None:
    place.load("4b")
    place.chain.execute(
        "ALTER TABLE conversation_messages DROP COLUMN cost_usd CASCADE;"
        " CREATE VIEW daily_message_volume AS SELECT count(*) AS message_count FROM conversation_messages"
    )
    old, counted = place.chain.snapshot(), place.chain.rows("SELECT message_count FROM daily_message_volume")
    place.chain.upgrade("head", *STARTS["4b"].options)
    assert place.chain.value("SELECT sum(total_cost) FROM daily_message_volume") == 0
    place.chain.downgrade("base")
    assert not differences(old, place.chain.snapshot())
    assert place.chain.rows("SELECT message_count FROM daily_message_volume") == counted
