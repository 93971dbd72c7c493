"""What others have made on, over and around our tables: named, mended, or kept as theirs."""

import pytest
import sqlalchemy as sa

from app.catalog import keep
from tests.catalog.planting import Drift, check_drift, examined, told

BOB = 'CREATE ROLE "Bob" LOGIN'
AS_OWNER = 'SET ROLE "Drift Owner"'

STAMP = """CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql {path} AS 'BEGIN RETURN NEW; END'"""
TRIGGER = "CREATE TRIGGER own BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION stamp()"
DEFINER = "CREATE FUNCTION peek() RETURNS bigint LANGUAGE sql SECURITY DEFINER {path} AS 'SELECT 1::bigint'"
PINNED = "SET search_path = pg_catalog, pg_temp"

DRIFTS = [
    # views
    Drift(
        f"{AS_OWNER}; CREATE VIEW own AS SELECT * FROM messages; GRANT SELECT ON own TO anon; RESET ROLE",
        "readers",
        "public.own",
        "shows rows of public.messages to anon, whatever their policies say",
    ),
    Drift(
        f"{AS_OWNER}; CREATE VIEW own AS SELECT * FROM users; GRANT SELECT ON own TO PUBLIC; RESET ROLE",
        "readers",
        "public.own",
        "ALTER VIEW public.own SET (security_invoker = true)",
    ),
    Drift(
        "CREATE VIEW own AS SELECT * FROM users; GRANT SELECT ON own TO authenticated",
        "readers",
        "public.own",
        "mend as postgres with",
    ),
    Drift(
        f"{AS_OWNER}; CREATE VIEW own AS SELECT id, title FROM tasks; GRANT SELECT (title) ON own TO anon; RESET ROLE",
        "readers",
        "public.own",
        "to anon",
    ),
    Drift(
        f"{AS_OWNER}; CREATE VIEW inner_one AS SELECT * FROM tasks; CREATE VIEW own AS SELECT * FROM inner_one;"
        " GRANT SELECT ON own TO authenticated; RESET ROLE",
        "readers",
        "public.own",
        "shows rows of public.tasks",
    ),
    Drift(
        f"{AS_OWNER}; CREATE VIEW own AS SELECT * FROM tasks; GRANT INSERT ON own TO authenticated; RESET ROLE",
        "readers",
        "public.own",
        "to authenticated",
    ),
    Drift(
        f'{BOB}; {AS_OWNER}; CREATE VIEW own AS SELECT * FROM brands; GRANT SELECT ON own TO "Bob"; RESET ROLE',
        "readers",
        "public.own",
        "to Bob",
    ),
    Drift(
        f"{AS_OWNER}; CREATE VIEW own AS SELECT * FROM chat_internal.role_names; GRANT SELECT ON own TO anon;"
        " RESET ROLE",
        "readers",
        "public.own",
        "rows of chat_internal.role_names",
    ),
    Drift(
        f"{AS_OWNER}; CREATE MATERIALIZED VIEW own AS SELECT count(*) FROM users; GRANT SELECT ON own TO anon, PUBLIC;"
        " RESET ROLE",
        "readers",
        "public.own",
        "REVOKE ALL ON TABLE public.own FROM PUBLIC, anon",
    ),
    Drift(
        f"{AS_OWNER}; CREATE MATERIALIZED VIEW own AS SELECT * FROM chat_sessions;"
        " GRANT SELECT ON own TO authenticated; RESET ROLE",
        "readers",
        "public.own",
        "rows of public.conversations, public.messages",
    ),
    # functions that run as somebody who sees everything
    Drift(
        f"{AS_OWNER}; {DEFINER.format(path=PINNED)}; RESET ROLE",
        "definers",
        "public.peek()",
        "ALTER ROUTINE public.peek() SECURITY INVOKER",
    ),
    Drift(f"{AS_OWNER}; {DEFINER.format(path='')}; RESET ROLE", "definers", "public.peek()", "and sets no search_path"),
    Drift(DEFINER.format(path=PINNED), "definers", "public.peek()", "mend as postgres with"),
    Drift(
        f"{AS_OWNER}; {DEFINER.format(path=PINNED)}; REVOKE EXECUTE ON FUNCTION peek() FROM PUBLIC;"
        " GRANT EXECUTE ON FUNCTION peek() TO authenticated; RESET ROLE",
        "definers",
        "public.peek()",
        "for authenticated",
    ),
    Drift(
        f'{DEFINER.format(path=PINNED)}; {BOB} BYPASSRLS; ALTER FUNCTION peek() OWNER TO "Bob"',
        "definers",
        "public.peek()",
        'mend as "Bob" with',
    ),
    Drift(
        f"{AS_OWNER}; {STAMP.format(path=PINNED + ' SECURITY DEFINER')}; RESET ROLE",
        "definers",
        "public.stamp()",
        "REVOKE EXECUTE ON ROUTINE public.stamp() FROM PUBLIC",
    ),
    Drift(
        f"CREATE PROCEDURE run() LANGUAGE sql SECURITY DEFINER {PINNED} AS 'SELECT 1';"
        ' ALTER PROCEDURE run() OWNER TO "Drift Owner"',
        "definers",
        "public.run()",
        "SECURITY INVOKER",
    ),
    # triggers and rules
    Drift(
        f"{AS_OWNER}; {STAMP.format(path='')}; {TRIGGER}; RESET ROLE",
        "triggers",
        "own on public.messages",
        "which sets no search_path",
    ),
    Drift(
        f'{BOB}; {STAMP.format(path=PINNED)}; ALTER FUNCTION stamp() OWNER TO "Bob"; {TRIGGER}',
        "triggers",
        "own on public.messages",
        'which belongs to "Bob"',
    ),
    Drift(
        f"{STAMP.format(path='')}; CREATE TRIGGER own INSTEAD OF UPDATE ON chat_sessions FOR EACH ROW"
        " EXECUTE FUNCTION stamp()",
        "triggers",
        "own on public.chat_sessions",
        "mend as postgres with",
    ),
    Drift(
        "CREATE RULE also AS ON INSERT TO users DO ALSO DELETE FROM tasks",
        "rules",
        "also on public.users",
        "DROP RULE also ON public.users",
    ),
    Drift(
        "CREATE TABLE own (id int); CREATE RULE sly AS ON INSERT TO own DO ALSO DELETE FROM tasks",
        "rules",
        "sly on public.own",
        "DROP RULE sly ON public.own",
    ),
    # grants to others
    Drift(f'{BOB}; GRANT TRUNCATE ON tasks TO "Bob"', "grants", '"Bob" on table public.tasks', "does not bind"),
    Drift(f'{BOB}; GRANT TRIGGER ON users TO "Bob"', "grants", '"Bob" on table public.users', "REVOKE TRIGGER"),
    Drift(
        f'{BOB}; GRANT REFERENCES (id) ON users TO "Bob"',
        "grants",
        '"Bob" on table public.users',
        "REVOKE REFERENCES (id) ON TABLE public.users",
    ),
    Drift(f'{BOB} BYPASSRLS; GRANT SELECT ON users TO "Bob"', "grants", '"Bob" on table public.users', "SELECT"),
    Drift(
        f'{BOB}; GRANT UPDATE ON SEQUENCE messages_seq_seq TO "Bob"',
        "grants",
        '"Bob" on sequence public.messages_seq_seq',
        "ON SEQUENCE",
    ),
    Drift(
        f'{BOB}; GRANT EXECUTE ON FUNCTION chat_internal.current_tenant_ids() TO "Bob"',
        "grants",
        '"Bob" on function chat_internal.current_tenant_ids()',
        "REVOKE EXECUTE ON FUNCTION",
    ),
    Drift(
        f"""{BOB}; GRANT SELECT ON tasks TO "Bob" WITH GRANT OPTION; SET ROLE "Bob"; GRANT SELECT ON tasks TO anon;
        RESET ROLE""",
        "tables",
        "public.tasks",
        "grants to anon: expected none, found SELECT by Bob",
    ),
    Drift(
        f"""{BOB}; GRANT SELECT ON tasks TO "Bob" WITH GRANT OPTION; SET ROLE "Bob";
        GRANT SELECT ON tasks TO authenticated; RESET ROLE""",
        "tables",
        "public.tasks",
        'SET ROLE "Bob"',
    ),
    Drift("GRANT SELECT ON users TO authenticated", "tables", "public.users", "GRANT SELECT (created_at)"),
    # publications
    Drift(
        "CREATE PUBLICATION own FOR TABLE users", "publications", "own of TABLE public.users", "DROP TABLE public.us"
    ),
    Drift("CREATE PUBLICATION own FOR ALL TABLES", "publications", "own of ALL TABLES", "DROP PUBLICATION own"),
    Drift(
        "CREATE PUBLICATION own FOR TABLES IN SCHEMA public",
        "publications",
        "own of TABLES IN SCHEMA public",
        "DROP TABLES IN SCHEMA public",
    ),
    Drift(
        "CREATE PUBLICATION supabase_realtime FOR TABLE users, messages",
        "publications",
        "supabase_realtime of TABLE public.users",
        "every subscriber",
    ),
    # inheritance and keys
    Drift("CREATE TABLE own () INHERITS (tasks)", "inheritance", "public.own of public.tasks", "NO INHERIT"),
    Drift(
        "CREATE TABLE own (id uuid NOT NULL, title varchar(255) NOT NULL); ALTER TABLE tasks INHERIT own;"
        ' ALTER TABLE own OWNER TO "Drift Owner"',
        "inheritance",
        "public.tasks of public.own",
        "ALTER TABLE public.tasks NO INHERIT public.own",
    ),
    Drift(
        f'{BOB}; CREATE TABLE own (id uuid REFERENCES users); ALTER TABLE own OWNER TO "Bob"',
        "foreign keys",
        "own_id_fkey on public.own",
        'belongs to "Bob"',
    ),
    # policies
    Drift("CREATE POLICY sly ON users TO anon USING (true)", "policies", "sly on public.users", "DROP POLICY sly"),
    Drift(
        "CREATE POLICY sly ON messages AS RESTRICTIVE FOR DELETE TO PUBLIC USING (false)",
        "policies",
        "sly on public.messages",
        "is not part of the package",
    ),
]


