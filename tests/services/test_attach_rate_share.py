"""Attachments, ratings and shares as a service writes and reads them; and who opens a share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, InvalidRequestError
from sqlalchemy.orm import Session

from app import queries
from app.acting_as import acting_as, acting_as_service
from app.models import Attachment, Conversation, Feedback, Message, Share, Tenant, TenantUser
from app.queries import AttachmentPosition, SharedMessage
from tests.services.people import ANN, BEN

TRIP = UUID("0000000c-0000-4000-8000-000000000009")


@pytest.fixture
def trip(engine: sa.Engine) -> list[UUID]:
    """Ann's conversation of six messages, a system prompt and a tool's step among them; their ids."""
    roles = ("system", "user", "assistant", "tool", "user", "assistant")
    with Session(engine) as session, acting_as(session, ANN):
        session.add(Conversation(id=TRIP, user_id=ANN, title="Trip to Lyon"))
        session.flush()
        messages = [
            Message(conversation_id=TRIP, user_id=ANN, role=role, content=f"{n} {role}") for n, role in enumerate(roles)
        ]
        session.add_all(messages)
        session.commit()
        return list(session.scalars(sa.select(Message.id).order_by(Message.seq)))


def opened(engine: sa.Engine, token: str) -> list[str]:
    with Session(engine) as session, acting_as_service(session):
        return [SharedMessage(*row).content for row in session.execute(queries.open_share(token))]


def shared(engine: sa.Engine, message: UUID, expires_at: datetime | None = None) -> str:
    token = queries.new_share_token()
    with Session(engine) as session, acting_as(session, ANN):
        session.scalars(queries.share(TRIP, ANN, message, token, expires_at=expires_at)).one()
        session.commit()
    return token


def test_attachments_are_read_in_pages_those_of_no_message_among_them(engine: sa.Engine, trip: list[UUID]) -> None:
    with Session(engine) as session, acting_as(session, ANN):
        for n in range(5):
            session.add(
                Attachment(
                    user_id=ANN,
                    conversation_id=TRIP,
                    message_id=trip[1] if n % 2 else None,
                    name=f"{n}.pdf",
                    media_type="application/pdf",
                    size_bytes=3,
                    sha256=bytes(32),
                    storage_key=f"{ANN}/{n}",
                )
            )
            session.flush()
        found: list[Attachment] = []
        while page := session.scalars(
            queries.attachments_of(TRIP, after=AttachmentPosition.of(found[-1]) if found else None, limit=2)
        ).all():
            found += page
        assert sorted(each.name for each in found) == [f"{n}.pdf" for n in range(5)]
        session.commit()
    with Session(engine) as session, acting_as(session, BEN):
        assert session.scalars(queries.attachments_of(TRIP)).all() == []


def test_a_file_in_another_users_conversation_or_of_a_message_elsewhere_is_refused(
    engine: sa.Engine, trip: list[UUID]
) -> None:
    with engine.connect() as connection, acting_as_service(connection):
        elsewhere = connection.scalar(
            sa.select(Conversation.id).where(Conversation.user_id == ANN, Conversation.id != TRIP)
        )
        bens = connection.scalar(sa.select(Conversation.id).where(Conversation.user_id == BEN))
        for conversation, key in ((bens, "conversation_id"), (elsewhere, "message_id")):
            row = {"user_id": ANN, "conversation_id": conversation, "message_id": trip[1]}
            file = {"name": "a", "media_type": "b", "size_bytes": 0, "sha256": bytes(32), "storage_key": "k"}
            with pytest.raises(DBAPIError, match=f"fk_attachments_{key}"), connection.begin_nested():
                connection.execute(sa.insert(Attachment), [row | file])


def test_what_hangs_on_a_message_follows_it_into_another_conversation(engine: sa.Engine, trip: list[UUID]) -> None:
    with Session(engine) as session, acting_as(session, ANN):
        session.scalars(queries.rate(TRIP, ANN, trip[2], 1)).one()
        other = session.scalars(sa.select(Conversation.id).where(Conversation.id != TRIP)).one()
        session.execute(sa.update(Message).where(Message.id == trip[2]).values(conversation_id=other))
        assert [each.message_id for each in session.scalars(queries.ratings_of(other))] == [trip[2]]


def test_a_rating_is_replaced_by_the_next(engine: sa.Engine, trip: list[UUID]) -> None:
    with Session(engine) as session, acting_as(session, ANN):
        first = session.scalars(queries.rate(TRIP, ANN, trip[2], 1)).one()
        assert (first.rating, first.reason) == (1, None)
        session.commit()
        session.scalars(queries.rate(TRIP, ANN, trip[2], -1, "wrong train")).one()
        session.commit()
        assert [(each.rating, each.reason) for each in session.scalars(queries.ratings_of(TRIP))] == [
            (-1, "wrong train")
        ]
    with Session(engine) as session, acting_as(session, BEN):
        assert session.scalars(queries.ratings_of(TRIP)).all() == []
        with pytest.raises(DBAPIError, match="row-level security"):
            session.scalars(queries.rate(TRIP, BEN, trip[2], 1)).one()


@pytest.mark.parametrize("rating", [0, 2, -2])
def test_a_rating_is_up_or_down(engine: sa.Engine, trip: list[UUID], rating: int) -> None:
    with Session(engine) as session, acting_as(session, ANN), pytest.raises(DBAPIError, match="ck_feedback_rating"):
        session.execute(
            sa.insert(Feedback).values(message_id=trip[2], conversation_id=TRIP, user_id=ANN, rating=rating)
        )


class TestAShare:
    def test_shows_what_was_said_up_to_its_message_and_nothing_later(self, engine: sa.Engine, trip: list[UUID]) -> None:
        assert opened(engine, shared(engine, trip[4])) == ["1 user", "2 assistant", "4 user"]
        assert opened(engine, shared(engine, trip[5])) == ["1 user", "2 assistant", "4 user", "5 assistant"]
        token = shared(engine, trip[5])
        with Session(engine) as session, acting_as(session, ANN):
            session.add(Message(conversation_id=TRIP, user_id=ANN, role="user", content="a secret"))
            session.commit()
        assert "a secret" not in opened(engine, token)

    def test_shows_its_own_branch_and_no_other(self, engine: sa.Engine, trip: list[UUID]) -> None:
        with Session(engine, expire_on_commit=False) as session, acting_as(session, ANN):
            branches = [
                Message(conversation_id=TRIP, user_id=ANN, role="user", content=text, parent_id=trip[2])
                for text in ("first try", "second try")
            ]
            session.add_all(branches)
            session.commit()
        for branch in branches:
            assert opened(engine, shared(engine, branch.id)) == ["1 user", "2 assistant", branch.content]

    def test_is_read_in_pages_with_its_title(self, engine: sa.Engine, trip: list[UUID]) -> None:
        token = shared(engine, trip[5])
        found: list[SharedMessage] = []
        with Session(engine) as session, acting_as_service(session):
            while rows := session.execute(
                queries.open_share(token, after=found[-1].position() if found else None, limit=3)
            ).all():
                found += [SharedMessage(*row) for row in rows]
        assert [each.content for each in found] == ["1 user", "2 assistant", "4 user", "5 assistant"]
        assert {each.title for each in found} == {"Trip to Lyon"}

    def test_is_found_by_its_token_alone(self, engine: sa.Engine, trip: list[UUID]) -> None:
        token = shared(engine, trip[5])
        for wrong in ("", token[:-1], token + "A", queries.new_share_token()):
            assert opened(engine, wrong) == []

    def test_is_closed_by_its_owner_for_good(self, engine: sa.Engine, trip: list[UUID]) -> None:
        token = shared(engine, trip[5])
        with Session(engine) as session:
            with acting_as(session, BEN):
                [share] = session.scalars(queries.shares_of(TRIP)).all() or [None]
                assert share is None
            session.rollback()
            with acting_as(session, ANN):
                [mine] = session.scalars(queries.shares_of(TRIP)).all()
                session.execute(queries.revoke_share(mine.id))
                session.commit()
        assert opened(engine, token) == []

    def test_is_closed_when_it_expires(self, engine: sa.Engine, trip: list[UUID]) -> None:
        assert opened(engine, shared(engine, trip[5], datetime.now(UTC) - timedelta(seconds=1))) == []
        assert opened(engine, shared(engine, trip[5], datetime.now(UTC) + timedelta(hours=1))) != []

    def test_goes_with_its_message(self, engine: sa.Engine, trip: list[UUID]) -> None:
        token = shared(engine, trip[5])
        with Session(engine) as session, acting_as(session, ANN):
            session.execute(sa.delete(Message).where(Message.id == trip[5]))
            session.commit()
        assert opened(engine, token) == []

    def test_is_closed_while_its_conversation_is_in_the_trash(self, engine: sa.Engine, trip: list[UUID]) -> None:
        token = shared(engine, trip[5])
        for deleted_at, shown in ((sa.func.now(), 0), (None, 4)):
            with Session(engine) as session, acting_as(session, ANN):
                session.execute(sa.update(Conversation).where(Conversation.id == TRIP).values(deleted_at=deleted_at))
                session.commit()
            assert len(opened(engine, token)) == shown

    def test_of_a_tenant_is_closed_while_its_owner_is_no_member(self, engine: sa.Engine, trip: list[UUID]) -> None:
        tenant = uuid4()
        with Session(engine) as session, acting_as_service(session):
            session.add(Tenant(id=tenant, name="Acme"))
            session.flush()
            session.add(TenantUser(tenant_id=tenant, user_id=ANN))
            session.execute(sa.update(Conversation).where(Conversation.id == TRIP).values(tenant_id=tenant))
            session.commit()
        token = shared(engine, trip[5])
        assert opened(engine, token)
        with Session(engine) as session, acting_as_service(session):
            session.execute(sa.delete(TenantUser))
            session.commit()
        assert opened(engine, token) == []
        with Session(engine) as session, acting_as(session, ANN):
            assert session.scalars(queries.shares_of(TRIP)).all() == []

    def test_is_opened_by_no_user_not_even_its_owner(self, engine: sa.Engine, trip: list[UUID]) -> None:
        token = shared(engine, trip[5])
        for user in (ANN, BEN):
            with Session(engine) as session, acting_as(session, user), pytest.raises(DBAPIError, match="permission"):
                session.execute(queries.open_share(token)).all()

    def test_does_not_show_its_digest_to_its_owner(self, engine: sa.Engine, trip: list[UUID]) -> None:
        shared(engine, trip[5])
        with Session(engine) as session, acting_as(session, ANN):
            [mine] = session.scalars(queries.shares_of(TRIP)).all()
            with pytest.raises(InvalidRequestError):
                mine.token_hash  # noqa: B018
            with pytest.raises(DBAPIError, match="permission denied"):
                session.scalars(sa.select(Share.token_hash)).all()

    def test_cannot_be_moved_to_another_message_by_its_owner(self, engine: sa.Engine, trip: list[UUID]) -> None:
        shared(engine, trip[2])
        with Session(engine) as session, acting_as(session, ANN), pytest.raises(DBAPIError, match="permission denied"):
            session.execute(sa.update(Share).values(message_id=trip[5]))

    def test_of_another_users_conversation_is_refused(self, engine: sa.Engine, trip: list[UUID]) -> None:
        with Session(engine) as session, acting_as(session, BEN), pytest.raises(DBAPIError, match="row-level security"):
            session.scalars(queries.share(TRIP, BEN, trip[5], queries.new_share_token())).one()
