"""Create what adopts a table that stands already: the journal of what is changed, and what puts it back.

What:   in chat_internal the tables adopted (each change with the statements that undo it), adopted_values (values
        that were changed, before and after) and kept (what stands on and over our tables and is the team's own);
        functions that describe an object as the statements which make it again, change() and release();
        surroundings(), which lists what others have made that weakens our tables, with what records it as theirs.
Why:    a database can hold any of our tables in an older shape. It is changed in place, and a downgrade gives it
        back as it was: that takes a journal, written in the transaction of the change. A table that the chain made
        is in it too, with DROP TABLE as what undoes it, so that a downgrade need not know which of the two it was.
        What the team had before us stays, so `chat-schema verify` must tell it from what came later: it is noted
        before anything is changed, and described at the end of the chain, under the names that it has then.
Locks:  none on existing tables.
Undone: everything is dropped; by then every adopted table has been released.

Revision ID: 0001a
Revises: 0001
"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from alembic import op

revision = "0001a"
down_revision = "0001"
branch_labels = None
depends_on = None

# What is listed, and why it weakens our tables:
#   constraints, rules, triggers  on our tables: not validated or disabled; instead of our statements; calling a function
#                       of another role, which can change it at any time, or one that sets no search_path
#   readers             views that read our tables as their owner, materialized views: policies do not bind who reads them
#   definers            functions that run as a role that sees every row, and that others may call
#   grants              to roles of the database's own: what row level security does not bind, and CREATE where our
#                       names are looked up. TEMPORARY, which PUBLIC has on every PostgreSQL, is listed and no fault
#   default privileges  of the tables' owner, which give clients rights on what it creates later. The chain revokes them
#                       on each object of its own, so those that a platform has had from the start harm nothing of ours
#   settings            of our roles, the owner and the database that change what policies and functions do
#   publications        send rows without asking policies; Supabase's, of conversations and messages, is documented
#   inheritance         rows read through a parent meet the parent's policies; a child's rows stand in our tables
#   foreign keys        of tables of other roles: they learn which keys exist and can block a deletion
# `object` is what an object is called where only tables are renamed: a change of a column's type makes its constraints
# anew, with other oids. `keepable` is what may be recorded as the team's where it stood before the chain. A client's CREATE or a setting that
# turns policies off is not.
SURROUNDINGS = r"""
    CREATE FUNCTION chat_internal.table_owner() RETURNS oid
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
      SELECT c.relowner FROM pg_catalog.pg_class AS c
      WHERE c.relnamespace = 'chat_internal'::regnamespace AND c.relkind = 'r'
      GROUP BY c.relowner ORDER BY pg_catalog.count(*) DESC, c.relowner LIMIT 1
    $$;

    -- administrators: superusers and the owners of the tables and of the database
    CREATE FUNCTION chat_internal.is_trusted(p_role oid) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
      SELECT p_role = chat_internal.table_owner()
        OR EXISTS (SELECT FROM pg_catalog.pg_roles AS r
                   WHERE r.oid = p_role AND (r.rolsuper OR r.rolname = 'pg_database_owner'))
        OR EXISTS (SELECT FROM pg_catalog.pg_database AS d
                   WHERE d.datname = pg_catalog.current_database() AND d.datdba = p_role)
    $$;

    -- whether what runs as this role sees rows of every user
    CREATE FUNCTION chat_internal.sees_all(p_role oid) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
      SELECT chat_internal.is_trusted(p_role)
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
        FROM pg_catalog.unnest(p_acl) AS e CROSS JOIN LATERAL pg_catalog.aclexplode(ARRAY[e]) AS x LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = x.grantee
        WHERE x.privilege_type = ANY (p_privileges)
          AND CASE
            WHEN x.grantee = 0 THEN EXISTS (
                SELECT FROM pg_catalog.pg_namespace AS n, pg_catalog.aclexplode(n.nspacl) AS s
                WHERE n.oid = p_schema AND s.grantee = 0 AND s.privilege_type = 'USAGE')
              OR EXISTS (
                SELECT FROM chat_internal.role_names AS n JOIN pg_catalog.pg_roles AS c ON c.rolname = n.actual
                WHERE n.logical <> 'service_role' AND pg_catalog.has_schema_privilege(c.oid, p_schema, 'USAGE'))
            ELSE pg_catalog.has_schema_privilege(x.grantee, p_schema, 'USAGE')
              AND NOT chat_internal.is_trusted(x.grantee)
              AND NOT EXISTS (SELECT FROM chat_internal.role_names AS n
                              WHERE n.logical = 'service_role' AND n.actual = r.rolname)
          END
        ORDER BY 1)
    $$;

    -- the settings are those that deparsed texts depend on: what is recorded today has to read the same later
    CREATE FUNCTION chat_internal.surroundings() RETURNS TABLE (
      kind text, identity text, says text, properties jsonb, object text, weakens boolean, keepable boolean
    )
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
      SET quote_all_identifiers = off SET TimeZone = 'UTC' SET DateStyle = 'ISO, MDY' SET IntervalStyle = 'postgres'
      SET extra_float_digits = 1 SET bytea_output = 'hex' AS $$
      WITH RECURSIVE ours AS (
        SELECT c.oid, c.relkind, c.relacl, pg_catalog.format('%I.%I', n.nspname, c.relname) AS name
        FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'v') AND (n.nspname = 'chat_internal' OR n.nspname = 'public' AND c.relname IN (
          'users', 'tenants', 'tenant_users', 'tasks', 'chat_messages', 'chat_sessions', 'conversations', 'messages',
          'brands', 'conversation_sessions', 'conversation_messages', 'provider_usage_stats', 'daily_message_volume'))
      ), client AS (
        SELECT r.oid, n.logical FROM chat_internal.role_names AS n JOIN pg_catalog.pg_roles AS r ON r.rolname = n.actual
      ), named (oid, name, quoted) AS (
        SELECT 0::oid, 'PUBLIC', 'PUBLIC'
        UNION ALL SELECT r.oid, r.rolname, pg_catalog.quote_ident(r.rolname) FROM pg_catalog.pg_roles AS r
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
      ), granted AS (
        SELECT 'table' AS what, o.oid, o.name, x.grantee, x.privilege_type AS plain, x.privilege_type AS privilege
        FROM ours AS o, pg_catalog.aclexplode(o.relacl) AS x
        UNION ALL
        SELECT 'table', o.oid, o.name, x.grantee, x.privilege_type,
               pg_catalog.format('%s (%I)', x.privilege_type, a.attname)
        FROM ours AS o JOIN pg_catalog.pg_attribute AS a ON a.attrelid = o.oid AND NOT a.attisdropped,
          pg_catalog.aclexplode(a.attacl) AS x
        UNION ALL
        SELECT 'sequence', s.oid, s.oid::regclass::text, x.grantee, x.privilege_type, x.privilege_type
        FROM ours AS o JOIN pg_catalog.pg_depend AS d ON d.refobjid = o.oid AND d.deptype IN ('a', 'i')
          AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.classid = 'pg_catalog.pg_class'::regclass
        JOIN pg_catalog.pg_class AS s ON s.oid = d.objid AND s.relkind = 'S', pg_catalog.aclexplode(s.relacl) AS x
        UNION ALL
        SELECT 'function', p.oid, pg_catalog.format('%I.%I(%s)', 'chat_internal', p.proname,
                 pg_catalog.oidvectortypes(p.proargtypes)), x.grantee, x.privilege_type, x.privilege_type
        FROM pg_catalog.pg_proc AS p, pg_catalog.aclexplode(p.proacl) AS x
        WHERE p.pronamespace = 'chat_internal'::regnamespace AND p.prosecdef
      ), setting AS (
        SELECT s.setrole, s.setdatabase, pg_catalog.split_part(c, '=', 1) AS name,
               pg_catalog.substr(c, pg_catalog.strpos(c, '=') + 1) AS value, r.rolname,
               CASE WHEN s.setrole = 0 THEN '' ELSE pg_catalog.format(' of role %I', r.rolname) END
                 || CASE WHEN s.setdatabase <> 0 THEN ' in this database' WHEN s.setrole = 0 THEN ' of all roles'
                    ELSE '' END AS place
        FROM pg_catalog.pg_db_role_setting AS s LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = s.setrole
        CROSS JOIN pg_catalog.unnest(s.setconfig) AS c
        WHERE (s.setdatabase = 0 OR s.setdatabase = (
            SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database()))
          AND (s.setrole IN (0, chat_internal.table_owner()) OR s.setrole IN (SELECT c.oid FROM client AS c))
      ), creator AS (  -- in a schema where names are looked up
        SELECT n.oid, n.nspname, x.grantee, 'CREATE' AS privilege
        FROM pg_catalog.pg_namespace AS n, pg_catalog.aclexplode(n.nspacl) AS x
        WHERE x.privilege_type = 'CREATE' AND x.grantee <> n.nspowner
          AND (n.nspname IN ('public', 'chat_internal') AND x.grantee <> 0
                 AND x.grantee NOT IN (SELECT c.oid FROM client AS c)  -- those are compared with the catalog
               OR n.nspname NOT IN ('public', 'chat_internal') AND EXISTS (
                 SELECT FROM setting AS s WHERE s.name = 'search_path'
                   AND n.nspname = ANY (pg_catalog.string_to_array(pg_catalog.replace(s.value, '"', ''), ', '))))
        UNION ALL
        SELECT n.oid, n.nspname, n.nspowner, 'OWNER' FROM pg_catalog.pg_namespace AS n WHERE n.nspname = 'public'
      )
      SELECT 'constraints', pg_catalog.format('%I on %s', k.conname, o.name), 'rows may break it',
        pg_catalog.jsonb_build_object(
          'definition', pg_catalog.regexp_replace(pg_catalog.pg_get_constraintdef(k.oid), ' NOT VALID$', '')),
        pg_catalog.concat_ws(' ', 'constraint', k.conrelid, k.conname), true, true
      FROM ours AS o JOIN pg_catalog.pg_constraint AS k ON k.conrelid = o.oid
      WHERE k.contype IN ('c', 'f', 'p', 'u', 'x') AND (NOT k.convalidated
        OR EXISTS (SELECT FROM pg_catalog.pg_trigger AS g WHERE g.tgconstraint = k.oid AND g.tgenabled <> 'O'))

      UNION ALL
      SELECT DISTINCT 'rules', pg_catalog.format('%I on %I.%I', r.rulename, n.nspname, c.relname),
        'other statements run in place of those on ' || o.name || ', or beside others on it',
        pg_catalog.jsonb_build_object('definition', pg_catalog.pg_get_ruledef(r.oid), 'enabled', r.ev_enabled <> 'D'),
        pg_catalog.concat_ws(' ', 'rule', r.ev_class, r.rulename), true, true
      FROM ours AS o JOIN pg_catalog.pg_depend AS d ON d.refobjid = o.oid
        AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.classid = 'pg_catalog.pg_rewrite'::regclass
      JOIN pg_catalog.pg_rewrite AS r ON r.oid = d.objid AND r.rulename <> '_RETURN'
      JOIN pg_catalog.pg_class AS c ON c.oid = r.ev_class JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace

      UNION ALL
      SELECT 'triggers', pg_catalog.format('%I on %s', g.tgname, o.name),
        pg_catalog.format('calls %I.%I(), which %s', f.nspname, p.proname, CASE
          WHEN chat_internal.is_trusted(p.proowner) THEN 'sets no search_path'
          ELSE pg_catalog.format('belongs to %I', pg_catalog.pg_get_userbyid(p.proowner)) END),
        pg_catalog.jsonb_build_object('definition', pg_catalog.pg_get_triggerdef(g.oid),
          'enabled', CASE g.tgenabled WHEN 'O' THEN 'yes' WHEN 'D' THEN 'no' WHEN 'R' THEN 'replica' ELSE 'always' END,
          'function', pg_catalog.format('%I.%I()', f.nspname, p.proname),
          'function_owner', pg_catalog.pg_get_userbyid(p.proowner),
          'function_trusted', chat_internal.is_trusted(p.proowner),
          'settings', pg_catalog.to_jsonb(coalesce(p.proconfig, '{}')), 'body', p.prosrc),
        pg_catalog.concat_ws(' ', 'trigger', g.tgrelid, g.tgname), true, true
      FROM ours AS o JOIN pg_catalog.pg_trigger AS g ON g.tgrelid = o.oid AND NOT g.tgisinternal
      JOIN pg_catalog.pg_proc AS p ON p.oid = g.tgfoid JOIN pg_catalog.pg_namespace AS f ON f.oid = p.pronamespace
      JOIN pg_catalog.pg_language AS l ON l.oid = p.prolang
      WHERE NOT chat_internal.is_trusted(p.proowner) OR l.lanname NOT IN ('internal', 'c')
        AND NOT EXISTS (SELECT FROM pg_catalog.unnest(p.proconfig) AS s WHERE s LIKE 'search\_path=%')

      UNION ALL
      SELECT 'readers', pg_catalog.format('%I.%I', n.nspname, c.relname),
        pg_catalog.format('shows rows of %s to %s, whatever their policies say', v.reads, pg_catalog.array_to_string(
          w.reach, ', ')),
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
      SELECT 'grants', pg_catalog.format('%I on %s %s', r.rolname, g.what, g.name),
        'has rights there that row level security does not bind',
        pg_catalog.jsonb_build_object('role', r.rolname, 'target', g.what || ' ' || g.name,
          'privileges', pg_catalog.jsonb_agg(g.privilege ORDER BY g.privilege COLLATE "C")),
        pg_catalog.concat_ws(' ', 'grant', g.what, g.oid, r.oid), true, true
      FROM granted AS g JOIN pg_catalog.pg_roles AS r ON r.oid = g.grantee
      WHERE NOT chat_internal.is_trusted(r.oid) AND r.oid NOT IN (SELECT c.oid FROM client AS c)
        AND (r.rolbypassrls OR g.what = 'function' OR g.plain IN ('TRUNCATE', 'TRIGGER', 'REFERENCES')
             OR g.what = 'sequence' AND g.plain = 'UPDATE')
      GROUP BY g.what, g.oid, g.name, r.oid, r.rolname

      UNION ALL
      SELECT 'grants', r.quoted || ' on the database',
        CASE WHEN pg_catalog.bool_or(x.privilege_type = 'CREATE')
          THEN 'can create schemas, and objects that stand in for others'
          ELSE 'can create temporary objects, as on every PostgreSQL' END,
        pg_catalog.jsonb_build_object('role', r.name,
          'target', 'database ' || pg_catalog.quote_ident(pg_catalog.current_database()),
          'privileges', pg_catalog.jsonb_agg(x.privilege_type ORDER BY x.privilege_type COLLATE "C")),
        'grant database ' || r.oid, pg_catalog.bool_or(x.privilege_type = 'CREATE'),
        r.oid <> 0 AND r.oid NOT IN (SELECT c.oid FROM client AS c)
      FROM pg_catalog.pg_database AS d,
        pg_catalog.aclexplode(coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))) AS x
      JOIN named AS r ON r.oid = x.grantee
      WHERE d.datname = pg_catalog.current_database() AND x.privilege_type IN ('CREATE', 'TEMPORARY')
        AND NOT chat_internal.is_trusted(r.oid)
      GROUP BY r.oid, r.name, r.quoted

      UNION ALL
      SELECT 'grants', pg_catalog.format('%s on schema %I', r.quoted, c.nspname),
        'can create objects that stand in for others there',
        pg_catalog.jsonb_build_object('role', r.name, 'target', 'schema ' || pg_catalog.quote_ident(c.nspname),
          'privileges', pg_catalog.jsonb_agg(c.privilege ORDER BY c.privilege)),
        pg_catalog.concat_ws(' ', 'grant schema', c.oid, r.oid), true,
        r.oid <> 0 AND r.oid NOT IN (SELECT c.oid FROM client AS c)
      FROM creator AS c JOIN named AS r ON r.oid = c.grantee
      WHERE NOT chat_internal.is_trusted(r.oid)
      GROUP BY c.oid, c.nspname, r.oid, r.name, r.quoted

      UNION ALL
      SELECT 'default privileges', pg_catalog.format('%s of %I%s to %s', t.name,
          pg_catalog.pg_get_userbyid(d.defaclrole), ' in schema ' || pg_catalog.quote_ident(n.nspname),
          r.quoted),
        'has rights on what the owner creates later',
        pg_catalog.jsonb_build_object('role', r.name, 'owner', pg_catalog.pg_get_userbyid(d.defaclrole),
          'schema', n.nspname, 'objects', t.name,
          'privileges', pg_catalog.jsonb_agg(x.privilege_type ORDER BY x.privilege_type COLLATE "C")),
        pg_catalog.concat_ws(' ', 'default', d.oid, r.oid),
        r.oid = 0 OR r.oid IN (SELECT c.oid FROM client AS c)
          OR pg_catalog.bool_or(x.privilege_type IN ('TRUNCATE', 'TRIGGER', 'REFERENCES', 'CREATE')), true
      FROM pg_catalog.pg_default_acl AS d
      LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = d.defaclnamespace
      JOIN (VALUES ('r', 'tables'), ('S', 'sequences'), ('f', 'functions'), ('T', 'types'), ('n', 'schemas'))
        AS t (type, name) ON t.type = d.defaclobjtype::text
      CROSS JOIN LATERAL pg_catalog.aclexplode(d.defaclacl) AS x
      JOIN named AS r ON r.oid = x.grantee
      WHERE d.defaclrole = chat_internal.table_owner() AND (n.oid IS NULL OR n.nspname IN ('public', 'chat_internal'))
        AND NOT chat_internal.is_trusted(r.oid)
        AND NOT EXISTS (SELECT FROM client AS c WHERE c.oid = r.oid AND c.logical = 'service_role')
        AND NOT (n.oid IS NULL AND r.oid = 0 AND t.type IN ('f', 'T'))  -- as PostgreSQL has it
      GROUP BY d.oid, d.defaclrole, t.name, n.nspname, r.oid, r.name, r.quoted

      UNION ALL
      SELECT 'settings', s.name || s.place,
        CASE s.name
          WHEN 'search_path' THEN 'names without a schema are looked up elsewhere'
          WHEN 'row_security' THEN 'statements that policies bind fail'
          WHEN 'session_replication_role' THEN 'triggers and keys are not enforced'
          ELSE 'a session begins as somebody, or with code, that nobody asked for'
        END,
        pg_catalog.jsonb_build_object('name', s.name, 'role', s.rolname, 'in_database', s.setdatabase <> 0,
          'database', pg_catalog.current_database(), 'value', CASE
            WHEN s.name IN ('role', 'search_path', 'row_security', 'session_replication_role') THEN s.value END),
        pg_catalog.concat_ws(' ', 'setting', s.setrole, s.setdatabase, s.name), true,
        s.name = 'search_path' AND s.setrole NOT IN (SELECT c.oid FROM client AS c)
      FROM setting AS s
      WHERE (s.name IN ('role', 'session_authorization', 'search_path', 'row_security', 'session_replication_role',
                        'session_preload_libraries', 'local_preload_libraries', 'transform_null_equals', 'array_nulls',
                        'standard_conforming_strings', 'check_function_bodies')
             OR s.name LIKE ANY ('{request.%,chat\\_schema.%,chat\\_internal.%}'))
        AND (s.name, s.value) NOT IN (('search_path', '"$user", public'), ('row_security', 'on'), ('role', 'none'),
          ('session_replication_role', 'origin'), ('transform_null_equals', 'off'), ('array_nulls', 'on'),
          ('standard_conforming_strings', 'on'), ('check_function_bodies', 'on'))

      UNION ALL
      SELECT 'publications', pg_catalog.format('%I of %s', p.pubname, m.what),
        'sends its rows to every subscriber, whatever policies say',
        pg_catalog.jsonb_build_object('publication', p.pubname, 'what', m.what,
          'owner', pg_catalog.pg_get_userbyid(p.pubowner)),
        pg_catalog.concat_ws(' ', 'publication', p.oid, m.oid),
        NOT (p.pubname = 'supabase_realtime' AND m.what IN ('TABLE public.conversations', 'TABLE public.messages')), true
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
      FROM pg_catalog.pg_inherits AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid AND c.relkind IN ('r','p','f')
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
      JOIN pg_catalog.pg_class AS c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
      WHERE NOT chat_internal.is_trusted(c.relowner)
    $$;

    CREATE FUNCTION chat_internal.note_surroundings() RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
      INSERT INTO chat_internal.kept (kind, identity, object)
      SELECT s.kind, s.identity, s.object FROM chat_internal.surroundings() AS s WHERE s.weakens AND s.keepable
      ON CONFLICT DO NOTHING
    $$;

    -- describe what was noted and still stands, by the name that it has now
    CREATE FUNCTION chat_internal.settle_surroundings() RETURNS SETOF text
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
    DECLARE
      v_noted jsonb := (SELECT pg_catalog.jsonb_agg(k) FROM chat_internal.kept AS k WHERE k.properties IS NULL);
    BEGIN
      DELETE FROM chat_internal.kept AS k WHERE k.properties IS NULL;
      RETURN QUERY
      WITH settled AS (
        INSERT INTO chat_internal.kept AS k (kind, identity, properties, object)
        SELECT s.kind, s.identity, s.properties, s.object FROM chat_internal.surroundings() AS s
        WHERE s.weakens AND EXISTS (
          SELECT FROM pg_catalog.jsonb_to_recordset(v_noted) AS n (kind text, identity text, object text)
          WHERE n.kind = s.kind AND (n.object = s.object OR n.identity = s.identity))
        ON CONFLICT DO NOTHING
        RETURNING k.kind, k.identity
      )
      SELECT pg_catalog.format('%s %s: %s', s.kind, s.identity, s.says)
      FROM settled AS t JOIN chat_internal.surroundings() AS s USING (kind, identity)
      ORDER BY s.kind, s.identity;
    END
    $$;

    -- before a downgrade gives them other names; what was changed since stays described as it was
    CREATE FUNCTION chat_internal.unsettle_surroundings() RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
      UPDATE chat_internal.kept AS k SET properties = NULL, object = s.object
      FROM chat_internal.surroundings() AS s
      WHERE s.kind = k.kind AND s.identity = k.identity AND s.properties = k.properties
    $$;
