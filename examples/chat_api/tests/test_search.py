"""Finding what was said: in pages, by what people type, and never another's."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Running
from tests.person import Person


def find(person: Person, q: str, **more: Any) -> list[dict[str, Any]]:
    answer = person.http.get("/api/search", params={"q": q, **more})
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def test_words_are_found_with_what_stands_around_them(chat: Running) -> None:
    ann = chat.person()
    conversation = ann.begins(title="Trip")["id"]
    ann.says(conversation, "Two seats to LYON, please.")
    [hit] = find(ann, "lyon two", role="user")
    assert (hit["conversation_id"], hit["title"], hit["role"]) == (conversation, "Trip", "user")
    assert [piece["text"] for piece in hit["snippet"] if piece["found"]] == ["Two", "LYON"]
    assert "".join(piece["text"] for piece in hit["snippet"]) == "Two seats to LYON, please."
    assert find(ann, "lyon -seats") == find(ann, "paris") == []


def test_each_is_found_once_over_all_pages(chat: Running) -> None:
    ann = chat.person()
    conversation, other = ann.begins()["id"], ann.begins()["id"]
    for where, numbers in ((conversation, range(5)), (other, range(5, 7))):
        chat.owner.execute(
            "INSERT INTO messages (conversation_id, user_id, role, content)"
            " SELECT %s, %s, 'user', 'apple ' || n FROM unnest(%s::int[]) AS n",
            [where, ann.user_id, list(numbers)],
        )
    for order in ({}, {"best": True}):
        found: list[str] = []
        page: dict[str, Any] = {"more": True}
        parameters: dict[str, Any] = {"q": "apple", "limit": 3, **order}
        while page["more"]:
            page = ann.http.get("/api/search", params=parameters).json()
            found += [hit["id"] for hit in page["items"]]
            parameters["before"] = page["items"][-1]["cursor"]
        assert len(found) == len(set(found)) == 7
    assert len(find(ann, "apple", conversation_id=other)) == 2


def test_nobody_finds_another_s_and_nobody_finds_the_trash(chat: Running) -> None:
    ann, bob = chat.person(), chat.person()
    acme = chat.tenant("Acme", ann, bob)
    conversation = ann.begins(tenant_id=str(acme))["id"]
    ann.says(conversation, "a secret of Ann")
    assert find(bob, "secret") == find(bob, "secret", conversation_id=conversation) == []
    assert len(find(ann, "secret", role="user")) == 1
    ann.http.delete(f"/api/conversations/{conversation}")
    assert find(ann, "secret") == []
    ann.http.post(f"/api/conversations/{conversation}/restore")
    assert len(find(ann, "secret", role="user")) == 1
    chat.owner.execute("DELETE FROM tenant_users WHERE user_id = %s", [ann.user_id])
    assert find(ann, "secret") == []


@pytest.mark.parametrize("q", ["'", '"', "-", "a:*&!|<->()", "\x00", "\\", "%", "' OR true --", "x" * 1_000, "\ud7ff"])
def test_a_hostile_query_finds_nothing(chat: Running, q: str) -> None:
    ann = chat.person()
    ann.says(None, "hello")
    assert find(ann, q) == []


def test_a_query_without_end_is_refused(chat: Running) -> None:
    ann = chat.person()
    for q in ("", "x" * 1_001):
        assert ann.http.get("/api/search", params={"q": q}).status_code == 422
