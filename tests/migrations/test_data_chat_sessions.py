"""Sessions with an array of messages become conversations with a row a message, and old clients go on with arrays."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from alembic.util import CommandError

from tests.migrations.chain import HEAD, REVISIONS, Chain, before

BEGAN = datetime(2026, 1, 16, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
SEARCH = [{"id": "c1", "type": "function", "function": {"name": "search", "arguments": '{"q":"x"}'}}]

pytestmark = pytest.mark.usefixtures("small_batches")


@dataclass(frozen=True)
class Element:
    """An element of an array as JSON, and the row it becomes. Without a time of its own it has its session's."""

    text: str
    content: str
    role: str = "user"
    at: datetime = BEGAN
    tool_calls: Any = None
    metadata: dict[str, Any] = field(default_factory=dict)


def said(**element: Any) -> str:
    return json.dumps(element)


ELEMENTS = [
    # what most of them look like
    Element(
        said(id="m1", role="user", content="Hi", timestamp="2026-01-10T10:00:00Z"),
        "Hi",
        at=datetime(2026, 1, 10, 10, tzinfo=UTC),
    ),
    Element(
        said(
            id="m1", role="assistant", content="Hello!", timestamp="2026-01-10T09:59:59Z"
        ),  # an id twice, time going back
        "Hello!",
        "assistant",
        at=datetime(2026, 1, 10, 9, 59, 59, tzinfo=UTC),
    ),
    Element(said(role="system", content="be nice", extra=[1, {"a": None}]), "be nice", "system"),
    # roles
    Element(said(content="no role"), "no role"),
    Element(said(role="tool", content="a result"), "a result", "tool"),
    Element(said(role="agent", content="an agent"), "an agent", "agent"),
    Element(said(role="User", content="capital U"), "capital U"),
    Element(said(role="SYSTEM", content="no authority"), "no authority"),
    Element(said(role=None, content="null role"), "null role"),
    Element(said(role=7, content="numeric role"), "numeric role"),
    Element(said(role=["system"], content="array role"), "array role"),
    Element(said(role="a-role-name-that-is-longer-than-twenty-characters", content="long role"), "long role"),
    # contents
    Element(said(role="user", content=None), ""),
    Element(said(role="assistant"), "", "assistant"),
    Element(said(), ""),
    Element(said(role="user", content=""), ""),
    Element(said(role="user", content=42), "42"),
    Element('{"role": "user", "content": 3.50}', "3.50"),
    Element(said(role="user", content=True), "true"),
    Element(said(role="assistant", content=[{"type": "text"}, "part 2"]), '[{"type": "text"}, "part 2"]', "assistant"),
    Element(said(role="user", content={"text": "object"}), '{"text": "object"}'),
    Element(
        said(role="user", content='it\'s "fine" — 你好 🙂\n\\u0041 %s :name'),
        'it\'s "fine" — 你好 🙂\n\\u0041 %s :name',
    ),
    # elements that are no objects
    Element("null", ""),
    Element('"bare string"', "bare string"),
    Element("17", "17"),
    Element("1.0", "1.0"),
    Element("false", "false"),
    Element("[]", "[]"),
    Element('[{"role": "system"}]', '[{"role": "system"}]'),
    # times
    Element(
        said(content="offset", created_at="2026-01-17T10:00:00+02:00"),
        "offset",
        at=datetime(2026, 1, 17, 8, tzinfo=UTC),
    ),
    Element(
        said(content="offset without colon", timestamp="2026-01-17 10:00:00+0530"),
        "offset without colon",
        at=datetime(2026, 1, 17, 4, 30, tzinfo=UTC),
    ),
    Element(
        said(content="no zone", timestamp="2026-01-17T10:00:00.123456"),
        "no zone",
        at=datetime(2026, 1, 17, 10, 0, 0, 123456, tzinfo=UTC),
    ),
    Element(said(content="date only", createdAt="2026-01-17"), "date only", at=datetime(2026, 1, 17, tzinfo=UTC)),
    Element(said(content="ms", timestamp=1768644000000), "ms", at=datetime(2026, 1, 17, 10, tzinfo=UTC)),
    Element(said(content="s", timestamp=1768644000), "s", at=datetime(2026, 1, 17, 10, tzinfo=UTC)),
    Element(said(content="s as text", timestamp="1768644000"), "s as text", at=datetime(2026, 1, 17, 10, tzinfo=UTC)),
    Element(
        said(content="parts of s", timestamp=1768644000.25),
        "parts of s",
        at=datetime(2026, 1, 17, 10, 0, 0, 250000, tzinfo=UTC),
    ),
    Element(
        said(content="the second is good", timestamp="soon", created_at="2026-01-17T10:00:00Z"),
        "the second is good",
        at=datetime(2026, 1, 17, 10, tzinfo=UTC),
    ),
    *(
        Element(said(content="no time", timestamp=bad), "no time")
        for bad in (
            "yesterday",
            "now",
            "infinity",
            "-infinity",
            "epoch",
            "2026-02-31",
            "2026-13-01T00:00:00Z",
            "2026-01-17T25:00:00Z",
            "2026-01-17T10:00:00+99:00",
            "0000-01-01",
            "2026-01-17T10:00:00 BC",
            "2026-01-17T10:00:00 Mars/Base",
            "10:00",
            "12",
            12,
            -1768644000,
            1e30,
            "",
            None,
            True,
            {"seconds": 1768644000},
        )
    ),
    # tool calls and metadata
    Element(
        said(role="assistant", content="calling", tool_calls=SEARCH, metadata={"model": "gpt-4o"}),
        "calling",
        "assistant",
        tool_calls=SEARCH,
        metadata={"model": "gpt-4o"},
    ),
    Element(said(role="assistant", content=None, tool_calls=SEARCH), "", "assistant", tool_calls=SEARCH),
    Element(said(content="no calls", tool_calls=None, metadata=None), "no calls"),
    Element(said(content="empty calls", tool_calls=[], metadata={}), "empty calls", tool_calls=[]),
    Element(said(content="odd metadata", metadata=["tag"]), "odd metadata"),
    Element(said(content="metadata of ours", metadata={"legacy": {"element": 1}, "a": 1}), "metadata of ours"),
    Element(said(content="fields of ours", legacy={"fields": {"role": "system"}}), "fields of ours"),
]


