"""Validate, before anything is changed, that old clients can go on once a database is adopted.

What:   LOOK, a query on the catalog.
Why:    adoption blinds and blocks nobody. What cannot go on as it is, is named before anything is changed, with the
        statement that makes the choice: rights of PUBLIC and anon on tables without row level security, clients that
        are members of a role of the team's own, rights that such a role has handed to clients, roles whose own
        policies say nothing of the rows that this schema adds, views of sums over everybody's rows, a unique index
        that allows each user one conversation, columns of chat_sessions that conversations has as well.
Locks:  AccessShare while it looks.
Undone: nothing; nothing is changed.

Revision ID: 0006
Revises: 0005
"""

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

LOOK = r"""
    WITH client AS MATERIALIZED (
      -- in the place 1 stands anon, in 3 the role of services
      SELECT r.oid, r.rolname, pg_catalog.array_position({roles}, r.rolname::text) AS place
      FROM pg_catalog.pg_roles AS r WHERE r.rolname = ANY ({roles})
    ), tab AS MATERIALIZED (
      SELECT c.* FROM pg_catalog.pg_class AS c
      WHERE c.relnamespace = 'public'::regnamespace AND c.relname IN (
        'users', 'tenants', 'tenant_users', 'tasks', 'chat_messages', 'chat_sessions', 'conversations', 'messages',
        'brands', 'conversation_sessions', 'conversation_messages', 'provider_usage_stats', 'daily_message_volume')
    ), acl AS MATERIALIZED (
      SELECT c.oid, x.grantor, x.grantee, x.privilege_type AS privilege
      FROM tab AS c, pg_catalog.aclexplode(c.relacl) AS x
      UNION ALL
      SELECT c.oid, x.grantor, x.grantee, x.privilege_type
      FROM tab AS c JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND NOT a.attisdropped,
        pg_catalog.aclexplode(a.attacl) AS x
    ), named AS MATERIALIZED (
      SELECT 0::oid AS oid, 'PUBLIC' AS name
      UNION ALL SELECT c.oid, pg_catalog.quote_ident(c.rolname) FROM client AS c
    ), granted AS MATERIALIZED (  -- as chat_internal.granted() says
      SELECT DISTINCT c.oid, g.grantee AS role, g.privilege
      FROM tab AS c CROSS JOIN LATERAL (
        SELECT x.grantee, x.privilege FROM acl AS x WHERE x.oid = c.oid
        UNION ALL
        SELECT r.oid, w.privilege
        FROM (VALUES ('pg_read_all_data', 'SELECT'), ('pg_write_all_data', 'INSERT'),
                     ('pg_write_all_data', 'UPDATE'), ('pg_write_all_data', 'DELETE')) AS w (name, privilege)
        JOIN pg_catalog.pg_roles AS r ON r.rolname = w.name
      ) AS g
      JOIN pg_catalog.pg_roles AS r ON r.oid = g.grantee
      WHERE g.privilege IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE') AND r.rolname <> ALL ({roles}) AND EXISTS (
        SELECT FROM pg_catalog.pg_roles AS m
        WHERE NOT m.rolsuper AND NOT m.rolbypassrls AND m.rolname !~ '^pg_' AND m.rolname <> ALL ({roles})
          AND pg_catalog.pg_has_role(m.oid, g.grantee, 'USAGE')
          AND NOT pg_catalog.pg_has_role(m.oid, c.relowner, 'USAGE'))
    ), obstacle (place, says, mends) AS (
      -- everybody's rights, which nobody but everybody could keep
      SELECT 1, pg_catalog.format('%1$s has no row level security, and %2$s may %3$s; here it may not. Grant it to '
          'each login that relies on it (GRANT %3$s ON %1$s TO ...).', c.oid::regclass, n.name, p.privileges),
        pg_catalog.format('REVOKE %3$s ON %1$s FROM %2$s;', c.oid::regclass, n.name, p.privileges)
      FROM tab AS c JOIN named AS n ON n.oid = 0 OR n.oid IN (SELECT a.oid FROM client AS a WHERE a.place = 1)
      JOIN LATERAL (
        SELECT pg_catalog.string_agg(DISTINCT x.privilege, ', ') AS privileges
        FROM acl AS x
        WHERE x.oid = c.oid AND x.grantee = n.oid AND x.privilege IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
      ) AS p ON p.privileges IS NOT NULL
      WHERE c.relkind = 'r' AND NOT c.relrowsecurity
      UNION ALL  -- what such a role sees at head, its members would
      SELECT 2, pg_catalog.format('%1$s is a member of %2$s, whose rights on %3$s stay as they are, so every client '
          'would have them.', m.oid::regrole, g.role::regrole, pg_catalog.string_agg(DISTINCT g.tab::text, ', ')),
        pg_catalog.format('REVOKE %s FROM %s;', g.role::regrole, m.oid::regrole)
      FROM client AS m JOIN (
        SELECT g.oid::regclass AS tab, g.role FROM granted AS g
        UNION
        SELECT c.oid::regclass, e.role
        FROM tab AS c JOIN pg_catalog.pg_policy AS p ON p.polrelid = c.oid AND c.relrowsecurity,
          pg_catalog.unnest(p.polroles) AS e (role)
      ) AS g ON g.role <> 0 AND g.role NOT IN (SELECT c.oid FROM client AS c)
        AND g.tab::oid IN (SELECT c.oid FROM tab AS c WHERE c.relkind = 'r')
      WHERE m.place < 3 AND pg_catalog.pg_has_role(m.oid, g.role, 'MEMBER')
      GROUP BY m.oid, g.role
      UNION ALL  -- a right that only its grantor can take
      SELECT DISTINCT 3, pg_catalog.format('%1$s has granted %2$s rights on %3$s, which the owner cannot take.',
          x.grantor::regrole, n.name, c.oid::regclass),
        pg_catalog.format('REVOKE GRANT OPTION FOR ALL ON %s FROM %s CASCADE;', c.oid::regclass, x.grantor::regrole)
      FROM tab AS c JOIN acl AS x ON x.oid = c.oid AND x.grantor <> c.relowner JOIN named AS n ON n.oid = x.grantee
      WHERE c.relname NOT IN ('provider_usage_stats', 'daily_message_volume')
      UNION ALL  -- what writes for such a role cannot follow its policies, or reads more than its columns
      SELECT DISTINCT 4, pg_catalog.format('%2$s has rights on %1$s by policies of yours, or by column, and %3$s: no '
          'policy says what it may do there. Let what connects so come as authenticated, with its user''s claims.',
          c.oid::regclass, g.role::regrole, CASE c.relname WHEN 'chat_sessions'
            THEN 'the messages become rows of another table' ELSE 'a message gets a conversation' END),
        pg_catalog.format('REVOKE ALL ON %s FROM %s;', c.oid::regclass, g.role::regrole)
      FROM tab AS c JOIN granted AS g ON g.oid = c.oid
      WHERE c.relrowsecurity
          AND (c.relname = 'chat_sessions' OR c.relname = 'chat_messages' AND g.privilege = 'INSERT')
          AND EXISTS (SELECT FROM pg_catalog.pg_policy AS p CROSS JOIN pg_catalog.unnest(p.polroles) AS e
                      WHERE p.polrelid = c.oid AND (e = 0 OR pg_catalog.pg_has_role(e, g.role, 'USAGE')))
        OR c.relname = 'chat_sessions' AND NOT pg_catalog.has_table_privilege(g.role, c.oid, g.privilege)
      UNION ALL
      SELECT 5, pg_catalog.format('%1$s shows %2$s sums over everybody''s messages; here it shows a caller what it '
          'sees of them. Give %2$s a view of another name.', v.oid::regclass, g.role::regrole),
        pg_catalog.format('REVOKE SELECT ON %s FROM %s;', v.oid::regclass, g.role::regrole)
      FROM tab AS v JOIN granted AS g ON g.oid = v.oid AND g.privilege = 'SELECT'
      JOIN tab AS c ON c.relname = 'conversation_messages'
      WHERE v.relkind = 'v' AND (c.relrowsecurity OR NOT pg_catalog.has_table_privilege(g.role, c.oid, 'SELECT'))
      UNION ALL  -- one conversation for each user, in whichever form
      SELECT 6, pg_catalog.format('%s refuses a user''s second conversation (%s). The statement is for where no client '
          'of yours says ON CONFLICT on it.', i.indexrelid::regclass, pg_catalog.pg_get_indexdef(i.indexrelid)),
        coalesce('ALTER TABLE ' || c.oid::regclass || ' DROP CONSTRAINT ' || pg_catalog.quote_ident(k.conname) || ';',
                 pg_catalog.format('DROP INDEX %s;', i.indexrelid::regclass))
      FROM pg_catalog.pg_index AS i JOIN tab AS c ON c.oid = i.indrelid
      LEFT JOIN pg_catalog.pg_constraint AS k ON k.conindid = i.indexrelid AND k.contype = 'u'
      WHERE c.relname IN ('conversations', 'chat_sessions') AND i.indisunique AND NOT i.indisprimary
        -- where a condition says more, a new row may not meet it
        AND coalesce(pg_catalog.pg_get_expr(i.indpred, i.indrelid), '(user_id IS NOT NULL)')
          ~ '^\(\S+ IS NULL\)$|^\(user_id IS NOT NULL\)$'
        AND i.indexprs IS NULL AND NOT EXISTS (
          SELECT FROM pg_catalog.pg_attribute AS a
          WHERE a.attrelid = i.indrelid AND a.attname NOT IN ('user_id', 'tenant_id')
            AND a.attnum = ANY (i.indkey[0 : i.indnkeyatts - 1]))
      UNION ALL
      SELECT 7, pg_catalog.format('public.chat_sessions has a column %I of its own, and conversations, which it '
          'becomes, has another.', a.attname),
        pg_catalog.format('ALTER TABLE public.chat_sessions RENAME COLUMN %I TO %I;', a.attname,
                          'session_' || a.attname)
      FROM tab AS c JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND NOT a.attisdropped
      WHERE c.relname = 'chat_sessions' AND c.relkind = 'r' AND a.attname IN ('title', 'metadata')
    )
    SELECT o.says, o.mends, NULL AS rows, false AS unsafe FROM obstacle AS o ORDER BY o.place, o.says
"""


def upgrade() -> None:
    """Change nothing: LOOK is asked before the first revision runs."""


def downgrade() -> None:
    """Leave everything as it is."""
