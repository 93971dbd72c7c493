"""What Supabase's advisor warns of, in queries of our own: it finds nothing in a migrated database.

Left out is the one rule that speaks of use: an index that no query has read yet.
"""

from __future__ import annotations

import psycopg
import pytest

from alembic import command
from tests.adoption.legacy import STARTS, Place
from tests.conftest import libpq
from tests.database.conftest import run

OURS = "('public'::regnamespace, 'chat_internal'::regnamespace)"
POLICY = "pol.polname || ' on ' || pol.polrelid::regclass"
POLICIES = (
    f"(SELECT {POLICY} AS name, pol.*, concat_ws(' / ', pg_get_expr(polqual, polrelid),"
    " pg_get_expr(polwithcheck, polrelid)) AS text FROM pg_policy AS pol) AS policy"
)
ROLES = "(VALUES ('anon'), ('authenticated')) AS role (name)"

RULES = {
    "a foreign key without an index that leads with its columns": f"""
        SELECT k.conrelid::regclass || '.' || k.conname FROM pg_constraint AS k
        WHERE k.contype = 'f' AND k.connamespace IN {OURS} AND NOT EXISTS (
          SELECT FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (k.conkey)
          WHERE i.indrelid = k.conrelid AND (i.indkey::smallint[])[0:cardinality(k.conkey) - 1] @> k.conkey
            AND coalesce(pg_get_expr(i.indpred, i.indrelid), '') IN ('', format('(%s IS NOT NULL)', a.attname)))""",
    "a view of the platform's accounts": """
        SELECT r.ev_class::regclass::text FROM pg_depend AS d JOIN pg_rewrite AS r ON r.oid = d.objid
        WHERE d.refobjid = to_regclass('auth.users') AND r.ev_class::regclass::text !~ '^auth[.]'""",
    "a policy that asks for the caller on every row": f"""
        SELECT name FROM {POLICIES}
        WHERE text ~ '(?<!SELECT )(auth[.][a-z_]+|chat_internal[.]current_user_id|current_setting)[(]'""",
    "a table without a primary key": f"""
        SELECT c.oid::regclass::text FROM pg_class AS c WHERE c.relkind = 'r' AND c.relnamespace IN {OURS}
        AND NOT EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisprimary)""",
    "two permissive policies for one role and one verb": """
        SELECT a.polrelid::regclass::text FROM pg_policy AS a JOIN pg_policy AS b
          ON a.polrelid = b.polrelid AND a.oid < b.oid AND a.polroles && b.polroles
          AND (a.polcmd = b.polcmd OR '*' IN (a.polcmd, b.polcmd))
        WHERE a.polpermissive AND b.polpermissive""",
    "a table without row level security": f"""
        SELECT oid::regclass::text FROM pg_class
        WHERE relkind IN ('r', 'p') AND relnamespace IN {OURS} AND NOT relrowsecurity""",
    "row level security without a policy": f"""
        SELECT oid::regclass::text FROM pg_class
        WHERE relkind IN ('r', 'p') AND relnamespace IN {OURS} AND relrowsecurity
        AND oid NOT IN (SELECT polrelid FROM pg_policy)""",
    "two indexes that are the same": f"""
        SELECT min(i.indexrelid::regclass::text) FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indrelid
        WHERE c.relnamespace IN {OURS}
        GROUP BY i.indrelid, i.indkey::text, i.indoption::text, i.indclass::text,
                 pg_get_expr(i.indexprs, i.indrelid), pg_get_expr(i.indpred, i.indrelid)
        HAVING count(*) > 1""",
    "a view that reads as its owner": """
        SELECT oid::regclass::text FROM pg_class WHERE relkind = 'v' AND relnamespace = 'public'::regnamespace
        AND NOT coalesce(reloptions, '{}') && '{security_invoker=true,security_invoker=on}'""",
    "a function whose search_path is its caller's": f"""
        SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace IN {OURS}
        AND NOT coalesce(array_to_string(proconfig, ' '), '') ~ 'search_path='
        -- the one that each statement of a user calls, as the user: each name in it has its schema instead
        AND (prosecdef OR oid <> 'chat_internal.current_user_id()'::regprocedure)""",
    "an extension in public": "SELECT extname FROM pg_extension WHERE extnamespace = 'public'::regnamespace",
    "a policy that reads what users write about themselves": f"""
        SELECT name FROM {POLICIES} WHERE text ~ 'user_metadata'""",
    "a materialized view or foreign table that clients read": f"""
        SELECT c.oid::regclass::text FROM pg_class AS c, {ROLES}
        WHERE c.relkind IN ('m', 'f') AND c.relnamespace = 'public'::regnamespace
        AND has_table_privilege(role.name, c.oid, 'SELECT')""",
    "a column whose type no upgrade of the server takes": f"""
        SELECT a.attrelid::regclass || '.' || a.attname FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
        WHERE c.relkind = 'r' AND c.relnamespace IN {OURS} AND NOT a.attisdropped
        AND format_type(a.atttypid, NULL) ~ '^reg' AND format_type(a.atttypid, NULL) !~ 'class|type'""",
    "a policy that lets others than the service at everything": f"""
        SELECT name FROM {POLICIES}
        WHERE 'true' IN (pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
          AND (polrelid, polcmd) <> ('chat_internal.alembic_version'::regclass, 'r')  -- the number of a revision
        AND polroles <> ARRAY['service_role'::regrole::oid]""",
    "a function that clients may run as its owner": f"""
        SELECT p.oid::regprocedure::text FROM pg_proc AS p, {ROLES}
        WHERE p.pronamespace = 'public'::regnamespace AND p.prosecdef
        AND has_function_privilege(role.name, p.oid, 'EXECUTE')""",
}

