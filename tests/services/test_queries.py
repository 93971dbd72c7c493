"""The statements of app.queries: pages neither miss nor repeat a row, turns are stored once, plans follow an index."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import UTC, datetime
from decimal import Decimal
from threading import Barrier
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from app import embedded, queries
from app.acting_as import acting_as, acting_as_async, acting_as_service
from app.models import Brand, Conversation, ConversationMessage, ConversationSession, Message
from app.queries import ConversationPosition, MessagePosition, Usage
from tests.services import actors
from tests.services.actors import Acting
from tests.services.people import ANN, BEN

TENANT = UUID("0000000b-0000-4000-8000-000000000001")

LONG = UUID("0000000c-0000-4000-8000-000000000001")
OTHER = UUID("0000000c-0000-4000-8000-000000000002")
BENS = UUID("0000000c-0000-4000-8000-000000000003")

# Ann has 400 conversations of 12 messages and a long one, all within the tenant; Ben and 2,000 others have two, one
# of them within the tenant. Times tie by design: the messages of a conversation share one of three moments; each time
# of activity is shared by eight conversations.
ROWS = f"""
INSERT INTO users (id) VALUES ('{ANN}'), ('{BEN}');
INSERT INTO users (id) SELECT gen_random_uuid() FROM generate_series(1, 2000);
INSERT INTO tenants (id, name) VALUES ('{TENANT}', 'Acme');
INSERT INTO tenant_users (tenant_id, user_id) SELECT '{TENANT}', id FROM users;
INSERT INTO conversations (user_id, tenant_id)
  SELECT '{ANN}', '{TENANT}' FROM generate_series(1, 400)
  UNION ALL SELECT id, CASE WHEN n = 1 THEN uuid '{TENANT}' END FROM users, generate_series(1, 2) AS n;
INSERT INTO messages (conversation_id, user_id, role, content, created_at)
  SELECT c.id, c.user_id, 'user', 'Hello', timestamptz '2026-01-01' + n % 3 * interval '1 hour'
  FROM conversations AS c, generate_series(1, 12) AS n ORDER BY random();
INSERT INTO conversations (id, user_id, tenant_id) VALUES ('{LONG}', '{ANN}', '{TENANT}');
INSERT INTO messages (conversation_id, user_id, role, content, created_at)
  SELECT '{LONG}', '{ANN}', 'user', 'Hello', timestamptz '2026-01-01' + n / 2 * interval '1 second'
  FROM generate_series(1, 1000) AS n;
UPDATE conversations AS c SET updated_at = timestamptz '2026-01-01' + n / 8 * interval '1 minute'
  FROM (SELECT id, row_number() OVER (PARTITION BY user_id ORDER BY id) AS n FROM conversations) AS o WHERE o.id = c.id;
"""


@pytest.fixture(scope="module")
def engine(server: embedded.Server, _shared_database: str) -> Iterator[sa.Engine]:
    """The superuser's engine to a database that holds ROWS; a test leaves no row behind."""
    engine = sa.create_engine(server.url(_shared_database))
    with engine.begin() as connection:
        connection.execute(sa.text(ROWS))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("VACUUM ANALYZE"))
    yield engine
    engine.dispose()


@pytest.fixture
def session(engine: sa.Engine) -> Iterator[Session]:
    with Session(engine) as session:
        yield session


ACTORS = actors.ACTORS | {"the owner of the tables": lambda session: nullcontext()}
each_actor = pytest.mark.parametrize("actor", ACTORS.values(), ids=ACTORS)


def walk(session: Session, page: Callable[[Any], sa.Select[Any]], position: Callable[[Any], Any]) -> list[Any]:
    """Read page after page to the end."""
    found: list[Any] = []
    at = None
    while rows := session.scalars(page(at)).all():
        found += rows
        at = position(rows[-1])
    return found


def a_conversation(session: Session) -> UUID:
    return session.scalars(
        sa.select(Conversation.id).where(Conversation.user_id == ANN, Conversation.id != LONG).limit(1)
    ).one()


@each_actor
@pytest.mark.parametrize("limit", [1, 7, 8, 50, 1000])
def test_pages_of_conversations_neither_miss_nor_repeat_one(session: Session, actor: Acting, limit: int) -> None:
    def page(at: ConversationPosition | None) -> sa.Select[Conversation]:
        return queries.conversations_of_user(ANN, after=at, limit=limit)

    with actor(session):
        found = walk(session, page, ConversationPosition.of)
        expected = session.scalars(sa.select(Conversation).where(Conversation.user_id == ANN)).all()
    assert len(expected) == 403
    assert found == sorted(expected, key=ConversationPosition.of, reverse=True)