"""


def upgrade() -> None:
    op.create_table(
        "adopted",
        sa.Column("ordinal", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("object", sa.Text(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("undo", sa.Text(), nullable=False),
        sa.Column("lost", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("ordinal", name="adopted_pkey"),
        schema="chat_internal",
    )
    op.create_table(
        "adopted_values",
        sa.Column("object", sa.Text(), nullable=False),
        sa.Column("key", JSONB(), nullable=False),
        sa.Column("before", JSONB(), nullable=False),
        sa.Column("after", JSONB(), nullable=False),
        sa.PrimaryKeyConstraint("object", "key", name="adopted_values_pkey"),
        schema="chat_internal",
    )
    op.create_table(
        "kept",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("properties", JSONB(), nullable=True),
        sa.Column("object", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("kind", "identity", name="kept_pkey"),
        schema="chat_internal",
    )
    for table in ("adopted", "adopted_values", "kept"):
        op.enable_row_level_security(f"chat_internal.{table}")
        op.grant_only(f"chat_internal.{table}")
    op.grant_only("SEQUENCE chat_internal.adopted_ordinal_seq")

    op.sql(
        r"""
        -- p_undo runs when the object is released; p_lost is a condition on rows that the older shape cannot hold
        CREATE FUNCTION chat_internal.change(
          p_object text, p_what text, p_do text, p_undo text, p_lost text DEFAULT NULL
        ) RETURNS void
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
          INSERT INTO chat_internal.adopted (object, what, undo, lost)
          SELECT p_object, p_what, p_undo, p_lost
          WHERE NOT EXISTS (  -- a rerun after a kill plans again what it has not come to
            SELECT FROM chat_internal.adopted AS a WHERE a.object = p_object AND a.undo = p_undo
          );
          RAISE NOTICE '%: %', p_object, p_what;
          EXECUTE p_do;
        END
        $$;

        CREATE FUNCTION chat_internal.is_adopted(p_object text) RETURNS boolean
        LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
          SELECT EXISTS (SELECT FROM chat_internal.adopted AS a WHERE a.object = p_object AND a.what = 'adopted')
        $$;

        CREATE FUNCTION chat_internal.adoption_losses(p_object text, p_rows text) RETURNS bigint
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
          v_condition text;
          v_lost bigint := 0;
        BEGIN
          IF pg_catalog.to_regclass('public.' || p_object) IS NULL THEN
            RETURN 0;  -- the chain went another way
          END IF;
          SELECT CASE WHEN pg_catalog.bool_or(a.what = 'created') THEN p_rows
                      ELSE pg_catalog.string_agg('(' || a.lost || ')', ' OR ') END
          INTO v_condition FROM chat_internal.adopted AS a WHERE a.object = p_object;
          IF v_condition IS NOT NULL THEN
            EXECUTE pg_catalog.format('SELECT count(*) FROM public.%I WHERE %s', p_object, v_condition) INTO v_lost;
          END IF;
          RETURN v_lost;
        END
        $$;

        -- the columns of a table's primary key as a JSON object, of the row called p_row
        CREATE FUNCTION chat_internal.row_key(p_table regclass, p_row text) RETURNS text
        LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
          SELECT 'pg_catalog.jsonb_build_object('
            || pg_catalog.string_agg(pg_catalog.format('%L, %s.%I', a.attname, p_row, a.attname), ', '
                                     ORDER BY a.attnum) || ')'
          FROM pg_catalog.pg_index AS i
          JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
          WHERE i.indrelid = p_table AND i.indisprimary
        $$;

        CREATE FUNCTION chat_internal.restore_values(p_object text) RETURNS void
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
          v_table regclass := ('public.' || pg_catalog.split_part(p_object, '.', 1))::regclass;
          v_column text;
          v_was_null boolean;
        BEGIN
          PERFORM pg_catalog.set_config('chat_internal.adopting', 'yes', true);
          FOR v_column, v_was_null IN
            SELECT e.key, pg_catalog.bool_or(e.value = 'null')
            FROM chat_internal.adopted_values AS v, pg_catalog.jsonb_each(v.before) AS e
            WHERE v.object = p_object GROUP BY e.key
          LOOP
            IF v_was_null THEN
              EXECUTE pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL', v_table, v_column);
            END IF;
            -- a value that was changed since stays
            EXECUTE pg_catalog.format(
              'UPDATE %1$s AS t SET %2$I = (pg_catalog.jsonb_populate_record(NULL::%1$s, v.before)).%2$I'
              ' FROM chat_internal.adopted_values AS v'
              ' WHERE v.object = %3$L AND v.before ? %2$L AND v.key = %4$s'
              ' AND t.%2$I IS NOT DISTINCT FROM (pg_catalog.jsonb_populate_record(NULL::%1$s, v.after)).%2$I',
              v_table, v_column, p_object, chat_internal.row_key(v_table, 't'));
          END LOOP;
          DELETE FROM chat_internal.adopted_values AS v WHERE v.object = p_object;
          PERFORM pg_catalog.set_config('chat_internal.adopting', '', true);
        END
        $$;

        -- bodies of older functions name tables without their schema, so they are taken as they are
        CREATE FUNCTION chat_internal.release(p_object text) RETURNS void
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET check_function_bodies = off AS $$
        DECLARE
          v_undo text;
        BEGIN
          FOR v_undo IN
            SELECT a.undo FROM chat_internal.adopted AS a WHERE a.object = p_object ORDER BY a.ordinal DESC
          LOOP
            EXECUTE v_undo;
          END LOOP;
          DELETE FROM chat_internal.adopted AS a WHERE a.object = p_object;
        END
        $$;

        -- the statements that give an object the rights it has: p_kind TABLE, ROUTINE or SEQUENCE
        CREATE FUNCTION chat_internal.grants_of(
          p_kind text, p_name text, p_owner oid, p_acl aclitem[], p_relation oid DEFAULT NULL
        ) RETURNS text
        LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
          WITH entry AS (
            SELECT x.grantee, x.privilege_type AS privilege, x.is_grantable
            FROM pg_catalog.aclexplode(coalesce(p_acl, pg_catalog.acldefault(
              CASE p_kind WHEN 'ROUTINE' THEN 'f' WHEN 'SEQUENCE' THEN 's' ELSE 'r' END::"char", p_owner))) AS x
            UNION ALL
            SELECT x.grantee, pg_catalog.format('%s (%I)', x.privilege_type, c.attname), x.is_grantable
            FROM pg_catalog.pg_attribute AS c, pg_catalog.aclexplode(c.attacl) AS x
            WHERE c.attrelid = p_relation AND NOT c.attisdropped
          ), named AS (
            SELECT CASE e.grantee WHEN 0 THEN 'PUBLIC'
                   ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(e.grantee)) END AS role,
                   e.privilege, e.is_grantable
            FROM entry AS e WHERE e.grantee <> p_owner
          )
          SELECT pg_catalog.format('REVOKE ALL ON %s %s FROM PUBLIC, %s;', p_kind, p_name, (
            SELECT pg_catalog.string_agg(pg_catalog.quote_ident(r.actual), ', ') FROM chat_internal.role_names AS r
          )) || coalesce((
            SELECT pg_catalog.string_agg(pg_catalog.format('GRANT %s ON %s %s TO %s%s;', n.privilege, p_kind, p_name,
              n.role, CASE WHEN n.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END), ' ') FROM named AS n
          ), '')
        $$;

        CREATE FUNCTION chat_internal.policy_text(p_policy oid, p_table regclass) RETURNS text
        LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
          SELECT pg_catalog.format('CREATE POLICY %I ON %s AS %s FOR %s TO %s', p.polname, p_table,
              CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
              CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE'
                WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
              (SELECT pg_catalog.string_agg(CASE r.oid WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(
                pg_catalog.pg_get_userbyid(r.oid)) END, ', ') FROM pg_catalog.unnest(p.polroles) AS r (oid)))
            || coalesce(' USING (' || pg_catalog.pg_get_expr(p.polqual, p.polrelid) || ')', '')
            || coalesce(' WITH CHECK (' || pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid) || ')', '')
          FROM pg_catalog.pg_policy AS p WHERE p.oid = p_policy
        $$;

        CREATE FUNCTION chat_internal.view_text(p_view regclass) RETURNS text
        LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
          SELECT pg_catalog.format('CREATE OR REPLACE VIEW %s%s AS %s', p_view,
              coalesce(' WITH (' || pg_catalog.array_to_string(c.reloptions, ', ') || ')', ''),
              pg_catalog.pg_get_viewdef(p_view))
            || CASE WHEN pg_catalog.pg_get_userbyid(c.relowner) = current_user THEN ''
               ELSE pg_catalog.format('ALTER VIEW %s OWNER TO %I;', p_view, pg_catalog.pg_get_userbyid(c.relowner)) END
            || coalesce(pg_catalog.format('COMMENT ON VIEW %s IS %L;', p_view,
                 pg_catalog.obj_description(p_view, 'pg_class')), '')
            || coalesce((SELECT pg_catalog.string_agg(pg_catalog.pg_get_triggerdef(g.oid) || ';', '')
                 FROM pg_catalog.pg_trigger AS g WHERE g.tgrelid = p_view AND NOT g.tgisinternal), '')
            || chat_internal.grants_of('TABLE', p_view::text, c.relowner, c.relacl, c.oid)
          FROM pg_catalog.pg_class AS c WHERE c.oid = p_view
        $$;

        -- drop the views that read a table, or one column of it, and return the statements that make them again
        CREATE FUNCTION chat_internal.drop_readers(p_table regclass, p_column text, p_why text) RETURNS text[]
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
          v_view record;
          v_again text[] := '{}';
        BEGIN
          FOR v_view IN
            WITH RECURSIVE reader AS (
              SELECT r.ev_class AS oid, 1 AS depth
              FROM pg_catalog.pg_depend AS d JOIN pg_catalog.pg_rewrite AS r ON r.oid = d.objid
              LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = p_table AND a.attname = p_column
              WHERE d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.refobjid = p_table
                AND (p_column IS NULL OR d.refobjsubid = a.attnum) AND r.ev_class <> p_table
              UNION
              SELECT r.ev_class, v.depth + 1
              FROM reader AS v JOIN pg_catalog.pg_depend AS d ON d.refobjid = v.oid
              JOIN pg_catalog.pg_rewrite AS r ON r.oid = d.objid
              WHERE d.classid = 'pg_catalog.pg_rewrite'::regclass AND r.ev_class <> v.oid
            )
            SELECT v.oid::regclass AS name, c.relkind, pg_catalog.max(v.depth) AS depth
            FROM reader AS v JOIN pg_catalog.pg_class AS c ON c.oid = v.oid
            GROUP BY v.oid, c.relkind ORDER BY depth DESC
          LOOP
            IF v_view.relkind <> 'v' THEN
              RAISE EXCEPTION 'The materialized view % reads %, which %. Nothing of this revision was applied. Drop '
                'the materialized view, run the command again, then create it again.', v_view.name,
                pg_catalog.concat_ws('.', p_table, p_column), p_why;
            END IF;
            v_again := chat_internal.view_text(v_view.name) || v_again;
            EXECUTE pg_catalog.format('DROP VIEW %s', v_view.name);
          END LOOP;
          RETURN v_again;
        END
        $$;

        CREATE FUNCTION chat_internal.set_column_type(p_table regclass, p_column text, p_type text) RETURNS void
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
          v_again text[] := chat_internal.drop_readers(p_table, p_column, 'becomes ' || p_type);
        BEGIN
          EXECUTE pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I TYPE %s', p_table, p_column, p_type);
          FOR i IN 1 .. pg_catalog.cardinality(v_again) LOOP
            EXECUTE v_again[i];
          END LOOP;
        END
        $$;
        """
    )
    op.sql(SURROUNDINGS)
    for function in FUNCTIONS:
        op.grant_only(f"FUNCTION chat_internal.{function}")


FUNCTIONS = (
    "change(text, text, text, text, text)",
    "is_adopted(text)",
    "adoption_losses(text, text)",
    "row_key(regclass, text)",
    "restore_values(text)",
    "release(text)",
    "grants_of(text, text, oid, aclitem[], oid)",
    "policy_text(oid, regclass)",
    "view_text(regclass)",
    "drop_readers(regclass, text, text)",
    "set_column_type(regclass, text, text)",
    "table_owner()",
    "is_trusted(oid)",
    "sees_all(oid)",
    "reached_by(aclitem[], oid, text[])",
    "surroundings()",
    "note_surroundings()",
    "settle_surroundings()",
    "unsettle_surroundings()",
)


def downgrade() -> None:
    for function in reversed(FUNCTIONS):
        op.sql(f"DROP FUNCTION chat_internal.{function}")
    op.drop_table("kept", schema="chat_internal")
    op.drop_table("adopted_values", schema="chat_internal")
    op.drop_table("adopted", schema="chat_internal")
