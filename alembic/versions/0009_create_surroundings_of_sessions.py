"""Create what lists rights and settings around our tables, and notes what the team has before anything is changed.

What:   rights_around(), and surroundings(), which is all that stands around our tables; functions that note it, and
        describe it at the end of the chain by the names that it has then. What stands is noted.
Why:    what the team had before us stays and is no fault, unless it changes. It is described at the end because tables
        are renamed on the way.
Locks:  AccessShare: of what stands it only reads.
Undone: the functions are dropped, and nothing is noted any more.

Revision ID: 0009
Revises: 0008
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

FUNCTIONS = (
    "rights_around()",
    "surroundings()",
    "note_surroundings()",
    "settle_surroundings()",
    "unsettle_surroundings()",
)

# What is listed, and why it weakens our tables:
#   grants              to roles of the database's own: what row level security does not bind, and CREATE where our
#                       names are looked up. TEMPORARY, which PUBLIC has on every PostgreSQL, is listed and no fault
#   default privileges  of the tables' owner, which give clients rights on what it creates later. The chain revokes
#                       them on each object of its own, so those that a platform has from the start harm nothing of ours
#   settings            of our roles, the owner and the database that change what policies and functions do
# `keepable` is what may be recorded as the team's where it stood before the chain. A client's CREATE or a setting that
# turns policies off is not.


def upgrade() -> None:
    op.sql(
        r"""
        CREATE FUNCTION chat_internal.rights_around() RETURNS TABLE (
          kind text, identity text, says text, properties jsonb, object text, weakens boolean, keepable boolean
        )
        LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
          WITH ours AS (
            SELECT * FROM chat_internal.our_relations()
          ), client AS (
            SELECT r.oid, n.logical
            FROM chat_internal.role_names AS n JOIN pg_catalog.pg_roles AS r ON r.rolname = n.actual
          ), named (oid, name, quoted) AS (
            SELECT 0::oid, 'PUBLIC', 'PUBLIC'
            UNION ALL SELECT r.oid, r.rolname, pg_catalog.quote_ident(r.rolname) FROM pg_catalog.pg_roles AS r
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
          SELECT 'grants', pg_catalog.format('%I on %s %s', r.rolname, g.what, g.name),
            'has rights there that row level security does not bind',
            pg_catalog.jsonb_build_object('role', r.rolname, 'target', g.what || ' ' || g.name,
              'privileges', pg_catalog.jsonb_agg(g.privilege ORDER BY g.privilege COLLATE "C")),
            pg_catalog.concat_ws(' ', 'grant', g.what, g.oid, r.oid), true, true
          FROM granted AS g JOIN pg_catalog.pg_roles AS r ON r.oid = g.grantee
          WHERE NOT chat_internal.is_administrator(r.oid) AND r.oid NOT IN (SELECT c.oid FROM client AS c)
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
              'privileges', CASE WHEN r.oid = d.datdba THEN '["OWNER"]'
                ELSE pg_catalog.jsonb_agg(x.privilege_type ORDER BY x.privilege_type COLLATE "C") END),
            'grant database ' || r.oid, r.oid = d.datdba OR pg_catalog.bool_or(x.privilege_type = 'CREATE'),
            r.oid <> 0 AND r.oid NOT IN (SELECT c.oid FROM client AS c)
          FROM pg_catalog.pg_database AS d,
            pg_catalog.aclexplode(coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))) AS x
          JOIN named AS r ON r.oid = x.grantee
          WHERE d.datname = pg_catalog.current_database() AND x.privilege_type IN ('CREATE', 'TEMPORARY')
            AND NOT chat_internal.is_administrator(r.oid)
          GROUP BY r.oid, r.name, r.quoted, d.datdba

          UNION ALL
          SELECT 'grants', pg_catalog.format('%s on schema %I', r.quoted, c.nspname),
            'can create objects that stand in for others there',
            pg_catalog.jsonb_build_object('role', r.name, 'target', 'schema ' || pg_catalog.quote_ident(c.nspname),
              'privileges', pg_catalog.jsonb_agg(c.privilege ORDER BY c.privilege)),
            pg_catalog.concat_ws(' ', 'grant schema', c.oid, r.oid), true,
            r.oid <> 0 AND r.oid NOT IN (SELECT c.oid FROM client AS c)
          FROM creator AS c JOIN named AS r ON r.oid = c.grantee
          WHERE NOT chat_internal.is_administrator(r.oid)
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
          WHERE d.defaclrole = chat_internal.table_owner()
            AND (n.oid IS NULL OR n.nspname IN ('public', 'chat_internal'))
            AND NOT chat_internal.is_administrator(r.oid)
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
                            'session_preload_libraries', 'local_preload_libraries', 'transform_null_equals',
                            'array_nulls', 'standard_conforming_strings', 'check_function_bodies')
                 OR s.name LIKE ANY ('{request.%,chat\\_schema.%,chat\\_internal.%}'))
            AND (s.name, s.value) NOT IN (('search_path', '"$user", public'), ('row_security', 'on'), ('role', 'none'),
              ('session_replication_role', 'origin'), ('transform_null_equals', 'off'), ('array_nulls', 'on'),
              ('standard_conforming_strings', 'on'), ('check_function_bodies', 'on'))
        $$;

        CREATE FUNCTION chat_internal.surroundings() RETURNS TABLE (
          kind text, identity text, says text, properties jsonb, object text, weakens boolean, keepable boolean
        )
        LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
          SELECT * FROM chat_internal.objects_around() UNION ALL SELECT * FROM chat_internal.rights_around()
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
    )
    for function in FUNCTIONS:
        op.grant_only(f"FUNCTION chat_internal.{function}")
    op.sql("DO $$ BEGIN PERFORM chat_internal.note_surroundings(); END $$")


def downgrade() -> None:
    # lint: ignore downgrade-destroys, update-in-one-step -- a note a table; the next upgrade notes them again
    op.sql("DELETE FROM chat_internal.kept")
    for function in reversed(FUNCTIONS):
        op.sql(f"DROP FUNCTION chat_internal.{function}")