@pytest.mark.parametrize("limit", [3, 50])
def test_pages_of_a_tenant_neither_miss_nor_repeat_one(session: Session, limit: int) -> None:
    def page(at: ConversationPosition | None) -> sa.Select[Conversation]:
        return queries.conversations_of_tenant(TENANT, after=at, limit=limit)

    with acting_as_service(session):
        found = walk(session, page, ConversationPosition.of)
        expected = session.scalars(sa.select(Conversation).where(Conversation.tenant_id == TENANT)).all()
        assert len(expected) == 401 + 2002
        assert found == sorted(expected, key=ConversationPosition.of, reverse=True)
        with acting_as(session, BEN):
            assert [row.user_id for row in walk(session, page, ConversationPosition.of)] == [BEN]


@each_actor
@pytest.mark.parametrize("limit", [1, 3, 4, 5, 50])
def test_a_thread_is_the_same_forwards_and_backwards(session: Session, actor: Acting, limit: int) -> None:
    def forwards(at: MessagePosition | None) -> sa.Select[Message]:
        return queries.thread(conversation, after=at, limit=limit)

    def backwards(at: MessagePosition | None) -> sa.Select[Message]:
        return queries.thread_backwards(conversation, before=at, limit=limit)

    with actor(session):
        conversation = a_conversation(session)
        ahead, back = (walk(session, page, MessagePosition.of) for page in (forwards, backwards))
        expected = session.scalars(sa.select(Message).where(Message.conversation_id == conversation)).all()
    assert len(expected) == 12
    assert ahead == back[::-1] == sorted(expected, key=MessagePosition.of)


def test_a_thread_goes_on_both_ways_from_the_middle(session: Session) -> None:
    with acting_as(session, ANN):
        conversation = a_conversation(session)
        whole = session.scalars(queries.thread(conversation)).all()
        middle = MessagePosition.of(whole[5])
        assert session.scalars(queries.thread(conversation, after=middle)).all() == whole[6:]
        assert session.scalars(queries.thread_backwards(conversation, before=middle)).all() == whole[4::-1]


def test_anothers_conversation_and_one_that_does_not_exist_look_the_same(session: Session) -> None:
    conversation = a_conversation(session)
    with acting_as(session, BEN):
        assert session.scalars(queries.conversations_of_user(ANN)).all() == []
        for nothing in (conversation, uuid4()):
            assert session.scalars(queries.thread(nothing)).all() == []
            assert session.scalars(queries.thread_backwards(nothing)).all() == []


CURSOR = datetime(2026, 1, 1, 0, 20, tzinfo=UTC)  # in the middle of the conversations, as MOMENT is of the messages
MOMENT = datetime(2026, 1, 1, 0, 4, tzinfo=UTC)
PLANS: dict[str, tuple[Callable[[UUID], sa.Select[Any]], str, str]] = {  # the statement, a user's index, the service's
    "conversations of a user": (
        lambda _: queries.conversations_of_user(ANN, limit=20),
        "idx_conversations_sidebar",
        "idx_conversations_sidebar",
    ),
    "the next conversations of a user": (
        lambda _: queries.conversations_of_user(ANN, after=ConversationPosition(CURSOR, ANN), limit=20),
        "idx_conversations_sidebar",
        "idx_conversations_sidebar",
    ),
    "conversations of a tenant": (
        lambda _: queries.conversations_of_tenant(TENANT, limit=20),
        "idx_conversations_user_id_tenant_id",
        "idx_conversations_tenant_id",
    ),
    "the next conversations of a tenant": (
        lambda _: queries.conversations_of_tenant(TENANT, after=ConversationPosition(CURSOR, ANN), limit=20),
        "idx_conversations_user_id_tenant_id",
        "idx_conversations_tenant_id",
    ),
    "a thread": (
        lambda conversation: queries.thread(conversation, limit=20),
        "idx_messages_conversation_id",
        "idx_messages_conversation_id_created_at",
    ),
    "the rest of a thread": (
        lambda conversation: queries.thread(conversation, after=MessagePosition(MOMENT, 1), limit=20),
        "idx_messages_conversation_id",
        "idx_messages_conversation_id_created_at",
    ),
    "the end of a thread": (
        lambda conversation: queries.thread_backwards(conversation, limit=20),
        "idx_messages_conversation_id",
        "idx_messages_conversation_id_created_at",
    ),
    "what came before in a thread": (
        lambda conversation: queries.thread_backwards(conversation, before=MessagePosition(MOMENT, 1), limit=20),
        "idx_messages_conversation_id",
        "idx_messages_conversation_id_created_at",
    ),
}


