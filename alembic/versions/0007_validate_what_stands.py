"""Validate, before anything is changed, that no code of others would run with the rights of whoever migrates.

What:   LOOK, a query on the catalog: tables that are none or belong to another login or another application, functions
        of other logins that our names or our tables would call, triggers that would no longer find their tables. Then
        close_tables() takes TRIGGER and REFERENCES on these tables from PUBLIC and the three roles.
Why:    a chain that stops halfway leaves a database between two shapes, so the LOOKs of all revisions are asked before
        the first one runs. A trigger of a stranger's would run with the rights of whoever migrates. Whoever owns the
        database, or administers the server or its roles, is no stranger: it can do as it likes anyway. A superuser is
        a member of every role; that says nothing of whom it trusts. Nor does it that hosted platforms make the login
        that migrates a member of the clients' roles. Those platforms grant TRIGGER on every table to the clients'
        roles, who could make one after the look and before the table's own revision: LOOK is asked again once the
        tables are closed.
Locks:  AccessShare while it looks; then ShareRowExclusive, an instant, on tables on which clients may make triggers.
Undone: the rights are given back, the function is dropped.

Revision ID: 0007
Revises: 0006
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

OURS = (  # what this chain makes under these names, or takes over
    "('users', 'tenants', 'tenant_users', 'tasks', 'chat_messages', 'chat_sessions', 'conversations', 'messages',"
    " 'brands', 'conversation_sessions', 'conversation_messages', 'provider_usage_stats', 'daily_message_volume')"
)

# where one of these obstacles is unsafe, no LOOK reads rows: that could run the code of others
LOOK = r"""
    WITH trusted AS MATERIALIZED (
      SELECT r.oid
      FROM pg_catalog.pg_roles AS r, pg_catalog.pg_roles AS me, pg_catalog.pg_database AS d
      WHERE me.rolname = current_user AND d.datname = pg_catalog.current_database()
        AND (r.rolsuper OR r.rolcreaterole OR r.oid = me.oid OR r.oid = d.datdba
             OR NOT me.rolsuper AND pg_catalog.pg_has_role(me.oid, r.oid, 'USAGE') AND r.rolname <> ALL ({roles}))
    ), wanted (name, needs) AS (
      VALUES
        ('users', '{id}'::name[]), ('tenants', '{id}'), ('tenant_users', '{tenant_id,user_id}'),
        ('tasks', '{id,user_id}'), ('chat_messages', '{id,user_id,role,content}'),
        ('chat_sessions', '{id,user_id,messages}'), ('conversations', '{id,user_id}'),
        ('messages', '{id,conversation_id,role,content}'), ('brands', '{id,user_id}'),
        ('conversation_sessions', '{id,brand_id,user_id}'),
        ('conversation_messages', '{id,session_id,brand_id,user_id}')
    ), ours AS MATERIALIZED (
      SELECT c.oid, c.relname, c.relkind, c.relowner
      FROM pg_catalog.pg_class AS c WHERE c.relnamespace = 'public'::regnamespace AND c.relname IN {ours}
    ), replaced AS MATERIALIZED (
      SELECT p.oid, p.proowner FROM pg_catalog.pg_proc AS p
      WHERE p.oid::regprocedure::text IN (
        'public.update_updated_at()', 'public.update_session_activity()', 'public.update_session_on_message()',
        'public.complete_conversation_session(uuid)', 'public.cancel_conversation_session(uuid)',
        'public.get_conversation_history(uuid,integer)', 'public.get_session_cost(uuid)',
        'public.get_session_message_stats(uuid)')
    ), accounts AS MATERIALIZED (  -- the shape that chat_internal.has_auth_users() asks for
      SELECT c.relnamespace
      FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
      WHERE n.nspname = 'auth' AND c.relname = 'users' AND c.relkind = 'r' AND 3 = (
        SELECT pg_catalog.count(*) FROM pg_catalog.pg_attribute AS a
        WHERE a.attrelid = c.oid AND (a.attname, a.atttypid) IN (
          ('id', 'uuid'::regtype), ('email', 'varchar'::regtype), ('email', 'text'::regtype),
          ('created_at', 'timestamptz'::regtype)))
    ), obstacle (place, says, mends, unsafe) AS (
      SELECT 1, CASE
          WHEN c.relkind <> 'r' THEN
            pg_catalog.format('public.%s is there and is no ordinary table; rename it.', w.name)
          WHEN c.relowner NOT IN (SELECT oid FROM trusted) THEN
            pg_catalog.format('public.%s belongs to %I; run the upgrade as that login.', w.name,
                              pg_catalog.pg_get_userbyid(c.relowner))
          ELSE pg_catalog.format('public.%s is the table of another application (ours has %s); rename it.', w.name,
                                 pg_catalog.array_to_string(w.needs, ', '))
        END, CASE WHEN c.relkind <> 'r' OR c.relowner IN (SELECT oid FROM trusted) THEN
          pg_catalog.format('ALTER TABLE public.%I RENAME TO %I;', w.name, w.name || '_own')
        END, c.relkind <> 'r' OR c.relowner NOT IN (SELECT oid FROM trusted)
      FROM wanted AS w JOIN ours AS c ON c.relname = w.name
      WHERE c.relkind <> 'r' OR c.relowner NOT IN (SELECT oid FROM trusted)
        OR NOT w.needs <@ ARRAY(SELECT a.attname FROM pg_catalog.pg_attribute AS a
                                WHERE a.attrelid = c.oid AND NOT a.attisdropped)
      UNION ALL
      SELECT 2, pg_catalog.format('the type public.%s is there, and a table makes one of its name; rename it.',
                                  y.typname),
        pg_catalog.format('ALTER TYPE public.%I RENAME TO %I;', y.typname, y.typname || '_own'), true
      FROM pg_catalog.pg_type AS y
      WHERE y.typnamespace = 'public'::regnamespace AND y.typtype <> 'c' AND y.typname IN {ours}
      UNION ALL
      SELECT 3, pg_catalog.format('%s belongs to %I, who could change what it does for every caller; drop it, or have '
          'an administrator give it to this login.', pg_catalog.pg_describe_object(o.classid, o.objid, 0),
          pg_catalog.pg_get_userbyid(o.role)), pg_catalog.format('%s %I;', o.mend, current_user), true
      FROM (
        SELECT 'pg_catalog.pg_proc'::regclass AS classid, p.oid AS objid, p.proowner AS role,
               pg_catalog.format('ALTER ROUTINE %s OWNER TO', p.oid::regprocedure) AS mend
        FROM replaced AS p
        UNION ALL
        SELECT 'pg_catalog.pg_class'::regclass, c.oid, c.relowner,
               pg_catalog.format('ALTER TABLE %s OWNER TO', c.oid::regclass)
        FROM ours AS c WHERE c.relname IN ('provider_usage_stats', 'daily_message_volume')
      ) AS o
      WHERE o.role NOT IN (SELECT oid FROM trusted)
      UNION ALL  -- of triggers, defaults, CHECKs and indexes; policies do not bind us and are replaced
      SELECT DISTINCT 4, pg_catalog.format('%s calls %s of %I, which would run with the rights of this login; drop it, '
          'or have an administrator give the other to %I.', pg_catalog.pg_describe_object(f.classid, f.objid, 0),
          pg_catalog.pg_describe_object(f.refclassid, f.refobjid, 0), pg_catalog.pg_get_userbyid(o.role), current_user),
        NULL, true
      FROM pg_catalog.pg_depend AS d
      JOIN pg_catalog.pg_depend AS f ON f.classid = d.classid AND f.objid = d.objid
      JOIN LATERAL (
        SELECT p.proowner AS role FROM pg_catalog.pg_proc AS p
        WHERE f.refclassid = 'pg_catalog.pg_proc'::regclass AND p.oid = f.refobjid
          AND p.pronamespace NOT IN (SELECT relnamespace FROM accounts)
        UNION ALL
        SELECT p.oprowner FROM pg_catalog.pg_operator AS p
        WHERE f.refclassid = 'pg_catalog.pg_operator'::regclass AND p.oid = f.refobjid
        UNION ALL
        SELECT p.typowner FROM pg_catalog.pg_type AS p
        WHERE f.refclassid = 'pg_catalog.pg_type'::regclass AND p.oid = f.refobjid
      ) AS o ON o.role NOT IN (SELECT oid FROM trusted)
      WHERE d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid IN (SELECT oid FROM ours)
        AND d.classid IN ('pg_catalog.pg_trigger'::regclass, 'pg_catalog.pg_attrdef'::regclass,
                          'pg_catalog.pg_constraint'::regclass, 'pg_catalog.pg_class'::regclass)
      UNION ALL  -- what writes to these tables from now on has no schema but pg_catalog on its search_path
      SELECT 5, pg_catalog.format('trigger %I on %s calls %s, which names %s without its schema and would no longer '
          'find it: what writes to the table has pg_catalog alone on its search_path.', g.tgname, g.tgrelid::regclass,
          p.oid::regprocedure, pg_catalog.min(n.name)),
        pg_catalog.format('ALTER FUNCTION %s SET search_path = public, pg_temp;', p.oid::regprocedure), true
      FROM pg_catalog.pg_trigger AS g
      JOIN pg_catalog.pg_proc AS p ON p.oid = g.tgfoid
      JOIN pg_catalog.pg_language AS l ON l.oid = p.prolang AND l.lanname = 'plpgsql'
      CROSS JOIN LATERAL (
        SELECT c.relname::text AS name,
               '\m(from|join|into|update|only|table)\s+%s\M|\m%s%(row)?type|\m(next|curr|set)val\s*\(\s*''%s'''
               AS used
        FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS s ON s.oid = c.relnamespace
        WHERE s.nspname !~ '^(pg_|information_schema$|chat_internal$)'
        UNION ALL
        SELECT f.proname::text, '(^|[^\w.])%s\s*\('
        FROM pg_catalog.pg_proc AS f JOIN pg_catalog.pg_namespace AS s ON s.oid = f.pronamespace
        WHERE s.nspname !~ '^(pg_|information_schema$|chat_internal$)' AND NOT EXISTS (
          SELECT FROM pg_catalog.pg_proc AS b
          WHERE b.proname = f.proname AND b.pronamespace = 'pg_catalog'::regnamespace)
      ) AS n
      WHERE NOT g.tgisinternal AND g.tgrelid IN (SELECT oid FROM ours) AND p.oid NOT IN (SELECT oid FROM replaced)
        AND NOT EXISTS (SELECT FROM pg_catalog.unnest(p.proconfig) AS s WHERE s LIKE 'search\_path=%')
        AND pg_catalog.regexp_replace(p.prosrc, '--[^\n]*|/[*].*?[*]/', '', 'g') ~* pg_catalog.replace(
          n.used, '%s', pg_catalog.regexp_replace(n.name, '(\W)', '\\\1', 'g'))
      GROUP BY g.tgname, g.tgrelid, p.oid
    )
    SELECT o.says, o.mends, NULL AS rows, o.unsafe FROM obstacle AS o ORDER BY o.place, o.says
