"""What a snapshot reads is the same on every version of PostgreSQL, and reading it disturbs nobody."""

import subprocess

import pytest
import sqlalchemy as sa

from app import embedded
from app.catalog import Snapshot, compare, take_snapshot
from tests.postgres_binaries import binaries

MESSAGES = "public.conversation_messages"

ROWS = """
    INSERT INTO users (id, email) SELECT md5(n::text)::uuid, n || '@example.org' FROM generate_series(1, 3) AS n;
    INSERT INTO chat_messages (user_id, role, content) SELECT id, 'user', 'Hi' FROM users;  -- in default conversations
    INSERT INTO messages (conversation_id, role, content) SELECT id, 'user', 'Hello' FROM conversations;
    INSERT INTO brands (user_id, name) SELECT id, 'Soap' FROM users;
    INSERT INTO conversation_sessions (user_id, brand_id) SELECT user_id, id FROM brands;
    INSERT INTO conversation_messages (session_id, brand_id, user_id, role, content)
    SELECT id, brand_id, user_id, 'user', 'Go' FROM conversation_sessions;
"""

# Run with --postgres 15, 16, 17 and 18: the texts are those of no version in particular.
VIEWS = {
    "SELECT m.role, count(*) FROM conversation_messages m WHERE m.role <> 'from m.x' GROUP BY m.role ORDER BY m.role": (
        f"SELECT role, count(*) AS count FROM {MESSAGES} m WHERE ((role)::text <> 'from m.x'::text)"
        " GROUP BY role ORDER BY role;"
    ),
    "SELECT t.id, u.email FROM tasks t LEFT JOIN users u ON u.id = t.user_id": (
        "SELECT t.id, u.email FROM (public.tasks t LEFT JOIN public.users u ON ((u.id = t.user_id)));"
    ),
    "SELECT sum(cost_usd) FILTER (WHERE role IN ('user', 'system')) FROM conversation_messages": (
        "SELECT sum(cost_usd) FILTER (WHERE ((role)::text = ANY (ARRAY['user'::text, 'system'::text]))) AS sum"
        f" FROM {MESSAGES};"
    ),
    "SELECT id FROM users x WHERE EXISTS (SELECT FROM tasks t WHERE t.user_id = x.id)": (
        "SELECT id FROM public.users x WHERE (EXISTS ( SELECT FROM public.tasks t WHERE (t.user_id = x.id)));"
    ),
    "SELECT id FROM users UNION SELECT id FROM tasks WHERE completed ORDER BY 1": (
        "SELECT id FROM public.users UNION SELECT tasks.id FROM public.tasks WHERE tasks.completed ORDER BY 1;"
    ),
    "WITH c AS (SELECT user_id, count(*) AS n FROM tasks GROUP BY user_id) SELECT n FROM c WHERE n > 1": (
        "WITH c AS ( SELECT tasks.user_id, count(*) AS n FROM public.tasks GROUP BY tasks.user_id )"
        " SELECT n FROM c WHERE (n > 1);"
    ),
    "SELECT s.n FROM (SELECT count(*) AS n FROM tasks) s": (
        "SELECT n FROM ( SELECT count(*) AS n FROM public.tasks) s;"
    ),
    "SELECT t.id, g.n FROM tasks t, generate_series(1, 3) g(n)": (
        "SELECT t.id, g.n FROM public.tasks t, generate_series(1, 3) g(n);"
    ),
    "SELECT lower(t.title) AS title FROM tasks t ORDER BY lower(t.title), t.title": (
        "SELECT lower((title)::text) AS title FROM public.tasks t ORDER BY (lower((title)::text)), title;"
    ),
    "SELECT 1 AS one": "SELECT 1 AS one;",
}

POLICY = """EXISTS (SELECT 1 FROM conversations c JOIN tenant_users tu ON tu.tenant_id = c.tenant_id
    WHERE c.user_id = tasks.user_id AND tu.role IN ('owner', 'admin'))"""

DEFINITIONS = [
    (
        "ALTER TABLE tasks ADD CONSTRAINT x CHECK (title IN ('a', 'b') OR completed)",
        ("constraints", "x on public.tasks", "definition"),
        "CHECK ((((title)::text = ANY (ARRAY['a'::text, 'b'::text])) OR completed))",
    ),
    (
        "ALTER TABLE tasks ADD CONSTRAINT x CHECK (description IS NULL) NOT VALID",
        ("constraints", "x on public.tasks", "definition"),
        "CHECK ((description IS NULL))",
    ),
    (
        "CREATE UNIQUE INDEX x ON tasks (lower(title), created_at DESC) WHERE title IN ('a', 'b')",
        ("indexes", "x on public.tasks", "definition"),
        "CREATE UNIQUE INDEX x ON public.tasks USING btree (lower((title)::text), created_at DESC)"
        " WHERE ((title)::text = ANY (ARRAY['a'::text, 'b'::text]))",
    ),
    (
        f"CREATE POLICY x ON tasks FOR SELECT TO authenticated USING ({POLICY})",
        ("policies", "x on public.tasks", "using"),
        "(EXISTS ( SELECT 1 FROM (public.conversations c JOIN public.tenant_users tu ON ((tu.tenant_id = c.tenant_id)))"
        " WHERE ((c.user_id = tasks.user_id) AND ((tu.role)::text = ANY (ARRAY['owner'::text, 'admin'::text])))))",
    ),
    (
        "ALTER TABLE tasks ADD due timestamptz DEFAULT '2026-01-01 02:00+02'",
        ("columns", "due on public.tasks", "default"),
        "'2026-01-01 00:00:00+00'::timestamp with time zone",
    ),
    (
        """CREATE FUNCTION x(n integer) RETURNS TABLE (id uuid, title varchar) LANGUAGE sql
        AS 'SELECT id, title FROM public.tasks'""",
        ("functions", "public.x(integer)", "result"),
        "TABLE(id uuid, title character varying)",
    ),
    (
        "CREATE FUNCTION x() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM tasks; END",
        ("functions", "public.x()", "definition"),
        "BEGIN ATOMIC SELECT count(*) AS count FROM public.tasks; END",
    ),
]