def plan_of(session: Session, statement: sa.Select[Any]) -> list[dict[str, Any]]:
    """Return the nodes that read a table or sort, without those of policies (InitPlans and SubPlans)."""
    text = statement.compile(session.connection(), compile_kwargs={"literal_binds": True})

    def walk_plan(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield node
        for child in node.get("Plans", ()):
            if child["Parent Relationship"] not in ("InitPlan", "SubPlan"):
                yield from walk_plan(child)

    [plan] = session.connection().exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {text}").scalar_one()
    return list(walk_plan(plan["Plan"]))


@pytest.mark.parametrize("actor", ["a user", "the service"])
@pytest.mark.parametrize(
    ("statement", "users", "services"),
    PLANS.values(),
    ids=PLANS,
)
def test_a_page_is_read_in_the_order_of_an_index(
    session: Session, actor: str, statement: Callable[[UUID], sa.Select[Any]], users: str, services: str
) -> None:
    with ACTORS[actor](session):
        nodes = plan_of(session, statement(LONG))
    scan = nodes[-1]
    assert [node["Node Type"] for node in nodes if "Sort" in node["Node Type"]] == []
    assert scan["Index Name"] == (users if actor == "a user" else services)
    assert scan["Actual Rows"] <= 20 + 1
    assert scan.get("Rows Removed by Filter", 0) <= 8


@pytest.fixture
def own(migrated_url: str) -> Iterator[sa.Engine]:
    """A database of this test alone, where Ann has two conversations and Ben one."""
    engine = sa.create_engine(migrated_url)
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                f"""
                INSERT INTO users (id) VALUES ('{ANN}'), ('{BEN}');
                INSERT INTO conversations (id, user_id, created_at, updated_at)
                SELECT id, user_id, '2026-01-01', '2026-01-01' FROM (
                  VALUES (uuid '{LONG}', uuid '{ANN}'), ('{OTHER}', '{ANN}'), ('{BENS}', '{BEN}')
                ) AS c (id, user_id)
                """
            )
        )
    yield engine
    engine.dispose()


def texts(session: Session, conversation: UUID = LONG) -> list[tuple[str, str]]:
    return [(m.role, m.content) for m in session.scalars(queries.thread(conversation))]


def test_a_turn_sent_twice_is_stored_once_and_returned_twice(own: sa.Engine) -> None:
    def send(question: str) -> list[tuple[UUID, int]]:
        with Session(own) as session, acting_as(session, ANN):
            turn = queries.append_turn(
                LONG, ANN, question, "Hello!", key="k", tool_calls=[{"name": "greet"}], metadata={"model": "m"}
            )
            stored = [(message.id, message.seq) for message in session.scalars(turn)]
            session.commit()
            return stored

    assert send("Hi") == send("Hi, sent again with other words")
    with Session(own) as session, acting_as(session, ANN):
        question, reply = session.scalars(queries.thread(LONG))
        assert (question.role, question.content, question.tool_calls, question.metadata_) == ("user", "Hi", None, {})
        assert (reply.role, reply.content) == ("assistant", "Hello!")
        assert (reply.tool_calls, reply.metadata_) == ([{"name": "greet"}], {"model": "m"})
        assert question.created_at == reply.created_at
        assert question.seq < reply.seq


def test_a_turn_in_two_transactions_is_the_same_turn(own: sa.Engine) -> None:
    with Session(own, expire_on_commit=False) as session, acting_as(session, ANN):
        question = session.scalars(queries.append_message(LONG, ANN, "user", "Hi", key="k")).one()
        session.commit()
        key = queries.reply_key("k")
        reply = session.scalars(queries.append_message(LONG, ANN, "assistant", "Hello!", key=key)).one()
        session.commit()
        again = session.scalars(queries.append_turn(LONG, ANN, "Hi", "Other words", key="k")).all()
        assert again == [question, reply]
        assert texts(session) == [("user", "Hi"), ("assistant", "Hello!")]


