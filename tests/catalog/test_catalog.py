"""Drifts planted one by one in a migrated database: each is reported, and what is reported as its remedy mends it."""

from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from app.catalog import Comparison, Snapshot, compare, load_expected, take_snapshot
from app.catalog.remedies import remedies


@dataclass(frozen=True)
class Drift:
    sql: str
    kind: str
    identity: str  # its beginning
    says: str
    mends: bool = True  # whether its remedy is one that the catalog alone can tell

    @property
    def id(self) -> str:
        return " ".join(self.sql.split())[:80]


DRIFTS = [
    # row level security
    Drift("ALTER TABLE messages DISABLE ROW LEVEL SECURITY", "tables", "public.messages", "row_security: expected yes"),
    Drift("ALTER TABLE users FORCE ROW LEVEL SECURITY", "tables", "public.users", "row_security_forced: expected no"),
    Drift("DROP POLICY tasks_delete_own ON tasks", "policies", "tasks_delete_own on public.tasks", "is missing"),
    Drift("DROP POLICY tasks_service ON tasks", "policies", "tasks_service on public.tasks", "TO service_role"),
    Drift("ALTER POLICY tasks_select_own ON tasks USING (true)", "policies", "tasks_select_own", "+true"),
    Drift("ALTER POLICY tasks_insert_own ON tasks WITH CHECK (true)", "policies", "tasks_insert_own", "check:"),
    Drift("ALTER POLICY tasks_service ON tasks TO PUBLIC", "policies", "tasks_service", "found PUBLIC"),
    Drift(
        "CREATE POLICY everyone ON tasks FOR SELECT USING (true)", "policies", "everyone", "is not part of the package"
    ),
    Drift(
        """DROP POLICY tasks_service ON tasks;
        CREATE POLICY tasks_service ON tasks AS RESTRICTIVE FOR ALL TO service_role USING (true) WITH CHECK (true)""",
        "policies",
        "tasks_service",
        "permissive: expected yes, found no",
        mends=False,
    ),
    # functions
    Drift(
        """CREATE OR REPLACE FUNCTION chat_internal.current_user_id() RETURNS uuid
        LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS 'SELECT NULL::uuid'""",
        "functions",
        "chat_internal.current_user_id()",
        "+SELECT NULL::uuid",
        mends=False,
    ),
    Drift(
        "ALTER FUNCTION get_session_cost(uuid) SECURITY DEFINER",
        "functions",
        "public.get_session_cost(uuid)",
        "security_definer: expected no, found yes",
    ),
    Drift(
        "ALTER FUNCTION get_session_cost(uuid) SET search_path = public",
        "functions",
        "public.get_session_cost(uuid)",
        "settings: expected search_path=pg_catalog, pg_temp, found search_path=public",
        mends=False,
    ),
    Drift(
        "ALTER FUNCTION get_session_cost(uuid) RESET search_path",
        "functions",
        "public.get_se",
        "found none",
        mends=False,
    ),
    Drift(
        "ALTER FUNCTION get_session_cost(uuid) VOLATILE", "functions", "public.get_se", "found volatile", mends=False
    ),
    Drift("ALTER FUNCTION get_session_cost(uuid) STRICT", "functions", "public.get_se", "strict:", mends=False),
    Drift("ALTER FUNCTION get_session_cost(uuid) LEAKPROOF", "functions", "public.get_se", "leakproof:", mends=False),
    Drift(
        "DROP FUNCTION get_session_cost(uuid)", "functions", "public.get_session_cost(uuid)", "is missing", mends=False
    ),
    # triggers
    Drift("ALTER TABLE tasks DISABLE TRIGGER tasks_updated_at", "triggers", "tasks_updated_at", "found no"),
    Drift("ALTER TABLE tasks ENABLE REPLICA TRIGGER tasks_updated_at", "triggers", "tasks_updated_at", "found replica"),
    Drift("DROP TRIGGER tasks_updated_at ON tasks", "triggers", "tasks_updated_at on public.tasks", "CREATE TRIGGER"),
    Drift(
        """CREATE OR REPLACE TRIGGER tasks_updated_at BEFORE UPDATE OF title ON tasks
        FOR EACH ROW EXECUTE FUNCTION update_updated_at()""",
        "triggers",
        "tasks_updated_at",
        "UPDATE OF title",
        mends=False,
    ),
    Drift(
        "ALTER TABLE messages DISABLE TRIGGER ALL",
        "constraints",
        "fk_messages_user_id on public.messages",
        "disabled_triggers: expected none",
    ),
    Drift(
        "ALTER TABLE users DISABLE TRIGGER ALL",
        "constraints",
        "fk_tasks_user_id on public.tasks",
        "ALTER TABLE public.users",
    ),
    # views
    Drift(
        "ALTER VIEW daily_message_volume RESET (security_invoker)",
        "views",
        "public.daily_message_volume",
        "options: expected security_invoker=true, found none",
    ),
    Drift(
        """CREATE OR REPLACE VIEW daily_message_volume WITH (security_invoker = true) AS
        SELECT NULL::timestamptz AS day, m.role, count(*) AS message_count, sum(m.cost_usd) AS total_cost
        FROM public.conversation_messages AS m GROUP BY m.role""",
        "views",
        "public.daily_message_volume",
        "+SELECT NULL::timestamp",
        mends=False,
    ),
    Drift("DROP VIEW provider_usage_stats", "views", "public.provider_usage_stats", "is missing", mends=False),
    # grants
    Drift(
        "GRANT SELECT ON messages TO anon", "tables", "public.messages", "grants to anon: expected none, found SELECT"
    ),
    Drift(
        "GRANT TRUNCATE ON messages TO authenticated", "tables", "public.messages", "TRUNCATE ON TABLE public.messages"
    ),
    Drift("GRANT SELECT ON messages TO PUBLIC", "tables", "public.messages", "grants to PUBLIC: expected none"),
    Drift("REVOKE INSERT ON tasks FROM authenticated", "tables", "public.tasks", "GRANT INSERT ON TABLE"),
    Drift("GRANT SELECT (seq) ON messages TO anon", "tables", "public.messages", "REVOKE SELECT (seq) ON"),
    Drift("GRANT UPDATE (seq) ON messages TO service_role", "tables", "public.messages", "REVOKE UPDATE (seq) ON"),
    Drift("REVOKE ALL ON tasks FROM service_role", "tables", "public.tasks", "grants to service_role:"),
    Drift("REVOKE UPDATE ON tasks FROM CURRENT_USER", "tables", "public.tasks", "grants to owner:"),
    Drift(
        "GRANT SELECT ON tasks TO authenticated WITH GRANT OPTION", "tables", "public.tasks", "GRANT OPTION FOR SELECT"
    ),
    Drift("GRANT SELECT (password_hash) ON users TO authenticated", "tables", "public.users", "SELECT (password_hash)"),
    Drift(
        "GRANT EXECUTE ON FUNCTION update_updated_at() TO anon", "functions", "public.update_updated_at()", "EXECUTE"
    ),
    Drift(
        "GRANT EXECUTE ON FUNCTION get_session_cost(uuid) TO PUBLIC", "functions", "public.get_se", "grants to PUBLIC"
    ),
    Drift("GRANT USAGE ON SEQUENCE messages_seq_seq TO anon", "sequences", "public.messages_seq_seq", "found USAGE"),
    Drift(
        "GRANT UPDATE (provider) ON provider_usage_stats TO authenticated",
        "views",
        "public.provider_usage_stats",
        "REVOKE UPDATE (provider) ON",
    ),
    Drift("GRANT DELETE ON provider_usage_stats TO anon", "views", "public.provider_usage_stats", "found DELETE"),
    Drift("GRANT USAGE ON SCHEMA chat_internal TO anon", "schemas", "chat_internal", "found USAGE"),
    Drift("GRANT CREATE ON SCHEMA public TO authenticated", "schemas", "public", "found CREATE, USAGE"),
    Drift(
        "REVOKE USAGE ON SCHEMA public FROM PUBLIC",
        "schemas",
        "public",
        "GRANT USAGE ON SCHEMA public TO authenticated",
    ),
    Drift("ALTER TABLE tasks OWNER TO service_role", "tables", "public.tasks", "OWNER TO CURRENT_USER"),
    # constraints
    Drift(
        "ALTER TABLE tasks DROP CONSTRAINT fk_tasks_user_id",
        "constraints",
        "fk_tasks_user_id",
        "ON DELETE CASCADE NOT VALID",
    ),
    Drift(
        "ALTER TABLE tasks DROP CONSTRAINT tasks_pkey", "constraints", "tasks_pkey on public.tasks", "PRIMARY KEY (id)"
    ),
    Drift(
        """ALTER TABLE tasks DROP CONSTRAINT fk_tasks_user_id, ADD CONSTRAINT fk_tasks_user_id
        FOREIGN KEY (user_id) REFERENCES users ON DELETE CASCADE NOT VALID""",
        "constraints",
        "fk_tasks_user_id",
        "validated: expected yes, found no",
    ),
    Drift(
        """ALTER TABLE tasks DROP CONSTRAINT fk_tasks_user_id, ADD CONSTRAINT fk_tasks_user_id
        FOREIGN KEY (user_id) REFERENCES users ON DELETE RESTRICT""",
        "constraints",
        "fk_tasks_user_id",
        "+FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE RESTRICT",
        mends=False,
    ),
    Drift(
        "ALTER TABLE tasks ALTER CONSTRAINT fk_tasks_user_id DEFERRABLE",
        "constraints",
        "fk_tasks_user_id",
        "DEFERRABLE",
        mends=False,
    ),
    Drift(
        "ALTER TABLE tenant_users DROP CONSTRAINT ck_tenant_users_role, ADD CONSTRAINT ck_tenant_users_role"
        " CHECK (role IN ('owner', 'member'))",
        "constraints",
        "ck_tenant_users_role on public.tenant_users",
        "+CHECK (((role)::text = ANY (ARRAY['owner'::text, 'member'::text])))",
        mends=False,
    ),
    Drift(
        "ALTER TABLE tasks ADD CONSTRAINT mine CHECK (title <> '') NOT VALID",
        "constraints",
        "mine",
        "VALIDATE CONSTRAINT",
    ),
    # indexes
    Drift(
        "DROP INDEX idx_tasks_user_id_created_at",
        "indexes",
        "idx_tasks_user_id_created_at",
        "CREATE INDEX CONCURRENTLY",
    ),
    Drift(
        "DROP INDEX idx_tasks_user_id; CREATE INDEX idx_tasks_user_id ON tasks (user_id, title)",
        "indexes",
        "idx_tasks_user_id on public.tasks",
        "(user_id, title)",
        mends=False,
    ),
    Drift(
        "DROP INDEX idx_users_email; CREATE INDEX idx_users_email ON users (email)",
        "indexes",
        "idx_users_email",
        "unique: expected yes, found no",
        mends=False,
    ),
    # columns
    Drift(
        "ALTER TABLE tasks ALTER description TYPE varchar(90)",
        "columns",
        "description",
        "character varying(90)",
        mends=False,
    ),
    Drift(
        "ALTER TABLE tasks ALTER created_at DROP DEFAULT",
        "columns",
        "created_at on public.tasks",
        "found none",
        mends=False,
    ),
    Drift(
        "ALTER TABLE tasks ALTER title SET DEFAULT 'x'", "columns", "title", "found 'x'::character varying", mends=False
    ),
    Drift("ALTER TABLE tasks ALTER title DROP NOT NULL", "columns", "title", "not_null: expected yes", mends=False),
    Drift("ALTER TABLE tasks ALTER description SET NOT NULL", "columns", "description", "DROP NOT NULL"),
    Drift("ALTER TABLE messages ALTER seq SET GENERATED ALWAYS", "columns", "seq", "found always", mends=False),
    Drift('ALTER TABLE tasks ALTER title TYPE varchar(255) COLLATE "C"', "columns", "title", "collation:", mends=False),
    Drift(
        "ALTER TABLE tasks DROP COLUMN description", "columns", "description on public.tasks", "is missing", mends=False
    ),
    Drift(
        "ALTER TABLE tasks ADD tenant text NOT NULL", "columns", "tenant on public.tasks", "not part of", mends=False
    ),
    # tables and what else can stand on them
    Drift("DROP TABLE tasks", "tables", "public.tasks", "table public.tasks is missing", mends=False),
    Drift("ALTER TABLE tasks SET UNLOGGED", "tables", "public.tasks", "found unlogged", mends=False),
    Drift(
        "CREATE RULE swallow AS ON INSERT TO tasks DO INSTEAD NOTHING", "rules", "swallow on public.tasks", "DROP RULE"
    ),
    Drift(
        "ALTER SEQUENCE messages_seq_seq INCREMENT 2", "sequences", "public.messages_seq_seq", "found 2", mends=False
    ),
]


