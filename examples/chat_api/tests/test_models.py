"""Replies from an endpoint that speaks the OpenAI protocol: a small one that runs here, over real HTTP."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

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


def saying(*texts: str) -> list[str]:
    """Return the lines of a reply, with what real endpoints send around it."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, *({"content": text} for text in texts), {}]
    chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    usage: dict[str, Any] = {"choices": [], "usage": {"total_tokens": 12}}
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
        "messages": [
            {"role": "user", "content": "Where to?"},
            {"role": "assistant", "content": "Bonjour, Lyon!"},
            {"role": "user", "content": "And then?"},
        ],
    }
    assert model.keys[-1] == "Bearer sk-test"


BROKEN: dict[str, tuple[int, list[str]]] = {
    "an error": (500, []),
    "too many requests": (429, ["data: {}"]),
    "another protocol": (200, ["data: <html>"]),
    "JSON of another shape": (200, ['data: {"choices": "none"}']),
    "an error in the stream": (200, [*saying("Bon")[:2], 'data: {"error": {"message": "overloaded"}}']),
    "an end in the middle": (200, saying("Bon")[:2]),
    "nothing": (200, saying()),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_question_without_a_reply_is_kept_and_answered_on_the_next_try(
    service: Running, model: Model, case: str
) -> None:
    ann = service.person()
    conversation = ann.begins()["id"]
    model.status, model.lines = BROKEN[case]
    last = ann.says(conversation, "Where to?", key="k")[-1]
    assert (last.name, last.data["status"], last.data["type"]) == ("error", 502, "urn:chat-api:problem:no-reply")
    assert ann.reads(conversation) == [("user", "Where to?")]
    model.be_well()
    assert ann.says(conversation, "Where to?", key="k")[-1].name == "done"
    assert ann.reads(conversation) == [("user", "Where to?"), ("assistant", "Bonjour, Lyon!")]


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
    while len(ann.reads(conversation)) < 2 and time.monotonic() < deadline:
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
    assert (last.name, last.data["status"]) == ("error", 403)
    left = service.owner.execute("SELECT role FROM messages WHERE user_id = %s", [ann.user_id]).fetchall()
    assert left == [("user",)]


def interrupted(service: Running, model: Model) -> tuple[Person, str, Event]:
    """Say something with key "k" in a tenant's conversation, and go away before the reply comes."""
    ann = service.person()
    conversation = ann.begins(tenant_id=str(service.tenant("Acme", ann)))["id"]
    model.may_go_on.clear()
    with ann.saying(conversation, "Wait for it", key="k") as response:
        return ann, conversation, next(events_in(response))
