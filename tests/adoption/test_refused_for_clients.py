"""What old clients could no longer do is named before anything is changed, each with the statement that mends it."""

import re

import pytest
from alembic.util import CommandError

from tests.adoption.legacy import Place, rows
from tests.adoption.test_granted import FLAT, MOVE, SESSIONS, make, no_role_is_left, sound
from tests.migrations.test_stairs import differences

assert no_role_is_left  # a fixture of this module too

pytestmark = [pytest.mark.parametrize("platform", ["owner"]), pytest.mark.sampled(3)]
GUC = "current_setting('app.user')::uuid"
MESSAGES = """
    CREATE TABLE brands (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), user_id uuid, name varchar(255) NOT NULL);
    CREATE TABLE conversation_sessions (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), user_id uuid, brand_id uuid);
    CREATE TABLE conversation_messages (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), session_id uuid, brand_id uuid,
      user_id uuid, role varchar(20), content text, cost_usd numeric(10, 6) DEFAULT 0, created_at timestamptz);
    CREATE VIEW daily_message_volume AS SELECT count(*) AS message_count FROM conversation_messages;
"""

# what stands -> what is told. A superuser runs what stands where it begins with "!".
OBSTACLES = {
    "PUBLIC reads a table without row level security": (
        FLAT,
        "GRANT SELECT ON chat_messages TO PUBLIC",
        "PUBLIC may SELECT",
    ),
    "anon writes columns of one": (FLAT, "GRANT UPDATE (content) ON chat_messages TO anon", "anon may UPDATE"),
    "clients are members of a role that reads": (
        FLAT,
        "GRANT SELECT ON users TO app_rw; !GRANT app_rw TO authenticated",
        r"authenticated is a member of app_rw, whose rights on public\.users",
    ),
    "clients are members of a role of a policy": (
        FLAT,
        "ALTER TABLE users ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON users TO app_rw USING (true);"
        " !GRANT app_rw TO anon",
        r"anon is a member of app_rw",
    ),
    "a role has handed its right on": (
        FLAT,
        "GRANT SELECT ON chat_messages TO app_rw WITH GRANT OPTION;"
        " !SET ROLE app_rw; !GRANT SELECT ON chat_messages TO authenticated; !RESET ROLE",
        r"app_rw has granted authenticated rights on public\.chat_messages",
    ),
    "a role that is bound inserts flat messages": (
        FLAT,
        "ALTER TABLE chat_messages ENABLE ROW LEVEL SECURITY;"
        f" CREATE POLICY p ON chat_messages USING (user_id = {GUC});"
        " GRANT SELECT, INSERT ON chat_messages TO app_rw",
        "app_rw has rights on public.chat_messages by policies of yours",
    ),
    "a role that is bound reads sessions": (
        SESSIONS,
        "ALTER TABLE chat_sessions ENABLE ROW LEVEL SECURITY;"
        f" CREATE POLICY p ON chat_sessions USING (user_id = {GUC});"
        " GRANT SELECT ON chat_sessions TO app_rw",
        "app_rw has rights on public.chat_sessions by policies of yours",
    ),
    "a role reads columns of sessions": (
        SESSIONS,
        "GRANT SELECT (id, messages) ON chat_sessions TO app_rw",
        "app_rw has rights on public.chat_sessions by policies of yours, or by column",
    ),
    "a role sees sums alone": (MESSAGES, "GRANT SELECT ON daily_message_volume TO app_rw", "shows app_rw sums"),
    "one conversation a user": (
        None,
        "DELETE FROM conversations AS c USING conversations AS o WHERE o.user_id = c.user_id AND o.id < c.id;"
        " ALTER TABLE conversations ADD CONSTRAINT one UNIQUE (user_id)",
        r"public\.one refuses a user's second conversation",
    ),
    "one session a user and tenant": (
        SESSIONS,
        "CREATE UNIQUE INDEX one ON chat_sessions (user_id, tenant_id) WHERE tenant_id IS NULL",
        r"public\.one refuses a user's second conversation",
    ),
    "one conversation a user that is not deleted": (
        None,
        "ALTER TABLE conversations ADD COLUMN deleted_at timestamptz DEFAULT now();"
        " ALTER TABLE conversations ALTER COLUMN deleted_at DROP DEFAULT;"
        ' CREATE UNIQUE INDEX "One" ON conversations (user_id) WHERE deleted_at IS NULL',
        r"public\.\"One\" refuses a user's second conversation",
    ),
    "a title of the sessions' own": (
        SESSIONS,
        "ALTER TABLE chat_sessions ADD COLUMN title text; ALTER TABLE chat_sessions ADD COLUMN metadata jsonb",
        r"(?s)a column metadata of its own.*a column title of its own",
    ),
}


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_it_is_named_nothing_is_changed_and_what_is_advised_mends_it(place: Place, obstacle: str) -> None:
    before, statements, said = OBSTACLES[obstacle]
    make(place, "app_rw")
    if before is None:
        place.load("2")
    else:
        place.chain.execute(before)
    run(place, statements)
    catalog, stored = public(place), rows(place.chain.session)
    assert re.search(said, "\n".join(map(str, place.chain.plan("head", MOVE).would_stop)))
    with pytest.raises(CommandError, match=said) as refusal:
        place.chain.upgrade("head", MOVE)
    assert differences(catalog, public(place)) == []
    assert rows(place.chain.session) == stored
    for statement in re.findall("^    (.+;)$", str(refusal.value), re.MULTILINE):
        (place.admin if "REVOKE app_rw" in statement else place.chain).execute(statement)
    place.chain.upgrade("head", MOVE)
    sound(place)
    place.chain.downgrade("base", "allow-data-loss=yes")


def run(place: Place, statements: str) -> None:
    for statement in statements.split(";"):
        _, _, text = statement.strip().rpartition("!")
        (place.admin if "!" in statement else place.chain).execute(text)


def public(place: Place) -> dict[str, dict[str, object]]:
    return {
        kind: {name: each for name, each in found.items() if "chat_internal" not in name}
        for kind, found in place.chain.snapshot().items()
    }


@pytest.mark.parametrize(
    "index",
    [
        "CREATE UNIQUE INDEX one ON conversations (user_id) WHERE title = 'Inbox'",
        "CREATE UNIQUE INDEX one ON conversations (user_id, title)",
        "CREATE UNIQUE INDEX one ON conversations (id, user_id)",
    ],
)
def test_a_unique_index_that_allows_a_second_conversation_is_none(place: Place, index: str) -> None:
    place.load("2")
    place.chain.execute(index)
    place.chain.upgrade("head", MOVE)
    assert place.chain.value("SELECT to_regclass('public.one') IS NOT NULL")