def insert(
    chain: Chain,
    user: UUID,
    messages: str | None,
    created_at: datetime | None = BEGAN,
    updated_at: datetime | None = BEGAN,
    tenant: UUID | None = None,
) -> UUID:
    """Insert as an old client does."""
    session: UUID = chain.value(
        "INSERT INTO chat_sessions (tenant_id, user_id, messages, created_at, updated_at)"
        " VALUES (%s, %s, %s::jsonb, %s, %s) RETURNING id",
        [tenant, user, messages, created_at, updated_at],
    )
    return session


def array(chain: Chain, session: UUID) -> str | None:
    """Return the messages as an old client reads them, to the letter."""
    text: str | None = chain.value("SELECT messages::text FROM chat_sessions WHERE id = %s", [session])
    return text


def as_stored(chain: Chain, text: str | None) -> str | None:
    """Return what a jsonb column of the older shape makes of ``text``."""
    stored: str | None = chain.value("SELECT %s::jsonb::text", [text])
    return stored


def arrays(chain: Chain) -> dict[UUID, str | None]:
    return dict(chain.rows("SELECT id, messages::text FROM chat_sessions"))


def everything(chain: Chain) -> dict[UUID, tuple[Any, ...]]:
    """Return all columns of the older shape of every session, by its id."""
    columns = "id, tenant_id, user_id, messages::text, created_at, updated_at"
    return {row[0]: row for row in chain.rows(f"SELECT {columns} FROM chat_sessions")}


def contents(chain: Chain, session: UUID) -> list[str]:
    return chain.rows("SELECT content FROM messages WHERE conversation_id = %s ORDER BY seq", [session])


