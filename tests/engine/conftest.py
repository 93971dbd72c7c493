"""A foreign project: tests/engine/billing, copied to a folder of the test's own, on a database that knows no chats."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from app import embedded
from tests.conftest import _database, _text, libpq
from tests.live.command_line import Run, connect

BILLING = Path(__file__).parent / "billing"


class Project:
    """A folder with an ``alembic.ini``, and the commands that its users type there."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.ini = folder / "alembic.ini"

    def write(self, name: str, text: str) -> None:
        """Write a file of the project."""
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(text, "utf-8")

    def change(self, name: str, before: str, after: str) -> None:
        """Change a file of the project."""
        text = (self.folder / name).read_text("utf-8")
        assert before in text
        self.write(name, text.replace(before, after))

    @contextmanager
    def alembic(self, *arguments: str) -> Iterator[Run]:
        """Start ``alembic <arguments>`` in the folder; kill it if the test leaves before its end."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "DATABASE_URL"))}
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(
                [sys.executable, "-m", "alembic", *arguments],
                cwd=self.folder,
                env=environment,
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

    def succeeds(self, *arguments: str) -> str:
        """Run ``alembic <arguments>``, which must end well, and return what it said."""
        with self.alembic(*arguments) as run:
            return run.succeeds()

    def fails(self, *arguments: str) -> str:
        """Run ``alembic <arguments>``, which must end with a message, and return it."""
        with self.alembic(*arguments) as run:
            return run.fails()

    def steer(self, *words: str, status: int = 0) -> str:
        """Run ``chat-schema <words>`` in the folder, which must end with ``status``; return what it printed."""
        environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
        done = subprocess.run(
            [sys.executable, "-m", "chat_schema", *words],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        return done.stderr if status else done.stdout

    def script(self, *arguments: str) -> str:
        """Return the script that ``alembic <arguments> --sql`` writes."""
        written = subprocess.run(
            [sys.executable, "-m", "alembic", *arguments, "--sql"],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert written.returncode == 0, written.stderr
        return written.stdout


MakeProject = Callable[..., Project]


@pytest.fixture
def make_project(tmp_path: Path) -> MakeProject:
    """``make_project(url)`` copies the project and points it at ``url``."""

    def make(url: str, name: str = "billing") -> Project:
        folder = tmp_path / name
        shutil.copytree(BILLING, folder, ignore=shutil.ignore_patterns("__pycache__"))
        project = Project(folder, url)
        project.change("alembic.ini", "postgresql://user:password@host/database", libpq(url).replace("%", "%%"))
        return project

    return make


@pytest.fixture
def billing(make_project: MakeProject, database_url: str) -> Project:
    """The project on a database without a schema public."""
    with connect(database_url) as client:
        client.execute("DROP SCHEMA public")
    return make_project(database_url)


@pytest.fixture
def client(billing: Project) -> Iterator[psycopg.Connection]:
    """A client of the project's database, in autocommit."""
    with connect(billing.url, "billing") as connection:
        yield connection


def rows(client: psycopg.Connection[Any], query: str) -> list[Any]:
    """Return the rows of ``query``; of one column its values."""
    found = client.execute(query.encode()).fetchall()
    return [row[0] if len(row) == 1 else row for row in found]


@pytest.fixture
def second_url(server: embedded.Server) -> Iterator[str]:
    """The address of another empty database of this test alone."""
    with _database(server, template="template1") as name:
        yield _text(server, name)
