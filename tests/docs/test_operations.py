"""docs/operations.md holds where it speaks of backups: what pg_dump wrote verifies where it is restored."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from tests.conftest import libpq
from tests.docs.test_security import ANN
from tests.postgres_binaries import ROOT, binaries
from tests.programs import output_of

PAGE = (ROOT / "docs" / "operations.md").read_text("utf-8")


def test_a_restored_backup_verifies(
    migrated_url: str, database_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    for line in ("pg_dump --format=custom --file=chat.dump", "pg_restore --dbname=", "chat-schema verify"):
        assert line in PAGE
    with psycopg.connect(libpq(migrated_url)) as connection:
        connection.execute(f"INSERT INTO users (id) VALUES ('{ANN}')")
        connection.execute(f"INSERT INTO conversations (user_id, title) VALUES ('{ANN}', 'kept')")
    programs = binaries(request.config.getoption("--postgres"))
    dump = tmp_path / "chat.dump"
    for command in (
        [programs / "pg_dump", "--format=custom", f"--file={dump}", libpq(migrated_url)],
        [programs / "pg_restore", f"--dbname={libpq(database_url)}", "--exit-on-error", dump],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    environment = {"DATABASE_URL": sa.make_url(database_url).render_as_string(hide_password=False)}
    said = output_of([sys.executable, "-m", "chat_schema", "verify"], cwd=ROOT, env=environment)
    assert "Verified" in said
    with psycopg.connect(libpq(database_url)) as connection:
        assert connection.execute("SELECT title FROM conversations").fetchall() == [("kept",)]
