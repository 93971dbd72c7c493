"""One flat history becomes conversations: what stood there, what is written meanwhile, what an interruption leaves."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from alembic.util import CommandError

from tests.migrations.chain import HEAD, REVISIONS, Chain
from tests.postgres_binaries import ROOT

NOON = datetime(2026, 1, 10, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)

ACCEPTANCE = {
    "messages without conversation": "SELECT count(*) FROM chat_messages WHERE conversation_id IS NULL",
    "users whose messages stand in other than one conversation": (
        "SELECT count(*) FROM"
        " (SELECT FROM chat_messages GROUP BY user_id HAVING count(DISTINCT conversation_id) <> 1) AS users"
    ),
    "messages of another owner than their conversation": (
        "SELECT count(*) FROM chat_messages AS m JOIN conversations AS c ON c.id = m.conversation_id"
        " WHERE c.user_id <> m.user_id"
    ),
}

pytestmark = pytest.mark.usefixtures("small_batches")


def write(chain: Chain, user: UUID, content: str, at: datetime | None = NOON, role: str = "user") -> None:
    """Insert as a client does that knows no conversations."""
    chain.execute(
        "INSERT INTO chat_messages (user_id, role, content, created_at) VALUES (%s, %s, %s, %s)",
        [user, role, content, at],
    )


def rows_as_old_clients_see_them(chain: Chain) -> dict[UUID, str]:
    return dict(chain.rows("SELECT id, md5(ROW(user_id, role, content, created_at)::text) FROM chat_messages"))


def conversations(chain: Chain, user: UUID) -> list[tuple[str, datetime, datetime, int]]:
    """Return title, times and number of chat messages of each of the user's conversations, earliest first."""
    return chain.rows(
        "SELECT c.title, c.created_at, c.updated_at,"
        " (SELECT count(*) FROM chat_messages AS m WHERE m.conversation_id = c.id)"
        " FROM conversations AS c WHERE c.user_id = %s ORDER BY c.created_at",
        [user],
    )


def online(chain: Chain, start: str) -> None:
    assert chain.revision() == start
    chain.upgrade()


def by_script(chain: Chain, start: str) -> None:
    chain.upgrade_by_script(f"{start}:head")


@pytest.mark.parametrize("upgrade", [online, by_script])
@pytest.mark.parametrize("start", ["0021", "0030"])
class TestWhatStoodThereBefore:
    """Histories of every kind, brought to head from before and after `chat_sessions` became conversations."""

    @pytest.fixture
    def at_head(self, chain: Chain, start: str, upgrade: Callable[[Chain, str], None]) -> Callable[[], Chain]:
        chain.upgrade(start)

        def go() -> Chain:
            upgrade(chain, start)
            assert chain.revision() == HEAD
            return chain

        return go

    def test_a_history_becomes_one_conversation_from_its_first_to_its_last_message(
        self, chain: Chain, at_head: Callable[[], Chain]
    ) -> None:
        silent, brief, talkative = chain.new_user(), chain.new_user(), chain.new_user()
        write(chain, brief, "Only one")
        for number in (*range(1, 40), 20, 20):  # ties
            write(
                chain, talkative, f"Message {number}", NOON + number * HOUR, ("user", "assistant", "Bot 3")[number % 3]
            )
        write(chain, talkative, "the first, written last", NOON - HOUR)
        before = rows_as_old_clients_see_them(chain)
        at_head()
        assert conversations(chain, silent) == []
        assert conversations(chain, brief) == [("Chat History", NOON, NOON, 1)]
        assert conversations(chain, talkative) == [("Chat History", NOON - HOUR, NOON + 39 * HOUR, 42)]
        assert rows_as_old_clients_see_them(chain) == before
        assert {query: chain.value(query) for query in ACCEPTANCE.values()} == dict.fromkeys(ACCEPTANCE.values(), 0)

    def test_messages_without_a_time_keep_none_and_a_history_of_them_begins_now(
        self, chain: Chain, at_head: Callable[[], Chain]
    ) -> None:
        clockless, mixed = chain.new_user(), chain.new_user()
        for content in ("", "no clock", 'it\'s "fine" — 你好 🙂\nline2'):
            write(chain, clockless, content, None)
        write(chain, mixed, "", NOON)
        write(chain, mixed, "mixed", None, role="")
        before = rows_as_old_clients_see_them(chain)
        started = chain.value("SELECT now()")
        at_head()
        [(title, first, last, number)] = conversations(chain, clockless)
        assert (title, number) == ("Chat History", 3)
        assert started <= first == last
        assert conversations(chain, mixed) == [("Chat History", NOON, NOON, 2)]
        assert rows_as_old_clients_see_them(chain) == before

    def test_messages_go_to_the_earliest_conversation_of_a_user_who_has_some(
        self, chain: Chain, at_head: Callable[[], Chain]
    ) -> None:
        user = chain.new_user()
        tenant = chain.new_tenant(user)
        for at, owner in ((NOON + HOUR, None), (NOON - HOUR, None), (NOON, None), (NOON - 9 * HOUR, tenant)):
            chain.execute(
                "INSERT INTO chat_sessions (tenant_id, user_id, created_at, updated_at) VALUES (%s, %s, %s, %s)",
                [owner, user, at, at],
            )
        write(chain, user, "Hello", NOON + 2 * HOUR)
        at_head()
        assert [(at, number) for _, at, _, number in conversations(chain, user)] == [
            (NOON - 9 * HOUR, 0),  # a tenant's conversation would vanish with the membership
            (NOON - HOUR, 1),
            (NOON, 0),
            (NOON + HOUR, 0),
        ]
        assert "Chat History" not in [title for title, *_ in conversations(chain, user)]

    def test_a_user_with_conversations_of_a_tenant_alone_gets_a_personal_one(
        self, chain: Chain, at_head: Callable[[], Chain]
    ) -> None:
        user = chain.new_user()
        chain.execute(
            "INSERT INTO chat_sessions (tenant_id, user_id, created_at) VALUES (%s, %s, %s)",
            [chain.new_tenant(user), user, NOON - HOUR],
        )
        write(chain, user, "Hello")
        at_head()
        assert [(title, number) for title, _, _, number in conversations(chain, user)] == [
            ("New Conversation", 0),
            ("Chat History", 1),
        ]
        assert chain.rows("SELECT tenant_id FROM conversations WHERE title = 'Chat History'") == [None]


