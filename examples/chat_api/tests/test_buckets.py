"""Attachments in a bucket: what speaks S3 is a small one that runs here, over real HTTP."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from chat_api.files import files


class Objects(ThreadingHTTPServer):
    """Keeps objects by their path."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, bytes] = {}


class _Handler(BaseHTTPRequestHandler):
    server: Objects

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Sat, 28 Nov 2026 12:00:00 GMT")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _body(self) -> bytes:
        assert self.headers["Authorization"].startswith("AWS4-HMAC-SHA256 Credential=an id/")
        return self.rfile.read(int(self.headers["Content-Length"]))

    def do_PUT(self) -> None:
        self.server.objects[self.path] = self._body()
        self._answer(200)

    def do_GET(self) -> None:
        found = self.server.objects.get(self.path)
        self._answer(404) if found is None else self._answer(200, found)

    def do_POST(self) -> None:
        assert self.path == "/bucket?delete"
        deleted = re.findall(r"<Key>(.*?)</Key>", self._body().decode())
        for key in deleted:
            self.server.objects.pop(f"/bucket/{key}", None)
        parts = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in deleted)
        self._answer(200, f"<DeleteResult>{parts}</DeleteResult>".encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def objects(monkeypatch: pytest.MonkeyPatch) -> Iterator[Objects]:
    server = Objects()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "an id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret")
    yield server
    server.shutdown()
    server.server_close()


def test_bytes_come_back_from_a_bucket_and_are_gone_when_deleted(objects: Objects) -> None:
    async def used() -> list[bytes | None]:
        bucket = files("s3://bucket/some/prefix")
        await bucket.put("key", b"\x00 content")
        found = [await bucket.get("key"), await bucket.get("another")]
        assert list(objects.objects) == ["/bucket/some/prefix/key"]
        await bucket.delete("key")
        await bucket.delete("key")  # once more changes nothing
        return [*found, await bucket.get("key")]

    assert asyncio.run(used()) == [b"\x00 content", None, None]
    assert objects.objects == {}
