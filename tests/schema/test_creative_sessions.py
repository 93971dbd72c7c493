"""Creative sessions: their state, what they cost, and how they are purged."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import psycopg
import pytest

from tests.postgres_binaries import ROOT
from tests.schema.rows import Rows

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
PAGE = ROOT / "docs" / "keeping.md"


@pytest.fixture
def brand(rows: Rows) -> UUID:
    brand: UUID = rows.insert("brands", user_id=rows.user(), name="Acme")
    return brand


@pytest.fixture
def session(rows: Rows, brand: UUID) -> UUID:
    owner = rows.one("SELECT user_id FROM brands WHERE id = %s", brand)
    return rows.session(owner, brand, created_at=LONG_AGO, last_activity_at=LONG_AGO)


class TestState:
    @pytest.mark.parametrize(("function", "state"), [("complete", "delivered"), ("cancel", "cancelled")])
    def test_a_session_that_ends_has_its_state_and_its_time(
        self, rows: Rows, session: UUID, brand: UUID, function: str, state: str
    ) -> None:
        other = rows.session(rows.one("SELECT user_id FROM brands"), brand)
        rows.run(f"SELECT {function}_conversation_session(%s)", session)
        ended = "SELECT state, completed_at = now(), last_activity_at = now() FROM conversation_sessions WHERE id = %s"
        assert rows.all(ended, session) == [(state, True, True)]
        assert rows.all("SELECT state, completed_at FROM conversation_sessions WHERE id = %s", other) == [
            ("initial", None)
        ]

    def test_a_session_begins_with_nothing_asked_and_nothing_answered(self, rows: Rows, session: UUID) -> None:
        row = rows.all(
            "SELECT state, parsed_intent, answered_questions, pending_questions, selected_kb_ids, completed_at"
            " FROM conversation_sessions"
        )
        assert row == [("initial", None, {}, [], [], None)]

    def test_a_message_moves_its_sessions_activity_and_no_other(self, rows: Rows, session: UUID, brand: UUID) -> None:
        owner = rows.one("SELECT user_id FROM brands")
        other = rows.session(owner, brand, created_at=LONG_AGO, last_activity_at=LONG_AGO)
        rows.turn(session)
        activity = "SELECT last_activity_at FROM conversation_sessions WHERE id = %s"
        assert rows.one(activity, session) == rows.one("SELECT now()")
        assert rows.one(activity, other) == LONG_AGO

    def test_a_change_moves_activity_unless_it_says_when(self, rows: Rows, session: UUID) -> None:
        rows.run("UPDATE conversation_sessions SET state = 'asking'")
        assert rows.one("SELECT last_activity_at = now() FROM conversation_sessions")
        rows.run("UPDATE conversation_sessions SET state = 'planning', last_activity_at = %s", LONG_AGO)
        assert rows.one("SELECT last_activity_at FROM conversation_sessions") == LONG_AGO


class TestFigures:
    @pytest.fixture
    def spent(self, rows: Rows, session: UUID) -> UUID:
        """A session with messages of two providers over two days, some without cost, tokens or latency."""
        openai = {"provider": "openai", "model_used": "mini"}
        anthropic = {"provider": "anthropic", "model_used": "large"}
        first, second = {"created_at": LONG_AGO}, {"created_at": LONG_AGO + DAY}
        rows.turn(session, "user", **first)
        rows.turn(session, "assistant", **first, **anthropic, tokens_used=812, cost_usd="0.012345", latency_ms=1830)
        rows.turn(session, "assistant", **second, **openai, tokens_used=50, cost_usd="0.0001", latency_ms=170)
        rows.turn(session, "director", **second, **openai, tokens_used=None, cost_usd=None)
        owner, brand = rows.all("SELECT user_id, brand_id FROM conversation_sessions")[0]
        rows.turn(rows.session(owner, brand), "assistant", created_at=LONG_AGO, tokens_used=1, cost_usd=1, **openai)
        return session

    def test_the_cost_of_a_session(self, rows: Rows, spent: UUID, brand: UUID) -> None:
        assert rows.one("SELECT get_session_cost(%s)", spent) == Decimal("0.012445")
        silent = rows.session(rows.one("SELECT user_id FROM brands"), brand)
        assert rows.one("SELECT get_session_cost(%s)", silent) == 0

    def test_the_figures_of_a_session(self, rows: Rows, spent: UUID, brand: UUID) -> None:
        query = "SELECT * FROM get_session_message_stats(%s)"
        assert rows.all(query, spent) == [(4, 862, Decimal("0.012445"), 1000)]
        silent = rows.session(rows.one("SELECT user_id FROM brands"), brand)
        assert rows.all(query, silent)[0][0] == 0

    def test_the_history_of_a_session(self, rows: Rows, spent: UUID) -> None:
        history = rows.all("SELECT role, content, created_at FROM get_conversation_history(%s)", spent)
        assert [at for _, _, at in history] == [LONG_AGO, LONG_AGO, LONG_AGO + DAY, LONG_AGO + DAY]
        assert len(rows.all("SELECT * FROM get_conversation_history(%s, 2)", spent)) == 2

    def test_usage_by_provider_and_model(self, rows: Rows, spent: UUID) -> None:
        usage = rows.all("SELECT * FROM provider_usage_stats ORDER BY provider")
        assert usage == [
            ("anthropic", "large", 1, 812, Decimal("0.012345"), 1830),
            ("openai", "mini", 3, 51, Decimal("1.000100"), 170),
        ]

    def test_volume_by_day_and_role(self, rows: Rows, spent: UUID) -> None:
        rows.run("SET LOCAL TimeZone = 'Pacific/Auckland'")  # days are UTC days, whoever asks
        volume = rows.all("SELECT * FROM daily_message_volume ORDER BY day, role")
        assert volume == [
            (LONG_AGO, "assistant", 2, Decimal("1.012345")),
            (LONG_AGO, "user", 1, Decimal(0)),
            (LONG_AGO + DAY, "assistant", 1, Decimal("0.000100")),
            (LONG_AGO + DAY, "director", 1, None),
        ]

    def test_volume_knows_messages_of_any_year(self, rows: Rows, spent: UUID) -> None:
        far = [datetime(year, 7, 1, tzinfo=UTC) for year in (1, 1999, 2000, 2099, 2100, 9998)]
        for at in far:
            rows.run(
                "INSERT INTO conversation_messages (session_id, user_id, brand_id, role, content, created_at)"
                " SELECT id, user_id, brand_id, 'system', '', %s FROM conversation_sessions WHERE id = %s",
                at + DAY / 2,
                spent,
            )
        found = rows.all("SELECT day, message_count FROM daily_message_volume WHERE role = 'system' ORDER BY day")
        assert found == [(at, 1) for at in far]


class TestPurge:
    """`chat_internal.purge_conversation_session_batch(before, batch_size)`, in the loop that docs/keeping.md shows."""

    @staticmethod
    def purge(committed: Rows, older_than: str = "90 days", batch_size: int = 500) -> None:
        [loop] = re.findall(r"```sql\n(DO [^`]+purge_conversation_session_batch[^`]+)```", PAGE.read_text("utf-8"))
        committed.run(loop.replace("90 days", older_than).replace(", 500)", f", {batch_size})"))

    @pytest.fixture
    def ended(self, committed: Rows) -> dict[str, UUID]:
        """Sessions of every state and age, each with two messages."""
        user = committed.user()
        brand = committed.insert("brands", user_id=user, name="Acme")
        now = datetime.now(UTC)

        def session(state: str, days: int, completed: bool = True) -> UUID:
            at = now - days * DAY
            session = committed.session(
                user, brand, state=state, created_at=at, last_activity_at=at, completed_at=at if completed else None
            )
            for _ in range(2):
                committed.turn(session)
            committed.run("UPDATE conversation_sessions SET last_activity_at = %s WHERE id = %s", at, session)
            return session

        return {
            "delivered long ago": session("delivered", 91),
            "cancelled long ago": session("cancelled", 400),
            "cancelled without a time": session("cancelled", 91, completed=False),
            "delivered lately": session("delivered", 89),
            "open since long": session("initial", 400, completed=False),
            "in another state": session("asking", 400),
        }

    @staticmethod
    def left(committed: Rows, ended: dict[str, UUID]) -> set[str]:
        ids = committed.all("SELECT id FROM conversation_sessions")
        assert set(committed.all("SELECT session_id FROM conversation_messages")) == set(ids)
        assert committed.count("conversation_messages") == 2 * len(ids)
        return {name for name, session in ended.items() if session in ids}

    def test_what_ended_more_than_ninety_days_ago_goes_with_its_messages(
        self, committed: Rows, ended: dict[str, UUID]
    ) -> None:
        self.purge(committed)
        assert self.left(committed, ended) == {"delivered lately", "open since long", "in another state"}

    def test_the_age_can_be_chosen(self, committed: Rows, ended: dict[str, UUID]) -> None:
        self.purge(committed, "399 days")
        assert set(ended) - self.left(committed, ended) == {"cancelled long ago"}
        self.purge(committed, "1 day", 1)
        assert self.left(committed, ended) == {"open since long", "in another state"}

    def test_each_batch_is_committed_by_itself(self, committed: Rows, ended: dict[str, UUID]) -> None:
        committed.run(
            "CREATE TABLE deaths (session uuid, transaction xid8, number serial);"
            "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " INSERT INTO public.deaths VALUES (OLD.id, pg_current_xact_id());"
            " IF (SELECT count(*) FROM public.deaths) = 3 THEN RAISE EXCEPTION 'enough'; END IF;"
            " RETURN OLD; END $$;"
            "CREATE TRIGGER note BEFORE DELETE ON conversation_sessions FOR EACH ROW EXECUTE FUNCTION note()"
        )
        with pytest.raises(psycopg.errors.RaiseException, match="enough"):
            self.purge(committed, "90 days", 1)
        assert committed.one("SELECT count(DISTINCT transaction) FROM deaths") == 2
        assert len(self.left(committed, ended)) == 4, "what the first two batches deleted stays deleted"

    def test_a_session_that_is_in_use_is_left_to_the_next_run(
        self, committed: Rows, ended: dict[str, UUID], db: psycopg.Connection
    ) -> None:
        with psycopg.connect(db.info.dsn) as other:
            other.execute("SELECT FROM conversation_sessions WHERE id = %s FOR UPDATE", [ended["cancelled long ago"]])
            committed.run("SET lock_timeout = '5s'")
            self.purge(committed, "90 days", 1)
        assert "cancelled long ago" in self.left(committed, ended)
        assert "delivered long ago" not in self.left(committed, ended)
        self.purge(committed)
        assert "cancelled long ago" not in self.left(committed, ended)

    def test_services_may_purge_and_users_may_not(self, committed: Rows, ended: dict[str, UUID]) -> None:
        committed.run("SET ROLE authenticated")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            self.purge(committed)
        committed.run("SET ROLE service_role")
        self.purge(committed)
        committed.run("RESET ROLE")
        assert self.left(committed, ended) == {"delivered lately", "open since long", "in another state"}

    def test_a_batch_is_as_large_as_it_is_told_and_the_last_one_is_empty(
        self, committed: Rows, ended: dict[str, UUID]
    ) -> None:
        batch = "SELECT chat_internal.purge_conversation_session_batch(now() - interval '90 days', 2)"
        assert [committed.one(batch) for _ in range(3)] == [2, 1, 0]

    def test_a_foreign_search_path_changes_nothing(self, committed: Rows, ended: dict[str, UUID]) -> None:
        committed.run(
            "CREATE SCHEMA trap;"
            "CREATE FUNCTION trap.coalesce_ended(timestamptz, timestamptz) RETURNS boolean LANGUAGE sql RETURN true;"
            "CREATE OPERATOR trap.< (FUNCTION = trap.coalesce_ended, LEFTARG = timestamptz, RIGHTARG = timestamptz);"
            "CREATE FUNCTION trap.count() RETURNS bigint LANGUAGE sql RETURN 0;"
            "SET search_path = trap, pg_catalog"
        )
        batch = "SELECT chat_internal.purge_conversation_session_batch(now() - interval '90 days', 500)"
        assert committed.one(batch) == 3
        committed.run("SET search_path = public")
        assert self.left(committed, ended) == {"delivered lately", "open since long", "in another state"}