@pytest.mark.parametrize("drift", DRIFTS, ids=lambda drift: drift.id)
def test_a_drift_is_reported_by_name_and_its_remedy_mends_it(drift: Drift, planted: sa.Connection) -> None:
    check_drift(planted, drift)


FINE = {
    "a view that nobody else may read": "CREATE VIEW own AS SELECT * FROM users",
    "a view that reads as its caller": """CREATE VIEW own WITH (security_invoker = on) AS SELECT * FROM messages;
        GRANT SELECT ON own TO anon, PUBLIC""",
    "a view over one that reads as its caller": """CREATE VIEW own AS SELECT * FROM chat_sessions;
        GRANT SELECT ON own TO authenticated""",
    "a view for service_role": "CREATE VIEW own AS SELECT * FROM users; GRANT SELECT ON own TO service_role",
    "a view in a schema of nobody else": """CREATE SCHEMA inside; CREATE VIEW inside.own AS SELECT * FROM public.users;
        GRANT SELECT ON inside.own TO PUBLIC""",
    "a view of a role that policies bind": f"""{BOB}; GRANT SELECT ON tasks TO "Bob";
        CREATE VIEW own AS SELECT * FROM tasks; ALTER VIEW own OWNER TO "Bob"; GRANT SELECT ON own TO anon""",
    "a view of other tables": """CREATE TABLE own (); CREATE VIEW over AS SELECT * FROM own;
        GRANT SELECT ON over TO anon""",
    "a function that runs as its caller": "CREATE FUNCTION own() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "a definer function of nobody else": f"{DEFINER.format(path='')}; REVOKE EXECUTE ON FUNCTION peek() FROM PUBLIC",
    "a definer function in a schema of nobody else": "CREATE SCHEMA inside; "
    + DEFINER.format(path="").replace("peek", "inside.peek"),
    "a trigger with a fixed search_path": f"{AS_OWNER}; {STAMP.format(path=PINNED)}; {TRIGGER}; RESET ROLE",
    "a grant that policies bind": f'{BOB}; GRANT SELECT, INSERT, UPDATE, DELETE ON messages TO "Bob"',
    "what the example service publishes": "CREATE PUBLICATION supabase_realtime FOR TABLE messages, conversations",
    "a publication of other tables": "CREATE TABLE own (); CREATE PUBLICATION own FOR TABLE own",
    "a key of the owner's own table": "CREATE TABLE own (id uuid REFERENCES users ON DELETE CASCADE)",
    "storage that changes no meaning": """ALTER TABLE messages SET (fillfactor = 70, autovacuum_enabled = false,
        toast_tuple_target = 256, parallel_workers = 2); ALTER INDEX idx_tasks_user_id SET (fillfactor = 50);
        ALTER INDEX users_pkey SET (fillfactor = 50, deduplicate_items = off);
        ALTER TABLE messages ALTER content SET STATISTICS 500, ALTER content SET STORAGE EXTERNAL,
        ALTER role SET (n_distinct = 5); ALTER FUNCTION get_session_cost(uuid) COST 5;
        CREATE STATISTICS own ON user_id, role FROM messages; COMMENT ON TABLE tasks IS 'to do';
        CLUSTER tasks USING tasks_pkey""",
}


