"""Threads that branch: what is shown, what continues it, what is left when a message goes, and who sees any of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from uuid import UUID, uuid4

import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from app import queries
from app.acting_as import acting_as
from app.models import Conversation, Message
from tests.conftest import libpq
from tests.services.actors import ACTORS, Acting, begun_anew, each_actor
from tests.services.people import ANN, BEN

CHAT, OTHER, BENS = (UUID(f"0000000c-0000-4000-8000-00000000000{n}") for n in (1, 2, 3))
ROWS = f"""
INSERT INTO users (id) VALUES ('{ANN}'), ('{BEN}');
INSERT INTO conversations (id, user_id) VALUES ('{CHAT}', '{ANN}'), ('{OTHER}', '{ANN}'), ('{BENS}', '{BEN}');
"""


@pytest.fixture
def session(shared_engine: sa.Engine) -> Iterator[Session]:
    with begun_anew(shared_engine, ROWS) as session:
        yield session


class Talk:
    """What is said in a conversation; a message is called by its text."""

    def __init__(self, session: Session, conversation: UUID = CHAT, owner: UUID = ANN) -> None:
        self.session, self.conversation, self.owner = session, conversation, owner
        self.ids: dict[str, UUID] = {}

    def say(self, *texts: str, instead_of: str | None = None) -> None:
        """Append each text in a statement of its own."""
        for text in texts:
            stored = self.session.scalars(
                queries.append_message(
                    self.conversation,
                    self.owner,
                    "user",
                    text,
                    key=text,
                    instead_of=self.ids[instead_of] if instead_of else None,
                )
            ).one()
            self.ids[text] = stored.id

    def shown(self, page: int = 50) -> list[str]:
        """Read the branch that is shown page by page, and return its texts, the first first."""
        found: list[Message] = []
        before = None
        while rows := self.session.scalars(queries.branch(self.conversation, before=before, limit=page)).all():
            found += rows
            before = rows[-1].id
        return [message.content for message in reversed(found)]

    def alternatives(self, text: str) -> list[str]:
        return [m.content for m in self.session.scalars(queries.siblings(self.conversation, self.ids[text]))]

    def switch(self, text: str) -> None:
        assert self.session.scalars(queries.switch_branch(self.conversation, self.owner, self.ids[text])).all()

    def delete(self, *texts: str) -> None:
        gone = [self.ids.pop(text) for text in texts]
        self.session.execute(sa.delete(Message).where(Message.id.in_(gone)))

    def array(self) -> list[str]:
        """Return the texts as a client of chat_sessions reads them."""
        read = sa.text("SELECT messages FROM chat_sessions WHERE id = :id")
        return [each["content"] for each in self.session.scalar(read, {"id": self.conversation})]


@each_actor
@pytest.mark.parametrize("page", [1, 2, 3, 50])
def test_a_thread_without_branches_is_told_as_before(session: Session, actor: Acting, page: int) -> None:
    with actor(session):
        talk = Talk(session)
        talk.say("a", "b", "c", "d", "e")
        assert talk.shown(page) == talk.array() == ["a", "b", "c", "d", "e"]
        assert session.scalars(sa.select(Message.parent_id)).all() == [None] * 5
        assert session.scalars(sa.select(Conversation.head_message_id)).all() == [None] * 3 if False else True
        assert talk.alternatives("a") == ["a"]
        assert talk.alternatives("c") == ["c"]


@each_actor
@pytest.mark.parametrize("page", [1, 2, 3, 50])
def test_an_edited_question_and_a_repeated_reply_make_branches(session: Session, actor: Acting, page: int) -> None:
    with actor(session):
        talk = Talk(session)
        talk.say("q1", "r1", "q2", "r2")
        talk.say("q2'", instead_of="q2")
        talk.say("r2'")
        assert talk.shown(page) == talk.array() == ["q1", "r1", "q2'", "r2'"]
        talk.say("r2''", instead_of="r2'")
        assert talk.shown(page) == talk.array() == ["q1", "r1", "q2'", "r2''"]
        assert talk.alternatives("q2") == talk.alternatives("q2'") == ["q2", "q2'"]
        assert talk.alternatives("r2''") == ["r2'", "r2''"]
        talk.switch("q2")
        assert talk.shown(page) == talk.array() == ["q1", "r1", "q2", "r2"]
        talk.say("q3")
        assert talk.shown(page) == ["q1", "r1", "q2", "r2", "q3"]
        talk.switch("q2'")  # and its reply that was written last
        assert talk.shown(page) == ["q1", "r1", "q2'", "r2''"]
        session.commit()


@each_actor
def test_a_first_message_that_is_edited_begins_anew(session: Session, actor: Acting) -> None:
    with actor(session):
        talk = Talk(session)
        talk.say("q1", "r1")
        talk.say("q1'", instead_of="q1")
        talk.say("r1'")
        assert talk.shown() == talk.array() == ["q1'", "r1'"]
        talk.say("q1''", instead_of="q1'")
        assert talk.shown() == ["q1''"]
        assert talk.alternatives("q1") == ["q1", "q1'", "q1''"]
        talk.switch("q1")
        assert talk.shown() == ["q1", "r1"]
        session.commit()


@each_actor
def test_who_names_no_parent_continues_the_branch_that_is_shown(session: Session, actor: Acting) -> None:
    """A turn of two in one statement, and a client of an older day, by table and by array."""
    with actor(session):
        talk = Talk(session)
        talk.say("q1", "r1")
        talk.say("r1'", instead_of="r1")
        turn = queries.append_turn(CHAT, ANN, "q2", "r2", key="turn")
        assert [m.content for m in session.scalars(turn)] == ["q2", "r2"]
        assert len(session.scalars(turn).all()) == 2  # sent again, it is there once
        session.execute(
            sa.text("INSERT INTO messages (conversation_id, user_id, role, content) VALUES (:c, :u, 'user', 'q3')"),
            {"c": CHAT, "u": ANN},
        )
        assert talk.shown() == ["q1", "r1'", "q2", "r2", "q3"]
        write = sa.text(
            'UPDATE chat_sessions SET messages = messages || \'[{"role": "user", "content": "q4"},'
            ' {"role": "user", "content": "q5"}]\' WHERE id = :id'
        )
        session.execute(write, {"id": CHAT})
        assert talk.shown() == talk.array() == ["q1", "r1'", "q2", "r2", "q3", "q4", "q5"]
        session.execute(sa.text("UPDATE chat_sessions SET messages = messages - 6 - 5 WHERE id = :id"), {"id": CHAT})
        assert talk.shown() == talk.array() == ["q1", "r1'", "q2", "r2", "q3"]
        talk.switch("r1")
        assert talk.shown() == talk.array() == ["q1", "r1"]
        session.commit()


def test_a_reply_to_a_question_that_was_stored_before_answers_it(session: Session) -> None:
    with acting_as(session, ANN):
        talk = Talk(session)
        talk.say("q1", "r1")
        talk.say("q1'", instead_of="q1")
        session.scalars(queries.append_message(CHAT, ANN, "user", "q2", key="turn")).one()
        assert len(session.scalars(queries.append_turn(CHAT, ANN, "q2", "r2", key="turn")).all()) == 2
        assert talk.shown() == ["q1'", "q2", "r2"]


def test_several_replies_of_one_statement_stand_beside_each_other(session: Session) -> None:
    with acting_as(session, ANN):
        talk = Talk(session)
        talk.say("q1")
        for text in ("a", "b", "c"):
            session.add(
                Message(conversation_id=CHAT, user_id=ANN, role="assistant", content=text, parent_id=talk.ids["q1"])
            )
        session.flush()
        assert talk.shown() == ["q1", "c"]
        assert len(session.scalars(sa.select(Message).where(Message.parent_id == talk.ids["q1"])).all()) == 3


class TestADeletedMessage:
    """What hung on it hangs on the one before it, and what was shown is shown but for it."""

    @pytest.fixture
    def talk(self, session: Session) -> Iterator[Talk]:
        with acting_as(session, ANN):
            talk = Talk(session)
            talk.say("q1", "r1", "q2", "r2")
            talk.say("q2'", instead_of="q2")
            talk.say("r2'", "q3'", "r3'")
            yield talk
            session.commit()  # the deferred key has nothing against it

    def test_in_the_middle_of_a_branch(self, talk: Talk) -> None:
        talk.delete("r2'")
        assert talk.shown() == ["q1", "r1", "q2'", "q3'", "r3'"]

    def test_where_a_branch_begins(self, talk: Talk) -> None:
        talk.delete("q2'")
        assert talk.shown() == ["q1", "r1", "r2'", "q3'", "r3'"]

    def test_where_the_trunk_is_left(self, talk: Talk) -> None:
        talk.delete("r1")
        assert talk.shown() == ["q1", "q2'", "r2'", "q3'", "r3'"]

    def test_of_all_that_is_before(self, talk: Talk) -> None:
        talk.delete("q1", "r1")
        assert talk.shown() == ["q2'", "r2'", "q3'", "r3'"]

    def test_of_several_in_a_row(self, talk: Talk) -> None:
        talk.delete("r1", "q2'", "r2'")
        assert talk.shown() == ["q1", "q3'", "r3'"]

    def test_at_the_end(self, talk: Talk) -> None:
        talk.delete("q3'", "r3'")
        assert talk.shown() == ["q1", "r1", "q2'", "r2'"]

    def test_of_the_trunk_that_is_not_shown(self, talk: Talk) -> None:
        talk.delete("r2")
        assert talk.shown() == ["q1", "r1", "q2'", "r2'", "q3'", "r3'"]
        talk.switch("q2")
        assert talk.shown() == ["q1", "r1", "q2"]

    def test_of_all_leaves_a_conversation_that_begins_anew(self, talk: Talk) -> None:
        talk.delete(*talk.ids)
        assert talk.shown() == []
        talk.say("again")
        assert talk.shown() == talk.array() == ["again"]

    def test_and_a_conversation_goes_with_its_tree(self, talk: Talk) -> None:
        talk.session.execute(sa.delete(Conversation).where(Conversation.id == CHAT))
        talk.session.commit()
        assert talk.session.scalars(sa.select(Message)).all() == []


class TestDenied:
    def insert(self, session: Session, conversation: UUID, owner: UUID, parent: UUID) -> None:
        message = Message(conversation_id=conversation, user_id=owner, role="user", content="Hi", parent_id=parent)
        session.execute(
            sa.insert(Message).values(
                conversation_id=message.conversation_id,
                user_id=message.user_id,
                role="user",
                content="Hi",
                parent_id=parent,
            )
        )

    @each_actor
    def test_a_parent_in_another_conversation(self, session: Session, actor: Acting) -> None:
        with actor(session):
            talk = Talk(session)
            talk.say("q1")
            for parent in (talk.ids["q1"], uuid4()):
                with pytest.raises(IntegrityError, match="to be the parent"), session.begin_nested():
                    self.insert(session, OTHER, ANN, parent)

    def test_a_parent_of_another_user(self, session: Session) -> None:
        with acting_as(session, ANN):
            talk = Talk(session)
            talk.say("q1")
            session.commit()
        with acting_as(session, BEN):
            for conversation, owner in ((BENS, BEN), (CHAT, BEN), (CHAT, ANN)):
                with pytest.raises(DBAPIError), session.begin_nested():
                    self.insert(session, conversation, owner, talk.ids["q1"])

    @pytest.mark.parametrize("role", ["a user", "the service"])
    def test_another_parent_for_a_message_that_is_there(self, session: Session, role: str) -> None:
        with ACTORS[role](session):
            talk = Talk(session)
            talk.say("q1", "r1")
            with pytest.raises(DBAPIError, match="permission denied"):
                session.execute(sa.update(Message).values(parent_id=talk.ids["q1"]))

    def test_a_circle_within_one_statement(self, session: Session) -> None:
        one, two = uuid4(), uuid4()
        with acting_as(session, ANN), pytest.raises(IntegrityError, match="to be the parent"):
            session.execute(
                sa.insert(Message).values(
                    [
                        {
                            "id": i,
                            "conversation_id": CHAT,
                            "user_id": ANN,
                            "role": "user",
                            "content": "x",
                            "parent_id": p,
                        }
                        for i, p in ((one, two), (two, one))
                    ]
                )
            )

    @each_actor
    def test_a_head_that_is_no_message_of_the_conversation(self, session: Session, actor: Acting) -> None:
        with actor(session):
            elsewhere = Talk(session, OTHER)
            elsewhere.say("q1")
            for head in (elsewhere.ids["q1"], uuid4()):
                with pytest.raises(IntegrityError, match="to be the head"), session.begin_nested():
                    session.execute(sa.update(Conversation).where(Conversation.id == CHAT).values(head_message_id=head))
                with pytest.raises(IntegrityError, match="There is no message"), session.begin_nested():
                    session.execute(queries.switch_branch(CHAT, ANN, head))

    def test_no_head_where_there_are_branches(self, session: Session) -> None:
        with acting_as(session, ANN):
            talk = Talk(session)
            talk.say("q1")
            talk.say("q1'", instead_of="q1")
            with pytest.raises(IntegrityError, match="has branches"):
                session.execute(sa.update(Conversation).where(Conversation.id == CHAT).values(head_message_id=None))

    def test_anothers_branches(self, session: Session) -> None:
        with acting_as(session, ANN):
            talk = Talk(session)
            talk.say("q1", "r1")
            talk.say("r1'", instead_of="r1")
            session.commit()
        with acting_as(session, BEN):
            assert talk.shown() == []
            assert session.scalars(queries.branch(CHAT, before=talk.ids["r1'"])).all() == []
            assert session.scalars(queries.switch_branch(CHAT, BEN, talk.ids["q1"])).all() == []
            for statement in (
                queries.siblings(CHAT, talk.ids["r1"]),
                queries.switch_branch(CHAT, ANN, talk.ids["r1"]),
            ):
                try:
                    with session.begin_nested():
                        found = session.scalars(statement).all()
                except IntegrityError:
                    continue
                assert found == []


def test_two_who_append_to_one_branched_conversation_follow_each_other(
    session: Session, shared_engine: sa.Engine
) -> None:
    with acting_as(session, ANN):
        talk = Talk(session)
        talk.say("q1", "r1")
        talk.say("r1'", instead_of="r1")
        session.commit()
    said: list[str] = []

    def client(name: str) -> None:
        with psycopg.connect(libpq(shared_engine.url)) as connection:
            for number in range(10):
                text = f"{name}{number}"
                connection.execute(
                    "INSERT INTO messages (conversation_id, user_id, role, content) VALUES (%s, %s, 'user', %s)",
                    [CHAT, ANN, text],
                )
                connection.commit()
                said.append(text)

    clients = [threading.Thread(target=client, args=[name]) for name in "ab"]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    with acting_as(session, ANN):
        shown = talk.shown()
    assert shown[:2] == ["q1", "r1'"]
    assert sorted(shown[2:]) == sorted(said)
    assert len(said) == 20


def test_messages_do_not_move_what_a_switch_does_not_say(session: Session) -> None:
    with acting_as(session, ANN):
        talk = Talk(session)
        talk.say("q1", "r1")
        talk.say("r1'", instead_of="r1")
        session.execute(
            sa.update(Conversation).where(Conversation.id == CHAT).values(updated_at=sa.text("'2020-01-01'"))
        )
        talk.switch("r1")
        [at] = session.scalars(sa.text("SELECT updated_at::date::text FROM conversations WHERE id = :c"), {"c": CHAT})
        assert at == "2020-01-01"


# --- a tree of one's own, kept beside: what is shown after any steps is what it says
Step = tuple[str, int]
steps = st.lists(
    st.tuples(st.sampled_from(["say", "say", "edit", "switch", "delete"]), st.integers(0, 99)), max_size=16
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps)
def test_whatever_is_done_what_is_shown_is_what_a_tree_in_memory_says(session: Session, steps: list[Step]) -> None:
    parents: dict[str, str | None] = {}
    order: list[str] = []
    head: str | None = None
    with acting_as(session, ANN):
        session.execute(sa.delete(Message).where(Message.conversation_id == CHAT))
        session.commit()
        talk = Talk(session)
        for number, (what, which) in enumerate(steps):
            text = f"m{number}"
            there = [name for name in order if name in parents]
            chosen = there[which % len(there)] if there else None
            if what == "say" or chosen is None:
                talk.say(text)
                parents[text], head = head, text
                order.append(text)
            elif what == "edit":
                talk.say(text, instead_of=chosen)
                parents[text], head = parents[chosen], text
                order.append(text)
            elif what == "switch":
                talk.switch(chosen)
                head = chosen
                while below := [name for name in order if name in parents and parents[name] == head]:
                    head = below[-1]
            else:
                talk.delete(chosen)
                above = parents.pop(chosen)
                for name, parent in parents.items():
                    if parent == chosen:
                        parents[name] = above
                if head == chosen:
                    head = above if above is not None else next((n for n in reversed(order) if n in parents), None)
            session.commit()
            expected: list[str] = []
            at = head
            while at is not None:
                expected.append(at)
                at = parents[at]
            assert talk.shown(3) == expected[::-1], steps[: number + 1]
