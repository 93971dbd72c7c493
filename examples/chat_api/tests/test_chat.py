"""A turn is stored once, whatever happens to the connection; its reply is streamed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import Running


def test_the_reply_is_streamed_and_both_are_stored(chat: Running) -> None:
    ann = chat.person()
    conversation = ann.begins()["id"]
    question, *deltas, reply = ann.says(conversation, "Two seats on Friday, please.")
    assert (question.name, question.data["content"]) == ("message", "Two seats on Friday, please.")
    assert {delta.name for delta in deltas} == {"delta"}
    assert len(deltas) > 5
    assert (reply.name, reply.data["role"]) == ("done", "assistant")
    assert reply.data["content"] == "".join(delta.data["text"] for delta in deltas)
    assert ann.reads(conversation) == [("user", question.data["content"]), ("assistant", reply.data["content"])]


def test_the_offline_responder_says_the_same_every_time_and_knows_what_was_said(chat: Running) -> None:
    said = []
    for _ in range(2):
        ann = chat.person()
        conversation = ann.begins()["id"]
        said.append([ann.says(conversation, content)[-1].data["content"] for content in ("One.", "Two.")])
    assert said[0] == said[1]
    assert "Before that, you said “One.”" in said[0][1]


def test_a_request_sent_again_is_stored_once_and_gets_the_same_reply(chat: Running) -> None:
    ann = chat.person()
    conversation = ann.begins()["id"]
    first, again = (ann.says(conversation, "once", key="k") for _ in range(2))
    assert (again[0], again[-1]) == (first[0], first[-1])
    assert len(ann.reads(conversation)) == 2


def test_the_same_request_many_times_at_once_is_stored_once(chat: Running) -> None:
    ann = chat.person()
    conversation = ann.begins()["id"]
    with ThreadPoolExecutor(8) as pool:
        heard = list(pool.map(lambda _: ann.says(conversation, "once", key="k"), range(8)))
    assert len({(events[0].data["id"], events[-1].data["id"]) for events in heard}) == 1
    assert len(ann.reads(conversation)) == 2


def test_a_key_stands_for_one_message(chat: Running) -> None:
    ann = chat.person()
    conversation, other = ann.begins()["id"], ann.begins()["id"]
    ann.says(conversation, "once", key="k")
    for where, content in ((conversation, "something else"), (other, "once")):
        with ann.saying(where, content, key="k") as answer:
            answer.read()
            assert (answer.status_code, answer.json()["type"]) == (409, "urn:chat-api:problem:idempotency-key-reused")
    assert (len(ann.reads(conversation)), ann.reads(other)) == (2, [])


def test_what_is_said_outside_of_a_conversation_begins_one(chat: Running) -> None:
    ann = chat.person()
    question, *_, reply = ann.says(None, "Two seats on Friday")
    conversation = question.data["conversation_id"]
    assert (ann.sees(), reply.data["conversation_id"]) == ([conversation], conversation)
    assert ann.reads(conversation) == [("user", "Two seats on Friday"), ("assistant", reply.data["content"])]
    begun = ann.http.get(f"/api/conversations/{conversation}").json()
    assert (begun["title"], begun["tenant_id"]) == ("Two seats on Friday", None)


def test_it_may_begin_in_a_tenant_of_one_s_own(chat: Running) -> None:
    ann = chat.person()
    acme, globex = chat.tenant("Acme", ann), chat.tenant("Globex")
    with ann.saying(None, "hello", tenant_id=str(acme)) as answer:
        assert answer.status_code == 200
        answer.read()
    assert [one["tenant_id"] for one in ann.http.get("/api/conversations").json()["items"]] == [str(acme)]
    with ann.saying(None, "let me in", tenant_id=str(globex)) as answer:
        assert answer.status_code == 403
    assert len(ann.sees()) == 1


def test_the_same_request_many_times_at_once_begins_one_conversation(chat: Running) -> None:
    ann, bob = chat.person(), chat.person()
    with ThreadPoolExecutor(8) as pool:
        heard = list(pool.map(lambda _: ann.says(None, "once", key="k"), range(8)))
    assert len({(events[0].data["id"], events[-1].data["id"]) for events in heard}) == 1
    assert (len(ann.sees()), len(ann.reads(ann.sees()[0]))) == (1, 2)
    bob.says(None, "once", key="k")  # another's key is another key
    assert (len(bob.sees()), len(ann.sees())) == (1, 1)


def test_a_reply_comes_as_html_and_what_people_say_as_text(chat: Running) -> None:
    ann = chat.person()
    question, *_, reply = ann.says(None, "**bold** <b>")
    assert question.data["html"] is None
    assert reply.data["html"].startswith("<p>“<strong>bold</strong> &lt;b&gt;”")
    read = ann.http.get(f"/api/conversations/{reply.data['conversation_id']}/messages").json()["items"]
    assert [message["html"] for message in read] == [None, reply.data["html"]]


@pytest.mark.parametrize(
    "content", ["<script>alert(1)</script>", "ümlaut 漢字 🙂 \u202e", "'; DROP TABLE messages; --", "\n"]
)
def test_what_was_said_comes_back_as_it_was(chat: Running, content: str) -> None:
    ann = chat.person()
    conversation = ann.begins()["id"]
    assert ann.says(conversation, content)[0].data["content"] == content
    assert ann.reads(conversation)[0] == ("user", content)
