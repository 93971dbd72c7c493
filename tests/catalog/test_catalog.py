"""Drifts planted one by one in a migrated database: each is reported, and what is reported as its remedy mends it."""

from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from app.catalog import Comparison, Snapshot, compare, load_expected, take_snapshot
from tests.catalog.planting import Drift, check_drift

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
    ),
    # functions
    Drift(
        """CREATE OR REPLACE FUNCTION chat_internal.current_user_id() RETURNS uuid
        LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS 'SELECT NULL::uuid'""",
        "functions",
        "chat_internal.current_user_id()",
        "+SELECT NULL::uuid",
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
    ),
    Drift(
        "ALTER FUNCTION get_session_cost(uuid) RESET search_path",
        "functions",
        "public.get_se",
        "found none",
    ),
    Drift("ALTER FUNCTION get_session_cost(uuid) VOLATILE", "functions", "public.get_se", "found volatile"),
    Drift("ALTER FUNCTION get_session_cost(uuid) STRICT", "functions", "public.get_se", "strict:"),
    Drift("ALTER FUNCTION get_session_cost(uuid) LEAKPROOF", "functions", "public.get_se", "leakproof:"),
    Drift("DROP FUNCTION get_session_cost(uuid)", "functions", "public.get_session_cost(uuid)", "is missing"),
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
    ),
    Drift(
        "ALTER TABLE messages DISABLE TRIGGER ALL",
        "constraints",
        "fk_messages_user_id on public.messages",
        "disabled_triggers: expected none",
        also=None,
    ),
    Drift(
        "ALTER TABLE users DISABLE TRIGGER ALL",
        "constraints",
        "fk_tasks_user_id on public.tasks",
        "ALTER TABLE public.users",
        also=None,
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
    ),
    Drift("DROP VIEW provider_usage_stats", "views", "public.provider_usage_stats", "is missing"),
    # comments
    Drift("COMMENT ON TABLE tasks IS NULL", "comments", "TABLE public.tasks", "is missing"),
    Drift("COMMENT ON COLUMN tasks.title IS NULL", "comments", "COLUMN public.tasks.title", "COMMENT ON COLUMN"),
    Drift(
        "COMMENT ON COLUMN provider_usage_stats.provider IS NULL", "comments", "COLUMN public.provider", "is missing"
    ),
    Drift("COMMENT ON VIEW daily_message_volume IS NULL", "comments", "VIEW public.daily_message_volume", "is missing"),
    Drift("COMMENT ON FUNCTION update_updated_at() IS ''", "comments", "FUNCTION public.update_upd", "COMMENT ON FUNC"),
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
    Drift('REVOKE UPDATE ON tasks FROM "Drift Owner"', "tables", "public.tasks", "grants to owner:"),
    Drift(
        "GRANT SELECT ON tasks TO authenticated WITH GRANT OPTION", "tables", "public.tasks", "GRANT OPTION FOR SELECT"
    ),
    Drift("GRANT SELECT (password_hash) ON users TO authenticated", "tables", "public.users", "SELECT (password_hash)"),
    # the rights on columns, which REVOKE on the table takes along, are there again afterwards
    Drift("GRANT SELECT ON users TO authenticated", "tables", "public.users", "GRANT SELECT (created_at"),
    Drift("GRANT INSERT ON messages TO authenticated", "tables", "public.messages", "GRANT INSERT (cached_tokens"),
    Drift("GRANT UPDATE (seq) ON messages TO service_role", "tables", "public.messages", "REVOKE UPDATE (seq)"),
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
    Drift("ALTER TABLE tasks OWNER TO service_role", "tables", "public.tasks", 'OWNER TO "Drift Owner"'),
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
    ),
    Drift(
        "ALTER TABLE tasks ALTER CONSTRAINT fk_tasks_user_id DEFERRABLE",
        "constraints",
        "fk_tasks_user_id",
        "DEFERRABLE",
    ),
    Drift(
        "ALTER TABLE tenant_users DROP CONSTRAINT ck_tenant_users_role, ADD CONSTRAINT ck_tenant_users_role"
        " CHECK (role IN ('owner', 'member'))",
        "constraints",
        "ck_tenant_users_role on public.tenant_users",
        "+CHECK (((role)::text = ANY (ARRAY['owner'::text, 'member'::text])))",
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
    ),
    Drift(
        "DROP INDEX idx_users_email; CREATE INDEX idx_users_email ON users (email)",
        "indexes",
        "idx_users_email",
        "unique: expected yes, found no",
    ),
    # columns
    Drift(
        "ALTER TABLE tasks ALTER description TYPE varchar(90)",
        "columns",
        "description",
        "character varying(90)",
    ),
    Drift(
        "ALTER TABLE tasks ALTER created_at DROP DEFAULT",
        "columns",
        "created_at on public.tasks",
        "found none",
    ),
    Drift("ALTER TABLE tasks ALTER title SET DEFAULT 'x'", "columns", "title", "found 'x'::character varying"),
    Drift("ALTER TABLE tasks ALTER title DROP NOT NULL", "columns", "title", "not_null: expected yes"),
    Drift("ALTER TABLE tasks ALTER description SET NOT NULL", "columns", "description", "DROP NOT NULL"),
    Drift("ALTER TABLE messages ALTER seq SET GENERATED ALWAYS", "columns", "seq", "found always"),
    Drift('ALTER TABLE tasks ALTER title TYPE varchar(255) COLLATE "C"', "columns", "title", "collation:"),
    Drift("ALTER TABLE tasks DROP COLUMN description", "columns", "description on public.tasks", "is missing"),
    Drift("ALTER TABLE tasks ADD tenant text NOT NULL", "columns", "tenant on public.tasks", "not part of"),
    # tables and what else can stand on them
    Drift("DROP TABLE tasks", "tables", "public.tasks", "table public.tasks is missing", mends=False, also=None),
    Drift("ALTER TABLE tasks SET UNLOGGED", "tables", "public.tasks", "found unlogged"),
    Drift(
        "CREATE RULE swallow AS ON INSERT TO tasks DO INSTEAD NOTHING", "rules", "swallow on public.tasks", "DROP RULE"
    ),
    Drift("ALTER SEQUENCE messages_seq_seq INCREMENT 2", "sequences", "public.messages_seq_seq", "found 2"),
    # what a view, a sequence, a column and a constraint are beside their definition
    Drift("ALTER TABLE users REPLICA IDENTITY FULL", "tables", "public.users", "replica_identity: expected default"),
    Drift("ALTER TABLE messages REPLICA IDENTITY NOTHING", "tables", "public.messages", "found nothing"),
    Drift("ALTER SEQUENCE messages_seq_seq CACHE 100", "sequences", "public.messages_seq_seq", "cache: expected 1"),
    Drift("ALTER SEQUENCE messages_seq_seq CYCLE", "sequences", "public.messages_seq_seq", "cycle: expected no"),
    Drift("ALTER SEQUENCE messages_seq_seq MAXVALUE 99 RESTART", "sequences", "public.messages_seq_seq", "MAXVALUE 92"),
    Drift("ALTER SEQUENCE messages_seq_seq START 7", "sequences", "public.messages_seq_seq", "START WITH 1"),
    Drift("ALTER SEQUENCE messages_seq_seq SET UNLOGGED", "sequences", "public.messages_seq_seq", "found unlogged"),
    Drift("ALTER SEQUENCE messages_seq_seq AS integer", "sequences", "public.messages_seq_seq", "AS bigint"),
    Drift(
        "ALTER VIEW chat_sessions ALTER tenant_id SET DEFAULT gen_random_uuid()",
        "views",
        "public.chat_sessions",
        "ALTER COLUMN tenant_id DROP DEFAULT",
    ),
    Drift(
        """DROP VIEW provider_usage_stats; CREATE VIEW provider_usage_stats WITH (security_invoker = true) AS
        SELECT provider FROM conversation_messages; GRANT SELECT ON provider_usage_stats TO authenticated, service_role;
        ALTER VIEW provider_usage_stats OWNER TO "Drift Owner" """,
        "views",
        "public.provider_usage_stats",
        "DROP VIEW public.provider_usage_stats",
        also=2,  # its comment, and that of the column
    ),
    Drift("DROP VIEW chat_sessions", "views", "public.chat_sessions", "CREATE OR REPLACE TRIGGER"),
    Drift(
        "ALTER VIEW provider_usage_stats SET (security_barrier = true)",
        "views",
        "public.provider_usage_stats",
        "RESET (security_barrier)",
    ),
    Drift("ALTER TABLE tasks ALTER completed DROP NOT NULL", "columns", "completed on public.tasks", "VALIDATE CONST"),
    Drift(
        "ALTER TABLE tasks ALTER completed DROP DEFAULT", "columns", "completed on public.tasks", "SET DEFAULT false"
    ),
    Drift("ALTER TABLE tasks DROP completed", "columns", "completed on public.tasks", "DEFAULT false NOT NULL"),
    Drift("ALTER TABLE tenants ALTER name TYPE varchar(20)", "columns", "name on public.tenants", "TYPE text"),
    Drift(
        "ALTER TABLE messages ALTER seq DROP IDENTITY",
        "columns",
        "seq on public.messages",
        "setval",
        also=1,
    ),
    Drift("ALTER TABLE tasks DROP COLUMN title", "columns", "title on public.tasks", "restore", mends=False),
    Drift(
        "ALTER TABLE users DROP CONSTRAINT ck_users_password_needs_email",
        "constraints",
        "ck_users",
        "NOT VALID",
    ),
    Drift(
        "ALTER TABLE messages DROP CONSTRAINT ck_messages_role",
        "constraints",
        "ck_messages_role on public.messages",
        "VALIDATE CONSTRAINT ck_messages_role",
    ),
    Drift(
        """ALTER TABLE messages DROP CONSTRAINT ck_messages_role,
        ADD CONSTRAINT ck_messages_role CHECK (role <> 'evil') NOT VALID""",
        "constraints",
        "ck_messages_role on public.messages",
        "DROP CONSTRAINT ck_messages_role, ADD",
    ),
    Drift(
        """ALTER TABLE messages DROP CONSTRAINT fk_messages_conversation_id, ADD CONSTRAINT fk_messages_conversation_id
        FOREIGN KEY (conversation_id) REFERENCES conversations ON DELETE CASCADE""",
        "constraints",
        "fk_messages_conversation_id",
        "FOREIGN KEY (conversation_id, user_id)",
    ),
    Drift(
        "ALTER TABLE tasks DISABLE TRIGGER ALL",
        "constraints",
        "fk_tasks_user_id on public.tasks",
        "mend as a superuser",
        also=1,
    ),
    Drift(
        "ALTER TABLE tasks DROP CONSTRAINT tasks_pkey, ADD CONSTRAINT tasks_pkey PRIMARY KEY (id, user_id)",
        "constraints",
        "tasks_pkey on public.tasks",
        "PRIMARY KEY (id)",
    ),
    Drift("DROP INDEX idx_tasks_user_id", "indexes", "idx_tasks_user_id on public.tasks", "CREATE INDEX CONCURRENTLY"),
    Drift("DROP INDEX idx_users_email", "indexes", "idx_users_email on public.users", "CREATE UNIQUE INDEX"),
    Drift(
        "DROP INDEX idx_messages_user_id_idempotency_key; CREATE UNIQUE INDEX idx_messages_user_id_idempotency_key"
        " ON messages (idempotency_key)",
        "indexes",
        "idx_messages_user_id_idempotency_key",
        "DROP INDEX CONCURRENTLY public.idx_messages_user_id_idempotency_key",
    ),
    Drift(
        "DROP INDEX idx_tenant_users_user_id;"
        " CREATE INDEX idx_tenant_users_user_id ON tenant_users USING hash (user_id)",
        "indexes",
        "idx_tenant_users_user_id",
        "+CREATE INDEX idx_tenant_users_user_id ON public.tenant_users USING hash",
    ),
    # functions and triggers, each in another of its properties
    Drift(
        """CREATE OR REPLACE FUNCTION update_updated_at() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN NEW; END $$""",
        "functions",
        "public.update_updated_at()",
        "CREATE OR REPLACE FUNCTION public.update_updated_at() RETURNS trigger",
    ),
    Drift(
        "ALTER FUNCTION get_session_cost(uuid) PARALLEL RESTRICTED", "functions", "public.get_se", "parallel: expected"
    ),
    Drift(
        """DROP FUNCTION get_session_cost(uuid); CREATE FUNCTION get_session_cost(session uuid) RETURNS text
        LANGUAGE sql AS 'SELECT session::text'; ALTER FUNCTION get_session_cost(uuid) OWNER TO "Drift Owner" """,
        "functions",
        "public.get_session_cost(uuid)",
        "DROP ROUTINE public.get_session_cost(uuid)",
        also=1,  # its comment
    ),
    Drift("ALTER FUNCTION get_session_cost(uuid) SET row_security = off", "functions", "public.get_se", "RESET ALL"),
    Drift(
        "ALTER FUNCTION chat_internal.mirror_auth_user() SECURITY INVOKER",
        "functions",
        "chat_internal.mirror_auth_user()",
        "SECURITY DEFINER",
    ),
    Drift(
        "ALTER FUNCTION chat_internal.current_user_id() OWNER TO service_role",
        "functions",
        "chat_internal.current_user_id()",
        "mend as a superuser",
    ),
    Drift(
        "DROP FUNCTION chat_internal.users_to_mend()",
        "functions",
        "chat_internal.users_to_mend()",
        "CREATE OR REPLACE FUNCTION chat_internal.users_to_mend()",
    ),
    Drift("DROP FUNCTION cancel_conversation_session(uuid)", "functions", "public.cancel_con", "GRANT EXECUTE"),
    Drift("DROP TRIGGER messages_fill_owner ON messages", "triggers", "messages_fill_owner", "CREATE TRIGGER"),
    Drift(
        "DROP TRIGGER chat_sessions_write ON chat_sessions",
        "triggers",
        "chat_sessions_write on public.chat_sessions",
        "INSTEAD OF",
    ),
    Drift(
        """CREATE OR REPLACE TRIGGER messages_fill_owner BEFORE INSERT ON messages
        FOR EACH ROW WHEN (false) EXECUTE FUNCTION chat_internal.fill_message_owner()""",
        "triggers",
        "messages_fill_owner on public.messages",
        "CREATE OR REPLACE TRIGGER",
    ),
    Drift("ALTER TABLE users ENABLE ALWAYS TRIGGER users_updated_at", "triggers", "users_updated_at", "found always"),
]


@pytest.mark.parametrize("drift", DRIFTS, ids=lambda drift: drift.id)
def test_a_drift_is_reported_by_name_and_its_remedy_mends_it(drift: Drift, planted: sa.Connection) -> None:
    check_drift(planted, drift)


BUILT = [drift for drift in DRIFTS if "idx_" in drift.sql]


@pytest.mark.parametrize("drift", BUILT, ids=lambda drift: drift.id)
def test_an_index_is_mended_outside_a_transaction_as_it_is_printed(drift: Drift, own_copy: sa.Connection) -> None:
    check_drift(own_copy, drift, concurrently=True)


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
        ALTER TABLE tasks DROP description; ALTER TABLE tasks RENAME d TO description;
        COMMENT ON COLUMN tasks.description IS 'More about it.'""",
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
    return [statement for each in found.differences for statement in each.mend.statements]


def _told(found: Comparison) -> Any:
    return "\n".join(str(each) for each in found.differences + found.extras)