@pytest.mark.parametrize("sql", FINE.values(), ids=FINE)
def test_what_weakens_nothing_is_no_fault(sql: str, planted: sa.Connection) -> None:
    planted.exec_driver_sql(sql)
    found = examined(planted)
    assert not found.faults, told(found)


def test_what_the_example_service_publishes_is_named(planted: sa.Connection) -> None:
    planted.exec_driver_sql(FINE["what the example service publishes"])
    assert "supabase_realtime of TABLE public.messages" in {each.identity for each in examined(planted).noted}


def test_a_view_that_shows_rows_shows_them_and_shows_none_once_mended(planted: sa.Connection) -> None:
    """The report is right about what it says: a client reads somebody's row, and afterwards does not."""
    planted.exec_driver_sql(
        f"""WITH ana AS (INSERT INTO users (email) VALUES ('ana@example.test') RETURNING id)
        INSERT INTO tasks (user_id, title) SELECT id, 'mine' FROM ana;
        {AS_OWNER}; CREATE VIEW own AS SELECT title FROM tasks; GRANT SELECT ON own TO authenticated;
        SET ROLE authenticated"""
    )
    assert planted.scalars(sa.text("SELECT title FROM own")).all() == ["mine"]
    planted.exec_driver_sql("RESET ROLE")
    for statement in examined(planted).faults[0].mend.statements:
        planted.exec_driver_sql(statement)
    planted.exec_driver_sql("SET ROLE authenticated")
    assert planted.scalars(sa.text("SELECT title FROM own")).all() == []


