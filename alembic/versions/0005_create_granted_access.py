"""Create what keeps the access of an application's own logins to tables that are adopted.

What:   granted(), which roles of the team's own hold rights on a table; admit(), which lets them at its rows;
        entitle(), which gives them what their old statements need beyond that table; keep_policies().
Why:    a service usually connects under a login that owns nothing and was granted rights. Row level security would
        show it no row. So where a table had none, each role of the team's own that holds a right has a policy of all
        rows for that very command (granted_select and so on). Where a table had row level security, the team's own
        policies decide for such roles as before: they are kept, for these roles alone, and no role gains by it. PUBLIC
        and the three roles of this schema are never admitted. Rights that are granted stay as they are.
Locks:  none here; policies take AccessExclusive on their table, an instant.
Undone: the functions are dropped.

Revision ID: 0005
Revises: 0004
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

FUNCTIONS = (
    "granted(regclass)",
    "for_roles(name[], text)",
    "keep_policy(regclass, name)",
    "admit(text, text, text, oid[])",
    "entitle(text, text, text, text[])",
    "keep_policies(text)",
)


def upgrade() -> None:
    op.sql(
        r"""
        -- A role counts where it, or a member that inherits from it, is bound by row level security. Members of the
        -- two predefined roles read or write every table without being granted it.
        CREATE FUNCTION chat_internal.granted(p_table regclass) RETURNS TABLE (role oid, privilege text)
        LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
          SELECT DISTINCT g.grantee, g.privilege
          FROM pg_catalog.pg_class AS c
          CROSS JOIN LATERAL (
            SELECT x.grantee, x.privilege_type AS privilege FROM pg_catalog.aclexplode(c.relacl) AS x
            UNION ALL
            SELECT x.grantee, x.privilege_type
            FROM pg_catalog.pg_attribute AS a, pg_catalog.aclexplode(a.attacl) AS x
            WHERE a.attrelid = c.oid AND NOT a.attisdropped
            UNION ALL
            SELECT r.oid, w.privilege
            FROM (VALUES ('pg_read_all_data', 'SELECT'), ('pg_write_all_data', 'INSERT'),
                         ('pg_write_all_data', 'UPDATE'), ('pg_write_all_data', 'DELETE')) AS w (name, privilege)
            JOIN pg_catalog.pg_roles AS r ON r.rolname = w.name
          ) AS g
          JOIN pg_catalog.pg_roles AS r ON r.oid = g.grantee
          WHERE c.oid = p_table AND g.privilege IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
            AND r.rolname NOT IN (SELECT n.actual FROM chat_internal.role_names AS n)
            AND EXISTS (
              SELECT FROM pg_catalog.pg_roles AS m
              WHERE NOT m.rolsuper AND NOT m.rolbypassrls AND m.rolname !~ '^pg_'
                AND m.rolname NOT IN (SELECT n.actual FROM chat_internal.role_names AS n)
                AND pg_catalog.pg_has_role(m.oid, g.grantee, 'USAGE')
                AND NOT pg_catalog.pg_has_role(m.oid, c.relowner, 'USAGE'))
        $$;

        -- what undoes a change for roles that may have been dropped since
        CREATE FUNCTION chat_internal.for_roles(p_roles name[], p_statement text) RETURNS void
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
          IF p_roles <@ ARRAY(SELECT r.rolname FROM pg_catalog.pg_roles AS r UNION ALL SELECT 'public') THEN
            EXECUTE p_statement;
          END IF;
        END
        $$;

        -- have settle_surroundings() record it as the team's own; what is returned undoes that
        CREATE FUNCTION chat_internal.keep_policy(p_table regclass, p_policy name) RETURNS text
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
          v_object text := pg_catalog.concat_ws(' ', 'policy', p_table::oid, p_policy);
        BEGIN
          INSERT INTO chat_internal.kept (kind, identity, object)
          VALUES ('policies', pg_catalog.format('%I on %s', p_policy, p_table), v_object) ON CONFLICT DO NOTHING;
          RETURN pg_catalog.format('; DELETE FROM chat_internal.kept AS k WHERE k.object = %L', v_object);
        END
        $$;

        CREATE FUNCTION chat_internal.admit(p_object text, p_table text, p_command text, p_roles oid[]) RETURNS void
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
          v_table regclass := ('public.' || pg_catalog.quote_ident(p_table))::regclass;
          v_policy name := 'granted_' || pg_catalog.lower(p_command);
          v_before oid[] := (SELECT o.polroles FROM pg_catalog.pg_policy AS o
                             WHERE o.polrelid = v_table AND o.polname = v_policy);
          v_new oid[] := ARRAY(SELECT r FROM pg_catalog.unnest(p_roles) AS r
                               WHERE r <> ALL (coalesce(v_before, '{}'))
                               ORDER BY pg_catalog.pg_get_userbyid(r));
        BEGIN
          IF v_new = '{}' THEN
            RETURN;
          ELSIF v_before IS NULL THEN
            PERFORM chat_internal.change(p_object,
              pg_catalog.format('policy %I created for %s', v_policy, chat_internal.role_list(v_new)),
              pg_catalog.format('CREATE POLICY %I ON %s FOR %s TO %s %s', v_policy, v_table, p_command,
                chat_internal.role_list(v_new), CASE p_command WHEN 'INSERT' THEN 'WITH CHECK (true)'
                WHEN 'UPDATE' THEN 'USING (true) WITH CHECK (true)' ELSE 'USING (true)' END),
              pg_catalog.format('DROP POLICY IF EXISTS %I ON %s', v_policy, v_table)
                || chat_internal.keep_policy(v_table, v_policy));
          ELSE
            PERFORM chat_internal.change(p_object,
              pg_catalog.format('policy %I extended to %s', v_policy, chat_internal.role_list(v_new)),
              pg_catalog.format('ALTER POLICY %I ON %s TO %s', v_policy, v_table,
                                chat_internal.role_list(v_before || v_new)),
              pg_catalog.format('SELECT chat_internal.for_roles(%L, %L)',
                ARRAY(SELECT pg_catalog.pg_get_userbyid(r) FROM pg_catalog.unnest(v_before) AS r),
                pg_catalog.format('ALTER POLICY %I ON %s TO %s', v_policy, v_table,
                                  chat_internal.role_list(v_before))));
          END IF;
        END
        $$;

        -- Roles that hold p_command on p_table get p_rights ('UPDATE (a) ON TABLE public.t'), those that they lack. Who
        -- sees all rows of p_table sees those of the others as well, unless row level security has bound it there.
        CREATE FUNCTION chat_internal.entitle(p_object text, p_table text, p_command text, p_rights text[]) RETURNS void
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
          g record;
          v_right text;
          v_part text[];
        BEGIN
          FOR g IN
            SELECT r.role, pg_catalog.pg_get_userbyid(r.role) AS name, NOT c.relrowsecurity OR EXISTS (
                SELECT FROM pg_catalog.pg_policy AS o
                WHERE o.polrelid = c.oid AND r.role = ANY (o.polroles)
                  AND o.polname = 'granted_' || pg_catalog.lower(p_command)) AS sees_all
            FROM pg_catalog.pg_class AS c, chat_internal.granted(c.oid) AS r
            WHERE c.oid = pg_catalog.to_regclass('public.' || p_table) AND r.privilege = p_command ORDER BY 2
          LOOP
            FOREACH v_right IN ARRAY p_rights LOOP
              v_part := pg_catalog.regexp_match(v_right, '^(\w+)(?: \((\w+)\))? ON (\w+) ((?:\w+\.)?(\w+).*)$');
              IF g.sees_all AND v_part[3] = 'TABLE' AND v_part[5] <> 'chat_sessions' AND (  -- that is a view by now
                EXISTS (SELECT FROM chat_internal.adopted AS a
                        WHERE a.what IN ('created', 'row level security enabled') AND a.object IN (
                          v_part[5], CASE v_part[5] WHEN 'conversations' THEN 'chat_sessions' END))
                OR NOT EXISTS (SELECT FROM chat_internal.granted(v_part[4]::regclass) AS h WHERE h.role = g.role)
              ) THEN
                PERFORM chat_internal.admit(p_object, v_part[5], v_part[1], ARRAY[g.role]);
              END IF;
              CONTINUE WHEN CASE v_part[3]
                WHEN 'SCHEMA' THEN pg_catalog.has_schema_privilege(g.role, v_part[4], v_part[1])
                WHEN 'FUNCTION' THEN pg_catalog.has_function_privilege(g.role, v_part[4], v_part[1])
                ELSE CASE WHEN v_part[2] IS NULL THEN pg_catalog.has_table_privilege(g.role, v_part[4], v_part[1])
                  ELSE pg_catalog.has_column_privilege(g.role, v_part[4], v_part[2], v_part[1]) END
              END;
              PERFORM chat_internal.change(p_object, pg_catalog.format('%s granted to %I', v_right, g.name),
                pg_catalog.format('GRANT %s TO %I', v_right, g.name),
                pg_catalog.format('SELECT chat_internal.for_roles(%L, %L)', ARRAY[g.name],
                                  pg_catalog.format('REVOKE %s FROM %I', v_right, g.name)));
            END LOOP;
          END LOOP;
        END
        $$;
        """
    )
    op.sql(
        r"""
        -- Where row level security was on: the table's policies stay for the team's own roles, and for nobody else.
        CREATE FUNCTION chat_internal.keep_policies(p_table text) RETURNS void
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
          v_table regclass := ('public.' || pg_catalog.quote_ident(p_table))::regclass;
          v_aside regclass := ('chat_internal.' || pg_catalog.quote_ident(p_table))::regclass;
          p record;
          v_name name;
        BEGIN
          FOR p IN
            SELECT o.polname AS name, o.polroles AS before, k.roles
            FROM pg_catalog.pg_policy AS o
            CROSS JOIN LATERAL (
              SELECT pg_catalog.array_agg(r.role ORDER BY pg_catalog.pg_get_userbyid(r.role)) AS roles
              FROM (
                SELECT e AS role FROM pg_catalog.unnest(o.polroles) AS e WHERE e <> 0 AND (
                  pg_catalog.has_table_privilege(e, v_table, 'SELECT, INSERT, UPDATE, DELETE')
                  OR pg_catalog.has_any_column_privilege(e, v_table, 'SELECT, INSERT, UPDATE'))
                UNION
                SELECT g.role FROM chat_internal.granted(v_table) AS g WHERE 0 = ANY (o.polroles)
              ) AS r
              WHERE pg_catalog.pg_get_userbyid(r.role) !~ '^pg_'
                AND pg_catalog.pg_get_userbyid(r.role) NOT IN (SELECT n.actual FROM chat_internal.role_names AS n)
            ) AS k
            WHERE o.polrelid = v_table AND k.roles IS NOT NULL
            ORDER BY o.polname
          LOOP
            v_name := p.name;
            IF p.name LIKE 'granted\_%' OR EXISTS (
              SELECT FROM pg_catalog.pg_policy AS n WHERE n.polrelid = v_aside AND n.polname = p.name
            ) THEN
              v_name := 'kept_' || pg_catalog.md5(p.name);
              PERFORM chat_internal.change(p_table, pg_catalog.format('policy %I renamed to %I', p.name, v_name),
                pg_catalog.format('ALTER POLICY %I ON %s RENAME TO %I', p.name, v_table, v_name),
                pg_catalog.format('ALTER POLICY %I ON %s RENAME TO %I', v_name, v_table, p.name));
            END IF;
            PERFORM chat_internal.change(p_table,
              pg_catalog.format('policy %I kept for %s', v_name, chat_internal.role_list(p.roles)),
              pg_catalog.format('ALTER POLICY %I ON %s TO %s', v_name, v_table, chat_internal.role_list(p.roles)),
              pg_catalog.format('SELECT chat_internal.for_roles(%L, %L)',
                ARRAY(SELECT CASE r WHEN 0 THEN 'public' ELSE pg_catalog.pg_get_userbyid(r) END
                      FROM pg_catalog.unnest(p.before) AS r),
                pg_catalog.format('ALTER POLICY %I ON %s TO %s', v_name, v_table, chat_internal.role_list(p.before)))
                || chat_internal.keep_policy(v_table, v_name));
          END LOOP;
        END
        $$;
        """
    )
    for function in FUNCTIONS:
        op.grant_only(f"FUNCTION chat_internal.{function}")


def downgrade() -> None:
    for function in reversed(FUNCTIONS):
        op.sql(f"DROP FUNCTION chat_internal.{function}")
