"""The search as a service calls it: what people type, what they see of it, and whom it refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from psycopg import errors
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from app.acting_as import acting_as, acting_as_async, acting_as_service
from app.models import ChatMessage, Conversation, Message, Tenant, TenantUser
from app.queries import Hit, HitPosition, restore, search, throw_away
from tests.services.people import ANN, BEN


@pytest.fixture
def session(engine: sa.Engine) -> Iterator[Session]:
    with Session(engine) as session:
        yield session


@pytest.fixture
def say(administrator: sa.Engine) -> Iterator[Any]:
    """Store texts of Ann's, in her conversation or in the one given, and return their ids."""
    with Session(administrator, expire_on_commit=False) as owner:
        trip = Conversation(user_id=ANN)
        owner.add(trip)
        owner.flush()

        def store(*texts: str, user: UUID = ANN, conversation: UUID = trip.id, role: str = "user") -> list[UUID]:
            ids = []
            for text in texts:
                message = Message(conversation_id=conversation, user_id=user, role=role, content=text)
                owner.add(message)
                owner.commit()
                ids.append(message.id)
            return ids

        yield store


def found(session: Session, query: str, **narrowed: Any) -> list[Hit]:
    return [Hit(*row) for row in session.execute(search(query, **narrowed))]


def texts(session: Session, query: str, **narrowed: Any) -> list[str]:
    return ["".join(text for text, _ in hit.parts()) for hit in found(session, query, **narrowed)]


def test_words_phrases_alternatives_and_what_must_not_be_there(session: Session, say: Any) -> None:
    say("A table for two.", "Two seats to Lyon, please!", "Lyon has two rivers.", "Nothing else")
    with acting_as(session, ANN):
        assert texts(session, "two lyon") == ["Lyon has two rivers.", "Two seats to Lyon, please!"]
        assert texts(session, '"two seats"') == ["Two seats to Lyon, please!"]
        assert texts(session, "two -rivers") == ["Two seats to Lyon, please!", "A table for two."]
        assert texts(session, "table or rivers") == ["Lyon has two rivers.", "A table for two."]
        assert texts(session, "LYON please") == ["Two seats to Lyon, please!"]
        assert texts(session, "lyo") == texts(session, "-two") == texts(session, "?!") == texts(session, "") == []


def test_words_in_any_language_are_found(session: Session, say: Any) -> None:
    say("Wohin fährt der Zug?", "мы едем в Лион", "Où est l\u2019hôtel ?", "πού είναι εδώ σταθμός;", "iPhone手机壳")
    with acting_as(session, ANN):
        for query in ("fährt", "едем", "l'hôtel", "hôtel", "σταθμός", "iphone", "手机", "机壳", '"iphone 手机"'):
            assert len(texts(session, query)) == 1, query


def test_every_two_or_more_characters_of_a_text_without_spaces_are_found(session: Session, say: Any) -> None:
    sentences = ["東京都港区芝公園へ行きました", "我们明天早上从里昂出发", "한국어로말해주세요", "พรุ่งนี้เราจะไปเที่ยว"]
    ids = say(*sentences)
    with acting_as(session, ANN):
        for key, text in zip(ids, sentences, strict=True):
            for start in range(len(text) - 1):
                for end in range(start + 2, len(text) + 1):
                    assert key in [hit.id for hit in found(session, text[start:end])], text[start:end]
        assert found(session, "東都") == []


def test_the_snippet_marks_what_was_found_and_holds_no_marks_of_the_text_itself(session: Session, say: Any) -> None:
    say("\x02Forged\x03 <b>marks</b>. " + "Filler. " * 40 + "Two seats to Lyon, and two more. " + "Filler. " * 40)
    with acting_as(session, ANN):
        [hit] = found(session, "two")
        assert [text for text, is_hit in hit.parts() if is_hit] == ["Two", "two"]
        assert "seats to Lyon, and" in hit.snippet
        assert hit.snippet.startswith("…")
        assert hit.snippet.endswith("…")
        [hit] = found(session, "forged")
        assert hit.parts()[:2] == [
            ("Forged", True),
            (" <b>marks</b>. Filler. Filler. " + hit.parts()[1][0][31:], False),
        ]


