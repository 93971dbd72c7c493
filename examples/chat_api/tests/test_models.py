"""Replies from an endpoint that speaks the OpenAI protocol: a small one that runs here, over real HTTP."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from chat_api import turns
from tests.conftest import Running, running
from tests.person import Event, Person, events_in


class Model(ThreadingHTTPServer):
    """Answers as it is told to, and keeps what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.may_go_on = threading.Event()  # beyond its first line
        self.be_well()

    def be_well(self) -> None:
        self.status = 200
        self.lines = saying("Bonjour", ", ", "Lyon!")
        self.may_go_on.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/"


class _Handler(BaseHTTPRequestHandler):
    server: Model

    def do_POST(self) -> None:
        assert self.path == "/v1/chat/completions"
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.server.keys.append(self.headers["Authorization"])
        self.send_response(self.server.status)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for number, line in enumerate(self.server.lines):
            if number == 1:
                self.server.may_go_on.wait(20)
            self.wfile.write(line.encode() + b"\n\n")
            self.wfile.flush()

    def log_message(self, *_: object) -> None:
        pass


USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 5,
    "total_tokens": 14,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 2},
}


def saying(*texts: str) -> list[str]:
    """Return the lines of a reply, with what real endpoints send around it."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, *({"content": text} for text in texts), {}]
    chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    chunks[-1]["choices"][0]["finish_reason"] = "stop"
    usage: dict[str, Any] = {"choices": [], "model": "small-2026", "usage": USAGE}
    return [*(f"data: {json.dumps(chunk)}" for chunk in [*chunks, usage]), ": keep-alive", "data: [DONE]"]


@pytest.fixture(scope="module")
def _model() -> Iterator[Model]:
    with Model() as model:
        thread = threading.Thread(target=model.serve_forever)
        thread.start()
        yield model
        model.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def service(chat: Running, _model: Model) -> Iterator[Running]:
    told = {"model_url": _model.url.rstrip("/"), "model": "small", "model_key": "sk-test"}
    with running(dataclasses.replace(chat.settings, **told)) as url:  # type: ignore[arg-type]
        yield Running(url, chat.settings, chat.owner)


@pytest.fixture
def model(_model: Model) -> Iterator[Model]:
    yield _model
    _model.be_well()


def test_it_is_asked_with_the_conversation_and_heard_piece_by_piece(service: Running, model: Model) -> None:
    ann = service.person()
    conversation = ann.begins()["id"]
    ann.says(conversation, "Where to?")
    events = ann.says(conversation, "And then?")
    assert [event.data.get("text") for event in events if event.name == "delta"] == ["Bonjour", ", ", "Lyon!"]
    assert events[-1].data["content"] == "Bonjour, Lyon!"
    assert model.asked[-1] == {
        "model": "small",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [
            {"role": "user", "content": "Where to?"},
            {"role": "assistant", "content": "Bonjour, Lyon!"},
            {"role": "user", "content": "And then?"},
        ],
    }
    assert model.keys[-1] == "Bearer sk-test"


STORED = """
SELECT status, provider, model, finish_reason, input_tokens, output_tokens, cached_tokens, reasoning_tokens,
  latency_ms BETWEEN 0 AND 60000 FROM messages WHERE user_id = %s AND role = 'assistant'
