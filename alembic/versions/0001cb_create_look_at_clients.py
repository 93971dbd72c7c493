"""Create the look at what old clients could no longer do once a database is adopted.

What:   chat_internal.client_obstacles(), which 0001d asks with the others.
Why:    adoption blinds and blocks nobody. What cannot go on as it is, is named before anything is changed, with the
        statement that makes the choice: rights of PUBLIC and anon on tables without row level security, clients that
        are members of a role of the team's own, rights that such a role has handed to clients, roles whose own
        policies say nothing of the rows that this schema adds, views of sums over everybody's rows, a unique index
        that allows each user one conversation, columns of chat_sessions that conversations has as well.
Locks:  none.
Undone: the function is dropped.

Revision ID: 0001cb
Revises: 0001ca
"""

from alembic import op

revision = "0001cb"
down_revision = "0001ca"
branch_labels = None
depends_on = None

TABLES = (  # that stand already
    "('users', 'tenants', 'tenant_users', 'tasks', 'chat_messages', 'chat_sessions', 'conversations', 'messages',"
    " 'brands', 'conversation_sessions', 'conversation_messages')"
)


def upgrade() -> None:
    op.sql(
        r"""
        CREATE FUNCTION chat_internal.client_obstacles() RETURNS SETOF text
        LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
          t record;
        BEGIN
          FOR t IN  -- everybody's rights, which nobody but everybody could keep
            SELECT c.oid::regclass AS tab, pg_catalog.string_agg(DISTINCT g.privilege, ', ') AS privileges,
                   CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(n.actual) END AS role
            FROM pg_catalog.pg_class AS c CROSS JOIN LATERAL (
              SELECT x.grantee, x.privilege_type AS privilege FROM pg_catalog.aclexplode(c.relacl) AS x
              UNION ALL
              SELECT x.grantee, x.privilege_type
              FROM pg_catalog.pg_attribute AS a, pg_catalog.aclexplode(a.attacl) AS x
              WHERE a.attrelid = c.oid AND NOT a.attisdropped
            ) AS g
            LEFT JOIN chat_internal.role_names AS n
              ON n.logical = 'anon' AND n.actual = pg_catalog.pg_get_userbyid(g.grantee)
            WHERE c.relnamespace = 'public'::regnamespace AND c.relname IN {tables} AND c.relkind = 'r'
              AND NOT c.relrowsecurity AND (g.grantee = 0 OR n.actual IS NOT NULL)
              AND g.privilege IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
            GROUP BY c.oid, g.grantee, n.actual ORDER BY 1, 3
          LOOP
            RETURN NEXT pg_catalog.format('%1$s has no row level security, and %2$s may %3$s; here it may not. Grant '
              'it to each login that relies on it (GRANT %3$s ON %1$s TO ...). Run: REVOKE %3$s ON %1$s FROM %2$s;',
              t.tab, t.role, t.privileges);
          END LOOP;
          FOR t IN  -- what such a role sees at head, its members would
            SELECT m.oid::regrole AS member, r.oid::regrole AS role,
                   pg_catalog.string_agg(DISTINCT c.oid::regclass::text, ', ') AS tabs
            FROM pg_catalog.pg_class AS c
            CROSS JOIN LATERAL (
              SELECT g.role FROM chat_internal.granted(c.oid) AS g
              UNION
              SELECT e FROM pg_catalog.pg_policy AS p, pg_catalog.unnest(p.polroles) AS e
              WHERE p.polrelid = c.oid AND c.relrowsecurity
            ) AS g
            JOIN pg_catalog.pg_roles AS r ON r.oid = g.role
              AND r.rolname NOT IN (SELECT n.actual FROM chat_internal.role_names AS n)
            JOIN chat_internal.role_names AS n ON n.logical <> 'service_role'
            JOIN pg_catalog.pg_roles AS m ON m.rolname = n.actual AND pg_catalog.pg_has_role(m.oid, r.oid, 'MEMBER')
            WHERE c.relnamespace = 'public'::regnamespace AND c.relname IN {tables} AND c.relkind = 'r'
            GROUP BY m.oid, r.oid ORDER BY 1, 2
          LOOP
            RETURN NEXT pg_catalog.format('%1$s is a member of %2$s, whose rights on %3$s stay as they are, so every '
              'client would have them. Run: REVOKE %2$s FROM %1$s;', t.member, t.role, t.tabs);
          END LOOP;
          FOR t IN  -- a right that only its grantor can take
            SELECT c.oid::regclass AS tab, pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(x.grantor)) AS grantor,
                   CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(n.actual) END AS role
            FROM pg_catalog.pg_class AS c CROSS JOIN LATERAL (
              SELECT x.grantor, x.grantee FROM pg_catalog.aclexplode(c.relacl) AS x
              UNION
              SELECT x.grantor, x.grantee FROM pg_catalog.pg_attribute AS a, pg_catalog.aclexplode(a.attacl) AS x
              WHERE a.attrelid = c.oid AND NOT a.attisdropped
            ) AS x
            LEFT JOIN chat_internal.role_names AS n ON n.actual = pg_catalog.pg_get_userbyid(x.grantee)
            WHERE c.relnamespace = 'public'::regnamespace AND c.relname IN {tables}
              AND x.grantor <> c.relowner AND (x.grantee = 0 OR n.actual IS NOT NULL)
            ORDER BY 1, 2, 3
          LOOP
            RETURN NEXT pg_catalog.format('%1$s has granted %2$s rights on %3$s, which the owner cannot take. Run: '
              'REVOKE GRANT OPTION FOR ALL ON %3$s FROM %1$s CASCADE;', t.grantor, t.role, t.tab);
          END LOOP;
          FOR t IN  -- what writes for such a role cannot follow its policies, or reads more than its columns
            SELECT c.oid::regclass AS tab, g.role::regrole AS role, c.relname = 'chat_sessions' AS sessions
            FROM pg_catalog.pg_class AS c, chat_internal.granted(c.oid) AS g
            WHERE c.relnamespace = 'public'::regnamespace AND (
              c.relrowsecurity
                AND (c.relname = 'chat_sessions' OR c.relname = 'chat_messages' AND g.privilege = 'INSERT')
                AND EXISTS (SELECT FROM pg_catalog.pg_policy AS p
                            CROSS JOIN pg_catalog.unnest(p.polroles) AS e
                            WHERE p.polrelid = c.oid AND (e = 0 OR pg_catalog.pg_has_role(e, g.role, 'USAGE')))
              OR c.relname = 'chat_sessions' AND NOT pg_catalog.has_table_privilege(g.role, c.oid, g.privilege))
            GROUP BY 1, 2, 3 ORDER BY 1, 2
          LOOP
            RETURN NEXT pg_catalog.format('%2$s has rights on %1$s by policies of yours, or by column, and %3$s: no '
              'policy says what it may do there. Let what connects so come as authenticated, with its user''s claims. '
              'Run: REVOKE ALL ON %1$s FROM %2$s;', t.tab, t.role, CASE WHEN t.sessions
                THEN 'the messages become rows of another table' ELSE 'a message gets a conversation' END);
          END LOOP;
          FOR t IN
            SELECT v.oid::regclass AS view, g.role::regrole AS role
            FROM pg_catalog.pg_class AS v, chat_internal.granted(v.oid) AS g, pg_catalog.pg_class AS c
            WHERE v.relnamespace = 'public'::regnamespace AND v.relkind = 'v' AND g.privilege = 'SELECT'
              AND v.relname IN ('provider_usage_stats', 'daily_message_volume')
              AND c.oid = pg_catalog.to_regclass('public.conversation_messages')
              AND (c.relrowsecurity OR NOT pg_catalog.has_table_privilege(g.role, c.oid, 'SELECT'))
            ORDER BY 1, 2
          LOOP
            RETURN NEXT pg_catalog.format('%1$s shows %2$s sums over everybody''s messages; here it shows a caller '
              'what it sees of them. Give %2$s a view of another name, then run: REVOKE SELECT ON %1$s FROM %2$s;',
              t.view, t.role);
          END LOOP;
          FOR t IN  -- one conversation for each user, in whichever form
            SELECT i.indexrelid::regclass AS name, i.indrelid::regclass AS tab, pg_catalog.pg_get_indexdef(i.indexrelid)
              AS text, pg_catalog.pg_get_expr(i.indpred, i.indrelid) AS condition, k.conname
            FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.indrelid
            LEFT JOIN pg_catalog.pg_constraint AS k ON k.conindid = i.indexrelid AND k.contype = 'u'
            WHERE c.relnamespace = 'public'::regnamespace AND c.relname IN ('conversations', 'chat_sessions')
              AND i.indisunique AND NOT i.indisprimary AND i.indexprs IS NULL AND NOT EXISTS (
                SELECT FROM pg_catalog.pg_attribute AS a
                WHERE a.attrelid = i.indrelid AND a.attname NOT IN ('user_id', 'tenant_id')
                  AND a.attnum = ANY (i.indkey[0 : i.indnkeyatts - 1]))
            ORDER BY 1
          LOOP
            -- where a condition says more, a new row may not meet it
            IF t.condition IS NULL OR t.condition ~ '^\(\S+ IS NULL\)$|^\(user_id IS NOT NULL\)$' THEN
              RETURN NEXT pg_catalog.format('%s refuses a user''s second conversation (%s). If no client of yours '
                'says ON CONFLICT on it, run: %s;', t.name, t.text, CASE WHEN t.conname IS NULL
                  THEN pg_catalog.format('DROP INDEX CONCURRENTLY %s', t.name)
                  ELSE pg_catalog.format('ALTER TABLE %s DROP CONSTRAINT %I', t.tab, t.conname) END);
            END IF;
          END LOOP;
          FOR t IN
            SELECT a.attname AS name FROM pg_catalog.pg_attribute AS a
            WHERE a.attrelid = pg_catalog.to_regclass('public.chat_sessions') AND a.attname IN ('title', 'metadata')
              AND NOT a.attisdropped ORDER BY 1
          LOOP
            RETURN NEXT pg_catalog.format('public.chat_sessions has a column %1$I of its own, and conversations, which '
              'it becomes, has another. Run: ALTER TABLE public.chat_sessions RENAME COLUMN %1$I TO session_%1$s;',
              t.name);
          END LOOP;
        END
        $$;
        """.replace("{tables}", TABLES)
    )
    op.grant_only("FUNCTION chat_internal.client_obstacles()")


def downgrade() -> None:
    op.sql("DROP FUNCTION chat_internal.client_obstacles()")