@pytest.mark.parametrize("drift", DRIFTS, ids=lambda drift: drift.id)
def test_a_drift_is_reported_and_its_remedy_mends_it(drift: Drift, connection: sa.Connection, before: Snapshot) -> None:
    connection.exec_driver_sql(drift.sql)
    found = compare(before, take_snapshot(connection))

    faults = [
        each
        for each in found.differences
        if (each.kind, each.identity[: len(drift.identity)]) == (drift.kind, drift.identity)
    ]
    assert len(faults) == 1, _told(found)
    assert drift.says in str(faults[0])
    if "TRIGGER ALL" not in drift.sql:
        assert found.differences == tuple(faults), _told(found)
    assert not found.extras, _told(found)

    statements = _remedies(found)
    assert bool(statements) == drift.mends
    for statement in statements:
        connection.exec_driver_sql(statement)
    if drift.mends:
        assert take_snapshot(connection) == before or found.dangerous
        assert not compare(before, take_snapshot(connection)).differences


ADDITIONS = {
    "a table, whatever its state": """
        CREATE TABLE notes (id serial PRIMARY KEY, task uuid REFERENCES tasks, CHECK (id > 0));
        ALTER TABLE notes ADD CONSTRAINT later CHECK (id < 9) NOT VALID; GRANT ALL ON notes TO anon;
        CREATE POLICY anything ON notes USING (true)""",
    "a nullable column": "ALTER TABLE tasks ADD colour text",
    "a column that our roles may write": """ALTER TABLE messages ADD mood text;
        GRANT INSERT (mood), UPDATE (mood) ON messages TO authenticated, service_role""",
    "a column with a default": "ALTER TABLE tasks ADD colour text NOT NULL DEFAULT 'red'",
    "an index": "CREATE INDEX by_title ON tasks (title)",
    "a view": "CREATE VIEW done AS SELECT * FROM tasks WHERE completed",
    "a function": "CREATE FUNCTION twice(n integer) RETURNS integer LANGUAGE sql AS 'SELECT n * 2'",
    "a procedure": "CREATE PROCEDURE nothing() LANGUAGE sql AS ''",
    "a trigger": "CREATE TRIGGER mine BEFORE INSERT ON tasks FOR EACH ROW EXECUTE FUNCTION update_updated_at()",
    "a validated check": "ALTER TABLE tasks ADD CONSTRAINT titled CHECK (title <> '')",
    "a sequence": "CREATE SEQUENCE counter",
    "an enum": "CREATE TYPE mood AS ENUM ('fine', 'bad')",
    "a grant to a role of their own": "CREATE ROLE reporting; GRANT SELECT ON tasks, provider_usage_stats TO reporting",
}