def test_the_backfill_goes_in_several_batches_each_with_a_commit_of_its_own(chain: Chain) -> None:
    chain.upgrade("0030")
    user = chain.new_user()
    chain.execute(
        "INSERT INTO chat_messages (user_id, role, content) SELECT %s, 'user', n FROM generate_series(1, 50) AS n",
        [user],
    )
    chain.upgrade("0033")
    assert chain.value("SELECT count(DISTINCT xmin::text) FROM chat_messages") > 2
    assert chain.value(ACCEPTANCE["messages without conversation"]) == 0


def test_straight_after_the_backfill_every_user_with_messages_has_exactly_one_conversation(chain: Chain) -> None:
    chain.upgrade("0030")
    for number in range(30):
        user = chain.new_user()
        for _ in range(number % 4):
            write(chain, user, "Hello")
    chain.upgrade("0033")
    wrong = chain.rows(
        "SELECT m.user_id FROM chat_messages AS m LEFT JOIN conversations AS c ON c.user_id = m.user_id"
        " GROUP BY m.user_id HAVING count(DISTINCT c.id) <> 1"
    )
    assert wrong == []
    assert {query: chain.value(query) for query in ACCEPTANCE.values()} == dict.fromkeys(ACCEPTANCE.values(), 0)
    assert chain.value("SELECT count(*) FROM conversations") == 22  # eight users have said nothing


def test_what_an_old_client_writes_between_any_two_revisions_is_kept_and_ends_in_a_conversation(chain: Chain) -> None:
    chain.upgrade("0019")
    faithful = chain.new_user()
    written = []
    for revision in REVISIONS[REVISIONS.index("0019") :]:
        chain.upgrade(revision)
        newcomer = chain.new_user()
        for user in (faithful, newcomer):
            write(chain, user, f"at {revision}", NOON)
            chain.execute("UPDATE chat_messages SET content = content || '!' WHERE user_id = %s", [user])
            written.append((user, revision))
    assert {query: chain.value(query) for query in ACCEPTANCE.values()} == dict.fromkeys(ACCEPTANCE.values(), 0)
    found = chain.rows("SELECT user_id, rtrim(substr(content, 4), '!') FROM chat_messages")
    assert sorted(found) == sorted(written)
    assert chain.rows("SELECT user_id FROM conversations GROUP BY user_id HAVING count(*) > 1") == []
    assert chain.value("SELECT count(*) FROM conversations") == len({user for user, _ in written})


