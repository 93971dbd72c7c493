"""The strongest lock that each revision takes on each table that was there before, held against its docstring.

Locks of a transaction are all still held when the revision has run and is about to commit, and are read there. What
runs outside a transaction (concurrent index builds, backfills) is sampled meanwhile by a second connection.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext, MigrationStep
from alembic.script import ScriptDirectory

from alembic import command
from app.engine import environment
from app.engine.plan import declared
from app.engine.statements import MODES
from tests.conftest import alembic_config

# what stands before ShareUpdateExclusive lets everything but DDL pass and need not be declared
WORTH_DECLARING = MODES.index("ShareUpdateExclusive")

Locks = dict[str, str]  # table -> strongest mode

HELD = """
    SELECT c.relname, l.mode
    FROM pg_catalog.pg_locks AS l
    JOIN pg_catalog.pg_class AS c ON c.oid = l.relation
    JOIN pg_catalog.pg_stat_activity AS a USING (pid)
    WHERE l.granted AND c.relkind IN ('r', 'v') AND c.relnamespace = 'public'::regnamespace
      AND l.locktype = 'relation' -- growing a table takes Exclusive for an instant as well, on its end alone
      AND a.backend_type = 'client backend' -- no autovacuum
      AND a.datname = current_database()
"""
AWAITED = "SELECT pid FROM pg_catalog.pg_locks WHERE NOT granted AND %s = ANY (pg_catalog.pg_blocking_pids(pid))"


def strongest(rows: Iterable[tuple[str, str]], into: Locks) -> None:
    for table, mode in rows:
        name = mode.removesuffix("Lock")
        if table not in into or MODES.index(name) > MODES.index(into[table]):
            into[table] = name


def stated(docstring: str) -> Locks:
    """Return what the docstring declares of our tables, as a plan reads it."""
    return {
        lock.table.removeprefix("public."): lock.mode
        for lock in declared(docstring)
        if lock.table.startswith("public.")
    }


class Sampler:
    """Look at the locks of every session of the migration, again and again, on a connection of its own.

    It keeps its snapshot until somebody waits for it, as every concurrent index build does before it ends. So it sees
    the lock of each, however short.
    """

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url.replace("+psycopg", ""))
        self._connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.seen: Locks = {}

    def _look(self) -> None:
        while not self._stop.is_set():
            awaited = self._connection.execute(AWAITED, [self._connection.info.backend_pid]).fetchone()
            strongest(self._connection.execute(HELD).fetchall(), self.seen)
            if awaited:
                self._connection.commit()

    def __enter__(self) -> Sampler:
        self._connection.execute(HELD)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        self._connection.close()


@pytest.fixture
def measured(database_url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Locks]:
    """Run the chain on rows in the older shapes and return what each revision locked of what was there before it."""
    found: dict[str, Locks] = {}
    original = environment.live

    def watched(steps: Any, options: Any, arguments: Any) -> Any:
        def run(heads: Any, context: MigrationContext) -> Iterator[MigrationStep]:
            for step in steps(heads, context):
                step.migration_fn = measuring(step.migration_fn, step, context)
                yield step

        run.__name__ = steps.__name__
        return original(run, options, arguments)

    def measuring(revision: Any, step: MigrationStep, context: MigrationContext) -> Any:
        def run(**arguments: Any) -> None:
            assert context.connection is not None
            public = sa.inspect(context.connection)
            tables = {*public.get_table_names("public"), *public.get_view_names("public")}
            locks: Locks = {}
            with Sampler(database_url) as sampler:
                revision(**arguments)
            strongest(sampler.seen.items(), locks)
            strongest([(row[0], row[1]) for row in context.connection.exec_driver_sql(HELD)], locks)
            found[step.to_revisions[0]] = {table: mode for table, mode in locks.items() if table in tables}

        return run

    monkeypatch.setattr(environment, "live", watched)
    command.upgrade(alembic_config(database_url), "0021")
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        connection.execute(
            """
            WITH people AS (
              INSERT INTO users (email) SELECT g || '@example.test' FROM generate_series(1, 2000) AS g RETURNING id
            ), flat AS (
              INSERT INTO chat_messages (user_id, role, content)
              SELECT id, 'user', repeat('text ', 50) FROM people, generate_series(1, 5)
            )
            INSERT INTO chat_sessions (user_id, messages)
            SELECT id, '[{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]' FROM people
            """
        )
    command.upgrade(alembic_config(database_url), "head")
    return found


def test_each_revision_takes_the_locks_that_its_docstring_declares(measured: dict[str, Locks]) -> None:
    script = ScriptDirectory.from_config(alembic_config("unused"))
    wrong = []
    for revision in script.walk_revisions():
        said = stated(revision.module.__doc__ or "")
        taken = measured[revision.revision]
        for table in sorted(said.keys() | taken.keys()):
            modes = {said.get(table), taken.get(table)}
            # too weak a declaration misleads; too strong a one frightens, or shows a measurement that sees nothing
            if len(modes) == 2 and any(MODES.index(mode) >= WORTH_DECLARING for mode in modes if mode):
                wrong.append(f"{revision.revision} on {table}: takes {taken.get(table)}, declares {said.get(table)}")
    assert not wrong, "\n".join(wrong)
