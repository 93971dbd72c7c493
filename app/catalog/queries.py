"""One query for each kind of catalog object: rows of (identity text, properties jsonb).

Each takes `:schemas` (text[]), reads pg_catalog alone and is run under `search_path = pg_catalog, pg_temp`, so that
deparsed texts qualify every name of ours. Roles come back by name and grants as
[[grantee, privilege, grantable, grantor], ...]; `snapshot` turns both into what reads alike on every platform. Part
of a table is identified as `name on table`. Storage settings that change no meaning (fillfactor, statistics,
tablespace, autovacuum, costs) are left out.
"""


def _acl(entries: str) -> str:
    return f"""(SELECT coalesce(jsonb_agg(jsonb_build_array(
        CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee) END,
        a.privilege_type, a.is_grantable, pg_get_userbyid(a.grantor)
    )), '[]') FROM ({entries}) a)"""


def _grants(acl: str, objtype: str, owner: str) -> str:
    """A NULL acl means the default one, which PostgreSQL writes out as soon as anything is granted."""
    return _acl(f"SELECT * FROM aclexplode(coalesce({acl}, acldefault('{objtype}', {owner})))")


def _not_from_an_extension(catalog: str, oid: str) -> str:
    return f"""NOT EXISTS (SELECT FROM pg_depend e
        WHERE e.classid = '{catalog}'::regclass AND e.objid = {oid} AND e.deptype = 'e')"""


_RELATION_GRANTS = _acl("""
    SELECT d.grantor, d.grantee, d.privilege_type, d.is_grantable
    FROM aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) d
    UNION ALL
    SELECT x.grantor, x.grantee, format('%s (%I)', x.privilege_type, g.attname), x.is_grantable
    FROM pg_attribute g, aclexplode(g.attacl) x WHERE g.attrelid = c.oid AND NOT g.attisdropped""")


def _without_storage(definition: str) -> str:
    """Leave out fillfactor and the like, which change no meaning."""
    return f"""regexp_replace({definition}, ' WITH \\((\\w+=(''[^'']*''|\\w+)(, )?)+\\)', '')"""


_FROM_RELATIONS = f"""
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = ANY(:schemas)
        AND {_not_from_an_extension("pg_class", "c.oid")}"""

SCHEMAS = f"""
    SELECT quote_ident(n.nspname), jsonb_build_object(
        'owner', pg_get_userbyid(n.nspowner), 'grants', {_grants("n.nspacl", "n", "n.nspowner")})
    FROM pg_namespace n WHERE n.nspname = ANY(:schemas)"""

TABLES = f"""
    SELECT format('%I.%I', n.nspname, c.relname), jsonb_build_object(
        'type', CASE c.relkind WHEN 'r' THEN 'ordinary' WHEN 'p' THEN 'partitioned' ELSE 'foreign' END,
        'persistence', CASE c.relpersistence WHEN 'p' THEN 'permanent' ELSE 'unlogged' END,
        'row_security', c.relrowsecurity,
        'row_security_forced', c.relforcerowsecurity,
        'replica_identity', CASE c.relreplident WHEN 'd' THEN 'default' WHEN 'n' THEN 'nothing' WHEN 'f' THEN 'full'
            ELSE 'index' END,
        'owner', pg_get_userbyid(c.relowner),
        'grants', {_RELATION_GRANTS})
    {_FROM_RELATIONS} WHERE c.relkind IN ('r', 'p', 'f')"""

# PostgreSQL 18 can hold NOT NULL as NOT VALID: attnotnull is true, and old rows may be NULL all the same.
COLUMNS = f"""
    SELECT format('%I on %I.%I', a.attname, n.nspname, c.relname), jsonb_build_object(
        'type', format_type(a.atttypid, a.atttypmod),
        'collation', CASE WHEN a.attcollation <> t.typcollation THEN a.attcollation::regcollation::text END,
        'not_null', CASE WHEN EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'n'
                AND k.conkey = ARRAY[a.attnum] AND NOT k.convalidated) THEN to_jsonb('not valid'::text)
            ELSE to_jsonb(a.attnotnull) END,
        'default', pg_get_expr(d.adbin, d.adrelid),
        'identity', CASE a.attidentity WHEN 'a' THEN 'always' WHEN 'd' THEN 'by default' END,
        'generated', CASE a.attgenerated WHEN 's' THEN 'stored' WHEN 'v' THEN 'virtual' END)
    {_FROM_RELATIONS}
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
    WHERE c.relkind IN ('r', 'p', 'f')"""