def test_what_lists_the_surroundings_is_not_called_when_it_was_changed(planted: sa.Connection) -> None:
    planted.exec_driver_sql(
        """CREATE OR REPLACE FUNCTION chat_internal.is_administrator(p_role oid) RETURNS boolean
        LANGUAGE plpgsql AS $$ BEGIN RAISE 'called'; END $$"""
    )
    found = examined(planted)
    assert not found.seen
    assert [each.identity for each in found.faults] == ["chat_internal.is_administrator(oid)"]


KEEPABLE = [
    (DRIFTS[1].sql, "public.own", "ALTER VIEW own RENAME COLUMN email TO address", True),
    (f"{AS_OWNER}; {DEFINER.format(path=PINNED)}; RESET ROLE", "public.peek()", DEFINER.format(path="").replace(
        "CREATE", "CREATE OR REPLACE"), True),
    (f"{AS_OWNER}; {STAMP.format(path='')}; {TRIGGER}; RESET ROLE", "own on public.messages",
     STAMP.format(path="").replace("CREATE", "CREATE OR REPLACE").replace("RETURN NEW", "RETURN NULL"), False),
    ("CREATE RULE swallow AS ON DELETE TO tasks DO INSTEAD NOTHING", "swallow on public.tasks",
     "CREATE OR REPLACE RULE swallow AS ON DELETE TO tasks DO INSTEAD DELETE FROM users", False),
    ("CREATE POLICY everyone ON tasks FOR SELECT TO anon USING (completed)", "everyone on public.tasks",
     "ALTER POLICY everyone ON tasks USING (true)", True),
    ("ALTER TABLE tasks ADD CONSTRAINT titled CHECK (title <> '') NOT VALID", "titled on public.tasks",
     "ALTER TABLE tasks DROP CONSTRAINT titled; ALTER TABLE tasks ADD CONSTRAINT titled CHECK (true) NOT VALID", False),
    (f'{BOB}; GRANT TRUNCATE ON tasks TO "Bob"', '"Bob" on table public.tasks',
     'GRANT TRIGGER ON tasks TO "Bob"', False),
    (f'{BOB}; GRANT service_role TO "Bob"', '"Bob" in service_role', "", False),
    ("CREATE PUBLICATION own FOR ALL TABLES", "own of ALL TABLES", "", False),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "identity", "change", "anybody"), KEEPABLE, ids=[each[1] for each in KEEPABLE])
