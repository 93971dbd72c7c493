"""Editing what was said, replies made again, and switching between the versions."""

from __future__ import annotations

import uuid
from typing import Any

from tests.conftest import Running
from tests.person import Event, Person, events_in


def edit(person: Person, conversation: str, message: str, content: str) -> list[Event]:
    with person.saying(conversation, content, instead_of=message) as answer:
        assert answer.status_code == 200, answer.read()
        return list(events_in(answer))


def again(person: Person, message: str, key: str) -> list[Event]:
    headers = {"Idempotency-Key": key}
    with person.http.stream("POST", f"/api/messages/{message}/again", headers=headers) as answer:
        assert answer.status_code == 200, answer.read()
        return list(events_in(answer))


def messages(person: Person, conversation: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = person.http.get(f"/api/conversations/{conversation}/messages").json()["items"]
    return items


def said(person: Person, conversation: str) -> list[str]:
    return [content for role, content in person.reads(conversation) if role == "user"]


def test_an_edited_message_begins_a_branch_and_the_old_one_stays(chat: Running) -> None:
    ann = chat.person()
    conversation = ann.begins(title="Trip")["id"]
    ann.says(conversation, "one")
    second = ann.says(conversation, "two")[0].data
    ann.says(conversation, "three")
    question, *_, reply = edit(ann, conversation, second["id"], "two, but better")
    assert said(ann, conversation) == ["one", "two, but better"]
    assert reply.data["content"].endswith("Before that, you said “one”")  # what a model is given is the branch
    shown = messages(ann, conversation)
    assert [one["versions"] for one in shown] == [[], [], [second["id"], question.data["id"]], []]
    at = f"/api/conversations/{conversation}"
    assert ann.http.get(at).json()["branched"]
    assert ann.http.post(f"{at}/branch", json={"message_id": second["id"]}).status_code == 204
    assert said(ann, conversation) == ["one", "two", "three"]
    ann.says(conversation, "four")
    assert said(ann, conversation) == ["one", "two", "three", "four"]


def test_a_reply_is_made_again_once_for_a_key(chat: Running) -> None:
    ann = chat.person()
    conversation = ann.begins()["id"]
    first = ann.says(conversation, "one")[-1].data
    _, *deltas, second = again(ann, first["id"], "k")
    assert deltas
    assert again(ann, first["id"], "k")[-1].data["id"] == second.data["id"] != first["id"]
    shown = messages(ann, conversation)
    assert [one["role"] for one in shown] == ["user", "assistant"]
    assert shown[1]["id"] == second.data["id"]
    assert shown[1]["versions"] == [first["id"], second.data["id"]]


def test_a_page_of_a_branch_goes_back_to_its_first_message(chat: Running) -> None:
    ann = chat.person()
    conversation = ann.begins()["id"]
    first = ann.says(conversation, "one")[0].data
    ann.says(conversation, "two")
    edit(ann, conversation, first["id"], "other one")
    for n in range(3):
        ann.says(conversation, f"more {n}")
    found: list[str] = []
    page: dict[str, Any] = {"more": True}
    parameters: dict[str, Any] = {"limit": 3}
    while page["more"]:
        page = ann.http.get(f"/api/conversations/{conversation}/messages", params=parameters).json()
        found = [one["content"] for one in page["items"] if one["role"] == "user"] + found
        parameters["before"] = page["items"][0]["id"]
    assert found == ["other one", "more 0", "more 1", "more 2"]


def test_a_message_that_never_got_its_reply_gets_one(chat: Running) -> None:
    ann = chat.person()
    conversation = ann.begins()["id"]
    row = chat.owner.execute(  # as where the process died before the reply was whole
        "INSERT INTO messages (conversation_id, user_id, role, content) VALUES (%s, %s, 'user', 'left') RETURNING id",
        [conversation, ann.user_id],
    ).fetchone()
    assert row
    for _ in range(2):
        reply = again(ann, str(row[0]), "k")[-1]
        assert reply.name == "done"
    assert [role for role, _ in ann.reads(conversation)] == ["user", "assistant"]
    refused = ann.http.post(f"/api/messages/{row[0]}/again", headers={"Idempotency-Key": "another"})
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:chat-api:problem:answered")


def test_only_a_reply_to_what_was_said_is_made_again(chat: Running) -> None:
    ann = chat.person()
    conversation = ann.begins()["id"]
    row = chat.owner.execute(
        "INSERT INTO messages (conversation_id, user_id, role, content) VALUES (%s, %s, 'agent', 'hi') RETURNING id",
        [conversation, ann.user_id],
    ).fetchone()
    assert row
    answer = ann.http.post(f"/api/messages/{row[0]}/again", headers={"Idempotency-Key": "x"})
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:chat-api:problem:no-reply-to-you")


def test_nobody_branches_another_s_conversation(chat: Running) -> None:
    ann, bob = chat.person(), chat.person()
    chat.tenant("Acme", ann, bob)
    question, *_, reply = ann.says(None, "one")
    conversation = question.data["conversation_id"]
    own = bob.says(None, "mine")[0].data["conversation_id"]
    for message in (reply.data["id"], str(uuid.uuid4())):
        refused = bob.http.post(f"/api/messages/{message}/again", headers={"Idempotency-Key": "x"})
        assert refused.status_code == 404
        for where in (conversation, own):
            at = f"/api/conversations/{where}/branch"
            assert bob.http.post(at, json={"message_id": message}).status_code == 404
        with bob.saying(own, "instead", instead_of=message) as answer:
            assert answer.status_code == 404
    assert len(ann.reads(conversation)) == len(bob.reads(own)) == 2
