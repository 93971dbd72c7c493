"""Starting, listing, renaming and deleting conversations."""

from __future__ import annotations

import uuid

import pytest

from tests.conftest import Running


def test_a_conversation_starts_with_the_schema_s_title_and_is_personal(chat: Running) -> None:
    begun = chat.person().begins()
    assert (begun["title"], begun["tenant_id"]) == ("New Conversation", None)


def test_the_latest_active_conversation_stands_first(chat: Running) -> None:
    ann = chat.person()
    first, second = ann.begins(title="first")["id"], ann.begins(title="second")["id"]
    assert ann.sees() == [second, first]
    chat.owner.execute(  # a message moves its conversation no sooner than ten seconds after the last move
        "UPDATE conversations SET updated_at = updated_at - interval '1 minute' WHERE user_id = %s", [ann.user_id]
    )
    ann.says(first, "moves it to the top")
    assert ann.sees() == [first, second]


def test_pages_hold_every_conversation_once(chat: Running) -> None:
    ann = chat.person()
    begun = [ann.begins()["id"] for _ in range(7)]
    chat.owner.execute("ALTER TABLE conversations DISABLE TRIGGER conversations_updated_at")
    chat.owner.execute("UPDATE conversations SET updated_at = now() WHERE user_id = %s", [ann.user_id])  # all tied
    chat.owner.execute("ALTER TABLE conversations ENABLE TRIGGER conversations_updated_at")
    found, page = [], {"items": [], "more": True}
    parameters: dict[str, str | int] = {"limit": 3}
    sizes = []
    while page["more"]:
        page = ann.http.get("/api/conversations", params=parameters).json()
        found += [one["id"] for one in page["items"]]
        sizes.append(len(page["items"]))
        parameters["before"] = page["items"][-1]["cursor"]
    assert (sorted(found), sizes) == (sorted(begun), [3, 3, 1])


def test_renaming_shows_everywhere(chat: Running) -> None:
    ann = chat.person()
    conversation = ann.begins()["id"]
    answer = ann.http.patch(f"/api/conversations/{conversation}", json={"title": "Trip to Lyon"})
    assert answer.json()["title"] == "Trip to Lyon"
    assert ann.http.get(f"/api/conversations/{conversation}").json() == answer.json()


def test_metadata_is_set_by_key_and_null_removes_one(chat: Running) -> None:
    ann = chat.person()
    conversation = ann.begins(title="Lyon")["id"]
    at = f"/api/conversations/{conversation}"
    first = ann.http.patch(at, json={"metadata": {"colour": "blue", "tags": ["a", {"deep": 1.5}], "old": True}})
    assert first.json()["metadata"] == {"colour": "blue", "tags": ["a", {"deep": 1.5}], "old": True}
    second = ann.http.patch(at, json={"metadata": {"colour": "red", "old": None}, "title": "Nice"})
    assert second.json()["metadata"] == {"colour": "red", "tags": ["a", {"deep": 1.5}]}
    assert ann.http.get(at).json() == second.json() == ann.http.get("/api/conversations").json()["items"][0]
    assert second.json()["title"] == "Nice"
    assert ann.http.patch(at, json={}).json() == second.json()  # nothing said, nothing changed


def test_metadata_that_is_no_object_in_an_old_row_is_shown_and_replaced(chat: Running) -> None:
    ann = chat.person()
    conversation = ann.begins()["id"]
    chat.owner.execute("UPDATE conversations SET metadata = '[1]' WHERE id = %s", [conversation])
    at = f"/api/conversations/{conversation}"
    assert ann.http.get(at).json()["metadata"] == [1]
    assert ann.http.patch(at, json={"metadata": {"a": 1}}).json()["metadata"] == {"a": 1}