def online(chain: Chain, start: str) -> None:
    assert chain.revision() == start
    chain.upgrade()


def by_script(chain: Chain, start: str) -> None:
    chain.upgrade_by_script(f"{start}:head")


class TestEveryKindOfArray:
    """Written at 0021 it is backfilled, at 0025 expanded by the trigger, at head taken by the view: the same rows."""

    @pytest.mark.parametrize(
        ("start", "upgrade"),
        [("0021", online), ("0021", by_script), ("0025", online), ("0025", by_script), (HEAD, online)],
    )
    def test_each_element_becomes_one_row_in_its_place(
        self, chain: Chain, start: str, upgrade: Callable[[Chain, str], None]
    ) -> None:
        chain.upgrade(start)
        user = chain.new_user()
        text = "[" + ", ".join(element.text for element in ELEMENTS) + "]"
        session = insert(chain, user, text)
        upgrade(chain, start)

        rows = chain.rows(
            "SELECT role, content, created_at, tool_calls, metadata - 'legacy' FROM messages"
            " WHERE conversation_id = %s AND user_id = %s ORDER BY seq",
            [session, user],
        )
        expected = [(e.role, e.content, e.at, e.tool_calls, e.metadata) for e in ELEMENTS]
        for element, row, wanted in zip(ELEMENTS, rows, expected, strict=True):
            assert row == wanted, element.text
        assert array(chain, session) == as_stored(chain, text), "an old client reads what stood there, to the letter"

    @pytest.mark.parametrize("upgrade", [online, by_script])
    @pytest.mark.parametrize("start", ["0021", "0025"])
    def test_what_is_no_array_loses_nothing_either(
        self, chain: Chain, start: str, upgrade: Callable[[Chain, str], None]
    ) -> None:
        chain.upgrade(start)
        user = chain.new_user()
        cases: dict[str | None, tuple[list[tuple[str, str]], Any]] = {
            "[]": ([], []),
            None: ([], []),
            "null": ([], []),
            '{"role": "assistant", "content": "an object"}': (
                [("assistant", "an object")],
                [{"role": "assistant", "content": "an object"}],
            ),
            '"just a string"': ([("user", "just a string")], ["just a string"]),
            "42.0": ([("user", "42.0")], [42.0]),
            "true": ([("user", "true")], [True]),
        }
        sessions = {messages: insert(chain, user, messages) for messages in cases}
        upgrade(chain, start)
        for messages, (rows, read) in cases.items():
            found = chain.rows(
                "SELECT role, content FROM messages WHERE conversation_id = %s ORDER BY seq", [sessions[messages]]
            )
            assert (found, json.loads(array(chain, sessions[messages]) or "")) == (rows, read), messages

    def test_a_long_array_keeps_its_order(self, chain: Chain) -> None:
        chain.upgrade("0021")
        user = chain.new_user()
        texts = [f"msg {number}" for number in range(1000)]
        session = insert(chain, user, json.dumps([{"role": "user", "content": text} for text in texts]))
        chain.upgrade()
        assert contents(chain, session) == texts
        assert chain.rows("SELECT content FROM messages ORDER BY created_at, seq") == texts

    def test_the_arrays_that_stood_before_are_kept_where_no_client_reads(self, chain: Chain) -> None:
        chain.upgrade("0021")
        user = chain.new_user()
        for text in ('[{"content": 3.50}, null]', "[]", "null", None, '"a string"', '{"b": 1, "a": 2.0}'):
            insert(chain, user, text)
        before_it = arrays(chain)
        chain.upgrade()
        kept = chain.rows("SELECT session_id, messages::text FROM chat_internal.chat_session_arrays")
        assert dict(kept) == before_it
        for role in ("anon", "authenticated", "service_role"):
            rights = f"has_table_privilege('{role}', 'chat_internal.chat_session_arrays', 'SELECT')"
            assert not chain.value(f"SELECT {rights}")

    def test_the_backfill_goes_in_several_batches_each_with_a_commit_of_its_own(self, chain: Chain) -> None:
        chain.upgrade("0021")
        user = chain.new_user()
        sessions = [insert(chain, user, f'["{number}"]') for number in range(30)]
        chain.upgrade()
        assert chain.value("SELECT count(DISTINCT xmin::text) FROM messages") > 2
        assert [contents(chain, session) for session in sessions] == [[str(number)] for number in range(30)]