def test_a_repetition_moves_nothing(own: sa.Engine) -> None:
    def activity(session: Session) -> datetime:
        return session.scalars(sa.select(Conversation.updated_at).where(Conversation.id == LONG)).one()

    with Session(own) as session, acting_as(session, ANN):
        session.scalars(queries.append_turn(LONG, ANN, "Hi", "Hello!", key="k")).all()
        session.commit()
        before = activity(session)
        session.commit()
        session.scalars(queries.append_turn(LONG, ANN, "Hi", "Hello!", key="k")).all()
        session.commit()
        assert activity(session) == before


def test_the_keys_of_two_users_never_meet(own: sa.Engine) -> None:
    for user, conversation in ((ANN, LONG), (BEN, BENS)):
        with Session(own) as session, acting_as(session, user):
            session.scalars(queries.append_turn(conversation, user, "Hi", f"I am {user}", key="k")).all()
            session.commit()
            assert texts(session, conversation) == [("user", "Hi"), ("assistant", f"I am {user}")]


def test_a_key_of_another_conversation_yields_nothing(own: sa.Engine) -> None:
    with Session(own) as session, acting_as(session, ANN):
        session.scalars(queries.append_turn(LONG, ANN, "Hi", "Hello!", key="k")).all()
        assert session.scalars(queries.append_turn(OTHER, ANN, "Hi", "Hello!", key="k")).all() == []
        assert texts(session, OTHER) == []


def test_nobody_appends_to_the_conversation_of_another(own: sa.Engine) -> None:
    for owner in (ANN, BEN):
        with Session(own) as session, acting_as(session, ANN), pytest.raises(DBAPIError):
            session.execute(queries.append_turn(BENS, owner, "Hi", "Hello!", key="k"))


def test_one_turn_sent_by_many_at_once_is_stored_once(own: sa.Engine) -> None:
    at_once = Barrier(8)

    def send(_: int) -> list[UUID]:
        with Session(own) as session, acting_as(session, ANN):
            session.execute(sa.text("SELECT 1"))
            at_once.wait()
            stored = [message.id for message in session.scalars(queries.append_turn(LONG, ANN, "Hi", "Ho", key="k"))]
            session.commit()
            return stored

    with ThreadPoolExecutor(8) as senders:
        first, *others = senders.map(send, range(8))
    assert len(first) == 2
    assert all(other == first for other in others)
    with Session(own) as session:
        assert texts(session) == [("user", "Hi"), ("assistant", "Ho")]


@pytest.mark.asyncio
async def test_the_statements_serve_an_async_session(own: sa.Engine) -> None:
    engine = create_async_engine(own.url)
    async with AsyncSession(engine) as session, acting_as_async(session, ANN):
        turn = (await session.scalars(queries.append_turn(LONG, ANN, "Hi", "Hello!", key="k"))).all()
        assert (await session.scalars(queries.thread(LONG))).all() == turn
        latest = (await session.scalars(queries.conversations_of_user(ANN, limit=1))).one()
        assert latest.id == LONG
    await engine.dispose()


def test_cost_and_usage_of_a_session(own: sa.Engine) -> None:
    session_id, empty, brand = uuid4(), uuid4(), uuid4()
    with Session(own) as session, acting_as(session, ANN):
        session.add(Brand(id=brand, user_id=ANN, name="Soap"))
        session.flush()
        session.add_all([ConversationSession(id=id_, brand_id=brand, user_id=ANN) for id_ in (session_id, empty)])
        session.flush()
        spent = [("a", "large", 100, "0.25", 400), ("a", "large", 50, "0.10", 200), ("b", "small", 7, "0.000001", None)]
        for provider, model, tokens, cost, latency in [*spent, (None, None, None, None, None)]:
            session.add(
                ConversationMessage(
                    session_id=session_id,
                    brand_id=brand,
                    user_id=ANN,
                    role="director" if provider else "user",
                    content="Think of soap",
                    provider=provider,
                    model_used=model,
                    tokens_used=tokens,
                    cost_usd=Decimal(cost) if cost else None,
                    latency_ms=latency,
                )
            )
        session.commit()
        assert session.scalars(queries.session_cost(session_id)).one() == Decimal("0.350001")
        assert session.scalars(queries.session_cost(empty)).one() == 0
        assert [Usage(*row) for row in session.execute(queries.session_usage(session_id))] == [
            Usage("a", "large", 2, 150, Decimal("0.35"), Decimal(300)),
            Usage("b", "small", 1, 7, Decimal("0.000001"), None),
            Usage(None, None, 1, 0, Decimal(0), None),
        ]
    with Session(own) as session, acting_as(session, BEN):
        assert session.scalars(queries.session_cost(session_id)).one() == 0
        assert session.execute(queries.session_usage(session_id)).all() == []
