"""Everything of one's own as a download."""

from __future__ import annotations

import json

from tests.conftest import Running


def test_all_of_one_s_own_comes_out_and_nothing_else(chat: Running) -> None:
    ann, bob = chat.person(), chat.person()
    chat.tenant("Acme", ann, bob)
    begun = [ann.begins(title=f"Number {n}")["id"] for n in range(3)]
    bob.says(bob.begins(title="of Bob")["id"], "private")
    ann.says(begun[0], "hello ümlaut")
    ann.http.patch(f"/api/conversations/{begun[1]}", json={"archived": True})
    ann.http.delete(f"/api/conversations/{begun[2]}")
    chat.owner.execute(
        "INSERT INTO messages (conversation_id, user_id, role, content)"
        " SELECT %s, %s, 'user', 'line ' || n FROM generate_series(1, 450) AS n",
        [begun[1], ann.user_id],
    )
    answer = ann.http.get("/api/export")
    assert answer.headers["content-disposition"] == 'attachment; filename="conversations.jsonl"'
    lines = [json.loads(line) for line in answer.text.splitlines()]
    conversations = [line["conversation"] for line in lines if "conversation" in line]
    messages = [line["message"] for line in lines if "message" in line]
    assert sorted(one["id"] for one in conversations) == sorted(begun)
    assert {one["user_id"] for one in conversations + messages} == {str(ann.user_id)}
    of = {one: [m["content"] for m in messages if m["conversation_id"] == one] for one in begun}
    assert of[begun[0]][0] == "hello ümlaut"
    assert of[begun[1]] == [f"line {n}" for n in range(1, 451)]
    assert of[begun[2]] == []
    assert len(bob.http.get("/api/export").text.splitlines()) == 3


def test_who_has_nothing_gets_nothing(chat: Running) -> None:
    assert chat.person().http.get("/api/export").text == ""
