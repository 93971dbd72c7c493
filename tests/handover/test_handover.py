"""Everything of a person: exported, read into another database, erased; and none of the three forgets a table."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import sqlalchemy as sa
from alembic.util import CommandError

from app import database, embedded, handover
from tests.cli.test_commands import chat_schema
from tests.conftest import _database, _text, libpq
from tests.schema.rows import Rows

OWNED = """
    SELECT DISTINCT n.nspname || '.' || c.relname FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname IN ('public', 'chat_internal')
    JOIN pg_attribute AS a ON a.attrelid = c.oid AND NOT a.attisdropped
    WHERE c.relkind = 'r' AND (a.attname = 'user_id' OR c.relname = 'users' OR EXISTS (
      SELECT FROM pg_constraint AS k WHERE k.conrelid = c.oid AND k.confrelid = 'public.users'::regclass))
"""
WITHHELD = {"users": {"password_hash"}, "messages": {"seq"}}


@pytest.fixture(scope="module")
def source_url(server: embedded.Server, migrated_template: Any) -> Iterator[str]:
    """The address of a migrated database in which ANN and BEN have rows everywhere; no test changes it."""
    with _database(server, template=migrated_template.template_dbname) as name:
        url = _text(server, name)
        with psycopg.connect(libpq(url), autocommit=True) as connection:
            people(Rows(connection))
        yield url


@pytest.fixture(scope="module")
def untouched_url(server: embedded.Server, migrated_template: Any) -> Iterator[str]:
    """The address of a migrated database that stays empty: what is imported there is refused."""
    with _database(server, template=migrated_template.template_dbname) as name:
        yield _text(server, name)


def rows_in(url: str) -> Iterator[Rows]:
    with psycopg.connect(libpq(url), autocommit=True) as connection:
        yield Rows(connection)


@pytest.fixture
def source(source_url: str) -> Iterator[Rows]:
    yield from rows_in(source_url)


@pytest.fixture
def here(migrated_url: str) -> Iterator[Rows]:
    """A migrated database of this test alone, empty."""
    yield from rows_in(migrated_url)


@pytest.fixture
def untouched(untouched_url: str) -> Iterator[Rows]:
    yield from rows_in(untouched_url)


def fill(rows: Rows, user: UUID, tenant: UUID) -> None:
    """Give ``user`` rows in every table that has an owner, with whatever is hard to carry in them."""
    hard = "Zürich \u2028 \"quoted\" \\ 'single' {json} %s \t\r\n 日本語 \U0001f600"
    rows.insert("tasks", user_id=user, title="Task", created_at="0001-01-02 00:00:00+00")
    for tenant_id in (None, tenant):
        conversation = rows.conversation(user, tenant_id=tenant_id, title=hard, updated_at="2021-02-03 04:05:06.789+00")
        for n in range(3):
            rows.run(
                "INSERT INTO messages (conversation_id, user_id, role, content, metadata, tool_calls, created_at,"
                " status, error, model, cost_usd, parts)"
                " VALUES (%s, %s, 'user', %s, %s, '[1.10, 1e400]', '2021-02-03 04:05:06+00',"
                """ 'error', '{"detail": "é"}', 'acme-1', 0.000001, '[{"type": "text", "n": 1.10}]')""",
                conversation,
                user,
                f"{n} {hard}",
                '{"n": 0.10000000000000000000001, "é": null}',
            )
        rows.hang_on(
            rows.one("SELECT id FROM messages WHERE conversation_id = %s ORDER BY seq DESC LIMIT 1", conversation)
        )
        rows.insert("chat_messages", user_id=user, role="odd", content=hard, conversation_id=conversation)
        rows.run("INSERT INTO chat_internal.chat_session_arrays VALUES (%s, %s, '[]')", conversation, user)
    rows.insert("retention_holds", user_id=user, conversation_id=conversation)
    rows.insert("user_llm_providers", user_id=user, provider="acme", ciphertext=b"a-ciphertext", key_id="a")
    session = rows.session(user, rows.insert("brands", user_id=user, name="Acme"))
    rows.turn(session, cost_usd="0.000001")
    rows.run("UPDATE conversation_sessions SET last_activity_at = '2021-01-01 00:00:00+00' WHERE id = %s", session)


ANN, BEN = UUID("0000000a-0000-4000-8000-000000000001"), UUID("0000000a-0000-4000-8000-000000000002")


def people(rows: Rows) -> None:
    """Make ANN and BEN, who have the same tenant and rows in every table."""
    rows.user(id=ANN, password_hash="a-hash-of-a-password")
    rows.user(id=BEN)
    tenant = rows.tenant(ANN, BEN)
    for user in (ANN, BEN):
        fill(rows, user, tenant)


@pytest.fixture(scope="module")
def exported(source_url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("export") / "ann.jsonl"
    done = chat_schema(source_url, "export", "--user", str(ANN), "--output", str(file))
    assert done.returncode == 0, done.stderr
    return file


@pytest.fixture
def file(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(exported, tmp_path))


def read_in(url: str, file: Path, *, with_tenants: bool = True) -> None:
    with database.connect(sa.make_url(url)) as connection:
        handover.read_in(connection, file, with_tenants=with_tenants)


def contents(rows: Rows, user: UUID) -> dict[str, list[Any]]:
    """Return every row of ``user`` by table, without what an export leaves out."""
    found = {}
    for part in handover.OWNED:
        left_out = WITHHELD.get(part.name, set())
        found[part.name] = rows.all(
            f"SELECT to_jsonb(t) - %s::text[] FROM {part.relation} AS t WHERE {part.owner} = %s",
            list(left_out),
            user,
        )
        found[part.name].sort(key=str)
    return found


def lines_of(file: Path) -> list[str]:
    """Return the lines; a text in them may hold what Python takes for the end of one."""
    return file.read_text("utf-8").rstrip("\n").split("\n")


def changed(file: Path, change: Callable[[list[dict[str, Any]]], None]) -> Path:
    lines = [json.loads(line) for line in lines_of(file)]
    change(lines)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return file


def first(lines: list[dict[str, Any]], table: str) -> dict[str, Any]:
    row: dict[str, Any] = next(line["row"] for line in lines if line.get("table") == table)
    return row


def test_every_table_with_an_owner_is_in_the_one_list(source: Rows) -> None:
    assert {part.relation for part in handover.OWNED} == set(source.all(OWNED))


def test_an_export_names_every_table_and_holds_as_many_rows_as_it_says(source: Rows, file: Path) -> None:
    manifest, *lines = (json.loads(line) for line in lines_of(file))
    assert manifest["user"] == str(ANN)
    for part in handover.OWNED:
        [count] = source.all(f"SELECT count(*) FROM {part.relation} WHERE {part.owner} = %s", ANN)
        assert manifest["tables"][part.name]["rows"] == count > 0, part.name
        assert sum(line["table"] == part.name for line in lines) == count
    assert {line["row"]["user_id"] for line in lines if "user_id" in line["row"]} == {str(ANN)}


def test_an_export_holds_no_secret_of_a_service_and_is_readable_to_its_writer_alone(exported: Path) -> None:
    text = exported.read_text("utf-8")
    assert '"provider":"acme"' in text
    assert "a-hash-of-a-password" not in text
    assert b"a-ciphertext".hex() not in text
    assert exported.stat().st_mode & 0o077 == 0


def test_an_import_brings_every_row_under_the_same_id_and_a_second_one_changes_nothing(
    source: Rows, here: Rows, migrated_url: str, file: Path
) -> None:
    done = chat_schema(migrated_url, "import", str(file), "--with-tenants")
    assert done.returncode == 0, done.stderr
    left_behind = {part.name: [] for part in handover.OWNED if not part.imported}
    assert contents(here, ANN) == contents(source, ANN) | left_behind
    order = "SELECT id FROM messages WHERE user_id = %s ORDER BY conversation_id, created_at, seq"
    assert here.all(order, ANN) == source.all(order, ANN)
    here.run("UPDATE tasks SET title = 'Changed since'")
    stood = contents(here, ANN)
    read_in(migrated_url, file)
    assert contents(here, ANN) == stood
    conversation = here.all("SELECT id FROM conversations WHERE user_id = %s", ANN)[0]
    new = here.message(conversation, created_at="2021-02-03 04:05:06+00")
    in_order = "SELECT id FROM messages WHERE conversation_id = %s ORDER BY created_at, seq"
    assert here.all(in_order, conversation)[-1] == new, "what is added later comes behind"
    assert chat_schema(migrated_url, "verify").returncode == 0


def test_a_conversation_that_branches_is_read_in_as_it_was(
    source: Rows, here: Rows, source_url: str, migrated_url: str, tmp_path: Path
) -> None:
    with source.connection.transaction():
        cat = source.user()
        conversation = source.conversation(cat)
        q1, r1, q2, r2 = (source.message(conversation, text, created_at=f"2026-01-0{n}") for n, text in enumerate(
            ("q1", "r1", "q2", "r2"), 1))  # fmt: skip
        # a client's clock runs behind: the answer is older than what it answers
        q2b = source.message(conversation, "q2'", parent_id=r1, created_at="2026-01-05")
        r2b = source.message(conversation, "r2'", created_at="2026-01-01")
        r2c = source.message(conversation, "r2''", parent_id=q2b, created_at="2025-12-31", status="error")
        anew = uuid4()
        source.message(conversation, "q1'", id=anew, parent_id=anew, created_at="2025-01-01")
        source.run("UPDATE conversations SET head_message_id = %s WHERE id = %s", r2b, conversation)
    file = tmp_path / "cat.jsonl"
    assert chat_schema(source_url, "export", "--user", str(cat), "--output", str(file)).returncode == 0
    for _ in range(2):
        read_in(migrated_url, file)
        assert contents(here, cat) == contents(source, cat)
    branch = "SELECT id FROM chat_internal.branch(%s, NULL, NULL)"
    leaf = "SELECT chat_internal.latest_leaf(%s, %s)"
    for rows in (source, here):
        assert rows.all(branch, conversation) == [r2b, q2b, r1, q1]
        assert [rows.one(leaf, conversation, each) for each in (q2, q2b, q1, anew)] == [r2, r2c, r2c, anew]
    source.run("DELETE FROM users WHERE id = %s", cat)


def test_memberships_come_only_for_somebody_who_says_so(here: Rows, migrated_url: str, file: Path) -> None:
    with pytest.raises(CommandError, match="--with-tenants"):
        read_in(migrated_url, file, with_tenants=False)
    assert here.count("users") == 0
    tenant = json.loads(lines_of(file)[1])["row"]["id"]
    here.insert("tenants", id=tenant, name="Acme")
    read_in(migrated_url, file, with_tenants=False)
    assert (here.count("messages"), here.count("tenant_users")) == (6, 0)


def as_another(lines: list[dict[str, Any]]) -> None:
    lines[0]["user"] = str(uuid4())


def with_a_row_of_another(lines: list[dict[str, Any]]) -> None:
    first(lines, "tasks")["user_id"] = str(uuid4())


def with_fewer_rows(lines: list[dict[str, Any]]) -> None:
    del lines[-1]


def with_an_unknown_table(lines: list[dict[str, Any]]) -> None:
    lines.append({"table": "pg_authid", "row": {"rolname": "me"}})


def with_an_unknown_table_in_the_manifest(lines: list[dict[str, Any]]) -> None:
    lines[0]["tables"]["alembic_version"] = {"rows": 0, "columns": ["version_num"]}


def with_an_unknown_column(lines: list[dict[str, Any]]) -> None:
    lines[0]["tables"]["users"]["columns"].append('id") SELECT 1 --')


def with_a_nul(lines: list[dict[str, Any]]) -> None:
    first(lines, "messages")["content"] = "a\0b"


def with_a_bad_value(lines: list[dict[str, Any]]) -> None:
    first(lines, "messages")["created_at"] = "infinity"


def of_a_later_version(lines: list[dict[str, Any]]) -> None:
    lines[0]["version"] = 2


def without_a_manifest(lines: list[dict[str, Any]]) -> None:
    del lines[0]


HOSTILE = (
    as_another,
    with_a_row_of_another,
    with_fewer_rows,
    with_an_unknown_table,
    with_an_unknown_table_in_the_manifest,
    with_an_unknown_column,
    with_a_nul,
    with_a_bad_value,
    of_a_later_version,
    without_a_manifest,
)


def test_a_file_that_was_written_anew_without_a_change_is_accepted(here: Rows, migrated_url: str, file: Path) -> None:
    read_in(migrated_url, changed(file, lambda _: None))
    assert here.count("messages") == 6


@pytest.mark.parametrize("change", HOSTILE, ids=lambda change: change.__name__)
def test_a_changed_file_is_refused_in_one_message_and_nothing_of_it_stays(
    untouched: Rows, untouched_url: str, file: Path, change: Callable[[list[dict[str, Any]]], None]
) -> None:
    with pytest.raises(CommandError, match="nothing was imported"):
        read_in(untouched_url, changed(file, change))
    assert [untouched.count(table) for table in ("users", "tenants", "messages")] == [0, 0, 0]


@pytest.mark.parametrize(
    "junk", [b"", b"\n", b"[]\n", b"\xff\xfe\n", b"{", b"[" * 100_000, b"null\n", b'{"format": "chat-schema export"}\n']
)
def test_junk_is_refused(untouched_url: str, tmp_path: Path, junk: bytes) -> None:
    path = tmp_path / "junk"
    path.write_bytes(junk)
    with pytest.raises(CommandError, match="nothing was imported"):
        read_in(untouched_url, path)


def test_a_row_that_is_somebody_elses_here_is_refused(here: Rows, migrated_url: str, file: Path) -> None:
    task = first([json.loads(line) for line in lines_of(file)], "tasks")["id"]
    stranger = here.user()
    here.insert("tasks", id=task, user_id=stranger, title="Mine")
    with pytest.raises(CommandError, match="1 rows of tasks"):
        read_in(migrated_url, file)
    assert here.all("SELECT user_id, title FROM tasks") == [(stranger, "Mine")]


def test_a_file_that_is_not_there_and_a_user_who_is_not(migrated_url: str, tmp_path: Path) -> None:
    for command in (
        ("import", str(tmp_path / "none")),
        ("import", str(tmp_path)),
        ("export", "--user", str(uuid4())),
        ("export",),
        ("erase", "--user", str(uuid4())),
        ("erase",),
    ):
        done = chat_schema(migrated_url, *command)
        assert done.returncode == 1, command
        assert "Traceback" not in done.stderr
        assert "othing was" in done.stderr
    assert chat_schema(migrated_url, "erase", "--user", "ann").returncode == 2


def test_an_erasure_says_what_it_removed_and_leaves_everybody_else_as_they_were(here: Rows, migrated_url: str) -> None:
    people(here)
    here.run(
        "INSERT INTO chat_internal.adopted_values"
        " SELECT 'messages', jsonb_build_object('id', id), '{}', '{}' FROM messages"
    )
    keys = here.all("SELECT storage_key FROM attachments WHERE user_id = %s", ANN)
    before, bens = contents(here, ANN), contents(here, BEN)
    held = chat_schema(migrated_url, "erase", "--user", str(ANN))
    assert (held.returncode, "1 conversations of user" in held.stderr) == (1, True)
    here.run("DELETE FROM retention_holds WHERE user_id = %s", ANN)
    before = contents(here, ANN)
    dry = chat_schema(migrated_url, "erase", "--user", str(ANN), "--dry-run")
    assert f"Would remove user {ANN}" in dry.stdout
    assert contents(here, ANN) == before
    done = chat_schema(migrated_url, "erase", "--user", str(ANN))
    assert done.returncode == 0, done.stderr
    for table, rows in before.items():
        assert not rows or f"removed {len(rows)} {table}\n" in done.stdout
    for key in keys:
        assert f"storage key {key}\n" in done.stdout
    assert not any(contents(here, ANN).values())
    assert contents(here, BEN) == bens
    assert here.count("chat_internal.adopted_values") == 6
    assert chat_schema(migrated_url, "verify").returncode == 0


def test_an_erasure_that_would_take_sessions_of_others_is_refused(here: Rows, migrated_url: str) -> None:
    people(here)
    here.session(BEN, here.one("SELECT id FROM brands WHERE user_id = %s", ANN))
    before = contents(here, ANN)
    done = chat_schema(migrated_url, "erase", "--user", str(ANN))
    assert done.returncode == 1
    assert "1 creative sessions of other users" in done.stderr
    assert contents(here, ANN) == before


def test_a_tenant_that_is_left_without_a_member_is_named(here: Rows, migrated_url: str) -> None:
    user = here.user()
    tenant = here.tenant(user)
    assert f"Tenant {tenant} has no member any more." in chat_schema(migrated_url, "erase", "--user", str(user)).stdout


def test_an_export_takes_no_more_memory_for_many_rows(here: Rows, migrated_url: str, tmp_path: Path) -> None:
    user = here.user()
    conversation = here.conversation(user)
    program = (
        "import resource, sys; from app.__main__ import main\n"
        "try: main()\n"
        "finally: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    )

    def peak() -> int:
        done = subprocess.run(
            [sys.executable, "-c", program, "export", "--user", str(user), "--output", str(tmp_path / "out")],
            env={"DATABASE_URL": migrated_url, "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=True,
        )
        return int(done.stderr.splitlines()[-1])

    def add(rows: int) -> None:
        here.run(
            "INSERT INTO messages (conversation_id, user_id, role, content)"
            " SELECT %s, %s, 'user', repeat('word ', 1000) FROM generate_series(1, %s)",
            conversation,
            user,
            rows,
        )

    add(500)
    few = peak()
    add(20_000)  # 100 MB
    assert peak() - few < 20_000  # kB