@pytest.mark.parametrize("revision", ["0032", HEAD])
class TestWhatAnOldClientWrites:
    """The trigger finds the conversation of a message that names none, before the backfill as well as after it."""

    def test_goes_to_the_users_earliest_personal_conversation(self, chain: Chain, revision: str) -> None:
        chain.upgrade(revision)
        user = chain.new_user()
        tenant = chain.new_tenant(user)
        for at, owner in ((NOON + HOUR, None), (NOON - HOUR, None), (NOON, None), (NOON - 9 * HOUR, tenant)):
            chain.execute(
                "INSERT INTO conversations (tenant_id, user_id, created_at) VALUES (%s, %s, %s)", [owner, user, at]
            )
        write(chain, user, "Hello")
        assert [number for *_, number in conversations(chain, user)] == [0, 1, 0, 0]

    def test_makes_a_conversation_for_a_user_who_has_those_of_a_tenant_alone(self, chain: Chain, revision: str) -> None:
        chain.upgrade(revision)
        user = chain.new_user()
        chain.execute(
            "INSERT INTO conversations (tenant_id, user_id, created_at) VALUES (%s, %s, %s)",
            [chain.new_tenant(user), user, NOON],
        )
        write(chain, user, "Hello")
        assert [(title, number) for title, _, _, number in conversations(chain, user)] == [
            ("New Conversation", 0),
            ("Chat History", 1),
        ]

    def test_finds_another_conversation_once_the_default_one_was_moved_into_a_tenant(
        self, chain: Chain, revision: str
    ) -> None:
        chain.upgrade(revision)
        user = chain.new_user()
        write(chain, user, "personal")
        chain.execute("UPDATE conversations SET tenant_id = %s", [chain.new_tenant(user)])
        chain.execute("SET statement_timeout = '10s'")
        write(chain, user, "personal again")
        assert [(title, number) for title, _, _, number in conversations(chain, user)] == [("Chat History", 1)] * 2


def test_the_first_write_before_the_backfill_makes_a_conversation_of_the_whole_history(chain: Chain) -> None:
    chain.upgrade("0030")
    user = chain.new_user()
    write(chain, user, "first", NOON)
    write(chain, user, "last", NOON + HOUR)
    chain.upgrade("0032")
    write(chain, user, "meanwhile", NOON - HOUR)
    assert conversations(chain, user) == [("Chat History", NOON, NOON + HOUR, 1)]
    chain.upgrade()
    assert conversations(chain, user) == [("Chat History", NOON, NOON + HOUR, 3)]


def test_a_new_message_of_an_old_client_moves_its_conversation_and_an_old_dated_one_does_not(chain: Chain) -> None:
    chain.upgrade()
    user = chain.new_user()
    write(chain, user, "the first", datetime.now(UTC))
    [(_, first, last, _)] = conversations(chain, user)
    write(chain, user, "from an import", NOON)
    assert conversations(chain, user) == [("Chat History", first, last, 2)]
    later = last + HOUR
    write(chain, user, "later", later)
    assert conversations(chain, user) == [("Chat History", first, later, 3)]


