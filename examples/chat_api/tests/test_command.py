"""`python -m chat_api` as a process: a database from nothing, a link, a page, and an end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import psycopg
import pytest

from chat_api.settings import Settings
from chat_schema import embedded
from tests.conftest import Running, libpq


def command(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "CHAT_API_SECRET")}
    return subprocess.Popen(
        [sys.executable, "-m", "chat_api", *arguments],
        env={**kept, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextlib.contextmanager
def serving(*arguments: str, **environment: str) -> Iterator[list[str]]:
    """Run it on a free port; yield the links it prints. What it prints after Ctrl-C would be a fault."""
    process = command("--port", "0", *arguments, **environment)
    assert process.stdout
    assert process.stderr
    links = []
    try:
        for line in process.stdout:
            if line.startswith("Serving on "):
                break
            links.append(line.partition(": ")[2].strip())
        else:
            raise AssertionError(process.stderr.read())
        yield links
    finally:
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert (output, errors) == ("", "")


def follow(link: str) -> httpx.Client:
    url, _, token = link.partition("#token=")
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30)


@pytest.fixture
def data() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="chat-api-tests-") as folder:
        Path(folder).chmod(0o711)
        yield f"{folder}/data"


def test_one_command_from_nothing_to_a_conversation_that_is_there_the_next_time(data: str) -> None:
    with serving("--data", data) as [link], follow(link) as you:
        assert "<title>Conversations</title>" in you.get("/").text
        begun = you.post("/api/conversations", json={"title": "Kept"}).json()
        assert you.get("/api/me").json()["email"] == "you@example.com"
    with serving("--data", data, "--user", "bob@example.com", "--user", "you@example.com") as [bob, you_again]:
        assert follow(you_again).get("/api/conversations").json()["items"] == [begun]
        assert follow(bob).get("/api/conversations").json()["items"] == []
        _, _, token = link.partition("#")
        assert follow(f"{bob.partition('#')[0]}#{token}").get("/api/me").status_code == 401  # a secret for each start


def test_on_a_database_of_one_s_own(settings: Settings) -> None:
    url = libpq(settings.database_url)
    with serving("--user", "own@example.com", DATABASE_URL=url, CHAT_API_SECRET=settings.secret) as [link]:
        token = link.partition("#token=")[2]
        assert follow(link).get("/api/me").json()["email"] == "own@example.com"
    with serving(DATABASE_URL=url, CHAT_API_SECRET=settings.secret) as links:
        assert links == []
    with serving("--user", "own@example.com", DATABASE_URL=url, CHAT_API_SECRET=settings.secret) as [link]:
        address = link.partition("#")[0]
        assert follow(f"{address}#token={token}").get("/api/me").status_code == 200  # the same secret, the same users


def test_the_login_it_makes_owns_nothing_and_sees_nothing_by_itself(chat: Running) -> None:
    chat.person().begins()
    with psycopg.connect(libpq(chat.settings.database_url)) as login:
        assert login.execute("SELECT session_user").fetchone() == ("chat_api",)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            login.execute("SELECT FROM conversations")


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"CHAT_API_SECRET": "short"}, "fewer than 32 bytes"),
        ({"CHAT_API_MODEL_URL": "http://127.0.0.1:9/v1"}, "CHAT_API_MODEL is not"),
        ({"DATABASE_URL": "mysql://somewhere/chat"}, "speaks of 'mysql'"),
        ({"DATABASE_URL": "postgresql://me:sesame@127.0.0.1:9/chat"}, "does not answer"),
    ],
)
def test_what_cannot_work_is_said_in_one_message(
    server: embedded.Server, environment: Mapping[str, str], says: str
) -> None:
    url = libpq(server.url(user="chat_api"))
    process = command(**{"DATABASE_URL": url, **environment})
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert says in errors
    assert errors.startswith("chat-api: ")
    assert "sesame" not in errors


@pytest.mark.usefixtures("settings")
def test_the_owner_is_no_login_for_a_service(server: embedded.Server) -> None:
    process = command(DATABASE_URL=libpq(server.url()))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "is a superuser" in errors


def test_a_port_that_is_taken_is_named(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        process = command("--port", port, DATABASE_URL=libpq(settings.database_url))
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert re.match(rf"chat-api: cannot listen on 127\.0\.0\.1:{port}", errors)