@pytest.mark.parametrize("sql", ADDITIONS.values(), ids=ADDITIONS)
def test_what_users_add_is_listed_and_is_no_fault(sql: str, connection: sa.Connection, before: Snapshot) -> None:
    connection.exec_driver_sql(sql)
    found = compare(before, take_snapshot(connection))
    assert not found.differences, _told(found)
    assert found.extras
    assert all(str(each) for each in found.extras)


def test_a_table_of_the_users_is_listed_as_one_thing(connection: sa.Connection, before: Snapshot) -> None:
    connection.exec_driver_sql(ADDITIONS["a table, whatever its state"])
    extras = compare(before, take_snapshot(connection)).extras
    assert [each.identity for each in extras] == ["public.notes_id_seq", "public.notes"]


SAME_THING = {
    "hosted: anon may look into schema public": "GRANT USAGE ON SCHEMA public TO anon, authenticated, service_role",
    "hardened: PUBLIC may not look into schema public": """REVOKE ALL ON SCHEMA public FROM PUBLIC;
        GRANT USAGE ON SCHEMA public TO authenticated, service_role""",
    "schema public belongs to the role that migrates": "ALTER SCHEMA public OWNER TO CURRENT_USER",
    "columns in another order": """ALTER TABLE tasks ADD d text; UPDATE tasks SET d = description;
        ALTER TABLE tasks DROP description; ALTER TABLE tasks RENAME d TO description""",
    "the default acl written out": """GRANT SELECT ON chat_internal.alembic_version TO anon;
        REVOKE SELECT ON chat_internal.alembic_version FROM anon""",
    "an extension in schema public": "CREATE EXTENSION hstore SCHEMA public",
    "on instead of true": "ALTER VIEW provider_usage_stats SET (security_invoker = on)",
}