# NOT NULL is a constraint since PostgreSQL 18; here it is a property of the column on every version. ALTER TABLE ...
# DISABLE (or ENABLE REPLICA) TRIGGER ALL also stops the internal triggers that enforce a key, on either of its tables.
CONSTRAINTS = f"""
    SELECT format('%I on %I.%I', k.conname, n.nspname, c.relname), jsonb_build_object(
        'type', CASE k.contype WHEN 'c' THEN 'check' WHEN 'f' THEN 'foreign key' WHEN 'p' THEN 'primary key'
            WHEN 'u' THEN 'unique' ELSE 'exclusion' END,
        'definition', regexp_replace({_without_storage("pg_get_constraintdef(k.oid)")}, ' NOT VALID$', ''),
        'validated', k.convalidated,
        'disabled_triggers', to_jsonb(ARRAY(SELECT format('%I on %s', g.tgname, g.tgrelid::regclass)
            FROM pg_trigger g WHERE g.tgconstraint = k.oid AND g.tgenabled <> 'O' ORDER BY 1)))
    {_FROM_RELATIONS} JOIN pg_constraint k ON k.conrelid = c.oid AND k.contype IN ('c', 'f', 'p', 'u', 'x')"""

# The index of a primary key, unique or exclusion constraint is reported as the constraint it serves.
INDEXES = f"""
    SELECT format('%I on %I.%I', ic.relname, n.nspname, c.relname), jsonb_build_object(
        'definition', {_without_storage("pg_get_indexdef(i.indexrelid)")},
        'unique', i.indisunique,
        'valid', i.indisvalid AND i.indisready AND i.indislive)
    {_FROM_RELATIONS}
    JOIN pg_index i ON i.indrelid = c.oid JOIN pg_class ic ON ic.oid = i.indexrelid
    WHERE NOT EXISTS (SELECT FROM pg_constraint k
        WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x'))"""

# Those on tables of other schemas too that call a function of ours: on auth.users, where a platform has it.
TRIGGERS = f"""
    SELECT format('%I on %I.%I', g.tgname, n.nspname, c.relname), jsonb_build_object(
        'definition', pg_get_triggerdef(g.oid),
        'enabled', CASE g.tgenabled WHEN 'O' THEN 'yes' WHEN 'D' THEN 'no' WHEN 'R' THEN 'replica'
            ELSE 'always' END)
    FROM pg_trigger g
    JOIN pg_class c ON c.oid = g.tgrelid AND {_not_from_an_extension("pg_class", "c.oid")}
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_proc p ON p.oid = g.tgfoid
    JOIN pg_namespace f ON f.oid = p.pronamespace
    WHERE NOT g.tgisinternal AND (n.nspname = ANY(:schemas) OR f.nspname = ANY(:schemas))"""

FUNCTIONS = f"""
    SELECT format('%I.%I(%s)', n.nspname, p.proname, oidvectortypes(p.proargtypes)), jsonb_build_object(
        'type', CASE p.prokind WHEN 'f' THEN 'function' WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate'
            ELSE 'window' END,
        'arguments', pg_get_function_arguments(p.oid),
        'result', pg_get_function_result(p.oid),
        'language', (SELECT l.lanname FROM pg_language l WHERE l.oid = p.prolang),
        'volatility', CASE p.provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' ELSE 'volatile' END,
        'parallel', CASE p.proparallel WHEN 's' THEN 'safe' WHEN 'r' THEN 'restricted' ELSE 'unsafe' END,
        'strict', p.proisstrict,
        'leakproof', p.proleakproof,
        'security_definer', p.prosecdef,
        'settings', to_jsonb(coalesce(p.proconfig, '{{}}')),
        'body', p.prosrc,
        'definition', pg_get_function_sqlbody(p.oid),
        'owner', pg_get_userbyid(p.proowner),
        'grants', {_grants("p.proacl", "f", "p.proowner")})
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace AND n.nspname = ANY(:schemas)
        AND {_not_from_an_extension("pg_proc", "p.oid")}
    WHERE NOT EXISTS (SELECT FROM pg_depend i  -- the constructors of a range type
        WHERE i.classid = 'pg_proc'::regclass AND i.objid = p.oid AND i.deptype = 'i')"""

