"""Links for whoever has them: up to one message, until they are revoked, and nothing else of their owner."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from tests.conftest import Running
from tests.person import Person


def share(person: Person, conversation: str, message: str, **more: Any) -> dict[str, Any]:
    answer = person.http.post(f"/api/conversations/{conversation}/shares", json={"message_id": message, **more})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def opened(chat: Running, made: dict[str, Any], **parameters: Any) -> httpx.Response:
    """Read what a link shows, as somebody without a token."""
    return httpx.get(f"{chat.url}/api/shared/{made['path'].removeprefix('/s/')}", params=parameters)


def test_a_link_shows_a_conversation_up_to_its_message_to_anybody(chat: Running) -> None:
    ann = chat.person()
    conversation = ann.begins(title="Trip")["id"]
    reply = ann.says(conversation, "one")[-1].data
    made = share(ann, conversation, reply["id"])
    ann.says(conversation, "a later secret")
    shown = opened(chat, made).json()
    assert (shown["title"], shown["more"]) == ("Trip", False)
    assert [(one["role"], one["content"], one["html"]) for one in shown["items"]] == [
        ("user", "one", None),
        ("assistant", reply["content"], reply["html"]),
    ]
    first = opened(chat, made, limit=1).json()
    assert first["more"]
    second = opened(chat, made, limit=1, after=first["items"][0]["cursor"]).json()
    assert ([one["content"] for one in second["items"]], second["more"]) == ([reply["content"]], False)
    assert opened(chat, made, after=second["items"][0]["cursor"]).json()["items"] == []


def test_a_link_ends(chat: Running) -> None:
    ann = chat.person()
    acme = chat.tenant("Acme", ann)
    conversation = ann.begins(tenant_id=str(acme))["id"]
    reply = ann.says(conversation, "one")[-1].data
    revoked, expiring, open_one = (
        share(ann, conversation, reply["id"], **more)
        for more in ({}, {"expires_at": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}, {})
    )
    for _ in range(2):
        assert ann.http.delete(f"/api/shares/{revoked['id']}").status_code == 204
    assert opened(chat, expiring).status_code == 200
    chat.owner.execute("UPDATE shares SET expires_at = now() - interval '1 s' WHERE id = %s", [expiring["id"]])
    nothing = httpx.get(f"{chat.url}/api/shared/{'x' * 43}")
    for made in (revoked, expiring):
        assert (opened(chat, made).status_code, opened(chat, made).json()) == (404, nothing.json())
    listed = ann.http.get(f"/api/conversations/{conversation}/shares").json()["items"]
    assert [one["id"] for one in listed if one["revoked_at"]] == [revoked["id"]]
    assert not [key for one in listed for key in one if "token" in key or "path" in key]

    assert opened(chat, open_one).status_code == 200
    ann.http.delete(f"/api/conversations/{conversation}")
    assert opened(chat, open_one).status_code == 404  # in the trash
    ann.http.post(f"/api/conversations/{conversation}/restore")
    assert opened(chat, open_one).status_code == 200
    chat.owner.execute("DELETE FROM tenant_users WHERE user_id = %s", [ann.user_id])
    assert opened(chat, open_one).status_code == 404


def test_a_link_s_token_is_no_token_of_a_user(chat: Running) -> None:
    ann = chat.person()
    conversation = ann.begins()["id"]
    made = share(ann, conversation, ann.says(conversation, "one")[-1].data["id"])
    token = made["path"].removeprefix("/s/")
    for path in ("/api/conversations", f"/api/conversations/{conversation}", "/api/me"):
        assert httpx.get(chat.url + path, headers={"Authorization": f"Bearer {token}"}).status_code == 401
    stored = chat.owner.execute("SELECT shares::text FROM shares WHERE id = %s", [made["id"]]).fetchone()
    assert stored is not None
    assert token not in stored[0]


def test_nobody_shares_lists_or_revokes_another_s(chat: Running) -> None:
    ann, bob = chat.person(), chat.person()
    chat.tenant("Acme", ann, bob)
    conversation, own = ann.begins()["id"], bob.begins()["id"]
    reply = ann.says(conversation, "one")[-1].data
    made = share(ann, conversation, reply["id"])
    for where in (conversation, own):
        answer = bob.http.post(f"/api/conversations/{where}/shares", json={"message_id": reply["id"]})
        assert answer.status_code == 404
    assert bob.http.get(f"/api/conversations/{conversation}/shares").status_code == 404
    for id_ in (made["id"], uuid.uuid4()):
        assert bob.http.delete(f"/api/shares/{id_}").status_code == 404
    assert opened(chat, made).status_code == 200
    other = ann.begins()["id"]
    answer = ann.http.post(f"/api/conversations/{other}/shares", json={"message_id": reply["id"]})
    assert answer.status_code == 404


def test_a_link_into_the_past_is_refused(chat: Running) -> None:
    ann = chat.person()
    conversation = ann.begins()["id"]
    message = ann.says(conversation, "one")[0].data["id"]
    body = {"message_id": message, "expires_at": "2020-01-01T00:00:00Z"}
    answer = ann.http.post(f"/api/conversations/{conversation}/shares", json=body)
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:chat-api:problem:in-the-past")