PLANTED = {
    "a foreign key without an index that leads with its columns": "CREATE TABLE t (id int PRIMARY KEY, u uuid"
    " REFERENCES users); CREATE INDEX ON t (id, u)",
    "a view of the platform's accounts": "CREATE SCHEMA auth; CREATE TABLE auth.users (id int);"
    " CREATE VIEW v WITH (security_invoker = true) AS SELECT id FROM auth.users",
    "a policy that asks for the caller on every row": "CREATE POLICY p ON tasks TO anon"
    " USING (user_id = chat_internal.current_user_id())",
    "a table without a primary key": "CREATE TABLE t (id int UNIQUE)",
    "two permissive policies for one role and one verb": "CREATE POLICY p ON tasks FOR ALL TO authenticated"
    " USING (false)",
    "a table without row level security": "ALTER TABLE tasks DISABLE ROW LEVEL SECURITY",
    "row level security without a policy": "DROP POLICY role_names_none ON chat_internal.role_names",
    "two indexes that are the same": "CREATE INDEX again ON tasks (user_id, created_at DESC)",
    "a view that reads as its owner": "CREATE VIEW v AS SELECT 1 AS one",
    "a function whose search_path is its caller's": "CREATE FUNCTION f() RETURNS int LANGUAGE sql RETURN 1",
    "an extension in public": "CREATE EXTENSION btree_gin SCHEMA public",
    "a policy that reads what users write about themselves": "CREATE POLICY p ON tasks TO anon USING"
    " ((SELECT current_setting('request.jwt.claims')::jsonb -> 'user_metadata' ->> 'admin') = 'yes')",
    "a materialized view or foreign table that clients read": "CREATE MATERIALIZED VIEW m AS SELECT 1 AS one;"
    " GRANT SELECT ON m TO anon",
    "a column whose type no upgrade of the server takes": "ALTER TABLE tasks ADD COLUMN f regprocedure",
    "a policy that lets others than the service at everything": "CREATE POLICY p ON tasks TO anon USING (true)",
    "a function that clients may run as its owner": "CREATE FUNCTION f() RETURNS int LANGUAGE sql SECURITY DEFINER"
    " RETURN 1",
}


# Functions that the application of 3b made; they call nothing of ours, and adoption leaves them as they are.
NOT_OURS = {"update_updated_at_column()", "uuid_generate_v4()"}


def findings(connection: psycopg.Connection) -> dict[str, list[str]]:
    """Return what each rule finds, of those that find something."""
    found = {rule: [row[0] for row in connection.execute(query.encode())] for rule, query in RULES.items()}
    return {rule: sorted(named) for rule, named in found.items() if set(named) - NOT_OURS}


def test_it_finds_nothing_at_head(shared_db: psycopg.Connection) -> None:
    assert findings(shared_db) == {}


@pytest.mark.parametrize("start", ["empty", "3b", "4b"])
def test_it_finds_nothing_on_supabase_whatever_was_adopted(place: Place, start: str) -> None:
    place.load(start)
    run(place.url, command.upgrade, "head", x=STARTS[start].options)
    with psycopg.connect(libpq(place.admin.url)) as connection:
        assert findings(connection) == {}


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_finds_what_it_is_for(shared_db: psycopg.Connection, rule: str) -> None:
    shared_db.execute(PLANTED[rule].encode())
    assert rule in findings(shared_db)
