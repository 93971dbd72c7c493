"""Two users and two tenants never see each other."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import Running


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("PATCH", "", {"title": "mine now"}),
        ("DELETE", "", None),
        ("GET", "/messages", None),
    ],
)
def test_another_s_conversation_is_not_there(
    chat: Running, method: str, path: str, body: dict[str, str] | None
) -> None:
    ann, bob = chat.person(), chat.person()
    conversation = ann.begins(title="of Ann")["id"]
    ann.says(conversation, "private")
    theirs = bob.http.request(method, f"/api/conversations/{conversation}{path}", json=body)
    nobodys = bob.http.request(method, f"/api/conversations/{uuid.uuid4()}{path}", json=body)
    assert theirs.status_code == 404
    assert theirs.json() == nobodys.json()  # nobody learns that it exists
    assert ann.http.get(f"/api/conversations/{conversation}").json()["title"] == "of Ann"
    assert bob.sees() == []


def test_nobody_speaks_in_another_s_conversation(chat: Running) -> None:
    ann, bob = chat.person(), chat.person()
    conversation = ann.begins()["id"]
    with bob.saying(conversation, "let me in") as answer:
        assert answer.status_code == 404
    assert ann.reads(conversation) == []


def test_one_key_in_the_hands_of_two_users_is_two_keys(chat: Running) -> None:
    ann, bob = chat.person(), chat.person()
    of_ann, of_bob = ann.begins()["id"], bob.begins()["id"]
    ann.says(of_ann, "from Ann", key="1")
    bob.says(of_bob, "from Bob", key="1")
    assert (ann.reads(of_ann)[0], bob.reads(of_bob)[0]) == (("user", "from Ann"), ("user", "from Bob"))


def test_tenants_do_not_see_one_another(chat: Running) -> None:
    ann, bob = chat.person(), chat.person()
    acme, globex = chat.tenant("Acme", ann), chat.tenant("Globex", bob)
    of_ann, of_bob = ann.begins(tenant_id=str(acme))["id"], bob.begins(tenant_id=str(globex))["id"]
    assert (ann.sees(), bob.sees()) == ([of_ann], [of_bob])
    for tenant in (globex, uuid.uuid4()):
        answer = ann.http.post("/api/conversations", json={"tenant_id": str(tenant)})
        assert (answer.status_code, answer.json()["type"]) == (403, "urn:chat-api:problem:not-a-member")
    assert [one["name"] for one in ann.http.get("/api/me").json()["tenants"]] == ["Acme"]


def test_members_of_one_tenant_keep_their_conversations_to_themselves(chat: Running) -> None:
    ann, bob = chat.person(), chat.person()
    acme = chat.tenant("Acme", ann, bob)
    ann.begins(tenant_id=str(acme))
    assert bob.sees() == []


def test_a_member_who_leaves_the_tenant_loses_its_conversations(chat: Running) -> None:
    ann = chat.person()
    acme = chat.tenant("Acme", ann)
    personal, of_acme = ann.begins()["id"], ann.begins(tenant_id=str(acme))["id"]
    ann.says(of_acme, "a secret of Acme", key="left")
    chat.owner.execute("DELETE FROM tenant_users WHERE user_id = %s", [ann.user_id])
    assert ann.sees() == [personal]
    assert ann.http.get(f"/api/conversations/{of_acme}/messages").status_code == 404
    with ann.saying(of_acme, "a secret of Acme", key="left") as answer:
        assert answer.status_code == 404
    with ann.saying(personal, "a secret of Acme", key="left") as answer:  # the key stands where Ann may not look
        assert answer.status_code in (403, 409)
    assert ann.reads(personal) == []


def test_users_who_come_at_the_same_time_get_each_their_own(chat: Running) -> None:
    """More at once than the pool has connections: each goes from hand to hand."""
    people = [chat.person() for _ in range(24)]
    begun = {person.user_id: person.begins()["id"] for person in people}
    with ThreadPoolExecutor(24) as pool:
        for _ in range(5):
            seen = list(pool.map(lambda person: person.sees(), people))
            assert seen == [[begun[person.user_id]] for person in people]
