"""The models against a migrated database: what they send, what comes back, and what the database refuses."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import get_args
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, joinedload, selectinload, undefer

from app.models import (
    Attachment,
    Base,
    Brand,
    ChatMessage,
    Conversation,
    ConversationMessage,
    ConversationSession,
    Feedback,
    Message,
    MessageRole,
    MessageStatus,
    RetentionHold,
    RetentionRule,
    SessionMessageRole,
    Share,
    Task,
    Tenant,
    TenantRole,
    TenantUser,
    User,
    UserLlmProvider,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def url(migrated_url: str) -> sa.URL:
    return sa.make_url(migrated_url).set(drivername="postgresql+psycopg")


@pytest.fixture
def session(url: sa.URL) -> Iterator[Session]:
    engine = sa.create_engine(url)
    with Session(engine, expire_on_commit=False) as session:
        yield session
    engine.dispose()


@pytest.fixture
def statements(session: Session) -> Iterator[list[str]]:
    """Every statement the session sends from here on, as `VERB table`-like text on one line."""
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        sent.append(" ".join(statement.split()))

    engine = session.get_bind()
    sa.event.listen(engine, "before_cursor_execute", note)
    yield sent
    sa.event.remove(engine, "before_cursor_execute", note)


@pytest.fixture
def user(session: Session) -> User:
    user = User(email="ada@example.org")
    session.add(user)
    session.commit()
    return user


@pytest.fixture
def conversation(session: Session, user: User) -> Conversation:
    conversation = Conversation(user=user)
    session.add(conversation)
    session.commit()
    return conversation


def everything_of(user: User, tenant: Tenant, number: int) -> list[Base]:
    """One row of every table that a user can own, told apart by `number`."""
    conversation = Conversation(user=user, tenant=tenant, title=f"Trip {number}")
    brand = Brand(user=user, name=f"Brand {number}")
    work = ConversationSession(user=user, brand=brand)
    return [
        Task(user=user, title=f"Task {number}"),
        conversation,
        Message(conversation=conversation, role="user", content=f"Hello {number}"),
        ChatMessage(conversation=conversation, role="user", content=f"Hello {number}"),
        brand,
        work,
        ConversationMessage(session=work, role="user", content=f"A film {number}"),
    ]


def what_hangs_on_a_message(session: Session, user: User) -> list[Base]:
    """A row of every table that names a message of ``user``, and its key of a model provider."""
    message = session.scalars(sa.select(Message).where(Message.user_id == user.id)).one()
    on = {"message_id": message.id, "conversation_id": message.conversation_id, "user_id": user.id}
    file = {"name": "a", "media_type": "b", "size_bytes": 1, "sha256": bytes(32), "storage_key": str(user.id)}
    return [
        Attachment(**on, **file),
        Feedback(**on, rating=1),
        Share(**on, token_hash=user.id.bytes * 2),
        UserLlmProvider(user_id=user.id, provider="acme", ciphertext=b"sealed", key_id="a"),
        RetentionHold(conversation_id=message.conversation_id, user_id=user.id),
    ]


def test_a_turn_comes_back_as_it_was_written(session: Session, user: User) -> None:
    calls = [{"name": "search", "arguments": {"q": "Wien"}}]
    conversation = Conversation(user=user, metadata_={"pinned": True})
    session.add(conversation)
    conversation.messages.add(Message(role="user", content="Where to?", idempotency_key="k1"))
    conversation.messages.add(Message(role="assistant", content="Vienna.", tool_calls=calls))
    session.commit()
    session.expunge_all()

    stored = session.scalars(sa.select(Conversation).options(joinedload(Conversation.user))).one()
    question, answer = session.scalars(stored.messages.select())
    assert (stored.title, stored.metadata_) == ("New Conversation", {"pinned": True})
    assert (stored.user.email, stored.tenant_id) == ("ada@example.org", None)
    assert (question.content, question.tool_calls, question.metadata_) == ("Where to?", None, {})
    assert (answer.content, answer.tool_calls, answer.user_id) == ("Vienna.", calls, stored.user_id)


def test_a_creative_session_comes_back_as_it_was_written(session: Session, user: User) -> None:
    knowledge = [uuid4(), uuid4()]
    brand = Brand(user=user, name="Acme")
    work = ConversationSession(user=user, brand=brand, selected_kb_ids=knowledge, pending_questions=["Tone?"])
    session.add_all([brand, work])
    work.messages.add(ConversationMessage(role="director", content="Go", cost_usd=Decimal("0.000123")))
    session.commit()
    session.expunge_all()

    stored = session.scalars(sa.select(ConversationSession)).one()
    turn = session.scalars(stored.messages.select()).one()
    assert (stored.state, stored.answered_questions, stored.parsed_intent) == ("initial", {}, None)
    assert (stored.selected_kb_ids, stored.pending_questions) == (knowledge, ["Tone?"])
    assert (turn.cost_usd, turn.tokens_used, turn.latency_ms) == (Decimal("0.000123"), 0, None)
    assert turn.user_id == stored.user_id


@pytest.mark.asyncio
async def test_an_async_session_reads_what_it_wrote_without_a_hidden_query(url: sa.URL) -> None:
    engine = create_async_engine(url)
    async with AsyncSession(engine, expire_on_commit=False) as session:
        user = User(email="grace@example.org")
        conversation = Conversation(user=user)
        tenant = Tenant(name="Navy", memberships=[TenantUser(user=user, role="owner")])
        session.add_all([user, conversation, tenant])
        conversation.messages.add(Message(role="user", content="Hello"))
        await session.commit()
        assert (conversation.title, conversation.metadata_) == ("New Conversation", {})

        before = conversation.updated_at
        conversation.metadata_ = {"mood": "good"}
        await session.commit()
        assert conversation.updated_at > before

        messages = (await session.scalars(conversation.messages.select())).all()
        assert [message.content for message in messages] == ["Hello"]

    async with AsyncSession(engine) as session:
        stored = (await session.scalars(sa.select(User).options(selectinload(User.memberships)))).one()
        assert [membership.role for membership in stored.memberships] == ["owner"]
        await session.delete(stored)
        await session.commit()
        assert await session.scalar(sa.select(sa.func.count()).select_from(Message)) == 0
    await engine.dispose()


def test_many_rows_of_a_table_go_in_one_insert(session: Session, statements: list[str]) -> None:
    users = [User(email=f"u{number}@example.org") for number in range(3)]
    tenants = [Tenant(name=f"T{number}") for number in range(3)]
    session.add_all([*users, *tenants])
    for number, (user, tenant) in enumerate(zip(users, tenants, strict=True)):
        session.add(TenantUser(user=user, tenant=tenant))
        session.add_all(everything_of(user, tenant, number))
    session.flush()
    session.add_all([each for user in users for each in what_hangs_on_a_message(session, user)])
    session.add_all([RetentionRule(tenant_id=tenant.id) for tenant in tenants])
    session.commit()
    assert sorted(statement.split()[2] for statement in statements if statement.startswith("INSERT")) == sorted(
        Base.metadata.tables
    )
    assert [user.email for user in users] == list(session.scalars(sa.select(User.email).order_by(User.email)))


def test_deleting_a_user_is_one_statement_and_takes_all_of_it(
    session: Session, statements: list[str], user: User
) -> None:
    other = User(email="other@example.org")
    tenant = Tenant(name="T", memberships=[TenantUser(user=user), TenantUser(user=other)])
    session.add_all([other, tenant, *everything_of(user, tenant, 1), *everything_of(other, tenant, 2)])
    session.flush()
    session.add_all([*what_hangs_on_a_message(session, user), *what_hangs_on_a_message(session, other)])
    session.commit()
    session.expunge_all()
    gone = session.get_one(User, user.id)

    statements.clear()
    session.delete(gone)
    session.commit()

    assert [statement.split(" WHERE ")[0] for statement in statements] == ["DELETE FROM users"]
    for table in Base.metadata.sorted_tables:
        if "user_id" in table.c:
            assert session.scalars(sa.select(table.c.user_id)).all() == [other.id], table.name


@pytest.mark.parametrize("model", [Tenant, Conversation, Brand, ConversationSession])
def test_deleting_a_parent_is_one_statement(
    session: Session, statements: list[str], user: User, model: type[Base]
) -> None:
    tenant = Tenant(name="T", memberships=[TenantUser(user=user)])
    session.add_all([tenant, *everything_of(user, tenant, 1)])
    session.commit()
    session.expunge_all()
    parent = session.scalars(sa.select(model)).one()

    statements.clear()
    session.delete(parent)
    session.commit()
    assert [statement.split(" WHERE ")[0] for statement in statements] == [f"DELETE FROM {model.__tablename__}"]


def test_a_message_without_a_user_takes_its_conversations_owner(session: Session, conversation: Conversation) -> None:
    message = Message(conversation_id=conversation.id, role="user", content="Hello")
    session.add(message)
    session.flush()
    assert message.user_id == conversation.user_id


def test_a_chat_message_without_a_conversation_takes_its_owners_earliest(
    session: Session, conversation: Conversation, user: User
) -> None:
    session.add(Conversation(user=user))
    session.commit()
    by_key = ChatMessage(user_id=user.id, role="user", content="Hello")
    by_user = ChatMessage(user=user, role="user", content="Hello again")
    session.add_all([by_key, by_user])
    session.flush()
    assert by_key.conversation_id == by_user.conversation_id == conversation.id


def test_a_chat_message_of_a_new_user_opens_a_conversation(session: Session) -> None:
    user = User()
    message = ChatMessage(user=user, role="user", content="Hello")
    session.add(message)
    session.commit()
    assert session.get_one(Conversation, message.conversation_id).user_id == user.id


def test_messages_of_one_instant_keep_the_order_they_were_written_in(
    session: Session, conversation: Conversation
) -> None:
    # Ids are random, so that an order by id would pass this by chance once in 30!.
    written = [Message(role="user", content=str(number), created_at=NOON) for number in range(30)]
    conversation.messages.add_all(written[:20])
    session.flush()
    conversation.messages.add_all(written[20:])
    session.commit()
    session.expunge_all()

    read = session.scalars(session.get_one(Conversation, conversation.id).messages.select())
    assert [message.content for message in read] == [str(number) for number in range(30)]


def test_an_earlier_message_stored_later_is_listed_first(session: Session, conversation: Conversation) -> None:
    for content, hour in (("second", 13), ("first", 12)):
        conversation.messages.add(Message(role="user", content=content, created_at=NOON.replace(hour=hour)))
        session.flush()
    assert [message.content for message in session.scalars(conversation.messages.select())] == [
        "first",
        "second",
    ]


def test_a_message_cannot_stand_in_another_users_conversation(session: Session, conversation: Conversation) -> None:
    stranger = User()
    session.add(stranger)
    session.flush()
    session.add(Message(conversation_id=conversation.id, user_id=stranger.id, role="user", content="Hello"))
    with pytest.raises(IntegrityError, match="fk_messages_conversation_id"):
        session.flush()


def test_a_request_sent_twice_is_stored_once(session: Session, conversation: Conversation) -> None:
    other = Conversation(user=User())
    session.add(other)
    for place in (conversation, other):  # another user's key is another key
        place.messages.add(Message(role="user", content="Hello", idempotency_key="k1"))
    session.commit()
    conversation.messages.add(Message(role="user", content="Hello", idempotency_key="k1"))
    with pytest.raises(IntegrityError, match="idx_messages_user_id_idempotency_key"):
        session.flush()


def test_no_tool_calls_are_sql_null(session: Session, conversation: Conversation) -> None:
    conversation.messages.add(Message(role="user", content="Hello", tool_calls=None))
    session.flush()
    assert session.scalar(sa.text("SELECT tool_calls IS NULL FROM messages")) is True


def test_what_triggers_move_comes_back_with_the_update(
    session: Session, statements: list[str], conversation: Conversation
) -> None:
    before = conversation.updated_at
    statements.clear()
    conversation.metadata_ = {"mood": "good"}
    session.commit()
    assert conversation.updated_at > before
    assert len(statements) == 1


def test_a_password_hash_is_read_only_where_it_is_asked_for(session: Session, user: User) -> None:
    user.password_hash = "scrypt$..."
    session.commit()
    session.expunge_all()
    with pytest.raises(InvalidRequestError, match=r"User\.password_hash"):
        _ = session.get_one(User, user.id).password_hash
    session.expunge_all()
    asked = session.get_one(User, user.id, options=[undefer(User.password_hash)])
    assert asked.password_hash == "scrypt$..."


def test_a_password_needs_an_email(session: Session) -> None:
    session.add(User(password_hash="scrypt$..."))
    with pytest.raises(IntegrityError, match="ck_users_password_needs_email"):
        session.flush()


def test_a_parent_that_the_query_did_not_name_is_not_fetched(session: Session, conversation: Conversation) -> None:
    conversation.messages.add(Message(role="user", content="Hello"))
    session.commit()
    session.expunge_all()
    with pytest.raises(InvalidRequestError, match=r"Message\.conversation"):
        _ = session.scalars(sa.select(Message)).one().conversation
    session.expunge_all()
    named = session.scalars(sa.select(Message).options(joinedload(Message.conversation))).one()
    assert named.conversation.id == conversation.id


@pytest.mark.parametrize(
    ("constraint", "roles"),
    [
        ("ck_messages_role", MessageRole),
        ("ck_messages_status", MessageStatus),
        ("ck_tenant_users_role", TenantRole),
        ("ck_conversation_messages_role", SessionMessageRole),
    ],
)
def test_the_database_and_the_types_know_the_same_words(session: Session, constraint: str, roles: object) -> None:
    query = sa.text("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = :name")
    definition = session.scalars(query, {"name": constraint}).one()
    assert sorted(re.findall(r"'(\w+)'", definition)) == sorted(get_args(roles))


def test_a_role_nobody_knows_is_refused(session: Session, conversation: Conversation) -> None:
    conversation.messages.add(Message(role="robot", content="Hello"))
    with pytest.raises(IntegrityError, match="ck_messages_role"):
        session.flush()