VIEWS = f"""
    SELECT format('%I.%I', n.nspname, c.relname), jsonb_build_object(
        'type', CASE c.relkind WHEN 'v' THEN 'view' ELSE 'materialized view' END,
        'definition', pg_get_viewdef(c.oid),
        'options', to_jsonb(coalesce(c.reloptions, '{{}}')),
        'columns', to_jsonb(ARRAY(SELECT format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod))
            FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum)),
        'defaults', to_jsonb(ARRAY(SELECT format('%I: %s', a.attname, pg_get_expr(d.adbin, d.adrelid))
            FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
            WHERE d.adrelid = c.oid ORDER BY a.attnum)),
        'owner', pg_get_userbyid(c.relowner),
        'grants', {_RELATION_GRANTS})
    {_FROM_RELATIONS} WHERE c.relkind IN ('v', 'm')"""

POLICIES = f"""
    SELECT format('%I on %I.%I', p.polname, n.nspname, c.relname), jsonb_build_object(
        'command', CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE'
            WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
        'permissive', p.polpermissive,
        'roles', to_jsonb(ARRAY(SELECT CASE r WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(r) END
            FROM unnest(p.polroles) r)),
        'using', pg_get_expr(p.polqual, p.polrelid),
        'check', pg_get_expr(p.polwithcheck, p.polrelid))
    {_FROM_RELATIONS} JOIN pg_policy p ON p.polrelid = c.oid"""

RULES = f"""
    SELECT format('%I on %I.%I', r.rulename, n.nspname, c.relname), jsonb_build_object(
        'definition', pg_get_ruledef(r.oid), 'enabled', r.ev_enabled <> 'D')
    {_FROM_RELATIONS} JOIN pg_rewrite r ON r.ev_class = c.oid AND r.rulename <> '_RETURN'"""

SEQUENCES = f"""
    SELECT format('%I.%I', n.nspname, c.relname), jsonb_build_object(
        'type', format_type(s.seqtypid, NULL),
        'start', s.seqstart, 'increment', s.seqincrement, 'minimum', s.seqmin, 'maximum', s.seqmax,
        'cycle', s.seqcycle, 'cache', s.seqcache,
        'persistence', CASE c.relpersistence WHEN 'p' THEN 'permanent' ELSE 'unlogged' END,
        'owned_by', (SELECT format('%I on %s', a.attname, d.refobjid::regclass)
            FROM pg_depend d JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
            WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i')),
        'owner', pg_get_userbyid(c.relowner),
        'grants', {_grants("c.relacl", "s", "c.relowner")})
    {_FROM_RELATIONS} JOIN pg_sequence s ON s.seqrelid = c.oid"""

# Enums, domains, ranges and free-standing composite types; a table's row type goes with its table.
TYPES = f"""
    SELECT format('%I.%I', n.nspname, t.typname), jsonb_build_object(
        'type', CASE t.typtype WHEN 'e' THEN 'enum' WHEN 'd' THEN 'domain' WHEN 'r' THEN 'range'
            ELSE 'composite' END,
        'labels', to_jsonb(ARRAY(SELECT e.enumlabel FROM pg_enum e
            WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder)),
        'base', CASE t.typtype WHEN 'd' THEN format_type(t.typbasetype, t.typtypmod)
            WHEN 'r' THEN (SELECT format_type(r.rngsubtype, NULL) FROM pg_range r
                WHERE r.rngtypid = t.oid) END,
        'not_null', t.typnotnull,
        'default', t.typdefault,
        'attributes', to_jsonb(ARRAY(SELECT format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod))
            FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
            ORDER BY a.attnum)),
        'constraints', to_jsonb(ARRAY(SELECT format('%I %s', k.conname, pg_get_constraintdef(k.oid))
            FROM pg_constraint k WHERE k.contypid = t.oid AND k.contype = 'c' ORDER BY k.conname)),
        'owner', pg_get_userbyid(t.typowner),
        'grants', {_grants("t.typacl", "T", "t.typowner")})
    FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace AND n.nspname = ANY(:schemas)
        AND {_not_from_an_extension("pg_type", "t.oid")}
    LEFT JOIN pg_class c ON c.oid = t.typrelid
    WHERE t.typtype IN ('e', 'd', 'r') OR (t.typtype = 'c' AND c.relkind = 'c')"""