@pytest.mark.parametrize(
    "metadata", [b'{"a": NaN}', b'{"a": "\\u0000"}', b'{"\\u0000": 1}', b'{"a": "\\ud800"}', b"[]", b'{"a": 1e999}']
)
def test_metadata_that_the_database_cannot_hold_is_refused(chat: Running, metadata: bytes) -> None:
    ann = chat.person()
    at = f"/api/conversations/{ann.begins()['id']}"
    body = b'{"metadata": ' + metadata + b"}"
    assert ann.http.patch(at, content=body, headers={"Content-Type": "application/json"}).status_code == 422
    deep = b"[" * 900 + b"]" * 900
    body = b'{"metadata": {"a": ' + deep + b"}}"
    assert ann.http.patch(at, content=body, headers={"Content-Type": "application/json"}).status_code == 422
    assert ann.http.get(at).json()["metadata"] == {}


def test_metadata_does_not_grow_without_end(chat: Running) -> None:
    ann = chat.person()
    at = f"/api/conversations/{ann.begins()['id']}"
    assert ann.http.patch(at, json={"metadata": {"a": "x" * 10_000}}).status_code == 200
    refused = ann.http.patch(at, json={"metadata": {"b": "x" * 10_000}, "title": "not this either"})
    assert (refused.status_code, refused.json()["type"]) == (422, "urn:chat-api:problem:metadata-too-long")
    assert ann.http.get(at).json()["title"] == "New Conversation"


def test_pages_of_messages_go_back_to_the_first(chat: Running) -> None:
    ann = chat.person()
    conversation = ann.begins()["id"]
    chat.owner.execute(  # in one transaction: they share their created_at
        "INSERT INTO messages (conversation_id, user_id, role, content)"
        " SELECT %s, %s, 'user', n::text FROM generate_series(1, 7) AS n",
        [conversation, ann.user_id],
    )
    parameters: dict[str, str | int] = {"limit": 3}
    pages = []
    for _ in range(3):
        page = ann.http.get(f"/api/conversations/{conversation}/messages", params=parameters).json()
        pages.append(([message["content"] for message in page["items"]], page["more"]))
        parameters["before"] = page["items"][0]["cursor"]
    assert pages == [(["5", "6", "7"], True), (["2", "3", "4"], True), (["1"], False)]


@pytest.mark.parametrize("cursor", ["-999999999999999999_5", "999999999999999999_5"])
def test_a_cursor_beyond_all_time_is_a_place_as_well(chat: Running, cursor: str) -> None:
    ann = chat.person()
    conversation = ann.begins()["id"]
    ann.says(conversation, "hello")
    page = ann.http.get(f"/api/conversations/{conversation}/messages", params={"before": cursor}).json()
    assert len(page["items"]) == (0 if cursor.startswith("-") else 2)


def test_the_first_message_names_a_conversation_that_has_no_name(chat: Running) -> None:
    ann = chat.person()
    unnamed, named = ann.begins()["id"], ann.begins(title="Mine")["id"]
    for conversation in (unnamed, named):
        ann.says(conversation, "Two seats\non Friday")
        ann.says(conversation, "And a hotel")
    titles = [ann.http.get(f"/api/conversations/{one}").json()["title"] for one in (unnamed, named)]
    assert titles == ["Two seats on Friday", "Mine"]


def test_a_user_without_an_account_is_told_so(chat: Running) -> None:
    stranger = chat.person()
    chat.owner.execute("DELETE FROM users WHERE id = %s", [stranger.user_id])
    assert stranger.sees() == []
    answer = stranger.http.post("/api/conversations", json={})
    assert (answer.status_code, answer.json()["type"]) == (403, "urn:chat-api:problem:no-account")


def test_me_is_who_the_token_speaks_of(chat: Running) -> None:
    email = f"{uuid.uuid4().hex}@example.com"
    ann = chat.person(email)
    tenant = chat.tenant("Acme", ann)
    assert ann.http.get("/api/me").json() == {
        "id": str(ann.user_id),
        "email": email,
        "tenants": [{"id": str(tenant), "name": "Acme"}],
    }
