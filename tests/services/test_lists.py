"""What a user does with its conversations: archive, pin, read, throw away and restore, rename, move to a tenant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app import queries
from app.acting_as import acting_as, acting_as_service
from app.models import Conversation, Message
from app.queries import ConversationPosition, MarkPosition
from tests.services.actors import ACTORS, Acting, each_actor
from tests.services.people import ANN, BEN

ACME, GLOBEX = UUID("0000000b-0000-4000-8000-000000000001"), UUID("0000000b-0000-4000-8000-000000000002")
TRIP = UUID("0000000c-0000-4000-8000-000000000001")
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)

# Ann has 60 conversations beside the trip: of each three one is in the archive, of each four one in the trash, of each
# five one pinned. Times tie in threes.
ROWS = f"""
INSERT INTO users (id) VALUES ('{ANN}'), ('{BEN}');
INSERT INTO tenants (id, name) VALUES ('{ACME}', 'Acme'), ('{GLOBEX}', 'Globex');
INSERT INTO tenant_users (tenant_id, user_id, role) VALUES ('{ACME}', '{ANN}', 'member'), ('{ACME}', '{BEN}', 'owner');
INSERT INTO conversations (id, user_id, created_at, updated_at)
  VALUES ('{TRIP}', '{ANN}', '{LONG_AGO}', '{LONG_AGO}');
INSERT INTO conversations (user_id, tenant_id, updated_at, archived_at, deleted_at, pinned_at)
  SELECT '{ANN}', '{ACME}', at, CASE WHEN n % 3 = 0 THEN at END, CASE WHEN n % 4 = 0 THEN at END,
         CASE WHEN n % 5 = 0 THEN at END
  FROM generate_series(1, 60) AS n, LATERAL (SELECT timestamptz '2026-01-01' + n / 3 * interval '1 minute' AS at) AS t;