class TestTimesThatWereNull:
    """A conversation always has its times: its messages' first and last, else the one it has, else now."""

    @pytest.mark.parametrize("upgrade", [online, by_script])
    @pytest.mark.parametrize("start", ["0021", "0022", "0024"])
    def test_they_come_from_the_messages_and_what_was_known_is_not_touched(
        self, chain: Chain, start: str, upgrade: Callable[[Chain, str], None]
    ) -> None:
        chain.upgrade("0021")
        user = chain.new_user()
        talk = json.dumps(
            [
                {"content": "first", "timestamp": "2026-01-10T10:00Z"},
                {"content": "last", "timestamp": "2026-01-12T10:00Z"},
            ]
        )
        first, last = datetime(2026, 1, 10, 10, tzinfo=UTC), datetime(2026, 1, 12, 10, tzinfo=UTC)
        cases = [
            # messages, created, updated -> created, updated
            (talk, BEGAN, BEGAN + HOUR, BEGAN, BEGAN + HOUR),
            (talk, None, BEGAN, first, BEGAN),
            (talk, BEGAN - 99 * HOUR, None, BEGAN - 99 * HOUR, last),
            (talk, None, None, first, last),
            ("[]", None, BEGAN, BEGAN, BEGAN),
            (None, BEGAN, None, BEGAN, BEGAN),
            ('["no time"]', None, BEGAN, BEGAN, BEGAN),
        ]
        sessions = [insert(chain, user, messages, created, updated) for messages, created, updated, *_ in cases]
        clockless = insert(chain, user, None, None, None)
        chain.upgrade(start)
        started = chain.value("SELECT now()")
        upgrade(chain, start)
        for case, session in zip(cases, sessions, strict=True):
            [(created, updated, metadata)] = chain.rows(
                "SELECT created_at, updated_at, metadata FROM conversations WHERE id = %s", [session]
            )
            assert (created, updated) == case[3:], case
            noted = {name for name, was in (("created_at", case[1]), ("updated_at", case[2])) if was is None}
            assert {*metadata.get("legacy", {}).get("filled", {})} == noted, case
        [(created, updated)] = chain.rows("SELECT created_at, updated_at FROM conversations WHERE id = %s", [clockless])
        assert started <= created == updated

    def test_a_downgrade_gives_the_nulls_back(self, chain: Chain) -> None:
        chain.upgrade("0021")
        user = chain.new_user()
        for created in (None, BEGAN):
            for updated in (None, BEGAN):
                for messages in ("[]", '[{"content": "Hi", "timestamp": "2026-01-10T10:00Z"}]'):
                    insert(chain, user, messages, created, updated)
        at_first = everything(chain)
        chain.upgrade()
        chain.downgrade("0021")
        assert everything(chain) == at_first

    def test_a_time_that_a_client_has_moved_since_is_not_given_up(self, chain: Chain) -> None:
        chain.upgrade("0021")
        session = insert(chain, chain.new_user(), "[]", BEGAN, None)
        chain.upgrade()
        chain.execute("UPDATE chat_sessions SET messages = '[\"Hi\"]' WHERE id = %s", [session])
        moved = chain.value("SELECT updated_at FROM chat_sessions WHERE id = %s", [session])
        assert moved > BEGAN
        chain.downgrade("0021")
        assert chain.value("SELECT updated_at FROM chat_sessions WHERE id = %s", [session]) == moved