def test_both_stores_are_searched_and_filters_narrow_both(session: Session, say: Any, administrator: sa.Engine) -> None:
    [first] = say("Lyon, first")
    [reply] = say("Lyon, a reply", role="assistant")
    with Session(administrator) as owner:
        owner.add(ChatMessage(user_id=ANN, role="user", content="Lyon, flat", created_at=sa.null()))
        owner.commit()
    with acting_as(session, ANN):
        assert [(hit.store, hit.id) for hit in found(session, "lyon")][:2] == [("messages", reply), ("messages", first)]
        assert texts(session, "flat") == ["Lyon, flat"]
        assert [hit.id for hit in found(session, "lyon", roles=["assistant"])] == [reply]
        in_thread = found(session, "lyon", conversation_id=found(session, "reply")[0].conversation_id)
        assert {"Lyon, first", "Lyon, a reply"} <= {
            hit.snippet.replace("\x02", "").replace("\x03", "") for hit in in_thread
        }
        at = found(session, "reply")[0].created_at
        assert [hit.id for hit in found(session, "lyon", since=at)] == [reply]
        assert reply not in [hit.id for hit in found(session, "lyon", roles=["user"], until=at)]


@pytest.mark.parametrize("best_first", [False, True])
def test_pages_neither_miss_nor_repeat_a_message(
    session: Session, say: Any, administrator: sa.Engine, best_first: bool
) -> None:
    say(*("word " * (n % 3 + 1) for n in range(7)))
    with acting_as(session, ANN):
        expected = [hit.id for hit in found(session, "word", best_first=best_first)]
        assert len(set(expected)) == 7
        at, pages = None, []
        while page := found(session, "word", best_first=best_first, after=at, limit=2):
            pages += [hit.id for hit in page]
            at = HitPosition.of(page[-1])
        assert pages == expected


def test_the_best_come_first(session: Session, say: Any) -> None:
    dense, _, twice = say(
        "lyon lyon lyon", "Lyon and so much else that is hardly about that town at all", "Lyon? Lyon!"
    )
    with acting_as(session, ANN):
        assert [hit.id for hit in found(session, "lyon", best_first=True)][:2] == [dense, twice]


def test_of_many_messages_pages_come_in_order_whether_the_word_is_common_or_rare(
    session: Session, administrator: sa.Engine
) -> None:
    """More than the 10,000 among which it looks first."""
    with administrator.begin() as connection:
        connection.execute(
            sa.text("""
                INSERT INTO conversations (id, user_id) VALUES (:ann, :ann);
            """),
            {"ann": ANN},
        )
        connection.execute(
            sa.text("""
                INSERT INTO messages (conversation_id, user_id, role, content, created_at)
                SELECT :ann, :ann, 'user', concat_ws(' ', 'common', CASE WHEN n % 4000 = 7 THEN 'rare' END,
                         CASE WHEN n < 300 THEN 'old' END),
                       timestamptz '2020-01-01' + n / 3 * interval '1 minute'
                FROM generate_series(1, 12000) AS n
            """),
            {"ann": ANN},
        )
    with acting_as(session, ANN):
        for query, count in (("common", 12000), ("rare", 3), ("old", 299)):
            at, pages = None, []
            while page := found(session, query, after=at, limit=200 if count < 1000 else 190):
                pages += page
                at = HitPosition.of(page[-1])
                if len(pages) > 2000:
                    break
            ids = session.scalars(
                sa.select(Message.id)
                .where(Message.content.like(f"%{query}%"))
                .order_by(Message.created_at.desc(), Message.id.desc())
            ).all()
            assert [hit.id for hit in pages] == list(ids[: len(pages)])
            assert len(pages) == count or len(pages) > 2000


def test_a_message_however_long_is_stored_and_found_by_how_it_begins(session: Session, say: Any) -> None:
    [key] = say("first " + " ".join(f"w{n}" for n in range(300_000)) + " last")
    with acting_as(session, ANN):
        assert [hit.id for hit in found(session, "first")] == [key]
        assert found(session, "last") == []


@pytest.mark.parametrize("query", ["'", '"', "a" * 1001, "lyon\0", "\\", "' OR true --", "(" * 999, "[a-", "\x02"])
def test_a_hostile_query_errs_or_finds_nothing_of_others(session: Session, say: Any, query: str) -> None:
    say("Lyon", user=ANN)
    with acting_as(session, BEN):
        if len(query) > 1000:
            with pytest.raises(DBAPIError, match="The query has 1001 characters, and 1000 are allowed") as caught:
                found(session, query)
            assert isinstance(caught.value.orig, errors.ProgramLimitExceeded)
        else:
            assert found(session, query) == []


