"""The archive, pins, the trash, what is unread, and moving to a tenant."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.conftest import Running
from tests.person import Person


def titles(person: Person, which: str) -> list[str]:
    page = person.http.get("/api/conversations", params={"list": which}).json()
    return [one["title"] for one in page["items"]]


def change(person: Person, conversation: str, **changes: Any) -> dict[str, Any]:
    answer = person.http.patch(f"/api/conversations/{conversation}", json=changes)
    assert answer.status_code == 200, answer.text
    changed: dict[str, Any] = answer.json()
    return changed


def test_the_archive_and_back_without_moving_in_time(chat: Running) -> None:
    ann = chat.person()
    old, new = ann.begins(title="old"), ann.begins(title="new")
    archived = change(ann, old["id"], archived=True)
    assert (titles(ann, "inbox"), titles(ann, "archive")) == (["new"], ["old"])
    assert archived["updated_at"] == old["updated_at"]
    assert change(ann, old["id"], archived=True)["archived_at"] == archived["archived_at"]
    change(ann, old["id"], archived=False)
    assert (titles(ann, "inbox"), titles(ann, "archive")) == (["new", "old"], [])
    assert new["archived_at"] is None


def test_pins_are_a_list_of_their_own_and_part_of_the_inbox(chat: Running) -> None:
    ann = chat.person()
    for title in ("a", "b", "c"):
        change(ann, ann.begins(title=title)["id"], pinned=title != "c")
    assert (titles(ann, "pinned"), titles(ann, "inbox")) == (["b", "a"], ["c", "b", "a"])
    first = ann.http.get("/api/conversations", params={"list": "pinned", "limit": 1}).json()
    assert first["more"]
    second = ann.http.get("/api/conversations", params={"list": "pinned", "limit": 1, "before": first["cursor"]}).json()
    assert [one["title"] for one in second["items"]] == ["a"]
    change(ann, second["items"][0]["id"], pinned=False)
    assert titles(ann, "pinned") == ["b"]


def test_what_is_deleted_goes_to_the_trash_and_comes_back_as_it_was(chat: Running) -> None:
    ann = chat.person()
    conversation = ann.begins(title="Lyon")["id"]
    ann.says(conversation, "hello")
    before = change(ann, conversation, pinned=True)
    for _ in range(2):  # a request sent again changes nothing
        assert ann.http.delete(f"/api/conversations/{conversation}").status_code == 204
    assert [titles(ann, which) for which in ("inbox", "pinned", "archive", "trash")] == [[], [], [], ["Lyon"]]
    assert len(ann.reads(conversation)) == 2  # it can be looked at
    for refused in (
        ann.http.patch(f"/api/conversations/{conversation}", json={"title": "no"}),
        ann.http.post(
            "/api/chat", json={"conversation_id": conversation, "content": "x"}, headers={"Idempotency-Key": "t"}
        ),
    ):
        assert (refused.status_code, refused.json()["type"]) == (409, "urn:chat-api:problem:in-the-trash")
    for _ in range(2):
        restored = ann.http.post(f"/api/conversations/{conversation}/restore")
        assert restored.json() == before
    assert (titles(ann, "pinned"), titles(ann, "trash")) == (["Lyon"], [])


def test_only_from_the_trash_it_is_deleted_for_good(chat: Running) -> None:
    ann = chat.person()
    conversation = ann.begins()["id"]
    ann.says(conversation, "soon gone")
    forever = f"/api/conversations/{conversation}?forever=true"
    refused = ann.http.delete(forever)
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:chat-api:problem:not-in-the-trash")
    ann.http.delete(f"/api/conversations/{conversation}")
    assert ann.http.delete(forever).status_code == 204
    assert ann.http.get(f"/api/conversations/{conversation}").status_code == 404
    left = chat.owner.execute("SELECT count(*) FROM messages WHERE user_id = %s", [ann.user_id]).fetchone()
    assert left == (0,)


def test_replies_are_unread_until_they_were_shown(chat: Running) -> None:
    ann = chat.person()
    conversation = ann.begins()["id"]
    assert ann.begins()["unread"] == 0
    first = ann.says(conversation, "one")[-1].data
    last = ann.says(conversation, "two")[-1].data
    at = f"/api/conversations/{conversation}"
    assert ann.http.get(at).json()["unread"] == 2
    assert ann.http.post(f"{at}/read", json={"until": first["cursor"]}).json()["unread"] == 1
    assert ann.http.post(f"{at}/read", json={"until": last["cursor"]}).json()["unread"] == 0
    assert ann.http.post(f"{at}/read", json={"until": first["cursor"]}).json()["unread"] == 0  # never unread again
    for beyond in ("999999999999999999_1", "-999999999999999999_1"):
        assert ann.http.post(f"{at}/read", json={"until": beyond}).status_code == 200
    ann.says(conversation, "three")
    listed = {one["id"]: one["unread"] for one in ann.http.get("/api/conversations").json()["items"]}
    assert listed[conversation] == 1


def test_a_conversation_moves_to_a_tenant_of_one_s_own_and_back(chat: Running) -> None:
    ann, bob = chat.person(), chat.person()
    acme, globex = chat.tenant("Acme", ann), chat.tenant("Globex", bob)
    conversation = ann.begins(title="Mine")["id"]
    ann.says(conversation, "hello")
    assert change(ann, conversation, tenant_id=str(acme))["tenant_id"] == str(acme)
    for tenant in (globex, uuid.uuid4()):
        refused = ann.http.patch(f"/api/conversations/{conversation}", json={"tenant_id": str(tenant)})
        assert (refused.status_code, refused.json()["type"]) == (403, "urn:chat-api:problem:not-a-member")
    assert change(ann, conversation, title="Ours")["tenant_id"] == str(acme)  # not said, not moved
    assert change(ann, conversation, tenant_id=None)["tenant_id"] is None
    chat.owner.execute("DELETE FROM tenant_users WHERE user_id = %s", [ann.user_id])
    assert len(ann.reads(conversation)) == 2


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "", {"archived": True}),
        ("PATCH", "", {"pinned": True}),
        ("PATCH", "", {"tenant_id": None}),
        ("POST", "/read", {"until": "1_1"}),
        ("POST", "/restore", None),
        ("DELETE", "?forever=true", None),
    ],
)
def test_nobody_manages_another_s_conversations(
    chat: Running, method: str, path: str, body: dict[str, Any] | None
) -> None:
    ann, bob = chat.person(), chat.person()
    chat.tenant("Acme", ann, bob)
    conversation = ann.begins()["id"]
    ann.http.delete(f"/api/conversations/{conversation}")
    before = ann.http.get(f"/api/conversations/{conversation}").json()
    theirs = bob.http.request(method, f"/api/conversations/{conversation}{path}", json=body)
    nobodys = bob.http.request(method, f"/api/conversations/{uuid.uuid4()}{path}", json=body)
    assert (theirs.status_code, theirs.json()) == (404, nobodys.json())
    assert ann.http.get(f"/api/conversations/{conversation}").json() == before
    assert titles(bob, "trash") == []