class TestOldClients:
    """Whoever knows `chat_sessions` alone reads what it wrote, at every revision, on the way up and on the way down."""

    @staticmethod
    def write_in_every_way(chain: Chain, user: UUID, tenant: UUID) -> None:
        revision = chain.revision()
        one, two, three = ({"role": "user", "content": f"{number} at {revision}", "n": number} for number in (1, 2, 3))

        def written(session: UUID, messages: Any) -> None:
            assert json.loads(array(chain, session) or "null") == messages, revision

        session = insert(chain, user, json.dumps([one, two]), tenant=tenant)
        written(session, [one, two])
        append = "UPDATE chat_sessions SET messages = messages || %s::jsonb WHERE id = %s"
        assert chain.execute(append, [json.dumps([three]), session]) == 1
        written(session, [one, two, three])
        moved = chain.value("SELECT updated_at > created_at FROM chat_sessions WHERE id = %s", [session])
        assert moved, f"{revision}: a write moves updated_at"

        replace = "UPDATE chat_sessions SET messages = %s::jsonb WHERE id = %s"
        for messages in (
            [one, {**two, "content": "edited"}, three],  # in the middle
            [{**two, "content": "edited"}, three],  # the first goes
            [three],
            [None, 1, "x", {"content": {"a": [1.5]}}, three, one],
            [],
            [two, one],
        ):
            assert chain.execute(replace, [json.dumps(messages), session]) == 1
            written(session, messages)

        chain.execute(replace, [None, session])
        written(session, None if "0021" <= revision < "0030" else [])  # the view has an empty array for none

        by_default = chain.value("INSERT INTO chat_sessions (user_id) VALUES (%s) RETURNING id", [user])
        written(by_default, [])
        owner = chain.rows("SELECT user_id, tenant_id FROM chat_sessions WHERE id = %s", [session])
        assert owner == [(user, tenant)], revision
        chain.execute("UPDATE chat_sessions SET tenant_id = NULL WHERE id = %s", [session])
        assert chain.value("SELECT tenant_id FROM chat_sessions WHERE id = %s", [session]) is None, revision
        both = [session, by_default]
        assert chain.execute("DELETE FROM chat_sessions WHERE id = ANY(%s)", [both]) == 2
        assert chain.rows("SELECT id FROM chat_sessions WHERE id = ANY(%s)", [both]) == [], revision

    def test_they_write_in_every_way_at_every_revision(self, chain: Chain) -> None:
        chain.upgrade("0021")
        user = chain.new_user()
        tenant = chain.new_tenant(user)
        lasting, untouched = insert(chain, user, '["0021"]'), insert(chain, user, '["untouched"]')
        clockless = insert(chain, user, '["0021"]', None, None)
        expected = ["0021"]

        def act() -> None:
            self.write_in_every_way(chain, user, tenant)
            expected.append(chain.revision())
            chain.execute(
                "UPDATE chat_sessions SET messages = messages || to_jsonb(%s::text) WHERE id IN (%s, %s)",
                [expected[-1], lasting, clockless],
            )
            assert json.loads(array(chain, lasting) or "") == expected
            assert json.loads(array(chain, clockless) or "") == expected
            assert array(chain, untouched) == '["untouched"]'

        way = REVISIONS[REVISIONS.index("0021") :]
        for revision in way:
            chain.upgrade(revision)
            act()
        assert contents(chain, lasting) == expected
        for revision in reversed(way[:-1]):
            chain.downgrade(revision)
            act()
        assert set(arrays(chain)) == {lasting, untouched, clockless}

    def test_writing_back_what_was_read_changes_no_row(self, chain: Chain) -> None:
        chain.upgrade("0021")
        text = "[" + ", ".join(element.text for element in ELEMENTS) + "]"
        session = insert(chain, chain.new_user(), text)
        chain.upgrade()
        versions = chain.rows("SELECT id, xmin::text FROM messages ORDER BY seq")
        chain.execute("UPDATE chat_sessions SET messages = %s::jsonb WHERE id = %s", [array(chain, session), session])
        chain.execute(
            'UPDATE chat_sessions SET messages = messages || \'[{"content": "one more"}]\' WHERE id = %s', [session]
        )
        assert chain.rows("SELECT id, xmin::text FROM messages ORDER BY seq")[:-1] == versions
        assert contents(chain, session)[-1] == "one more"

    def test_they_read_what_new_clients_write_and_leave_it_alone_when_they_append(self, chain: Chain) -> None:
        chain.upgrade()
        user = chain.new_user()
        session = insert(chain, user, '[{"role": "user", "content": "old"}]')
        at = datetime(2026, 2, 1, 10, 0, 0, 5000, tzinfo=UTC)
        message = chain.value(
            "INSERT INTO messages (conversation_id, role, content, tool_calls, metadata, created_at)"
            " VALUES (%s, 'agent', 'new', %s, '{\"model\": \"m\"}', %s) RETURNING id",
            [session, json.dumps(SEARCH), at],
        )
        assert json.loads(array(chain, session) or "") == [
            {"role": "user", "content": "old"},
            {
                "id": str(message),
                "role": "agent",
                "content": "new",
                "timestamp": "2026-02-01T10:00:00.005000Z",
                "tool_calls": SEARCH,
                "metadata": {"model": "m"},
            },
        ]
        chain.execute("UPDATE chat_sessions SET messages = messages || '[\"more\"]' WHERE id = %s", [session])
        assert contents(chain, session) == ["old", "new", "more"]
        [(role, created_at, metadata)] = chain.rows(
            "SELECT role, created_at, metadata FROM messages WHERE id = %s", [message]
        )
        assert (role, created_at, metadata) == ("agent", at, {"model": "m"})

    def test_they_see_what_new_clients_edit_and_delete(self, chain: Chain) -> None:
        chain.upgrade("0021")
        texts = [said(id=n, role="user", content=f"text {n}", mood="calm") for n in range(4)]
        session = insert(chain, chain.new_user(), f"[{', '.join(texts)}, 17]")
        chain.upgrade()
        chain.execute("UPDATE messages SET content = 'edited' WHERE content IN ('text 1', '17')")
        chain.execute("UPDATE messages SET role = 'assistant' WHERE content = 'text 2'")
        chain.execute("DELETE FROM messages WHERE content = 'text 3'")
        first, second, third, fourth = json.loads(array(chain, session) or "")
        assert first == {"id": 0, "role": "user", "content": "text 0", "mood": "calm"}
        assert second == {"id": 1, "role": "user", "content": "edited", "mood": "calm"}
        assert third == {"id": 2, "role": "assistant", "content": "text 2", "mood": "calm"}
        assert (fourth["role"], fourth["content"]) == ("user", "edited")

    def test_a_session_keeps_its_id_and_its_owner(self, chain: Chain) -> None:
        chain.upgrade()
        session = insert(chain, chain.new_user(), "[]")
        for change in ("id = gen_random_uuid()", f"user_id = '{chain.new_user()}'"):
            with pytest.raises(Exception, match="never change"):
                chain.execute(f"UPDATE chat_sessions SET {change} WHERE id = '{session}'")


