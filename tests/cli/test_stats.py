"""`chat-schema stats`: what an operator is told of tables, indexes and transactions, and what is hidden from whom."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack

import psycopg
import pytest
import sqlalchemy as sa
from alembic.util import CommandError

from app import stats as module
from app.stats import Index, Stats, Table, stats
from tests.cli.test_commands import chat_schema
from tests.conftest import libpq
from tests.database.conftest import login

FILL = """
    INSERT INTO users (email) SELECT n || '@example.test' FROM generate_series(1, 5000) AS n;
    VACUUM (ANALYZE) users;
"""


@pytest.fixture
def client(migrated_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(libpq(migrated_url), autocommit=True) as client:
        yield client


def read(url: str) -> Stats:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        return stats(connection)


def run(client: psycopg.Connection, statements: str) -> None:
    """Run each statement by itself; what the server counts of it is in its statistics before the next."""
    for statement in filter(str.strip, statements.split(";")):
        client.execute(statement.encode())
        client.execute("SELECT pg_stat_force_next_flush()")


def table(found: Stats, name: str) -> Table:
    [one] = [each for each in found.tables if each.name == name]
    return one


def index(found: Stats, name: str) -> Index:
    [one] = [each for each in found.indexes if each.name == name]
    return one


def told(found: Stats) -> str:
    return "\n".join(found.lines())


def test_a_table_is_told_with_its_size_its_rows_and_its_vacuum(client: psycopg.Connection, migrated_url: str) -> None:
    run(client, FILL + "DELETE FROM users WHERE email LIKE '1%'")
    found = table(read(migrated_url), "users")
    sizes = client.execute(
        "SELECT pg_relation_size('users'), pg_indexes_size('users'), pg_total_relation_size('users')"
    ).fetchone()
    assert (found.heap, found.indexes, found.total) == sizes
    assert found.rows + found.dead_rows == 5000
    assert found.dead_rows == 1111  # 1, 10 to 19, 100 to 199, 1000 to 1999
    assert found.vacuumed is not None
    assert found.analyzed is not None
    assert "users" in told(read(migrated_url))


def test_bloat_is_what_deleted_rows_have_left(client: psycopg.Connection, migrated_url: str) -> None:
    run(client, FILL)
    full = table(read(migrated_url), "users")
    assert full.bloat is not None
    assert full.bloat < full.heap / 10
    run(client, "DELETE FROM users WHERE email < '9'; VACUUM (ANALYZE, TRUNCATE false) users")
    emptied = table(read(migrated_url), "users")
    assert emptied.heap == full.heap
    assert emptied.bloat is not None
    assert emptied.bloat > full.heap * 0.8


def test_an_index_of_the_teams_own_that_nobody_reads_is_unused_until_somebody_does(
    client: psycopg.Connection, migrated_url: str
) -> None:
    run(client, "CREATE INDEX own_titles ON conversations (title); CREATE UNIQUE INDEX own_keys ON tasks (id, title)")
    found = read(migrated_url)
    assert index(found, "public.own_titles").unused
    assert not index(found, "public.own_keys").unused, "it makes rows unique"
    assert "DROP INDEX CONCURRENTLY public.own_titles;" in told(found)
    assert "own_keys" not in told(found)
    run(client, "SET enable_seqscan = off; SELECT FROM conversations WHERE title = 'x'")
    assert not index(read(migrated_url), "public.own_titles").unused


def test_an_index_of_ours_is_not_to_be_dropped(migrated_url: str) -> None:
    found = told(read(migrated_url))
    assert "idx_tasks_user_id_created_at on tasks" in found
    assert "DROP INDEX" not in found


def test_a_foreign_key_without_an_index_is_missing_one_until_it_has_it(
    client: psycopg.Connection, migrated_url: str
) -> None:
    assert read(migrated_url).keys_without_index == ()
    run(
        client,
        "CREATE TABLE notes (id int PRIMARY KEY, about uuid CONSTRAINT own_key REFERENCES conversations);"
        "CREATE INDEX own_part ON notes (about) WHERE id > 5; CREATE INDEX own_second ON notes (id, about)",
    )
    [key] = read(migrated_url).keys_without_index
    assert (key.name, key.table, key.columns) == ("own_key", "public.notes", ("about",))
    assert key.mends in told(read(migrated_url))
    run(client, key.mends)
    assert read(migrated_url).keys_without_index == ()


def test_a_large_table_that_is_read_from_end_to_end_again_and_again_misses_an_index(
    client: psycopg.Connection, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LARGE", 1000)
    run(client, FILL)
    assert not table(read(migrated_url), "users").misses_an_index
    run(client, "SELECT count(*) FROM users WHERE created_at < '2020-01-01';" * module.OFTEN)
    found = read(migrated_url)
    assert table(found, "users").misses_an_index
    assert "users: read from end to end" in told(found)
    client.execute("DO $$ BEGIN FOR n IN 1..1000 LOOP PERFORM FROM users WHERE email = n || '@'; END LOOP; END $$")
    run(client, "SELECT")
    assert not table(read(migrated_url), "users").misses_an_index, "what is read is read by index, almost always"


def test_an_index_whose_build_was_broken_off_is_named_with_the_statement_that_removes_it(
    client: psycopg.Connection, migrated_url: str
) -> None:
    run(client, "INSERT INTO tenants (name) VALUES ('Acme'), ('Acme')")
    with pytest.raises(psycopg.errors.UniqueViolation):
        client.execute("CREATE UNIQUE INDEX CONCURRENTLY own_names ON tenants (name)")
    found = read(migrated_url)
    assert not index(found, "public.own_names").valid
    assert "Invalid indexes:\n  own_names on tenants" in told(found)
    assert "Unused indexes: none" not in told(found)
    run(client, "DROP INDEX CONCURRENTLY public.own_names")
    assert "Invalid indexes: none." in told(read(migrated_url))


def test_the_oldest_transaction_is_named(client: psycopg.Connection, migrated_url: str) -> None:
    with psycopg.connect(libpq(migrated_url)) as idle:
        idle.execute("SELECT FROM users")
        run(client, "SELECT")
        found = read(migrated_url)
        assert f"pid {idle.info.backend_pid}, login postgres, idle in transaction" in [
            each.what for each in found.holders
        ]
    assert "Oldest transactions: none." in told(read(migrated_url))


def test_a_plain_owner_sees_everything_but_what_other_logins_do(client: psycopg.Connection, migrated_url: str) -> None:
    with login(migrated_url) as url, ExitStack() as stack, psycopg.connect(libpq(migrated_url)) as idle:
        name = sa.make_url(url).username
        client.execute(
            f"""
            DO $$ DECLARE v_table regclass; BEGIN
              FOR v_table IN SELECT oid FROM pg_class WHERE relkind = 'r'
                AND relnamespace IN ('public'::regnamespace, 'chat_internal'::regnamespace) LOOP
                EXECUTE format('ALTER TABLE %s OWNER TO {name}', v_table);
              END LOOP;
            END $$
            """.encode()
        )
        stack.callback(client.execute, f"REASSIGN OWNED BY {name} TO postgres".encode())
        run(client, FILL + "ANALYZE")
        idle.execute("SELECT FROM users")
        found = read(url)
        assert table(found, "users").bloat is not None
        assert index(found, "public.idx_users_email").bloat is not None
        assert found.holders == ()
        assert found.hidden == (f"transactions of other logins: GRANT pg_read_all_stats TO {name}",)
        client.execute(f"GRANT pg_read_all_stats TO {name}".encode())
        assert [each.what for each in read(url).holders] == [
            f"pid {idle.info.backend_pid}, login postgres, idle in transaction"
        ]
        assert read(url).hidden == ()


def test_a_login_that_may_read_no_table_sees_their_sizes_and_that_bloat_is_hidden(
    client: psycopg.Connection, migrated_url: str
) -> None:
    run(client, FILL)
    with login(migrated_url) as url:
        found = read(url)
    assert table(found, "users").total > 5000
    assert table(found, "users").bloat is None
    assert any(each.startswith("bloat (?)") for each in found.hidden)


def test_a_table_that_is_locked_is_waited_for_a_moment(
    client: psycopg.Connection, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PATIENCE", "50ms")
    with client.transaction():
        client.execute("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(CommandError, match="A table is locked"):
            read(migrated_url)
    read(migrated_url)


def test_a_database_without_our_tables_is_told_what_to_run(database_url: str) -> None:
    done = chat_schema(database_url, "stats")
    assert done.returncode == 1
    assert "run `chat-schema upgrade head` first" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_prints_the_report_and_the_same_as_json(migrated_url: str) -> None:
    done = chat_schema(migrated_url, "stats")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split()[:4] == ["table", "rows", "dead", "size"]
    assert max(map(len, lines[: lines.index("")])) <= 120
    as_json = chat_schema(migrated_url, "stats", "--json")
    document = json.loads(as_json.stdout)
    assert document["version"] == 1
    assert {each["name"] for each in document["tables"]} >= {"users", "messages", "conversation_messages"}
    assert {each["name"] for each in document["indexes"]} >= {"public.idx_messages_conversation_id"}
    assert document["keys_without_index"] == []