def test_what_is_kept_is_no_fault_until_it_changes(
    sql: str, identity: str, change: str, anybody: bool, planted: sa.Connection
) -> None:
    planted.exec_driver_sql(sql)
    keep(planted, examined(planted), [identity])
    found = examined(planted)
    assert not found.faults, told(found)
    assert [each.identity for each in found.kept] == [identity]
    assert [each.identity for each in found.open] == [identity] * anybody, (
        "what anon or PUBLIC can reach stays a warning"
    )
    if change:
        planted.exec_driver_sql(change)
        [fault] = examined(planted).faults
        assert "it has changed since it was recorded as yours" in str(fault)


def test_what_was_kept_on_another_version_of_postgresql_reads_alike(planted: sa.Connection) -> None:
    """PostgreSQL 15 qualifies the columns of a view, later ones do not."""
    planted.exec_driver_sql("CREATE VIEW own AS SELECT t.title FROM tasks AS t; GRANT SELECT ON own TO anon")
    keep(planted, examined(planted), ["public.own"])
    for text in (" SELECT t.title\n   FROM public.tasks t;", " SELECT title\n   FROM public.tasks t;"):
        planted.execute(
            sa.text(
                "UPDATE chat_internal.kept"
                " SET properties = jsonb_set(properties, '{definition}', to_jsonb(CAST(:text AS text)))"
            ),
            {"text": text},
        )
        assert [each.identity for each in examined(planted).kept] == ["public.own"]


@pytest.mark.parametrize(
    ("sql", "identity", "told"),
    [
        ("SELECT 1", "public.nothing", "the name of nothing"),
        ("ALTER TABLE messages DISABLE ROW LEVEL SECURITY", "public.messages", "an object of this schema"),
        ("ALTER ROLE anon SUPERUSER", "anon", "an object of this schema"),
        ("DROP POLICY tasks_service ON tasks", "tasks_service on public.tasks", "an object of this schema"),
    ],
)
def test_what_is_ours_or_unknown_cannot_be_kept(sql: str, identity: str, told: str, planted: sa.Connection) -> None:
    planted.exec_driver_sql(sql)
    with pytest.raises(ValueError, match=told):
        keep(planted, examined(planted), [identity])
    assert planted.scalar(sa.text("SELECT count(*) FROM chat_internal.kept")) == 0