"""


def test_who_wrote_a_reply_and_what_it_took_is_stored(service: Running, model: Model) -> None:
    ann = service.person()
    assert ann.says(None, "Where to?")[-1].data["model"] == "small-2026"
    stored = service.owner.execute(STORED, [ann.user_id]).fetchall()
    assert stored == [("complete", "127.0.0.1", "small-2026", "stop", 9, 5, 4, 2, True)]


@pytest.mark.parametrize("told", [None, {}, {"prompt_tokens": -1, "completion_tokens": "5"}, {"prompt_tokens": 2**40}])
def test_what_an_endpoint_tells_wrong_is_left_out(service: Running, model: Model, told: Any) -> None:
    ann = service.person()
    chunk = {"choices": [], "model": 7, "usage": told}
    model.lines = [*saying("Bonjour")[:2], f"data: {json.dumps(chunk)}", "data: [DONE]"]
    assert ann.says(None, "Where to?")[-1].name == "done"
    stored = service.owner.execute(STORED, [ann.user_id]).fetchall()
    assert stored == [("complete", "127.0.0.1", "small", None, None, None, None, None, True)]


# What the endpoint answers, and what there is of the reply.
BROKEN: dict[str, tuple[int, list[str], str]] = {
    "an error": (500, [], ""),
    "too many requests": (429, ["data: {}"], ""),
    "another protocol": (200, ["data: <html>"], ""),
    "JSON of another shape": (200, ['data: {"choices": "none"}'], ""),
    "an error in the stream": (200, [*saying("Bon")[:2], 'data: {"error": {"message": "overloaded"}}'], "Bon"),
    "an end in the middle": (200, saying("Bon")[:2], "Bon"),
    "nothing": (200, saying(), ""),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_reply_says_so_and_the_next_try_takes_its_place(service: Running, model: Model, case: str) -> None:
    ann = service.person()
    conversation = ann.begins()["id"]
    model.status, model.lines, so_far = BROKEN[case]
    last = ann.says(conversation, "Where to?", key="k")[-1]
    assert (last.name, last.data["status"], last.data["type"]) == ("error", 502, "urn:chat-api:problem:no-reply")
    question, broken = messages(ann, conversation)
    assert (question["status"], broken["status"], broken["content"]) == ("complete", "error", so_far)
    assert broken["error"]
    assert last.data["detail"].startswith(broken["error"])
    model.be_well()
    assert ann.says(conversation, "Where to?", key="k")[-1].name == "done"
    asked = len(model.asked)
    assert ann.says(conversation, "Where to?", key="k")[-1].name == "done"
    assert len(model.asked) == asked
    assert model.asked[-1]["messages"] == [{"role": "user", "content": "Where to?"}]
    question, whole = messages(ann, conversation)
    assert (question["content"], whole["content"]) == ("Where to?", "Bonjour, Lyon!")
    assert (whole["status"], whole["error"], whole["versions"]) == ("complete", None, [broken["id"], whole["id"]])


def test_a_broken_reply_is_made_again_and_what_is_said_after_it_goes_on(service: Running, model: Model) -> None:
    ann = service.person()
    conversation = ann.begins()["id"]
    model.status, model.lines, _ = BROKEN["an error"]
    ann.says(conversation, "Where to?")
    broken = messages(ann, conversation)[-1]
    model.be_well()
    ann.says(conversation, "Hello?")
    assert [one["content"] for one in model.asked[-1]["messages"]] == ["Where to?", "Hello?"]
    with ann.http.stream("POST", f"/api/messages/{broken['id']}/again", headers={"Idempotency-Key": "x"}) as answer:
        assert list(events_in(answer))[-1].name == "done"
    assert [one["content"] for one in messages(ann, conversation)] == ["Where to?", "Bonjour, Lyon!"]


def test_an_endpoint_that_is_not_there_is_a_problem(chat: Running) -> None:
    gone = dataclasses.replace(chat.settings, model_url="http://127.0.0.1:9/v1", model="small")
    with running(gone) as url:
        ann = chat.person().at(url)
        last = ann.says(ann.begins()["id"], "Anybody?")[-1]
    assert (last.name, last.data["status"]) == ("error", 502)


def test_what_no_text_can_hold_is_left_out_of_the_reply(service: Running, model: Model) -> None:
    ann = service.person()
    conversation = ann.begins()["id"]
    model.lines = saying("nul \0", " half \ud83d", "\ude42", " lone \ud83d")
    assert ann.says(conversation, "Odd?")[-1].data["content"] == "nul  half \U0001f642 lone \ufffd"


def test_a_window_that_closes_loses_no_reply(service: Running, model: Model) -> None:
    ann, conversation, _ = interrupted(service, model)
    model.may_go_on.set()
    deadline = time.monotonic() + 20
    while messages(ann, conversation)[-1]["status"] == "streaming" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert ann.reads(conversation) == [("user", "Wait for it"), ("assistant", "Bonjour, Lyon!")]


def test_who_comes_back_with_the_key_follows_the_same_reply(service: Running, model: Model) -> None:
    ann, conversation, question = interrupted(service, model)
    asked = len(model.asked)
    with ann.saying(conversation, "Wait for it", key="k") as response:
        events = events_in(response)
        assert next(events) == question
        model.may_go_on.set()
        assert list(events)[-1].name == "done"
    assert len(model.asked) == asked


def test_a_conversation_deleted_meanwhile_ends_the_reply(service: Running, model: Model) -> None:
    ann, conversation, _ = interrupted(service, model)
    with ann.saying(conversation, "Wait for it", key="k") as response:
        ann.deletes(conversation)
        model.may_go_on.set()
        last = list(events_in(response))[-1]
    assert (last.name, last.data["status"], last.data["type"]) == ("error", 409, "urn:chat-api:problem:gone-meanwhile")


def test_a_tenant_left_meanwhile_ends_the_reply(service: Running, model: Model) -> None:
    ann, conversation, _ = interrupted(service, model)
    with ann.saying(conversation, "Wait for it", key="k") as response:
        service.owner.execute("DELETE FROM tenant_users WHERE user_id = %s", [ann.user_id])
        model.may_go_on.set()
        last = list(events_in(response))[-1]
    assert (last.name, last.data["type"]) == ("error", "urn:chat-api:problem:gone-meanwhile")
    left = service.owner.execute(
        "SELECT role, content FROM messages WHERE user_id = %s ORDER BY seq", [ann.user_id]
    ).fetchall()
    assert left == [("user", "Wait for it"), ("assistant", "")]


def test_a_reply_is_there_from_its_beginning_and_is_stored_as_it_grows(
    service: Running, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "SAVE_SECONDS", 0.0)
    model.lines = saying("Bonjour", ", Lyon!")[1:]
    ann, conversation, _ = interrupted(service, model)
    deadline = time.monotonic() + 20
    while not (written := messages(ann, conversation)[-1])["content"] and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (written["role"], written["status"], written["content"]) == ("assistant", "streaming", "Bonjour")
    model.may_go_on.set()
    with ann.saying(conversation, "Wait for it", key="k") as response:
        assert list(events_in(response))[-1].name == "done"
    whole = messages(ann, conversation)[-1]
    assert (whole["id"], whole["status"], whole["content"]) == (written["id"], "complete", "Bonjour, Lyon!")


def test_a_reply_that_is_being_written_is_not_made_twice(service: Running, model: Model) -> None:
    ann, conversation, question = interrupted(service, model)
    asked = len(model.asked)
    written = messages(ann, conversation)[-1]["id"]
    heard = []
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for message in (question.data["id"], written):
            heard.append(pool.submit(again, ann, message))
        model.may_go_on.set()
    assert [each.result()[-1].data["id"] for each in heard] == [written, written]
    assert len(model.asked) == asked


def test_a_service_that_stops_interrupts_its_replies(chat: Running, model: Model) -> None:
    told = {"model_url": model.url.rstrip("/"), "model": "small"}
    settings = dataclasses.replace(chat.settings, **told)  # type: ignore[arg-type]
    with running(settings) as url:
        here = Running(url, chat.settings, chat.owner)
        ann, conversation, _ = interrupted(here, model)
    with running(settings) as url:
        broken = messages(ann.at(url), conversation)[-1]
        assert (broken["status"], broken["error"]) == ("interrupted", "The service stopped.")
        model.may_go_on.set()
        assert ann.at(url).says(conversation, "Wait for it", key="k")[-1].data["content"] == "Bonjour, Lyon!"


def test_a_service_that_starts_finds_the_replies_that_died(chat: Running) -> None:
    ann = chat.person()
    conversation = ann.begins()["id"]
    for minutes in (10, 1):  # of the second another process may be the writer
        chat.owner.execute(
            "INSERT INTO messages (conversation_id, user_id, role, content, status, created_at)"
            " SELECT id, user_id, 'assistant', 'Bon', 'streaming', now() - %s * interval '1 minute'"
            " FROM conversations WHERE id = %s",
            [minutes, conversation],
        )
    with running(chat.settings) as url:
        found = messages(ann.at(url), conversation)
    assert [(one["status"], one["content"]) for one in found] == [("interrupted", "Bon"), ("streaming", "Bon")]


def test_a_reply_that_another_process_writes_is_waited_for(service: Running, model: Model, chat: Running) -> None:
    ann, conversation, _ = interrupted(service, model)
    asked = len(model.asked)
    told = {"model_url": model.url.rstrip("/"), "model": "small"}
    with (
        running(dataclasses.replace(chat.settings, **told)) as url,  # type: ignore[arg-type]
        ann.at(url).saying(conversation, "Wait for it", key="k") as response,
    ):
        events = events_in(response)
        next(events)
        model.may_go_on.set()
        assert list(events)[-1].data["content"] == "Bonjour, Lyon!"
    assert len(model.asked) == asked


def messages(person: Person, conversation: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = person.http.get(f"/api/conversations/{conversation}/messages").json()["items"]
    return items


def again(person: Person, message: str) -> list[Event]:
    with person.http.stream("POST", f"/api/messages/{message}/again", headers={"Idempotency-Key": "x"}) as answer:
        return list(events_in(answer))


def interrupted(service: Running, model: Model) -> tuple[Person, str, Event]:
    """Say something with key "k" in a tenant's conversation, and go away before the reply comes."""
    ann = service.person()
    conversation = ann.begins(tenant_id=str(service.tenant("Acme", ann)))["id"]
    model.may_go_on.clear()
    asked = len(model.asked)
    with ann.saying(conversation, "Wait for it", key="k") as response:
        question = next(events_in(response))
    deadline = time.monotonic() + 20
    while len(model.asked) == asked and time.monotonic() < deadline:
        time.sleep(0.02)
    return ann, conversation, question