@pytest.mark.parametrize("sql", SAME_THING.values(), ids=SAME_THING)
def test_what_means_the_same_reads_the_same(sql: str, connection: sa.Connection, before: Snapshot) -> None:
    connection.exec_driver_sql(sql)
    assert take_snapshot(connection) == before, _told(compare(before, take_snapshot(connection)))


def test_a_missing_schema_is_one_difference(connection: sa.Connection, before: Snapshot) -> None:
    without = {
        kind: {name: each for name, each in of.items() if "chat_internal." not in name} for kind, of in before.items()
    }
    del without["schemas"]["chat_internal"]
    assert [each.identity for each in compare(before, without).missing] == ["chat_internal"]


def test_invalid_indexes_are_faults_under_any_name(db: psycopg.Connection, migrated_url: str) -> None:
    engine = sa.create_engine(sa.make_url(migrated_url).set(drivername="postgresql+psycopg"), poolclass=sa.NullPool)
    with engine.connect() as connection:
        before = take_snapshot(connection)
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.exec_driver_sql("DROP INDEX idx_users_email")
        connection.exec_driver_sql("INSERT INTO users (email) VALUES ('a@example.org'), ('a@example.org')")
        for name in ("idx_users_email", "mine"):
            with pytest.raises(sa.exc.IntegrityError):
                connection.exec_driver_sql(f"CREATE UNIQUE INDEX CONCURRENTLY {name} ON users (email)")
    with engine.connect() as connection:
        found = compare(before, take_snapshot(connection))
    assert [each.identity for each in found.changed] == ["idx_users_email on public.users"]
    assert [each.identity for each in found.dangerous] == ["mine on public.users"]
    assert "valid: expected yes, found no" in str(found.changed[0])

    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.exec_driver_sql("DELETE FROM users")
        for statement in _remedies(found):
            connection.exec_driver_sql(statement)
    with engine.connect() as connection:
        assert take_snapshot(connection) == before


def test_the_package_expects_what_the_chain_makes(before: Snapshot) -> None:
    """`make catalog` writes it anew after a revision has changed the schema."""
    found = compare(load_expected(), before)
    assert load_expected() == before, _told(found)


def _remedies(found: Comparison) -> list[str]:
    return [
        statement.replace(" CONCURRENTLY", "") if each.kind == "indexes" and each.found is None else statement
        for each in found.differences
        for statement in remedies(each.kind, each.identity, each.expected, each.found)
    ]


def _told(found: Comparison) -> Any:
    return "\n".join(str(each) for each in found.differences + found.extras)
