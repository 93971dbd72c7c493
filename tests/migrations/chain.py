"""The chain on one database: go up and down, write the script instead, look at what stands there."""

from __future__ import annotations

import argparse
import io
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

from alembic import command
from app import database
from app import plan as planning
from app.catalog import Snapshot, take_snapshot
from app.embedded import installed_binaries
from app.engine.plan import Plan
from app.options import Options
from tests.conftest import alembic_config, libpq, unrehearsed

REVISIONS = [
    script.revision for script in reversed(list(ScriptDirectory.from_config(alembic_config("unused")).walk_revisions()))
]
HEAD = REVISIONS[-1]


def before(revision: str) -> str:
    """Return the revision before ``revision``, or ``base``."""
    place = REVISIONS.index(revision)
    return REVISIONS[place - 1] if place else "base"


def planned(url: str, to: str = "head", *options: str) -> Plan:
    """Return what `chat-schema plan` finds out about the database at ``url``."""
    given = dict(option.split("=", 1) for option in unrehearsed(options))
    script = ScriptDirectory.from_config(alembic_config(url))
    with database.connect(database.parse_url(url)) as connection:
        return planning.make(connection, script, to, Options.parse(given))


@dataclass(frozen=True)
class Chain:
    """A database, empty at first. An option is what stands after -x.

    ``session`` is where queries go, each its own transaction; ``programs`` is the folder of psql.
    """

    url: str
    session: psycopg.Connection
    programs: Path

    @classmethod
    @contextmanager
    def on(cls, url: str) -> Iterator[Chain]:
        with cls._connected(url) as session:
            yield cls(url, session, installed_binaries())

    def upgrade(self, to: str = "head", *options: str) -> None:
        command.upgrade(self._config(options), to)

    def downgrade(self, to: str, *options: str) -> None:
        command.downgrade(self._config(options), to)

    def plan(self, to: str = "head", *options: str) -> Plan:
        """What `chat-schema plan` finds out."""
        return planned(self.url, to, *options)

    def check(self) -> None:
        command.check(self._config(()))

    def upgrade_script(self, span: str = "head", *options: str) -> str:
        written = io.StringIO()
        command.upgrade(self._config(options, written), span, sql=True)
        return written.getvalue()

    def downgrade_script(self, span: str, *options: str) -> str:
        written = io.StringIO()
        command.downgrade(self._config(options, written), span, sql=True)
        return written.getvalue()

    def upgrade_by_script(self, span: str, *options: str) -> None:
        done = self.run_script(self.upgrade_script(span, *options))
        assert done.returncode == 0, done.stderr

    def run_script(self, script: str) -> subprocess.CompletedProcess[str]:
        """Give ``script`` to psql, which stops at the first error."""
        psql = [str(self.programs / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", libpq(self.url)]
        return subprocess.run(psql, input=script, capture_output=True, text=True, check=False)

    def connect(self) -> psycopg.Connection:
        """Return another session on the same database."""
        return self._connected(self.url)

    def rows(self, query: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Return the rows of ``query``; of one column, its values."""
        found = self.session.execute(query.encode(), parameters or None).fetchall()
        return [row[0] if len(row) == 1 else row for row in found]

    def value(self, query: str, parameters: Sequence[Any] = ()) -> Any:
        [value] = self.rows(query, parameters)
        return value

    def execute(self, statements: str, parameters: Sequence[Any] = ()) -> int:
        """Run ``statements`` and return how many rows the last one changed."""
        return self.session.execute(statements.encode(), parameters or None).rowcount

    def revision(self) -> str:
        return str(self.value("SELECT version_num FROM chat_internal.alembic_version"))

    def snapshot(self) -> Snapshot:
        engine = sa.create_engine(self.url, poolclass=sa.NullPool)
        with engine.connect() as connection:
            return take_snapshot(connection)

    def new_user(self, user: UUID | None = None) -> UUID:
        user = user or uuid4()
        self.execute("INSERT INTO public.users (id, email) VALUES (%s, %s)", [user, f"{user}@example.org"])
        return user

    def new_tenant(self, *members: UUID) -> UUID:
        tenant: UUID = self.value("INSERT INTO public.tenants (name) VALUES ('Acme') RETURNING id")
        for member in members:
            self.execute("INSERT INTO public.tenant_users (tenant_id, user_id) VALUES (%s, %s)", [tenant, member])
        return tenant

    @staticmethod
    def _connected(url: str) -> psycopg.Connection:
        # nothing is prepared: the tables change under this session
        return psycopg.connect(libpq(url), autocommit=True, prepare_threshold=None)

    def _config(self, options: Sequence[str], script: io.StringIO | None = None) -> Config:
        config = alembic_config(self.url)
        config.cmd_opts = argparse.Namespace(x=unrehearsed(options))
        config.attributes["configure_logging"] = False  # it would take pytest's own handlers away
        if script is not None:
            config.output_buffer = script
        return config
