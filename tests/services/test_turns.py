"""A reply from its first word to its end, the replies that died with their process, and what models used."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from app import queries
from app.acting_as import acting_as, acting_as_service
from app.models import Message
from app.queries import DailyUsage, Generation
from tests.services.actors import Acting, begun_anew, each_actor
from tests.services.people import ANN, BEN

CHAT, BENS = (UUID(f"0000000c-0000-4000-8000-00000000000{n}") for n in (1, 2))
ROWS = f"""
INSERT INTO users (id) VALUES ('{ANN}'), ('{BEN}');
INSERT INTO conversations (id, user_id) VALUES ('{CHAT}', '{ANN}'), ('{BENS}', '{BEN}');
"""
GENERATION = Generation(
    provider="acme",
    model="acme-1",
    finish_reason="stop",
    input_tokens=120,
    output_tokens=30,
    cached_tokens=100,
    reasoning_tokens=10,
    cost_usd=Decimal("0.000123"),
    latency_ms=900,
)
PARTS = [
    {"type": "reasoning", "text": "Trains leave hourly."},
    {"type": "tool_call", "id": "1", "name": "seats", "arguments": {"day": "Friday"}},
    {"type": "tool_result", "id": "1", "content": [{"type": "seat"}]},
    {"type": "text", "text": "Booked."},
]


@pytest.fixture
def session(shared_engine: sa.Engine) -> Iterator[Session]:
    with begun_anew(shared_engine, ROWS) as session:
        yield session


def begin(session: Session, key: str = "k", instead_of: UUID | None = None) -> Message:
    return session.scalars(
        queries.append_message(
            CHAT, ANN, "assistant", "", key=queries.reply_key(key), status="streaming", instead_of=instead_of
        )
    ).one()


def write(session: Session, message: Message, content: str, **more: object) -> Message | None:
    statement = queries.write_reply(CHAT, ANN, message.id, content, **more)  # type: ignore[arg-type]
    return session.scalars(statement.execution_options(populate_existing=True)).one_or_none()


@each_actor
def test_a_reply_begins_grows_and_ends(session: Session, actor: Acting) -> None:
    with actor(session):
        reply = begin(session)
        assert (reply.status, reply.content) == ("streaming", "")
        assert begin(session).id == reply.id  # by its key there is one
        assert write(session, reply, "Bo", status="streaming")
        assert (reply.status, reply.content) == ("streaming", "Bo")
        assert write(session, reply, "Booked.", parts=PARTS, generation=GENERATION, tool_calls=[{"id": "1"}])
        session.commit()
        session.expire_all()
        [stored] = session.scalars(queries.branch(CHAT)).all()
        assert (stored.status, stored.content, stored.parts) == ("complete", "Booked.", PARTS)
        assert (stored.error, stored.tool_calls) == (None, [{"id": "1"}])
        assert {name: getattr(stored, name) for name in vars(GENERATION)} == vars(GENERATION)


@each_actor
def test_a_reply_that_has_ended_is_written_no_more(session: Session, actor: Acting) -> None:
    with actor(session):
        for status in ("complete", "interrupted", "error"):
            reply = begin(session, status)
            assert write(session, reply, "An end.", status=status, error={"detail": "No more of it."})
            assert write(session, reply, "Still more.") is None
            session.refresh(reply)
            assert (reply.status, reply.content, reply.error) == (status, "An end.", {"detail": "No more of it."})


def test_nobody_ends_a_reply_of_another(session: Session) -> None:
    with acting_as(session, ANN):
        reply = begin(session)
        id_ = reply.id
        session.commit()
    with acting_as(session, BEN):
        for conversation, owner in ((CHAT, ANN), (CHAT, BEN), (BENS, BEN)):
            assert not session.scalars(queries.write_reply(conversation, owner, id_, "Mine")).all()
        assert not session.execute(queries.interrupt_streaming(timedelta(0))).all()
    with acting_as(session, ANN):
        session.refresh(reply)
        assert (reply.status, reply.content) == ("streaming", "")


@each_actor
def test_a_turn_is_stored_with_what_it_took(session: Session, actor: Acting) -> None:
    with actor(session):
        for _ in range(2):
            question, reply = session.scalars(
                queries.append_turn(CHAT, ANN, "Two seats", "Booked.", key="k", parts=PARTS, generation=GENERATION)
            ).all()
        assert (question.status, question.parts, question.model) == ("complete", None, None)
        assert (reply.status, reply.parts, reply.model) == ("complete", PARTS, "acme-1")


def test_replies_that_died_are_marked_by_their_age_in_batches(session: Session) -> None:
    with acting_as_service(session):
        for n in range(5):
            reply = begin(session, str(n))
            reply.created_at = datetime.now(UTC) - timedelta(minutes=10 + n)
        alive = begin(session, "alive")
        whole = begin(session, "whole")
        write(session, whole, "Whole.")
        whole.created_at = datetime.now(UTC) - timedelta(hours=1)
        session.commit()
        marked = []
        while found := session.execute(queries.interrupt_streaming(timedelta(minutes=5), limit=2)).all():
            marked.append(len(found))
            assert {tuple(row[1:]) for row in found} == {(CHAT, ANN)}
        assert marked == [2, 2, 1]
        session.commit()
        statuses = session.scalars(sa.select(Message.status).order_by(Message.status)).all()
        assert statuses == ["complete", *["interrupted"] * 5, "streaming"]
        assert session.get_one(Message, alive.id).status == "streaming"


def test_a_reply_that_is_being_written_at_this_moment_is_left_out(shared_engine: sa.Engine, session: Session) -> None:
    with Session(shared_engine) as writer, acting_as(session, ANN), acting_as(writer, ANN):
        reply = begin(session)
        session.commit()
        assert write(writer, writer.get_one(Message, reply.id), "Boo", status="streaming")
        session.execute(sa.text("SET LOCAL lock_timeout = '1s'"))
        assert session.execute(queries.interrupt_streaming(timedelta(0))).all() == []
        writer.commit()
        assert len(session.execute(queries.interrupt_streaming(timedelta(0))).all()) == 1


def test_a_reply_made_again_is_another_version_and_the_broken_one_stays(session: Session) -> None:
    with acting_as(session, ANN):
        session.scalars(queries.append_message(CHAT, ANN, "user", "Two seats", key="k")).one()
        broken = begin(session)
        write(session, broken, "Boo", status="interrupted")
        again = begin(session, "again", instead_of=broken.id)
        write(session, again, "Booked.")
        assert [m.content for m in session.scalars(queries.branch(CHAT))] == ["Booked.", "Two seats"]
        assert [(m.content, m.status) for m in session.scalars(queries.siblings(CHAT, broken.id))] == [
            ("Boo", "interrupted"),
            ("Booked.", "complete"),
        ]


def test_a_client_that_writes_whole_arrays_keeps_what_it_does_not_know(session: Session) -> None:
    with acting_as(session, ANN):
        session.scalars(queries.append_turn(CHAT, ANN, "Two", "Booked.", key="k", generation=GENERATION)).all()
        write(session, begin(session, "broken"), "Boo", status="interrupted")
        session.execute(
            sa.text(
                'UPDATE chat_sessions SET messages = messages || \'[{"role": "user", "content": "And?"}]\''
                " WHERE id = :id"
            ),
            {"id": CHAT},
        )
        session.expire_all()
        assert [(m.content, m.status, m.model) for m in session.scalars(queries.thread(CHAT))] == [
            ("Two", "complete", None),
            ("Booked.", "complete", "acme-1"),
            ("Boo", "interrupted", None),
            ("And?", "complete", None),
        ]


@each_actor
def test_the_usage_of_a_span_is_that_of_the_view(session: Session, actor: Acting) -> None:
    with actor(session):
        for n in range(4):
            _, reply = session.scalars(
                queries.append_turn(CHAT, ANN, "Two", "Booked.", key=str(n), generation=GENERATION)
            ).all()
            reply.created_at = datetime(2026, 3, 1 + n // 2, 23, 59, tzinfo=UTC)
        session.flush()
        session.execute(sa.text("SET LOCAL TimeZone = 'Asia/Tokyo'"))
        days = [DailyUsage(*row) for row in session.execute(queries.usage(user_id=ANN))]
        assert [
            DailyUsage(*row) for row in session.execute(sa.text("SELECT * FROM message_usage ORDER BY day DESC"))
        ] == days
        assert days[1] == DailyUsage(
            ANN, None, date(2026, 3, 1), "acme", "acme-1", 2, 240, 60, 200, 20, Decimal("0.000246"), Decimal(900)
        )
        later = datetime(2026, 3, 2, tzinfo=UTC)
        since, until = queries.usage(user_id=ANN, since=later), queries.usage(user_id=ANN, until=later)
        assert [DailyUsage(*row) for row in session.execute(since)] == days[:1]
        assert [DailyUsage(*row) for row in session.execute(until)] == days[1:]
        assert session.execute(queries.usage(user_id=BEN)).all() == []