# An object is named as COMMENT ON names it.
COMMENTS = f"""
    SELECT named.object, jsonb_build_object('text', d.description)
    FROM pg_description d CROSS JOIN LATERAL (
        SELECT CASE
            WHEN d.objsubid > 0 THEN format('COLUMN %I.%I.%I', n.nspname, c.relname, (SELECT a.attname
                FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = d.objsubid))
            ELSE format('%s %I.%I', CASE c.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, n.nspname, c.relname) END
        {_FROM_RELATIONS}
        WHERE c.relkind IN ('r', 'p', 'v') AND d.classoid = 'pg_class'::regclass AND c.oid = d.objoid
        UNION ALL
        SELECT format('FUNCTION %I.%I(%s)', n.nspname, p.proname, oidvectortypes(p.proargtypes))
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace AND n.nspname = ANY(:schemas)
            AND {_not_from_an_extension("pg_proc", "p.oid")}
        WHERE p.prokind <> 'p' AND d.classoid = 'pg_proc'::regclass AND p.oid = d.objoid
    ) AS named (object)"""

BY_KIND = {
    "schemas": SCHEMAS,
    "tables": TABLES,
    "columns": COLUMNS,
    "constraints": CONSTRAINTS,
    "indexes": INDEXES,
    "triggers": TRIGGERS,
    "functions": FUNCTIONS,
    "views": VIEWS,
    "policies": POLICIES,
    "rules": RULES,
    "sequences": SEQUENCES,
    "types": TYPES,
    "comments": COMMENTS,
}

# Whoever owns most of schema chat_internal runs the chain, and so owns the package's objects.
TABLE_OWNER = """
    SELECT coalesce((SELECT pg_get_userbyid(c.relowner) FROM pg_class c
        WHERE c.relkind = 'r' AND c.relnamespace = to_regnamespace('chat_internal')
        GROUP BY c.relowner ORDER BY count(*) DESC, c.relowner LIMIT 1), current_user)"""

# The three roles, `:logical` names and `:actual` ones.
ROLES = """
    SELECT w.logical, jsonb_build_object('superuser', r.rolsuper, 'bypassrls', r.rolbypassrls,
        'createrole', r.rolcreaterole, 'createdb', r.rolcreatedb, 'replication', r.rolreplication,
        'login', r.rolcanlogin)
    FROM unnest(CAST(:logical AS text[]), CAST(:actual AS text[])) AS w (logical, actual)
    JOIN pg_roles r ON r.rolname = w.actual"""

