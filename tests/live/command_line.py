"""The command line as a user starts it: another process, its address in DATABASE_URL, its words in one stream."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO

import psycopg

from tests.conftest import unrehearsed
from tests.postgres_binaries import ROOT

PATIENCE = 120.0  # seconds until a test that waits for an event gives up; no test asserts how long anything takes


class Run:
    """A command that goes on beside the test."""

    def __init__(self, process: subprocess.Popen[bytes], said: IO[bytes]) -> None:
        self.process = process
        self._said = said

    @property
    def output(self) -> str:
        """What it has said until now, on both streams."""
        return os.pread(self._said.fileno(), 1 << 24, 0).decode()

    @property
    def goes_on(self) -> bool:
        return self.process.poll() is None

    def says(self, text: str) -> None:
        """Wait until it has said ``text``."""
        wait_for(lambda: text in self.output or not self.goes_on, f"{text!r} in:\n", lambda: self.output)
        assert text in self.output, f"it ended ({self.process.returncode}) without {text!r}:\n{self.output}"

    def ends(self) -> int:
        """Wait for its end and return its exit status; whatever it was, nobody wants to read a traceback."""
        try:
            status = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it goes on and on:\n{self.output}") from None
        assert "Traceback" not in self.output, self.output
        return status

    def succeeds(self) -> str:
        """Wait for its end, which must be a good one, and return what it said."""
        assert self.ends() == 0, self.output
        return self.output

    def fails(self) -> str:
        """Wait for its end, which must be one with a message and of its own making, and return what it said."""
        status = self.ends()
        assert status > 0, f"exit status {status}:\n{self.output}"
        assert self.output.count("FAILED:") == 1, self.output
        return self.output

    def kill(self) -> None:
        """Give it no chance to clean up."""
        self.process.kill()
        self.process.wait()


@contextmanager
def alembic(
    url: str | None, *arguments: str, x: tuple[str, ...] = (), environment: Mapping[str, str] | None = None
) -> Iterator[Run]:
    """Start ``alembic -x ... <arguments>`` on the database at ``url``; kill it if the test leaves before its end."""
    options = (word for option in unrehearsed(x) for word in ("-x", option))
    with _started(("alembic", *options, *arguments), url, environment) as run:
        yield run


@contextmanager
def chat_schema(url: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[Run]:
    """Start ``chat-schema <arguments>`` on the database at ``url``; kill it if the test leaves before its end."""
    with _started(("chat_schema", *arguments), url, environment) as run:
        yield run


@contextmanager
def _started(module: tuple[str, ...], url: str | None, environment: Mapping[str, str] | None) -> Iterator[Run]:
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "DATABASE_URL"))}
    if url is not None:
        surroundings["DATABASE_URL"] = url
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, "-m", *module],
            cwd=ROOT,
            env={**surroundings, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        run = Run(process, said)
        try:
            yield run
        finally:
            if run.goes_on:
                run.kill()


def wait_for(condition: Callable[[], object], what: str, more: Callable[[], object] = str) -> None:
    """Poll until ``condition()``; after :data:`PATIENCE` fail with ``what`` was waited for."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}{more()}"
        time.sleep(0.01)


def connect(url: str, application_name: str = "a test") -> psycopg.Connection:
    """Connect as a client of the application does, in autocommit; nothing it does may hang the test for ever."""
    options = f"-c statement_timeout={PATIENCE:.0f}s"
    plain = url.replace("postgresql+psycopg://", "postgresql://", 1)  # a DSN stays as it is
    return psycopg.connect(plain, autocommit=True, application_name=application_name, options=options)


def value(connection: psycopg.Connection, query: str, *parameters: object) -> object:
    """Return the first column of the first row, None where there is no row."""
    row = connection.execute(query.encode(), parameters or None).fetchone()
    return row[0] if row else None
