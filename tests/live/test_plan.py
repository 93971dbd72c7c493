"""`chat-schema plan`: what a user reads of a database with rows, as a table and as JSON, and what its exit tells."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator

import psycopg
import pytest

from app import database, embedded
from app.engine import obstacles
from app.engine.obstacles import Lock
from app.engine.plan import FASTEST, MARGIN, SLOWEST, Plan
from app.engine.plan_text import duration
from app.options import Options
from app.project import PROJECT, VERSIONS
from tests.cli.test_commands import chat_schema
from tests.conftest import SETTINGS, scratch_folder
from tests.live.command_line import connect
from tests.live.conftest import fill
from tests.migrations.chain import HEAD, planned
from tests.postgres_binaries import ROOT, binaries

USERS, MESSAGES = 40, 50


@pytest.fixture
def client(old_url: str) -> Iterator[psycopg.Connection]:
    """A client of a database whose messages have no conversations, and whose statistics are fresh."""
    with connect(old_url) as connection:
        fill(connection, USERS, MESSAGES)
        connection.execute("ANALYZE")
        yield connection


def locks(plan: Plan) -> dict[str, set[tuple[str, str, str]]]:
    return {each.revision: {(lock.table, lock.mode, lock.lasts) for lock in each.locks} for each in plan.revisions}


def test_each_revision_has_its_phase_its_locks_and_what_takes_long(client: psycopg.Connection, old_url: str) -> None:
    plan = planned(old_url)
    assert (plan.current, plan.target, plan.direction) == ("0031", HEAD, "upgrade")
    assert [each.phase for each in plan.revisions][:6] == [
        "expand",
        "backfill",
        "index",
        "backfill",
        "validate",
        "contract",
    ]
    found = locks(plan)
    assert found["0032"] == {
        ("public.chat_messages", "AccessExclusive", "an instant"),
        ("public.conversations", "ShareRowExclusive", "an instant"),
    }
    assert ("public.chat_messages", "the rows of one batch", "until its commit") in found["0033"]
    assert found["0034"] == {("public.chat_messages", "ShareUpdateExclusive", "while building")}
    assert ("public.chat_messages", "ShareUpdateExclusive", "for two scans") in found["0036"]
    work = {(each.revision, work.does): work for each in plan.revisions for work in each.work}
    backfill = work["0033", "backfills"]
    assert (backfill.table, backfill.rows) == ("public.chat_messages", USERS * MESSAGES)
    size = client.execute("SELECT pg_table_size('chat_messages') / 128").fetchone()
    assert size is not None, "of rows that are this long each counts for several"
    assert backfill.seconds == pytest.approx((size[0] * FASTEST, size[0] * SLOWEST * MARGIN))
    assert work["0034", "builds an index"].name == "idx_chat_messages_conv_created"
    assert work["0036", "reads"].rows == USERS * MESSAGES
    assert plan.would_stop == []


def test_the_table_fits_a_screen_of_80_columns_and_says_what_is_clear(client: psycopg.Connection, old_url: str) -> None:
    done = chat_schema(old_url, "plan")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("Nothing is in the way.\n")
    assert "backfills chat_messages: conversations of chat_messages; about" in done.stdout
    assert re.search(r"about 2,000 rows, \d+ ms to \d+ s", " ".join(done.stdout.split()))
    assert [line for line in done.stdout.splitlines() if len(line) > 80] == []


def test_a_document_has_what_the_table_has(client: psycopg.Connection, old_url: str) -> None:
    done = chat_schema(old_url, "plan", "--json", "0033")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["current"], document["target"], document["clear"]) == ("0031", "0033", True)
    assert [each["revision"] for each in document["revisions"]] == ["0032", "0033"]
    assert {"table": "public.chat_messages", "mode": "AccessExclusive", "lasts": "an instant"} in document["revisions"][
        0
    ]["locks"]
    assert [work["rows"] for work in document["revisions"][1]["work"]] == [USERS, USERS * MESSAGES]


def test_it_exits_with_2_where_something_would_stop_it_and_with_1_where_it_cannot_look(
    client: psycopg.Connection, old_url: str
) -> None:
    with connect(old_url, application_name="console") as console:
        console.autocommit, pid = False, console.info.backend_pid
        console.execute("INSERT INTO conversations (user_id) SELECT id FROM users LIMIT 1")
        done = chat_schema(old_url, "plan")
        document = json.loads(chat_schema(old_url, "plan", "--json").stdout)
    assert done.returncode == 2
    told = " ".join(done.stdout.split())
    assert f"- pid {pid} (console, idle in transaction, " in told
    assert "It holds RowExclusive on public.conversations. A run would wait for ShareRowExclusive" in told
    assert f"    SELECT pg_terminate_backend({pid});" in done.stdout
    assert document["clear"] is False
    assert document["would_stop"][0]["mends"] == f"SELECT pg_terminate_backend({pid});"
    assert chat_schema("postgresql://nowhere.invalid/db", "plan").returncode == 1


def test_who_comes_and_goes_is_in_nobodys_way(client: psycopg.Connection, old_url: str) -> None:
    with connect(old_url) as service:
        service.autocommit = False
        service.execute("SELECT FROM chat_messages")
        looks = obstacles._in_the_way

        def leaving(*arguments: object) -> object:
            found = looks(*arguments)  # type: ignore[arg-type]
            service.rollback()
            return found

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(obstacles, "_in_the_way", leaving)
            assert planned(old_url).would_stop == []


def test_a_prepared_transaction_is_named_with_what_ends_it(request: pytest.FixtureRequest) -> None:
    bin_dir = binaries(request.config.getoption("--postgres"))
    settings = SETTINGS | {"max_prepared_transactions": "1"}
    with scratch_folder() as folder, embedded.running(folder / "data", bin_dir=bin_dir, settings=settings) as server:
        url = server.url().render_as_string(hide_password=False)
        with connect(url) as forgotten:
            forgotten.execute("CREATE TABLE notes (id int)")
            forgotten.execute("BEGIN; INSERT INTO notes VALUES (1); PREPARE TRANSACTION 'of last year'")
        lock = Lock("public.notes", "AccessExclusive", "an instant")
        with database.connect(server.url()) as connection:
            [told] = obstacles.would_stop(connection, [lock], [], Options(), PROJECT, VERSIONS)
    assert told.says.startswith("A prepared transaction holds RowExclusive on public.notes.")
    assert told.mends == "ROLLBACK PREPARED 'of last year';  -- or COMMIT PREPARED"


def test_tables_of_somebody_else_are_named_with_the_grant(client: psycopg.Connection, old_url: str) -> None:
    client.execute("DROP ROLE IF EXISTS somebody; CREATE ROLE somebody; DROP ROLE IF EXISTS deployer")
    name = client.info.dbname
    client.execute(
        "CREATE ROLE deployer LOGIN; GRANT CREATE ON SCHEMA public TO deployer;"
        f"GRANT CREATE ON DATABASE {name} TO deployer; GRANT ALL ON ALL TABLES IN SCHEMA chat_internal TO deployer;"
        "ALTER SCHEMA chat_internal OWNER TO deployer; ALTER TABLE chat_messages OWNER TO somebody".encode()
    )
    try:
        found = [each.says for each in planned(old_url.replace("postgres@", "deployer@")).would_stop]
        assert any(
            each.startswith("public.chat_messages belongs to somebody, and the login deployer") for each in found
        )
        assert not any(each.startswith("public.chat_messages") for each in map(str, planned(old_url).would_stop))
    finally:
        client.execute(
            "ALTER SCHEMA chat_internal OWNER TO postgres; ALTER TABLE chat_messages OWNER TO postgres;"
            "DROP OWNED BY deployer, somebody; DROP ROLE deployer, somebody"
        )


def test_a_disk_that_is_too_full_is_named(
    client: psycopg.Connection, old_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        f_bavail, f_frsize = 10, 4096

    assert planned(old_url).would_stop == []
    monkeypatch.setattr(os, "statvfs", lambda path: Full)
    [told] = planned(old_url).would_stop
    assert "has 40 kB free, and the backfills may need " in told.says


def test_what_does_not_stop_a_run_is_a_note(client: psycopg.Connection, old_url: str) -> None:
    name = client.info.dbname
    client.execute(
        f"ALTER DATABASE {name} SET statement_timeout = '1min'; GRANT CREATE ON SCHEMA public TO PUBLIC".encode()
    )
    plan = planned(old_url)
    assert plan.would_stop == []
    told = "\n".join(plan.notes)
    assert "statement_timeout of 60000ms does not bind a run" in told
    assert "Everybody may create objects in public" in told


def test_a_plan_of_the_way_back_names_dependents_and_rows_that_would_be_lost(migrated_url: str) -> None:
    with connect(migrated_url) as client:
        client.execute("INSERT INTO users (id) VALUES (gen_random_uuid())")
        client.execute("CREATE TABLE own_notes (of uuid REFERENCES conversations)")
        client.execute("CREATE VIEW own_view AS SELECT conversation_id FROM chat_messages")
    plan = planned(migrated_url, "0031")
    assert plan.direction == "downgrade"
    [dependent] = plan.would_stop
    assert "view public.own_view depends on column conversation_id of table public.chat_messages" in dependent.says
    assert dependent.says.endswith(", which the downgrade would drop.")
    base = planned(migrated_url, "base")
    assert "0013 would destroy 1 users, as they stand now." in [each.says for each in base.would_stop]
    willing = planned(migrated_url, "base", "allow-data-loss=yes")
    assert "0013 would destroy 1 users, as they stand now." in willing.notes


def test_the_range_holds_what_was_measured() -> None:
    """The rates stand in the package, and the benchmark that measures them beside it."""
    runs = json.loads((ROOT / "docs" / "benchmarks.json").read_text("utf-8"))["runs"]
    ours = [
        result["seconds"] / result["rows"]
        for run in runs
        for result in run["results"]
        if result["way"].startswith("ours") and not result["error"]
    ]
    assert min(ours) * 1.02 >= FASTEST
    assert max(ours) <= SLOWEST
    assert max(ours) * 1.1 > SLOWEST, "and it is not padded"


@pytest.mark.parametrize(
    ("seconds", "read"), [(0, "1 ms"), (0.4, "400 ms"), (1, "1 s"), (119, "119 s"), (600, "10 min"), (7200, "2 h")]
)
def test_a_duration_is_read_at_a_glance(seconds: float, read: str) -> None:
    assert duration(seconds) == read


def test_an_option_that_is_misspelt_is_an_error(migrated_url: str) -> None:
    assert chat_schema(migrated_url, "-x", "no-such=1", "plan").returncode == 1
