"""Every error is a problem of one shape (RFC 9457)."""

from __future__ import annotations

import pytest

from chat_api.problems import Problem
from tests.conftest import Running


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "says"),
    [
        ("GET", "/api/nothing", None, 404, "Not Found"),
        ("GET", "/nothing", None, 404, "Not Found"),
        ("PUT", "/api/conversations", None, 405, "Method Not Allowed"),
        ("GET", "/api/conversations/not-a-uuid", None, 422, "path.conversation_id"),
        ("GET", "/api/conversations?limit=0", None, 422, "query.limit"),
        ("GET", "/api/conversations?before=yesterday", None, 422, "query.before"),
        ("POST", "/api/conversations", b"{", 422, "JSON"),
        ("POST", "/api/conversations", b"\xff", 400, "parsing the body"),
        ("POST", "/api/conversations", b'{"titel": "misspelt"}', 422, "body.titel"),
        ("POST", "/api/conversations", b'{"title": "\\ud800"}', 422, "body.title"),
        ("POST", "/api/conversations", b'{"title": "\\u0000"}', 422, "body.title"),
        ("POST", "/api/conversations", b'{"title": "' + b"x" * 600_000 + b'"}', 413, "524,288 bytes"),
        ("POST", "/api/chat", b'{"conversation_id": "x", "content": ""}', 422, "body.content"),
        ("POST", "/api/chat", b'{"conversation_id": "x", "content": ""}', 422, "header.Idempotency-Key"),
    ],
)
def test_it_is_a_problem(chat: Running, method: str, path: str, body: bytes | None, status: int, says: str) -> None:
    answer = chat.person().http.request(method, path, content=body, headers={"Content-Type": "application/json"})
    assert answer.headers["content-type"] == "application/problem+json"
    problem = Problem.model_validate_json(answer.content)
    assert (answer.status_code, problem.status) == (status, status)
    assert says in answer.text


def test_a_method_that_is_not_there_names_those_that_are(chat: Running) -> None:
    assert chat.person().http.put("/api/conversations").headers["allow"] == "GET, POST"


def test_no_answer_is_kept_or_sniffed_or_framed(chat: Running) -> None:
    ann = chat.person()
    for path in ("/api/conversations", "/api/nothing", "/", "/page/main.js"):
        headers = ann.http.get(path).headers
        assert headers["cache-control"] == ("no-store" if path.startswith("/api") else "no-cache")
        assert headers["x-content-type-options"] == "nosniff"
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