class TestInterruptions:
    """A backfill that ends in the middle keeps what it has committed and goes on from there."""

    @pytest.fixture
    def stones(self, chain: Chain) -> Chain:
        """Sixty messages of twenty users; updating one that is called a stone fails."""
        chain.upgrade("0030")
        chain.execute(
            "INSERT INTO users (email) SELECT n || '@example.org' FROM generate_series(1, 20) AS n;"
            "INSERT INTO chat_messages (user_id, role, content, created_at)"
            " SELECT u.id, 'user',"
            " CASE n WHEN 2 THEN 'stone ' ELSE 'message ' END || row_number() OVER (ORDER BY n, email),"
            " '2026-01-10 12:00+00' FROM generate_series(1, 3) AS n, users AS u ORDER BY n, email;"
            "CREATE FUNCTION stumble() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'stumbled over %', OLD.content; END $$;"
        )
        return chain

    @staticmethod
    def put(chain: Chain, *stones: str) -> None:
        for number, stone in enumerate(stones):
            chain.execute(
                f"CREATE TRIGGER stumble_{number} BEFORE UPDATE ON chat_messages FOR EACH ROW"
                f" WHEN (OLD.content = '{stone}') EXECUTE FUNCTION stumble()"
            )

    @staticmethod
    def finished(chain: Chain) -> dict[UUID, str]:
        """Return the row version of each message that has its conversation."""
        return dict(chain.rows("SELECT id, xmin::text FROM chat_messages WHERE conversation_id IS NOT NULL"))

    def test_a_backfill_that_fails_twice_goes_on_where_it_was_each_time(
        self, stones: Chain, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO")
        before = rows_as_old_clients_see_them(stones)
        self.put(stones, "stone 21", "stone 39")

        with pytest.raises(CommandError, match="stumbled over stone 21"):
            stones.upgrade()
        first = self.finished(stones)
        position = stones.value("SELECT position FROM chat_internal.backfill_progress")
        assert stones.revision() == "0032"
        assert 0 < len(first) < 21
        assert position > 0
        assert "goes on at" not in caplog.text

        stones.execute("DROP TRIGGER stumble_0 ON chat_messages")
        with pytest.raises(CommandError, match="stumbled over stone 39"):
            stones.upgrade()
        second = self.finished(stones)
        assert stones.revision() == "0032"
        assert first.items() < second.items(), "what was finished is not written again"
        assert stones.value("SELECT position FROM chat_internal.backfill_progress") > position
        assert "conversations of chat_messages: goes on at" in caplog.text

        stones.execute("DROP TRIGGER stumble_1 ON chat_messages")
        caplog.clear()
        stones.upgrade()
        assert "conversations of chat_messages: goes on at" in caplog.text
        assert stones.revision() == HEAD
        assert second.items() < self.finished(stones).items()
        assert rows_as_old_clients_see_them(stones) == before
        assert {query: stones.value(query) for query in ACCEPTANCE.values()} == dict.fromkeys(ACCEPTANCE.values(), 0)
        assert stones.rows("SELECT user_id FROM conversations GROUP BY user_id HAVING count(*) > 1") == []
        assert stones.value("SELECT count(*) FROM chat_internal.backfill_progress") == 0

    def test_several_workers_lose_nothing_when_one_of_them_fails(self, stones: Chain) -> None:
        before = rows_as_old_clients_see_them(stones)
        self.put(stones, "stone 39")
        with pytest.raises(CommandError, match="stumbled over stone 39"):
            stones.upgrade("head", "backfill-workers=3")
        assert 0 < len(self.finished(stones)) < 60
        stones.execute("DROP TRIGGER stumble_0 ON chat_messages")
        stones.upgrade("head", "backfill-workers=3")
        assert rows_as_old_clients_see_them(stones) == before
        assert {query: stones.value(query) for query in ACCEPTANCE.values()} == dict.fromkeys(ACCEPTANCE.values(), 0)

    def test_what_is_written_behind_an_interrupted_backfill_is_not_forgotten(self, stones: Chain) -> None:
        self.put(stones, "stone 39")
        with pytest.raises(CommandError, match="stumbled"):
            stones.upgrade()
        stones.execute("DROP TRIGGER stumble_0 ON chat_messages")
        stones.execute("DELETE FROM chat_messages WHERE content = 'message 1'")
        stones.execute("VACUUM chat_messages")  # frees a place behind the stored position
        write(stones, stones.new_user(), "meanwhile")
        stones.upgrade()
        assert {query: stones.value(query) for query in ACCEPTANCE.values()} == dict.fromkeys(ACCEPTANCE.values(), 0)

    def test_a_killed_upgrade_goes_on_where_it_was(self, chain: Chain, caplog: pytest.LogCaptureFixture) -> None:
        chain.upgrade("0030")
        user = chain.new_user()
        chain.execute(
            "INSERT INTO chat_messages (user_id, role, content)"
            " SELECT %s, 'user', n || repeat(' word', 100) FROM generate_series(1, 1500) AS n",
            [user],
        )
        chain.execute(
            "CREATE FUNCTION doze() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_sleep(60); RETURN NEW; END $$;"
            "CREATE TRIGGER doze BEFORE UPDATE ON chat_messages FOR EACH ROW"
            " WHEN (OLD.content LIKE '1400 %') EXECUTE FUNCTION doze()"
        )
        before = rows_as_old_clients_see_them(chain)
        command = [sys.executable, "-m", "alembic", "upgrade", "head"]
        with subprocess.Popen(command, cwd=ROOT, env={**os.environ, "DATABASE_URL": chain.url}) as deployment:
            try:
                wait_for(
                    chain,
                    "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'",
                )
            finally:
                deployment.send_signal(signal.SIGKILL)
        assert chain.revision() == "0032"
        done = self.finished(chain)
        assert 0 < len(done) < 1400

        chain.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend';"
            "DROP TRIGGER doze ON chat_messages"
        )
        caplog.set_level("INFO")
        chain.upgrade()
        assert "conversations of chat_messages: goes on at" in caplog.text
        assert done.items() < self.finished(chain).items()
        assert rows_as_old_clients_see_them(chain) == before
        assert {query: chain.value(query) for query in ACCEPTANCE.values()} == dict.fromkeys(ACCEPTANCE.values(), 0)


def wait_for(chain: Chain, query: str) -> None:
    """Wait until ``query`` finds a row; raises AssertionError after half a minute."""
    deadline = time.monotonic() + 30
    while not chain.execute(query):
        assert time.monotonic() < deadline, f"nothing came of {query}"
        time.sleep(0.02)