""".replace("{ours}", OURS)


def upgrade() -> None:
    op.sql(
        """
        CREATE FUNCTION chat_internal.close_tables() RETURNS void
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
          t record;
        BEGIN
          FOR t IN
            SELECT c.oid::regclass AS tab, x.privilege_type AS privilege,
                   CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(n.actual) END AS role,
                   CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END AS grantable
            FROM pg_catalog.pg_class AS c CROSS JOIN pg_catalog.aclexplode(c.relacl) AS x
            LEFT JOIN chat_internal.role_names AS n ON n.actual = pg_catalog.pg_get_userbyid(x.grantee)
            WHERE c.relnamespace = 'public'::regnamespace AND c.relname IN {ours}
              AND x.privilege_type IN ('TRIGGER', 'REFERENCES') AND (x.grantee = 0 OR n.actual IS NOT NULL)
            ORDER BY c.oid, 2, 3
          LOOP
            -- whoever is making a trigger there is waited for, and looked at below
            EXECUTE pg_catalog.format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', t.tab);
            PERFORM chat_internal.change('code of clients',
              pg_catalog.format('%s on %s revoked from %s', t.privilege, t.tab, t.role),
              pg_catalog.format('REVOKE %s ON %s FROM %s CASCADE', t.privilege, t.tab, t.role),
              pg_catalog.format('GRANT %s ON %s TO %s%s', t.privilege, t.tab, t.role, t.grantable));
          END LOOP;
        END
        $$
        """.replace("{ours}", OURS)
    )
    op.grant_only("FUNCTION chat_internal.close_tables()")
    op.sql("SELECT chat_internal.close_tables()")
    op.look_again(LOOK)


def downgrade() -> None:
    op.release("code of clients")
    op.sql("DROP FUNCTION chat_internal.close_tables()")