class TestDowngrades:
    """The arrays come back: to the letter where nobody changed their rows, from the rows where somebody did."""

    @pytest.mark.parametrize("to", ["0027", "0021"])
    def test_unchanged_arrays_come_back_to_the_letter(self, chain: Chain, to: str) -> None:
        chain.upgrade("0021")
        user = chain.new_user()
        tenant = chain.new_tenant(user)
        every_kind = "[" + ", ".join(element.text for element in ELEMENTS) + "]"
        for text in (every_kind, "[]", None, "null", '{"b": 1, "a": 2.0}', '"a string"', "1.50", "[1.0, [2.50]]"):
            insert(chain, user, text, updated_at=BEGAN + HOUR, tenant=tenant)
        at_first = everything(chain)
        chain.upgrade()
        chain.downgrade(to)
        assert everything(chain) == at_first
        chain.upgrade()
        chain.downgrade(to)
        assert everything(chain) == at_first, "the second time as well"

    @pytest.mark.parametrize("to", ["0027", "0021"])
    def test_arrays_whose_rows_were_changed_come_back_as_the_rows_are(self, chain: Chain, to: str) -> None:
        chain.upgrade("0021")
        user = chain.new_user()
        sessions = [insert(chain, user, '[{"content": "a", "n": 1.50}, "b", {"content": "c"}]') for _ in range(4)]
        appended, edited, emptied, untouched = sessions
        chain.upgrade()
        chain.execute(
            "INSERT INTO messages (conversation_id, user_id, role, content, created_at)"
            " VALUES (%s, %s, 'assistant', 'd', %s)",
            [appended, user, BEGAN],
        )
        chain.execute("UPDATE messages SET content = 'B' WHERE content = 'b' AND conversation_id = %s", [edited])
        chain.execute("DELETE FROM messages WHERE conversation_id = %s", [emptied])
        new = chain.value("INSERT INTO conversations (user_id) VALUES (%s) RETURNING id", [user])
        chain.execute("INSERT INTO messages (conversation_id, role, content) VALUES (%s, 'user', 'Hi')", [new])
        as_read = arrays(chain)
        chain.downgrade(to)
        assert arrays(chain) == as_read
        assert array(chain, untouched) == '[{"n": 1.50, "content": "a"}, "b", {"content": "c"}]'
        assert array(chain, emptied) == "[]"
        added = json.loads(array(chain, appended) or "")[-1]
        assert (added["role"], added["content"], added["timestamp"]) == (
            "assistant",
            "d",
            "2026-01-16T10:00:00.000000Z",
        )
        chain.upgrade()
        assert arrays(chain) == as_read
        assert contents(chain, appended) == ["a", "b", "c", "d"]
        assert contents(chain, new) == ["Hi"]

    def test_rows_stay_the_same_rows_when_the_table_of_messages_stays(self, chain: Chain) -> None:
        chain.upgrade()
        session = insert(chain, chain.new_user(), '["a", "b"]')
        chain.execute("INSERT INTO messages (conversation_id, role, content) VALUES (%s, 'user', 'c')", [session])
        rows = chain.rows("SELECT * FROM messages ORDER BY seq")
        chain.downgrade("0027")
        chain.execute("UPDATE chat_sessions SET messages = messages || '[\"d\"]' WHERE id = %s", [session])
        chain.upgrade()
        assert chain.rows("SELECT * FROM messages ORDER BY seq")[:-1] == rows
        assert contents(chain, session) == ["a", "b", "c", "d"]