@pytest.mark.parametrize(("query", "text"), VIEWS.items(), ids=range(len(VIEWS)))
def test_a_view_reads_the_same_on_every_version(query: str, text: str, connection: sa.Connection) -> None:
    connection.exec_driver_sql(f"CREATE VIEW x AS {query}")
    assert take_snapshot(connection)["views"]["public.x"]["definition"] == text


@pytest.mark.parametrize(("sql", "where", "text"), DEFINITIONS, ids=range(len(DEFINITIONS)))
def test_a_definition_reads_the_same_on_every_version(
    sql: str, where: tuple[str, str, str], text: str, connection: sa.Connection
) -> None:
    connection.exec_driver_sql("SET LOCAL TimeZone = 'Asia/Tokyo'; SET LOCAL DateStyle = 'German'")
    connection.exec_driver_sql(sql)
    kind, identity, name = where
    assert take_snapshot(connection)[kind][identity][name] == text


def test_a_dump_restored_elsewhere_reads_the_same(
    pytestconfig: pytest.Config, server: embedded.Server, migrated_url: str, database_url: str
) -> None:
    programs = binaries(pytestconfig.getoption("--postgres"))

    def run(program: str, url: str, *arguments: str, script: str | None = None) -> str:
        database = sa.make_url(url).database or ""
        address = ["-h", str(server.socket_dir), "-p", str(server.port), "-U", "postgres", "-d", database]
        done = subprocess.run(
            [programs / program, *address, *arguments], input=script, capture_output=True, text=True, check=True
        )
        return done.stdout

    with _engine(migrated_url).begin() as connection:
        connection.exec_driver_sql(ROWS)
    dump = run("pg_dump", migrated_url)
    run("psql", database_url, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", script=dump)
    here, there = (_snapshot_at(url) for url in (migrated_url, database_url))
    assert here == there, "\n".join(map(str, compare(here, there).differences))
    for table in ("conversations", "messages", "chat_messages", "conversation_messages"):
        written, restored = (run("psql", url, "-Atc", f"TABLE {table}") for url in (migrated_url, database_url))
        assert len(written.splitlines()) == 3
        assert written == restored


def test_roles_go_by_the_names_the_package_gives_them(connection: sa.Connection, before: Snapshot) -> None:
    connection.exec_driver_sql("ALTER ROLE authenticated RENAME TO app_user")
    assert compare(before, take_snapshot(connection)).differences
    assert take_snapshot(connection, role_names={"app_user": "authenticated"}) == before


def test_a_role_that_only_looks_like_ours_is_not_ours(connection: sa.Connection, before: Snapshot) -> None:
    connection.exec_driver_sql("ALTER ROLE anon RENAME TO web_anon; CREATE ROLE anon; GRANT SELECT ON tasks TO anon")
    found = compare(before, take_snapshot(connection, role_names={"web_anon": "anon"}))
    assert not found.differences
    assert [each.found for each in found.extras] == [{"grants": {'role "anon"': ["SELECT"]}}]


def test_the_connection_is_left_as_it_was(connection: sa.Connection) -> None:
    connection.exec_driver_sql(
        "SET LOCAL search_path = chat_internal; CREATE TEMP TABLE mine ON COMMIT DROP AS SELECT 1"
    )
    take_snapshot(connection)
    assert connection.scalar(sa.text("SHOW search_path")) == "chat_internal"
    assert connection.scalar(sa.text("SELECT count(*) FROM mine")) == 1


def test_without_a_transaction_it_ends_its_own(migrated_url: str) -> None:
    with _engine(migrated_url).connect() as connection:
        take_snapshot(connection)
        assert not connection.in_transaction()
        assert connection.scalar(sa.text("SHOW transaction_read_only")) == "off"


def test_it_waits_for_nobody_who_writes_or_builds(migrated_url: str) -> None:
    engine = _engine(migrated_url)
    tables = sa.inspect(engine).get_table_names()
    with engine.connect() as writer, engine.connect() as reader:
        writer.exec_driver_sql(f"LOCK TABLE {', '.join(tables)} IN EXCLUSIVE MODE")  # lets AccessShare pass, no more
        reader.exec_driver_sql("SET lock_timeout = '100ms'")
        reader.commit()
        assert take_snapshot(reader)["tables"]


def test_autocommit_is_refused_aloud(migrated_url: str) -> None:
    engine = _engine(migrated_url).execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection, pytest.raises(sa.exc.DBAPIError, match="SAVEPOINT"):
        take_snapshot(connection)


def test_the_number_of_queries_does_not_grow_with_the_schema(migrated_url: str, database_url: str) -> None:
    assert _queries(migrated_url) == _queries(database_url)


def _engine(url: str) -> sa.Engine:
    return sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"), poolclass=sa.NullPool)


def _snapshot_at(url: str) -> Snapshot:
    with _engine(url).connect() as connection:
        return take_snapshot(connection)


def _queries(url: str) -> int:
    sent: list[object] = []
    engine = _engine(url)
    with engine.connect() as connection:
        sa.event.listen(engine, "before_cursor_execute", lambda *arguments: sent.append(arguments))
        take_snapshot(connection)
    return len(sent)
