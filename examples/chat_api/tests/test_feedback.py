"""Thumbs up and down."""

from __future__ import annotations

import uuid

from tests.conftest import Running


def test_a_rating_replaces_the_one_before_and_can_be_taken_back(chat: Running) -> None:
    ann = chat.person()
    conversation = ann.begins()["id"]
    reply = ann.says(conversation, "hello")[-1].data
    assert reply["rating"] is None
    at = f"/api/messages/{reply['id']}/rating"

    def rating() -> int | None:
        items = ann.http.get(f"/api/conversations/{conversation}/messages").json()["items"]
        found: int | None = items[-1]["rating"]
        return found

    for given in (1, -1):
        assert ann.http.put(at, json={"rating": given, "reason": "why"}).status_code == 204
        assert rating() == given
    for _ in range(2):
        assert ann.http.delete(at).status_code == 204
    assert rating() is None
    for wrong in ({"rating": 2}, {"rating": 0}, {"rating": 1, "reason": "\x00"}, {}):
        assert ann.http.put(at, json=wrong).status_code == 422


def test_nobody_rates_another_s_messages(chat: Running) -> None:
    ann, bob = chat.person(), chat.person()
    chat.tenant("Acme", ann, bob)
    reply = ann.says(None, "hello")[-1].data
    for message in (reply["id"], str(uuid.uuid4())):
        assert bob.http.put(f"/api/messages/{message}/rating", json={"rating": -1}).status_code == 404
        assert bob.http.delete(f"/api/messages/{message}/rating").status_code == 404
    left = chat.owner.execute("SELECT count(*) FROM feedback WHERE message_id = %s", [reply["id"]]).fetchone()
    assert left == (0,)