"""


@pytest.fixture
def session(migrated_url: str) -> Iterator[Session]:
    engine = sa.create_engine(migrated_url)
    with engine.begin() as connection:
        connection.execute(sa.text(ROWS))
    with Session(engine) as session:
        yield session
    engine.dispose()


def ids(session: Session, listing: sa.Select[Any]) -> list[UUID]:
    return [conversation.id for conversation in session.scalars(listing)]


def trip(session: Session) -> Any:
    return session.execute(sa.select(Conversation).where(Conversation.id == TRIP)).scalar_one()


LISTS: dict[str, tuple[Callable[..., sa.Select[Any]], str, Callable[[Any], Any]]] = {
    "the sidebar": (
        queries.conversations_of_user,
        "archived_at IS NULL AND deleted_at IS NULL",
        ConversationPosition.of,
    ),
    "what is pinned": (
        queries.pinned_conversations,
        "pinned_at IS NOT NULL AND archived_at IS NULL AND deleted_at IS NULL",
        lambda c: MarkPosition(c.pinned_at, c.id),
    ),
    "the archive": (
        queries.archived_conversations,
        "archived_at IS NOT NULL AND deleted_at IS NULL",
        lambda c: MarkPosition(c.archived_at, c.id),
    ),
    "the trash": (queries.trash, "deleted_at IS NOT NULL", lambda c: MarkPosition(c.deleted_at, c.id)),
}


@each_actor
@pytest.mark.parametrize("limit", [1, 3, 4, 100])
@pytest.mark.parametrize("name", LISTS)
def test_pages_of_a_list_have_its_rows_and_neither_miss_nor_repeat_one(
    session: Session, actor: Acting, name: str, limit: int
) -> None:
    listing, condition, position = LISTS[name]
    with actor(session):
        found: list[Any] = []
        at = None
        while page := session.scalars(listing(ANN, after=at, limit=limit)).all():
            found += page
            at = position(page[-1])
        expected = session.scalars(sa.select(Conversation).where(sa.text(condition))).all()
    assert len(expected) > 4
    assert found == sorted(expected, key=position, reverse=True)


def test_what_is_in_archive_or_trash_is_not_among_a_tenants_conversations(session: Session) -> None:
    for actor in ACTORS.values():
        with actor(session):
            found = session.scalars(queries.conversations_of_tenant(ACME, limit=100)).all()
        assert len(found) == 30
        assert {(c.archived_at, c.deleted_at) for c in found} == {(None, None)}


CHANGES: dict[str, tuple[sa.Executable, Callable[[Any], bool]]] = {
    "archived": (queries.archive(TRIP, ANN), lambda c: c.archived_at is not None),
    "brought back": (queries.unarchive(TRIP, ANN), lambda c: c.archived_at is None),
    "pinned": (queries.pin(TRIP, ANN), lambda c: c.pinned_at is not None),
    "unpinned": (queries.unpin(TRIP, ANN), lambda c: c.pinned_at is None),
    "renamed": (queries.rename(TRIP, ANN, "Lyon"), lambda c: c.title == "Lyon"),
    "moved to a tenant": (queries.move_to_tenant(TRIP, ANN, ACME), lambda c: c.tenant_id == ACME),
    "read": (
        queries.mark_read(TRIP, ANN, datetime(2030, 1, 1, tzinfo=UTC)),
        lambda c: c.last_read_at == datetime(2030, 1, 1, tzinfo=UTC),
    ),
    "thrown away": (queries.throw_away(TRIP, ANN), lambda c: c.deleted_at is not None),
}


@each_actor
@pytest.mark.parametrize("change", CHANGES)
def test_a_conversation_that_is_managed_keeps_its_place_in_time(session: Session, actor: Acting, change: str) -> None:
    statement, is_done = CHANGES[change]
    with actor(session):
        [changed] = session.scalars(statement).all()  # type: ignore[call-overload]
        assert is_done(changed)
        assert changed.updated_at == LONG_AGO


@pytest.mark.parametrize("change", CHANGES)
def test_nobody_elses_conversation_is_managed(session: Session, change: str) -> None:
    """Ben even runs the tenant that the conversation is in."""
    with acting_as(session, ANN):
        session.execute(queries.move_to_tenant(TRIP, ANN, ACME))
        session.commit()
    with acting_as(session, BEN):
        assert session.scalars(CHANGES[change][0]).all() == []  # type: ignore[call-overload]


def test_a_conversation_of_another_owner_than_the_service_names_stays(session: Session) -> None:
    with acting_as_service(session):
        session.execute(queries.throw_away(TRIP, ANN))
        assert session.scalars(queries.restore(TRIP, BEN)).all() == []
        assert trip(session).deleted_at is not None


def test_a_user_moves_a_conversation_to_its_own_tenants_alone(session: Session) -> None:
    with acting_as(session, ANN), pytest.raises(DBAPIError, match="row-level security"):
        session.execute(queries.move_to_tenant(TRIP, ANN, GLOBEX))


def test_what_is_archived_or_pinned_again_keeps_its_place(session: Session) -> None:
    for change in (queries.archive, queries.pin):
        with acting_as(session, ANN):
            [first] = session.scalars(change(TRIP, ANN)).all()
            before = (first.archived_at, first.pinned_at)
            session.commit()
        with acting_as(session, ANN):
            [again] = session.scalars(change(TRIP, ANN)).all()
            assert (again.archived_at, again.pinned_at) == before


class TestTheTrash:
    def test_is_out_of_every_list_and_its_owner_restores_it_as_it_was(self, session: Session) -> None:
        lists = (queries.conversations_of_user, queries.pinned_conversations)
        with acting_as(session, ANN):
            session.execute(queries.pin(TRIP, ANN))
            session.execute(queries.throw_away(TRIP, ANN))
            assert TRIP in ids(session, queries.trash(ANN))
            assert all(TRIP not in ids(session, listing(ANN, limit=100)) for listing in lists)
            assert session.scalars(queries.archive(TRIP, ANN)).all() == []
            [restored] = session.scalars(queries.restore(TRIP, ANN)).all()
            assert (restored.deleted_at, restored.updated_at) == (None, LONG_AGO)
            assert TRIP not in ids(session, queries.trash(ANN))
            assert all(TRIP in ids(session, listing(ANN, limit=100)) for listing in lists)

    def test_is_restored_by_nobody_else(self, session: Session) -> None:
        with acting_as(session, ANN):
            session.execute(queries.move_to_tenant(TRIP, ANN, ACME))
            session.execute(queries.throw_away(TRIP, ANN))
            session.commit()
        with acting_as(session, BEN):
            assert ids(session, queries.trash(ANN)) == []
            assert session.scalars(queries.restore(TRIP, ANN)).all() == []
            assert session.scalars(queries.restore(TRIP, BEN)).all() == []
        with acting_as(session, ANN):
            assert TRIP in ids(session, queries.trash(ANN))

    def test_of_a_tenant_is_its_owners_only_while_a_member(self, session: Session) -> None:
        with acting_as(session, ANN):
            session.execute(queries.move_to_tenant(TRIP, ANN, ACME))
            session.execute(queries.throw_away(TRIP, ANN))
            session.commit()
        with session.begin():
            session.execute(sa.text("DELETE FROM tenant_users WHERE user_id = :ann"), {"ann": ANN})
        with acting_as(session, ANN):
            assert ids(session, queries.trash(ANN)) == []
            assert session.scalars(queries.restore(TRIP, ANN)).all() == []

    def test_is_hidden_from_clients_of_chat_sessions(self, session: Session) -> None:
        sessions = sa.text("SELECT id FROM chat_sessions")
        with acting_as(session, ANN):
            assert TRIP in session.scalars(sessions).all()
            session.execute(queries.throw_away(TRIP, ANN))
            assert TRIP not in session.scalars(sessions).all()
            assert session.execute(sa.text("DELETE FROM chat_sessions WHERE id = :id"), {"id": TRIP}).rowcount == 0
            session.execute(queries.restore(TRIP, ANN))
            assert TRIP in session.scalars(sessions).all()

    def test_gets_no_message_that_names_no_conversation(self, session: Session) -> None:
        say = sa.text(
            "INSERT INTO chat_messages (user_id, role, content) VALUES (:ann, 'user', 'Hi') RETURNING conversation_id"
        )
        with acting_as(session, ANN):
            assert session.scalar(say, {"ann": ANN}) == TRIP
            session.execute(queries.throw_away(TRIP, ANN))
            other = session.scalar(say, {"ann": ANN})
            assert other != TRIP
            session.execute(queries.throw_away(other, ANN))  # the default one by its id
            assert session.scalar(say, {"ann": ANN}) not in (TRIP, other)


class TestUnread:
    def say(self, session: Session, role: str, minute: int) -> None:
        at = datetime(2040, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)
        session.add(Message(conversation_id=TRIP, user_id=ANN, role=role, content="Hi", created_at=at))
        session.flush()

    def number(self, session: Session, **options: int) -> int:
        found = dict(session.execute(queries.unread([TRIP], **options)).all())
        return found[TRIP]

    @pytest.mark.parametrize("actor", ACTORS.values(), ids=ACTORS)
    def test_are_the_replies_since_the_last_that_was_read(self, session: Session, actor: Acting) -> None:
        with actor(session):
            assert self.number(session) == 0
            for minute, role in enumerate(("user", "assistant", "tool", "agent", "assistant")):
                self.say(session, role, minute)
            assert self.number(session) == 3
            read_until = datetime(2040, 1, 1, 0, 3, tzinfo=UTC)
            session.execute(queries.mark_read(TRIP, ANN, read_until))
            assert self.number(session) == 1
            session.execute(queries.mark_read(TRIP, ANN, LONG_AGO))  # by another window, late
            assert self.number(session) == 1

    def test_are_counted_to_a_number_and_no_further(self, session: Session) -> None:
        with acting_as(session, ANN):
            for minute in range(7):
                self.say(session, "assistant", minute)
            assert (self.number(session, most=5), self.number(session)) == (5, 7)

    def test_of_anothers_conversation_are_nobodys_business(self, session: Session) -> None:
        with acting_as(session, BEN):
            assert session.execute(queries.unread([TRIP])).all() == []


def test_reading_a_conversation_writes_no_index(session: Session) -> None:
    """A page of sidebars is marked read again and again: the row finds room beside itself (HOT)."""
    updates = sa.text(
        "SELECT pg_stat_get_xact_tuples_updated(oid), pg_stat_get_xact_tuples_hot_updated(oid)"
        " FROM pg_class WHERE oid = 'conversations'::regclass"
    )
    for minute in range(20):
        session.execute(queries.mark_read(TRIP, ANN, datetime(2040, 1, 1, 0, minute, tzinfo=UTC)))
    updated, beside_itself = session.execute(updates).one()
    assert (updated, beside_itself) in ((20, 20), (20, 19))  # but for the first, if the page is full


@pytest.mark.parametrize("column", ["archived_at", "pinned_at", "last_read_at", "deleted_at"])
def test_a_time_that_no_driver_reads_is_refused(session: Session, column: str) -> None:
    with acting_as(session, ANN), pytest.raises(DBAPIError, match="ck_conversations_marks"):
        session.execute(sa.text(f"UPDATE conversations SET {column} = 'infinity' WHERE id = '{TRIP}'"))