def test_an_interrupted_expansion_goes_on_where_it_was(chain: Chain, caplog: pytest.LogCaptureFixture) -> None:
    chain.upgrade("0025")
    user = chain.new_user()
    chain.execute("ALTER TABLE chat_sessions DISABLE TRIGGER chat_sessions_expand")  # as if they stood there before
    sessions = [insert(chain, user, f'["{number}"]') for number in range(60)]
    chain.execute(
        "ALTER TABLE chat_sessions ENABLE TRIGGER chat_sessions_expand;"
        "CREATE FUNCTION stumble() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'stumbled'; END $$;"
    )
    expanded = 0
    for stone in ("25", "50"):
        chain.execute(
            f"CREATE TRIGGER stumble BEFORE INSERT ON messages FOR EACH ROW WHEN (NEW.content = '{stone}')"
            " EXECUTE FUNCTION stumble()"
        )
        with pytest.raises(CommandError, match="stumbled"):
            chain.upgrade()
        assert chain.revision() == before("0026")
        done = chain.value("SELECT count(*) FROM messages")
        assert expanded < done <= int(stone)
        expanded = done
        chain.execute(f"UPDATE chat_sessions SET messages = '[\"{stone}!\"]' WHERE messages = '[\"0\"]'")
        chain.execute("DROP TRIGGER stumble ON messages")
    caplog.set_level("INFO")
    chain.upgrade()
    assert "messages of chat_sessions: goes on at" in caplog.text
    assert [contents(chain, session) for session in sessions] == [["25!"], *([str(n)] for n in range(1, 60))]