# Memberships of the three roles in roles that may do more than they, and of others in the three. A policy that names a
# role speaks to its members too, hence `:tables`. A login that inherits service_role sees every row unasked, one with
# the ADMIN OPTION hands it on. Who may be both is the tables' owner, the database's, superusers, and who may create
# roles. Since PostgreSQL 16 INHERIT is an option of each grant.
MEMBERSHIPS = """
    WITH client AS (
        SELECT w.logical, r.oid, r.rolname
        FROM unnest(CAST(:logical AS text[]), CAST(:actual AS text[])) AS w (logical, actual)
        JOIN pg_roles r ON r.rolname = w.actual
    ), administrator AS (
        SELECT r.oid FROM pg_roles r WHERE r.rolsuper OR r.rolname = :owner
        UNION SELECT d.datdba FROM pg_database d WHERE d.datname = current_database()
    ), edge AS (
        SELECT m.roleid, m.member, bool_or(m.admin_option) AS admin,
            bool_or(coalesce((to_jsonb(m) ->> 'inherit_option')::boolean, r.rolinherit)) AS inherits,
            jsonb_agg(CASE WHEN to_jsonb(m) ? 'inherit_option' THEN pg_get_userbyid(m.grantor) END) AS grantors
        FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member GROUP BY m.roleid, m.member
    )
    SELECT format('%I in %I', c.rolname, x.rolname), jsonb_build_object('member', c.rolname, 'role', x.rolname,
        'grantors', e.grantors, 'gives', g.names)
    FROM client c JOIN edge e ON e.member = c.oid JOIN pg_roles x ON x.oid = e.roleid
    CROSS JOIN LATERAL (
        SELECT jsonb_agg(r.rolname ORDER BY r.rolname) AS names FROM pg_roles r
        WHERE (r.oid = x.oid OR NOT x.rolsuper AND pg_has_role(x.oid, r.oid, 'MEMBER'))
            AND (r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolname ~ '^pg_'
                OR r.oid IN (SELECT a.oid FROM administrator a)
                OR r.rolbypassrls AND (c.logical <> 'service_role')
                OR c.logical <> 'service_role'
                    AND r.oid IN (SELECT s.oid FROM client s WHERE s.logical = 'service_role')
                OR c.logical = 'anon' AND r.oid IN (SELECT s.oid FROM client s WHERE s.logical = 'authenticated')
                OR c.logical <> 'service_role' AND r.oid NOT IN (SELECT s.oid FROM client s) AND EXISTS (
                    SELECT FROM pg_policy p JOIN pg_class t ON t.oid = p.polrelid
                    WHERE t.relnamespace = to_regnamespace('public') AND t.relname = ANY(CAST(:tables AS text[]))
                        AND r.oid = ANY(p.polroles)))
    ) g
    WHERE g.names IS NOT NULL
    UNION ALL
    SELECT format('%I in %I', m.rolname, c.rolname), jsonb_build_object('member', m.rolname, 'role', c.rolname,
        'grantors', e.grantors, 'inherits', w.inherits, 'admin', w.admin)
    FROM client c JOIN edge e ON e.roleid = c.oid JOIN pg_roles m ON m.oid = e.member
    CROSS JOIN LATERAL (SELECT
        e.admin AND NOT m.rolcreaterole AS admin,
        e.inherits AND c.logical = 'service_role' AND EXISTS (
            SELECT FROM pg_roles l WHERE l.rolcanlogin AND l.oid NOT IN (SELECT a.oid FROM administrator a)
                AND (l.oid = m.oid OR pg_has_role(l.oid, m.oid, 'USAGE'))) AS inherits
    ) w
    WHERE m.oid NOT IN (SELECT a.oid FROM administrator a) AND m.oid NOT IN (SELECT o.oid FROM client o)
        AND (w.admin OR w.inherits)"""

# What others have made on, over and around our tables, and what of it is recorded as the database's own.
SURROUNDINGS = """
    SELECT kind, identity, says, properties, weakens FROM chat_internal.surroundings() ORDER BY kind, identity"""
KEPT = "SELECT kind, identity, properties FROM chat_internal.kept WHERE properties IS NOT NULL"
KEEP = """
    INSERT INTO chat_internal.kept AS k (kind, identity, properties)
    VALUES (:kind, :identity, CAST(:properties AS jsonb))
    ON CONFLICT (kind, identity) DO UPDATE SET properties = EXCLUDED.properties, object = NULL"""

# As chat_internal.has_auth_users(), which may be missing from what is to be verified.
HAS_AUTH_USERS = """
    SELECT EXISTS (SELECT FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_attribute i ON i.attrelid = c.oid AND i.attname = 'id' AND i.atttypid = 'uuid'::regtype
        JOIN pg_attribute e ON e.attrelid = c.oid AND e.attname = 'email'
            AND e.atttypid IN ('varchar'::regtype, 'text'::regtype)
        JOIN pg_attribute t ON t.attrelid = c.oid AND t.attname = 'created_at' AND t.atttypid = 'timestamptz'::regtype
        JOIN pg_constraint k ON k.conrelid = c.oid AND k.contype IN ('p', 'u') AND k.conkey = ARRAY[i.attnum]
        WHERE n.nspname = 'auth' AND c.relname = 'users' AND c.relkind = 'r')"""
