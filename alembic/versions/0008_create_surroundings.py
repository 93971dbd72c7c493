"""Create what lists the objects that others have made on and over our tables, where they weaken them.

What:   objects_around() and what it asks of roles and grants, in chat_internal.
Why:    a view or a function of somebody else can show what policies hide. What the team had before us stays, so
        `chat-schema verify` must tell it from what came later; adoption and verify ask the same function.
Locks:  none.
Undone: the functions are dropped.

Revision ID: 0008
Revises: 0007
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

FUNCTIONS = (
    "our_relations()",
    "table_owner()",
    "is_administrator(oid)",
    "sees_all(oid)",
    "reached_by(aclitem[], oid, text[])",
    "objects_around()",
)

# What is listed, and why it weakens our tables:
#   constraints    are not validated or not enforced
#   policies       let others at rows; those that adoption kept for the team's own roles, or made for them, are noted
#   rules          run other statements instead of ours
#   triggers       call a function of another role, which can change it at any time, or one that sets no search_path
#   readers        views that read our tables as their owner, materialized views: policies do not bind who reads them
#   definers       functions that run as a role that sees every row, and that others may call
#   publications   send rows without asking policies; Supabase's, of conversations and messages, is documented
#   inheritance    rows that are read through a parent meet the parent's policies; a child's rows stand in our tables
#   foreign keys   of tables of other roles: these learn which keys exist and can block a deletion
# `object` is what an object is called where only tables are renamed: a change of a column's type makes its constraints
# anew, with other oids.


def upgrade() -> None:
    op.sql(
        r"""
        CREATE FUNCTION chat_internal.our_relations()
        RETURNS TABLE (oid oid, relkind "char", relacl aclitem[], name text)
        LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
          SELECT c.oid, c.relkind, c.relacl, pg_catalog.format('%I.%I', n.nspname, c.relname) AS name
          FROM pg_catalog.pg_class AS c
          JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
          WHERE c.relkind IN ('r', 'p', 'v') AND (n.nspname = 'chat_internal' OR n.nspname = 'public' AND c.relname IN (
            'users', 'tenants', 'tenant_users', 'tasks', 'chat_messages', 'chat_sessions', 'conversations', 'messages',
            'brands', 'conversation_sessions', 'conversation_messages', 'provider_usage_stats', 'daily_message_volume'))
        $$;

        CREATE FUNCTION chat_internal.table_owner() RETURNS oid
        LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
          SELECT c.relowner FROM pg_catalog.pg_class AS c
          WHERE c.relnamespace = 'chat_internal'::regnamespace AND c.relkind = 'r'
          GROUP BY c.relowner ORDER BY pg_catalog.count(*) DESC, c.relowner LIMIT 1
        $$;

        -- administrators: superusers and the owners of the tables and of the database
        CREATE FUNCTION chat_internal.is_administrator(p_role oid) RETURNS boolean
        LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
          SELECT p_role = chat_internal.table_owner()
            OR EXISTS (SELECT FROM pg_catalog.pg_roles AS r
                       WHERE r.oid = p_role AND (r.rolsuper OR r.rolname = 'pg_database_owner'))
            OR EXISTS (SELECT FROM pg_catalog.pg_database AS d
                       WHERE d.datname = pg_catalog.current_database() AND d.datdba = p_role)
               AND NOT EXISTS (SELECT FROM chat_internal.role_names AS n
                               WHERE n.actual = pg_catalog.pg_get_userbyid(p_role))
        $$;

        -- whether what runs as this role sees rows of every user
        CREATE FUNCTION chat_internal.sees_all(p_role oid) RETURNS boolean
        LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
          SELECT chat_internal.is_administrator(p_role)
            OR pg_catalog.pg_has_role(p_role, chat_internal.table_owner(), 'USAGE')
            OR EXISTS (SELECT FROM pg_catalog.pg_roles AS r WHERE r.oid = p_role AND r.rolbypassrls)
            OR EXISTS (SELECT FROM chat_internal.role_names AS n JOIN pg_catalog.pg_roles AS s ON s.rolname = n.actual
                       WHERE n.logical = 'service_role' AND pg_catalog.pg_has_role(p_role, s.oid, 'USAGE'))
        $$;

        -- those, beside administrators and service_role, who have one of the privileges and may look into the schema
        CREATE FUNCTION chat_internal.reached_by(p_acl aclitem[], p_schema oid, p_privileges text[]) RETURNS text[]
        LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
          SELECT ARRAY(
            SELECT DISTINCT (CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE r.rolname END)::text COLLATE "C"
            FROM pg_catalog.unnest(p_acl) AS e CROSS JOIN LATERAL pg_catalog.aclexplode(ARRAY[e]) AS x
            LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = x.grantee
            WHERE x.privilege_type = ANY (p_privileges)
              AND CASE
                WHEN x.grantee = 0 THEN EXISTS (
                    SELECT FROM pg_catalog.pg_namespace AS n, pg_catalog.aclexplode(n.nspacl) AS s
                    WHERE n.oid = p_schema AND s.grantee = 0 AND s.privilege_type = 'USAGE')
                  OR EXISTS (
                    SELECT FROM chat_internal.role_names AS n JOIN pg_catalog.pg_roles AS c ON c.rolname = n.actual
                    WHERE n.logical <> 'service_role' AND pg_catalog.has_schema_privilege(c.oid, p_schema, 'USAGE'))
                ELSE pg_catalog.has_schema_privilege(x.grantee, p_schema, 'USAGE')
                  AND NOT chat_internal.is_administrator(x.grantee)
                  AND NOT EXISTS (SELECT FROM chat_internal.role_names AS n
                                  WHERE n.logical = 'service_role' AND n.actual = r.rolname)
              END
            ORDER BY 1)
        $$;

        -- the settings are those that deparsed texts depend on: what is recorded today has to read the same later
        CREATE FUNCTION chat_internal.objects_around() RETURNS TABLE (
          kind text, identity text, says text, properties jsonb, object text, weakens boolean, keepable boolean
        )
        LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
          SET quote_all_identifiers = off SET TimeZone = 'UTC' SET DateStyle = 'ISO, MDY' SET IntervalStyle = 'postgres'
          SET extra_float_digits = 1 SET bytea_output = 'hex' AS $$
          WITH RECURSIVE ours AS (
            SELECT * FROM chat_internal.our_relations()
          ), reader (oid, reads, as_owner) AS (  -- through a view of the caller's rights nobody gets further
            SELECT r.ev_class, o.name, true
            FROM ours AS o JOIN pg_catalog.pg_depend AS d ON d.refobjid = o.oid
              AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.classid = 'pg_catalog.pg_rewrite'::regclass
            JOIN pg_catalog.pg_rewrite AS r ON r.oid = d.objid AND r.rulename = '_RETURN'
            WHERE o.relkind <> 'v'
            UNION
            SELECT r.ev_class, v.reads, c.relkind = 'm' OR v.as_owner AND NOT EXISTS (
              SELECT FROM pg_catalog.pg_options_to_table(c.reloptions) AS p
              WHERE p.option_name = 'security_invoker' AND p.option_value::boolean)
            FROM reader AS v JOIN pg_catalog.pg_class AS c ON c.oid = v.oid
            JOIN pg_catalog.pg_depend AS d ON d.refobjid = v.oid
              AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.classid = 'pg_catalog.pg_rewrite'::regclass
            JOIN pg_catalog.pg_rewrite AS r ON r.oid = d.objid AND r.rulename = '_RETURN'
            WHERE r.ev_class <> v.oid
          )
          SELECT 'constraints', pg_catalog.format('%I on %s', k.conname, o.name), 'rows may break it',
            pg_catalog.jsonb_build_object(
              'definition', pg_catalog.regexp_replace(pg_catalog.pg_get_constraintdef(k.oid), ' NOT VALID$', '')),
            pg_catalog.concat_ws(' ', 'constraint', k.conrelid, k.conname), true, true
          FROM ours AS o JOIN pg_catalog.pg_constraint AS k ON k.conrelid = o.oid
          WHERE k.contype IN ('c', 'f', 'p', 'u', 'x') AND (NOT k.convalidated
            OR EXISTS (SELECT FROM pg_catalog.pg_trigger AS g WHERE g.tgconstraint = k.oid AND g.tgenabled <> 'O'))

          UNION ALL
          SELECT 'policies', pg_catalog.format('%I on %s', p.polname, o.name),
            'decides for ' || w.names || ', as before',
            pg_catalog.jsonb_build_object('command', CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT'
                WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
              'permissive', p.polpermissive, 'roles', w.roles, 'using', pg_catalog.pg_get_expr(p.polqual, p.polrelid),
              'check', pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)),
            pg_catalog.concat_ws(' ', 'policy', o.oid, p.polname), true, false
          FROM ours AS o JOIN pg_catalog.pg_policy AS p ON p.polrelid = o.oid
          CROSS JOIN LATERAL (
            SELECT pg_catalog.jsonb_agg(n.name ORDER BY n.name COLLATE "C") AS roles,
                   pg_catalog.string_agg(n.name, ', ' ORDER BY n.name COLLATE "C") AS names
            FROM (SELECT CASE r WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.pg_get_userbyid(r) END::text AS name
                  FROM pg_catalog.unnest(p.polroles) AS r) AS n
          ) AS w

          UNION ALL
          SELECT DISTINCT 'rules', pg_catalog.format('%I on %I.%I', r.rulename, n.nspname, c.relname),
            'other statements run in place of those on ' || o.name || ', or beside others on it',
            pg_catalog.jsonb_build_object('definition', pg_catalog.pg_get_ruledef(r.oid),
              'enabled', r.ev_enabled <> 'D'),
            pg_catalog.concat_ws(' ', 'rule', r.ev_class, r.rulename), true, true
          FROM ours AS o JOIN pg_catalog.pg_depend AS d ON d.refobjid = o.oid
            AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.classid = 'pg_catalog.pg_rewrite'::regclass
          JOIN pg_catalog.pg_rewrite AS r ON r.oid = d.objid AND r.rulename <> '_RETURN'
          JOIN pg_catalog.pg_class AS c ON c.oid = r.ev_class
          JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace

          UNION ALL
          SELECT 'triggers', pg_catalog.format('%I on %s', g.tgname, o.name),
            pg_catalog.format('calls %I.%I(), which %s', f.nspname, p.proname, CASE
              WHEN chat_internal.is_administrator(p.proowner) THEN 'sets no search_path'
              ELSE pg_catalog.format('belongs to %I', pg_catalog.pg_get_userbyid(p.proowner)) END),
            pg_catalog.jsonb_build_object('definition', pg_catalog.pg_get_triggerdef(g.oid),
              'enabled', CASE g.tgenabled WHEN 'O' THEN 'yes' WHEN 'D' THEN 'no' WHEN 'R' THEN 'replica'
                ELSE 'always' END,
              'function', pg_catalog.format('%I.%I()', f.nspname, p.proname),
              'function_owner', pg_catalog.pg_get_userbyid(p.proowner),
              'function_trusted', chat_internal.is_administrator(p.proowner),
              'settings', pg_catalog.to_jsonb(coalesce(p.proconfig, '{}')), 'body', p.prosrc),
            pg_catalog.concat_ws(' ', 'trigger', g.tgrelid, g.tgname), true, true
          FROM ours AS o JOIN pg_catalog.pg_trigger AS g ON g.tgrelid = o.oid AND NOT g.tgisinternal
          JOIN pg_catalog.pg_proc AS p ON p.oid = g.tgfoid JOIN pg_catalog.pg_namespace AS f ON f.oid = p.pronamespace
          JOIN pg_catalog.pg_language AS l ON l.oid = p.prolang
          WHERE NOT chat_internal.is_administrator(p.proowner) OR l.lanname NOT IN ('internal', 'c')
            AND NOT EXISTS (SELECT FROM pg_catalog.unnest(p.proconfig) AS s WHERE s LIKE 'search\_path=%')

          UNION ALL
          SELECT 'readers', pg_catalog.format('%I.%I', n.nspname, c.relname),
            pg_catalog.format('shows rows of %s to %s, whatever their policies say', v.reads,
              pg_catalog.array_to_string(w.reach, ', ')),
            pg_catalog.jsonb_build_object('type', CASE c.relkind WHEN 'm' THEN 'materialized view' ELSE 'view' END,
              'definition', pg_catalog.pg_get_viewdef(c.oid), 'owner', pg_catalog.pg_get_userbyid(c.relowner),
              'reach', w.reach),
            'relation ' || c.oid, true, true
          FROM (SELECT r.oid, pg_catalog.string_agg(DISTINCT r.reads, ', ' ORDER BY r.reads) AS reads
                FROM reader AS r JOIN pg_catalog.pg_class AS c ON c.oid = r.oid
                WHERE c.relkind = 'm' OR r.as_owner GROUP BY r.oid) AS v
          JOIN pg_catalog.pg_class AS c ON c.oid = v.oid AND (c.relkind = 'm' OR NOT EXISTS (
              SELECT FROM pg_catalog.pg_options_to_table(c.reloptions) AS p
              WHERE p.option_name = 'security_invoker' AND p.option_value::boolean))
          JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname !~ '^pg_'
          CROSS JOIN LATERAL (SELECT chat_internal.reached_by(
            coalesce(c.relacl, '{}') || ARRAY(
              SELECT x FROM pg_catalog.pg_attribute AS a, pg_catalog.unnest(a.attacl) AS x WHERE a.attrelid = c.oid),
            n.oid, '{SELECT,INSERT,UPDATE,DELETE}') AS reach) AS w
          WHERE pg_catalog.cardinality(w.reach) > 0 AND chat_internal.sees_all(c.relowner)

          UNION ALL
          SELECT 'definers', pg_catalog.format('%I.%I(%s)', n.nspname, p.proname,
                   pg_catalog.oidvectortypes(p.proargtypes)),
            pg_catalog.format('runs as %I, who sees every row, for %s%s', pg_catalog.pg_get_userbyid(p.proowner),
              pg_catalog.array_to_string(w.reach, ', '), CASE WHEN EXISTS (
                SELECT FROM pg_catalog.unnest(p.proconfig) AS s WHERE s LIKE 'search\_path=%') THEN ''
              ELSE ', and sets no search_path' END),
            pg_catalog.jsonb_build_object('trigger', p.prorettype = 'trigger'::regtype,
              'owner', pg_catalog.pg_get_userbyid(p.proowner), 'reach', w.reach,
              'settings', pg_catalog.to_jsonb(coalesce(p.proconfig, '{}')), 'body', p.prosrc,
              'definition', pg_catalog.pg_get_function_sqlbody(p.oid)),
            'function ' || p.oid, true, true
          FROM pg_catalog.pg_proc AS p
          JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
            AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
          CROSS JOIN LATERAL (SELECT chat_internal.reached_by(
            coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner)), n.oid, '{EXECUTE}') AS reach) AS w
          WHERE p.prosecdef AND p.prorettype <> 'event_trigger'::regtype AND pg_catalog.cardinality(w.reach) > 0
            AND chat_internal.sees_all(p.proowner)
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS e WHERE e.classid = 'pg_catalog.pg_proc'::regclass
                            AND e.objid = p.oid AND e.deptype = 'e')

          UNION ALL
          SELECT 'publications', pg_catalog.format('%I of %s', p.pubname, m.what),
            'sends its rows to every subscriber, whatever policies say',
            pg_catalog.jsonb_build_object('publication', p.pubname, 'what', m.what,
              'owner', pg_catalog.pg_get_userbyid(p.pubowner)),
            pg_catalog.concat_ws(' ', 'publication', p.oid, m.oid),
            NOT (p.pubname = 'supabase_realtime'
              AND m.what IN ('TABLE public.conversations', 'TABLE public.messages')), true
          FROM pg_catalog.pg_publication AS p
          JOIN (
            SELECT r.prpubid AS pub, r.prrelid AS oid, 'TABLE ' || o.name AS what
            FROM pg_catalog.pg_publication_rel AS r JOIN ours AS o ON o.oid = r.prrelid
            UNION ALL
            SELECT s.pnpubid, n.oid, pg_catalog.format('TABLES IN SCHEMA %I', n.nspname)
            FROM pg_catalog.pg_publication_namespace AS s JOIN pg_catalog.pg_namespace AS n ON n.oid = s.pnnspid
            WHERE n.nspname IN ('public', 'chat_internal')
            UNION ALL
            SELECT a.oid, 0::oid, 'ALL TABLES' FROM pg_catalog.pg_publication AS a WHERE a.puballtables
          ) AS m ON m.pub = p.oid

          UNION ALL
          SELECT 'inheritance', pg_catalog.format('%s of %s', i.inhrelid::regclass, i.inhparent::regclass),
            'rows of the one are read through the other, under the other''s policies',
            pg_catalog.jsonb_build_object('child', i.inhrelid::regclass::text, 'parent', i.inhparent::regclass::text,
              'partition', c.relispartition,
              'owner', pg_catalog.pg_get_userbyid(CASE WHEN c.relispartition THEN p.relowner ELSE c.relowner END)),
            pg_catalog.concat_ws(' ', 'inheritance', i.inhrelid, i.inhparent), true, true
          FROM pg_catalog.pg_inherits AS i
          JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid AND c.relkind IN ('r', 'p', 'f')
          JOIN pg_catalog.pg_class AS p ON p.oid = i.inhparent
          WHERE i.inhrelid IN (SELECT o.oid FROM ours AS o) OR i.inhparent IN (SELECT o.oid FROM ours AS o)

          UNION ALL
          SELECT 'foreign keys', pg_catalog.format('%I on %I.%I', k.conname, n.nspname, c.relname),
            pg_catalog.format('belongs to %I, who learns which keys of %s exist and can block a deletion',
              pg_catalog.pg_get_userbyid(c.relowner), o.name),
            pg_catalog.jsonb_build_object('definition', pg_catalog.pg_get_constraintdef(k.oid),
              'owner', pg_catalog.pg_get_userbyid(c.relowner)),
            pg_catalog.concat_ws(' ', 'constraint', k.conrelid, k.conname), true, true
          FROM ours AS o JOIN pg_catalog.pg_constraint AS k ON k.confrelid = o.oid AND k.contype = 'f'
          JOIN pg_catalog.pg_class AS c ON c.oid = k.conrelid
          JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
          WHERE NOT chat_internal.is_administrator(c.relowner)
        $$;
        """
    )
    for function in FUNCTIONS:
        op.grant_only(f"FUNCTION chat_internal.{function}")


def downgrade() -> None:
    for function in reversed(FUNCTIONS):
        op.sql(f"DROP FUNCTION chat_internal.{function}")