def test_a_megabyte_is_refused(session: Session) -> None:
    with acting_as(session, ANN), pytest.raises(DBAPIError, match="shorten it"):
        found(session, "lyon " * 200_000)


def test_a_user_finds_its_own_messages_alone_whatever_it_asks_for(session: Session, say: Any) -> None:
    [key] = say("Lyon")
    with acting_as(session, BEN):
        assert found(session, "lyon") == found(session, "lyon", user_id=ANN) == []
    with acting_as(session, BEN, claims={"role": "service_role", "user_id": str(ANN)}):
        assert found(session, "lyon", user_id=ANN) == []
    with acting_as(session, ANN):
        assert [hit.id for hit in found(session, "lyon", user_id=ANN)] == [key]


def test_a_member_who_leaves_the_tenant_finds_its_messages_no_more_and_the_service_does(
    session: Session, say: Any, administrator: sa.Engine
) -> None:
    with Session(administrator, expire_on_commit=False) as owner:
        tenant = Tenant(name="Acme")
        owner.add(tenant)
        owner.flush()
        member = TenantUser(tenant_id=tenant.id, user_id=ANN)
        conversation = Conversation(user_id=ANN, tenant_id=tenant.id)
        owner.add_all([member, conversation])
        owner.commit()
        [key] = say("Lyon of Acme", conversation=conversation.id)
        with acting_as(session, ANN):
            assert [hit.id for hit in found(session, "acme")] == [key]
        owner.delete(member)
        owner.commit()
    session.rollback()
    with acting_as(session, ANN):
        assert found(session, "acme") == []
    session.rollback()
    with acting_as_service(session):
        assert [hit.id for hit in found(session, "acme", user_id=ANN)] == [key]


def test_what_is_in_the_trash_is_found_by_nobody_and_again_when_it_is_restored(session: Session, say: Any) -> None:
    [key] = say("Lyon")
    with acting_as(session, ANN):
        [hit] = found(session, "lyon")
        session.execute(throw_away(hit.conversation_id, ANN))
        session.commit()
        assert found(session, "lyon") == []
    session.rollback()
    with acting_as_service(session):
        assert found(session, "lyon", user_id=ANN) == []
    session.rollback()
    with acting_as(session, ANN):
        session.execute(restore(hit.conversation_id, ANN))
        assert [hit.id for hit in found(session, "lyon")] == [key]


def test_the_service_says_whose_messages(session: Session) -> None:
    with acting_as_service(session), pytest.raises(DBAPIError, match="Pass p_user_id"):
        found(session, "lyon")


def test_nobody_else_may_search(session: Session, administrator: sa.Engine) -> None:
    with pytest.raises(DBAPIError, match="permission denied"):
        found(session, "lyon", user_id=ANN)
    session.rollback()
    with administrator.begin() as connection:
        connection.execute(sa.text("SET LOCAL ROLE anon"))
        with pytest.raises(DBAPIError, match="permission denied"):
            connection.execute(search("lyon", user_id=ANN))


def test_without_claims_nothing_is_found(session: Session, say: Any) -> None:
    say("Lyon")
    session.execute(sa.text("SET LOCAL ROLE authenticated"))
    assert found(session, "lyon") == found(session, "lyon", user_id=ANN) == []


def test_it_is_the_same_for_an_asynchronous_session(async_engine: AsyncEngine, say: Any) -> None:
    [key] = say("Lyon")

    async def ask() -> list[UUID]:
        async with AsyncSession(async_engine) as session, acting_as_async(session, ANN):
            return [Hit(*row).id for row in await session.execute(search("lyon", limit=5))]

    assert asyncio.run(ask()) == [key]


def test_a_changed_message_is_found_by_what_it_says_now(session: Session, say: Any) -> None:
    [key] = say("Lyon")
    with acting_as(session, ANN):
        session.execute(sa.update(Message).where(Message.id == key).values(content="Paris"))
        assert found(session, "lyon") == []
        assert [hit.id for hit in found(session, "paris")] == [key]
        session.execute(sa.delete(Message).where(Message.id == key))
        assert found(session, "paris") == []


def test_a_user_who_is_gone_leaves_nothing_to_find(session: Session) -> None:
    with acting_as(session, uuid4()):
        assert found(session, "lyon") == []
