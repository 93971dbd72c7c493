"""Validate, before anything is changed, that the columns and keys of tables that stand can become those of this schema.

What:   LOOK, a query on the catalog: columns of a type that could only be converted by a rewrite, NULLs in columns that
        are never NULL here, columns of the application's own that rows of this schema could not fill, other primary
        keys, names of ours that something else has, and what reads a column that changes and cannot be made again.
Why:    no table is rewritten and no meaning is guessed, so whoever owns the rows converts them, with the statements
        that LOOK gives. Ids that are no uuid are converted together, by one rule, in each table that names them. What
        the chain itself widens is left out: a shorter varchar, and a timestamp without zone where the server's zone is
        UTC, in which it was written.
Locks:  AccessShare while it looks.
Undone: nothing; nothing is changed.

Revision ID: 0010
Revises: 0009
"""

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# The columns at head. A ! follows what is never NULL and is not filled by the chain.
SHAPE = """
  users: id uuid!, email character varying(255), password_hash character varying(255), {times}
  tenants: id uuid!, name text!, {times}
  tenant_users: tenant_id uuid!, user_id uuid!, role character varying(20)!, created_at {at}
  tasks: id uuid!, user_id uuid!, title character varying(255)!, description text, completed boolean!, {times}
  chat_messages: id uuid!, user_id uuid!, role text!, content text!, created_at {at}, conversation_id uuid
  chat_sessions: id uuid!, tenant_id uuid, user_id uuid!, messages jsonb, {times}
  conversations: id uuid!, tenant_id uuid, user_id uuid!, title text, metadata jsonb, {times}
  messages: id uuid!, conversation_id uuid!, user_id uuid, role character varying(20), content text!, tool_calls jsonb,
    metadata jsonb, idempotency_key text, created_at {at}
  brands: id uuid!, user_id uuid!, name character varying(255)!, {times}
  conversation_sessions: id uuid!, brand_id uuid!, user_id uuid!, state character varying(50)!, parsed_intent jsonb,
    answered_questions jsonb, pending_questions jsonb, selected_kb_ids uuid[], active_task_plan_id uuid,
    created_at {at}, last_activity_at {at}, completed_at {at}
  conversation_messages: id uuid!, session_id uuid!, brand_id uuid!, user_id uuid!, role character varying(20)!,
    content text!, tokens_used integer, model_used character varying(100), provider character varying(50),
    cost_usd numeric(10;6), latency_ms integer, action_taken character varying(100), questions_asked jsonb,
    delegation_plan jsonb, created_at {at}
""".replace("{times}", "created_at {at}, updated_at {at}").replace("{at}", "timestamp with time zone")

# Names that indexes and sequences of ours have in schema public, each with its table
NAMES = """
  users: users_pkey idx_users_email idx_users_address
  tenants: tenants_pkey
  tenant_users: tenant_users_pkey idx_tenant_users_user_id
  tasks: tasks_pkey idx_tasks_user_id idx_tasks_user_id_created_at
  chat_messages: chat_messages_pkey idx_chat_messages_conversation idx_chat_messages_conv_created
    idx_chat_messages_user_created
  chat_sessions: chat_sessions_pkey idx_chat_sessions_tenant_id idx_chat_sessions_user_id
  conversations: conversations_pkey idx_conversations_tenant_id idx_conversations_user_created
    idx_conversations_user_id idx_conversations_user_id_tenant_id idx_conversations_user_id_updated_at
  messages: messages_pkey idx_messages_conversation_id idx_messages_conversation_id_created_at idx_messages_user_id
    idx_messages_user_id_idempotency_key messages_seq_seq
  brands: brands_pkey idx_brands_user
  conversation_sessions: conversation_sessions_pkey idx_conversation_sessions_active idx_conversation_sessions_brand
    idx_conversation_sessions_recent idx_conversation_sessions_state idx_conversation_sessions_user
  conversation_messages: conversation_messages_pkey idx_conversation_messages_brand idx_conversation_messages_cost
    idx_conversation_messages_provider idx_conversation_messages_role idx_conversation_messages_session
    idx_conversation_messages_session_created idx_conversation_messages_user
"""

LOOK = r"""
    WITH RECURSIVE ours AS MATERIALIZED (
      SELECT c.oid, t.t[1] AS name, t.t[2] AS columns
      FROM pg_catalog.regexp_matches('{shape}', '(\w+): ([^:]+?)\s*(?=\n  \w|$)', 'g') AS t (t)
      JOIN pg_catalog.pg_class AS c
        ON c.relnamespace = 'public'::regnamespace AND c.relname = t.t[1] AND c.relkind = 'r'
    ), head AS MATERIALIZED (
      SELECT o.oid, o.name, c.c[1] AS col, pg_catalog.replace(c.c[2], ';', ',') AS type, c.c[3] <> '' AS needed
      FROM ours AS o, pg_catalog.regexp_matches(o.columns, '(\w+) ([^,!]+)(!?)(?:,\s*|$)', 'g') AS c (c)
    ), stands AS MATERIALIZED (
      SELECT h.*, a.attnum, a.attnotnull, a.attidentity, a.atttypid, h.oid::regclass AS tab,
        pg_catalog.format_type(a.atttypid, a.atttypmod) AS old_type,
        pg_catalog.pg_get_expr(d.adbin, d.adrelid) AS value,
        a.atttypid = 'varchar'::regtype AND (h.type = 'text'
          OR h.type LIKE 'character varying%' AND a.atttypmod - 4
            BETWEEN 0 AND pg_catalog.substring(h.type, '\d+')::integer)
        OR a.atttypid = 'timestamptz'::regtype AND h.type = 'timestamp with time zone'
        OR a.atttypid = 'timestamp'::regtype AND h.type = 'timestamp with time zone'
          AND s.reset_val IN ('UTC', 'Etc/UTC', 'GMT', 'Etc/GMT', 'Zulu', 'UCT', 'Etc/UCT', 'Universal', 'Etc/Zulu')
          AS is_widened,
        CASE
          WHEN h.col = 'id' THEN pg_catalog.replace(h.name, 'chat_sessions', 'conversations')
          ELSE pg_catalog.replace(pg_catalog.replace(h.col, 'session_id', 'conversation_sessions'), '_id', 's')
        END AS of
      FROM head AS h
      JOIN pg_catalog.pg_attribute AS a ON a.attrelid = h.oid AND a.attname = h.col AND NOT a.attisdropped
      LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
      JOIN pg_catalog.pg_settings AS s ON s.name = 'TimeZone'
    ), unfit AS MATERIALIZED (
      SELECT * FROM stands AS s WHERE s.type <> s.old_type AND NOT s.is_widened
    ), id AS MATERIALIZED (  -- with those that keys of other tables hold
      SELECT u.oid, u.tab, u.col::name, u.attnum, u.of, u.old_type, u.attidentity FROM unfit AS u WHERE u.type = 'uuid'
      UNION
      SELECT k.conrelid, k.conrelid::regclass, a.attname, a.attnum, u.of,
             pg_catalog.format_type(a.atttypid, a.atttypmod), a.attidentity
      FROM unfit AS u
      JOIN pg_catalog.pg_constraint AS k ON k.confrelid = u.oid AND k.contype = 'f' AND k.confkey = ARRAY[u.attnum]
      JOIN pg_catalog.pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
      WHERE u.type = 'uuid' AND a.atttypid <> 'uuid'::regtype
    ), id_key AS MATERIALIZED (
      SELECT DISTINCT k.oid, k.conrelid::regclass AS tab, k.conname
      FROM id AS i JOIN pg_catalog.pg_constraint AS k ON k.contype = 'f'
        AND (k.conrelid = i.oid AND i.attnum = ANY (k.conkey) OR k.confrelid = i.oid AND i.attnum = ANY (k.confkey))
    ), policy AS MATERIALIZED (
      SELECT d.refobjid, d.refobjsubid, p.polname, p.polrelid::regclass AS tab
      FROM pg_catalog.pg_depend AS d JOIN pg_catalog.pg_policy AS p ON p.oid = d.objid
      WHERE d.classid = 'pg_catalog.pg_policy'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
        AND d.refobjsubid > 0
    ), changing AS MATERIALIZED (
      SELECT s.oid, s.attnum, s.tab || '.' || s.col AS what, 'becomes ' || s.type AS why
      FROM stands AS s WHERE s.type <> s.old_type AND s.is_widened
      UNION ALL
      SELECT s.oid, s.attnum, s.tab || '.' || s.col, 'becomes rows of another table'
      FROM stands AS s WHERE s.name = 'chat_sessions' AND s.col = 'messages' AND s.type = s.old_type
    ), read AS (  -- columns that change, the views that read them, and the views that read those
      SELECT c.oid, c.attnum AS col, c.what, c.why FROM changing AS c
      UNION
      SELECT w.ev_class, NULL, r.what, r.why
      FROM read AS r
      JOIN pg_catalog.pg_depend AS d ON d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = r.oid
        AND (r.col IS NULL OR d.refobjsubid = r.col) AND d.classid = 'pg_catalog.pg_rewrite'::regclass
      JOIN pg_catalog.pg_rewrite AS w ON w.oid = d.objid AND w.ev_class <> r.oid
    ), reader AS (
      SELECT DISTINCT r.what, r.why, f.*
      FROM read AS r CROSS JOIN LATERAL (
        SELECT 'the materialized view ' || c.oid::regclass AS name, true AS again,
               pg_catalog.format('DROP MATERIALIZED VIEW %s;', c.oid::regclass) AS mend,
               pg_catalog.format('CREATE MATERIALIZED VIEW %s AS%s', c.oid::regclass, pg_catalog.pg_get_viewdef(c.oid))
               AS text
        FROM pg_catalog.pg_class AS c WHERE c.oid = r.oid AND c.relkind = 'm'
        UNION ALL
        SELECT pg_catalog.format('the view %s of %I', c.oid::regclass, pg_catalog.pg_get_userbyid(c.relowner)), false,
               pg_catalog.format('ALTER VIEW %s OWNER TO %I;', c.oid::regclass, current_user), NULL
        FROM pg_catalog.pg_class AS c
        WHERE c.oid = r.oid AND c.relkind = 'v' AND NOT pg_catalog.pg_has_role(c.relowner, 'MEMBER')
        UNION ALL
        SELECT 'the function ' || p.oid::regprocedure, true,
               pg_catalog.format('DROP ROUTINE %s;', p.oid::regprocedure), pg_catalog.pg_get_functiondef(p.oid)
        FROM pg_catalog.pg_depend AS d JOIN pg_catalog.pg_proc AS p ON p.oid = d.objid
        WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
          AND d.refobjid = r.oid AND (r.col IS NULL OR d.refobjsubid = r.col)
        UNION ALL
        SELECT pg_catalog.format('the policy %I on %s', p.polname, p.tab), true,
               pg_catalog.format('DROP POLICY %I ON %s;', p.polname, p.tab), NULL
        FROM policy AS p WHERE p.refobjid = r.oid AND (r.col IS NULL OR p.refobjsubid = r.col)
        UNION ALL
        SELECT pg_catalog.format('the trigger %I on %s', g.tgname, g.tgrelid::regclass), true,
               pg_catalog.format('DROP TRIGGER %I ON %s;', g.tgname, g.tgrelid::regclass),
               pg_catalog.pg_get_triggerdef(g.oid)
        FROM pg_catalog.pg_depend AS d JOIN pg_catalog.pg_trigger AS g ON g.oid = d.objid AND NOT g.tgisinternal
        WHERE d.classid = 'pg_catalog.pg_trigger'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
          AND d.refobjid = r.oid AND d.refobjsubid = r.col
      ) AS f
    ), other_key AS MATERIALIZED (
      SELECT o.oid, o.oid::regclass AS tab, o.name, h.cols, k.oid AS con, k.conname, k.conindid,
        pg_catalog.pg_get_constraintdef(k.oid) AS text
      FROM ours AS o
      JOIN LATERAL (
        SELECT CASE o.name WHEN 'tenant_users' THEN '{tenant_id,user_id}'::name[] ELSE '{id}' END AS cols
      ) AS h ON true
      LEFT JOIN pg_catalog.pg_constraint AS k ON k.conrelid = o.oid AND k.contype = 'p'
      WHERE h.cols <@ ARRAY(SELECT a.attname FROM pg_catalog.pg_attribute AS a
                            WHERE a.attrelid = o.oid AND NOT a.attisdropped)
        AND h.cols IS DISTINCT FROM (
          SELECT pg_catalog.array_agg(a.attname ORDER BY c.place)
          FROM pg_catalog.unnest(k.conkey) WITH ORDINALITY AS c (attnum, place)
          JOIN pg_catalog.pg_attribute AS a ON a.attrelid = o.oid AND a.attnum = c.attnum)
    )
    SELECT 'ids are uuid in this schema, and some here are not: '
        || (SELECT pg_catalog.string_agg(i.tab || '.' || i.col || ' is ' || i.old_type, ', '
                                         ORDER BY i.tab::text, i.col) FROM id AS i)
        || '. These statements give each id the uuid that follows from it, and lock and rewrite the tables meanwhile; '
           'the application has to send and to take uuids from then on.' AS says,
      pg_catalog.concat_ws(E'\n', 'BEGIN;',
        (SELECT pg_catalog.string_agg(pg_catalog.format('ALTER TABLE %s DROP CONSTRAINT %I;', k.tab, k.conname), E'\n'
                                      ORDER BY k.tab::text, k.conname) FROM id_key AS k),
        (SELECT pg_catalog.string_agg(DISTINCT pg_catalog.format('DROP POLICY %I ON %s;', p.polname, p.tab), E'\n')
         FROM policy AS p JOIN id AS i ON i.oid = p.refobjid AND i.attnum = p.refobjsubid),
        (SELECT pg_catalog.string_agg(
           pg_catalog.format(CASE i.attidentity WHEN '' THEN 'ALTER TABLE %s ALTER COLUMN %I DROP DEFAULT;'
                               ELSE 'ALTER TABLE %s ALTER COLUMN %I DROP IDENTITY;' END, i.tab, i.col) || E'\n'
           || pg_catalog.format($$ALTER TABLE %1$s ALTER COLUMN %2$I TYPE uuid USING (CASE WHEN %2$I::text ~* $$
             || $$'^[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}$' THEN %2$I::text ELSE md5(%3$L || %2$I) END)::uuid;$$,
             i.tab, i.col, i.of || ' '), E'\n' ORDER BY i.tab::text, i.attnum)
         FROM id AS i),
        (SELECT pg_catalog.string_agg(pg_catalog.format('ALTER TABLE %s ADD CONSTRAINT %I %s;', k.tab, k.conname,
           pg_catalog.pg_get_constraintdef(k.oid)), E'\n' ORDER BY k.tab::text, k.conname) FROM id_key AS k),
        'COMMIT;') AS mends, NULL AS rows, false AS unsafe
    WHERE EXISTS (SELECT FROM id)
    UNION ALL
    SELECT pg_catalog.format('%s.%I is %s, and this schema has %s there%s. The statement rewrites the table under an '
        'AccessExclusive lock.', u.tab, u.col, u.old_type, u.type, CASE u.atttypid WHEN 'timestamp'::regtype THEN
          ' (written in the server''s time zone, which is not UTC)' ELSE '' END),
      pg_catalog.concat_ws(E'\n',
        (SELECT pg_catalog.string_agg(pg_catalog.format('DROP POLICY %I ON %s;', p.polname, p.tab), E'\n')
         FROM policy AS p WHERE p.refobjid = u.oid AND p.refobjsubid = u.attnum),
        pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I DROP DEFAULT, ALTER COLUMN %2$I TYPE %s USING %s%s;', u.tab,
          u.col, u.type, CASE
            WHEN u.atttypid = 'timestamp'::regtype THEN pg_catalog.format('%I AT TIME ZONE %L', u.col, (
              SELECT s.reset_val FROM pg_catalog.pg_settings AS s WHERE s.name = 'TimeZone'))
            WHEN u.type LIKE 'character%' OR u.type = 'text' THEN pg_catalog.format('%I::text', u.col)
            ELSE pg_catalog.format('%I::%s', u.col, u.type) END,
          coalesce(pg_catalog.format(', ALTER COLUMN %I SET DEFAULT CAST(', u.col) || u.value || ' AS ' || u.type
                   || ')', ''))),
      NULL, false
    FROM unfit AS u WHERE u.type <> 'uuid' AND u.attidentity = ''
    UNION ALL
    SELECT pg_catalog.format('rows of %s: {count} have no %s, which this schema needs; the first are {first}.%s', s.tab,
        s.col, CASE WHEN f.value IS NULL THEN ' The statements set them aside, in a schema of that name.' ELSE
          ' Fill them as the statement does, or otherwise.' END),
      CASE WHEN f.value IS NULL THEN
        pg_catalog.format(E'CREATE SCHEMA IF NOT EXISTS set_aside;\nCREATE TABLE set_aside.%1$s_%2$s AS SELECT * FROM '
          '%3$s WHERE %2$I IS NULL;\nDELETE FROM %3$s WHERE %2$I IS NULL;', s.name, s.col, s.tab)
      ELSE pg_catalog.format('UPDATE %s SET %I = %s WHERE %2$I IS NULL;', s.tab, s.col, f.value) END,
      pg_catalog.format('SELECT %I FROM %s WHERE %I IS NULL', k.col, s.tab, s.col), false
    FROM stands AS s
    JOIN LATERAL (SELECT CASE WHEN s.name = 'tenant_users' THEN 'user_id' ELSE 'id' END) AS k (col) ON true
    JOIN LATERAL (SELECT CASE s.col WHEN 'content' THEN '''''' WHEN 'title' THEN '''''' WHEN 'name' THEN ''''''
      WHEN 'completed' THEN 'false' WHEN 'state' THEN '''initial''' WHEN 'role' THEN
        CASE s.name WHEN 'tenant_users' THEN '''member''' ELSE '''user''' END END) AS f (value) ON true
    WHERE s.needed AND NOT s.attnotnull AND EXISTS (
      SELECT FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = s.oid AND a.attname = k.col)
    UNION ALL
    SELECT pg_catalog.format('%s.%I is never NULL and has no default, and this schema inserts conversations that do '
        'not name it (a user''s first one).', a.attrelid::regclass, a.attname),
      pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL;', a.attrelid::regclass, a.attname), NULL, false
    FROM ours AS o JOIN pg_catalog.pg_attribute AS a ON a.attrelid = o.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE o.name IN ('conversations', 'chat_sessions') AND a.attnotnull AND NOT a.atthasdef AND a.attidentity = ''
      AND NOT EXISTS (SELECT FROM head AS h WHERE h.oid = o.oid AND h.col = a.attname)
    UNION ALL
    SELECT pg_catalog.format('%s has %s, and this schema has PRIMARY KEY (%s).', k.tab,
        coalesce(k.text, 'no primary key'), pg_catalog.array_to_string(k.cols, ', ')),
      pg_catalog.concat_ws(E'\n',
        (SELECT pg_catalog.string_agg(pg_catalog.format('ALTER TABLE %s DROP CONSTRAINT %I;', f.conrelid::regclass,
           f.conname), E'\n') FROM pg_catalog.pg_constraint AS f WHERE f.contype = 'f' AND f.conindid = k.conindid),
        CASE WHEN k.con IS NULL AND k.cols = '{id}'::name[] THEN
          pg_catalog.format('UPDATE %s AS t SET id = gen_random_uuid() WHERE EXISTS (SELECT FROM %1$s AS o WHERE '
                            'o.id = t.id AND o.ctid < t.ctid);', k.tab) END,
        pg_catalog.format('ALTER TABLE %s %sADD CONSTRAINT %I PRIMARY KEY (%s);', k.tab,
          'DROP CONSTRAINT ' || pg_catalog.quote_ident(k.conname) || ', ADD '
            || pg_catalog.replace(k.text, 'PRIMARY KEY', 'UNIQUE') || ', ', k.name || '_pkey',
          pg_catalog.array_to_string(k.cols, ', ')),
        (SELECT pg_catalog.string_agg(pg_catalog.format('ALTER TABLE %s ADD CONSTRAINT %I %s;', f.conrelid::regclass,
           f.conname, pg_catalog.pg_get_constraintdef(f.oid)), E'\n')
         FROM pg_catalog.pg_constraint AS f WHERE f.contype = 'f' AND f.conindid = k.conindid)),
      NULL, false
    FROM other_key AS k
    UNION ALL
    SELECT pg_catalog.format('%s.seq is %s%s, and in this schema the column of that name is bigint GENERATED BY '
        'DEFAULT AS IDENTITY: the order of messages of one time.', o.oid::regclass,
        pg_catalog.format_type(a.atttypid, -1),
        CASE a.attidentity WHEN 'a' THEN ' GENERATED ALWAYS AS IDENTITY' WHEN 'd' THEN ' AS IDENTITY'
          ELSE pg_catalog.format(' DEFAULT %s', pg_catalog.pg_get_expr(d.adbin, d.adrelid)) END),
      CASE WHEN a.attidentity <> '' THEN
        pg_catalog.format('ALTER TABLE %s ALTER COLUMN seq TYPE bigint, ALTER COLUMN seq SET GENERATED BY DEFAULT;',
                          o.oid::regclass)
      ELSE pg_catalog.concat_ws(E'\n',
        pg_catalog.format('ALTER TABLE %s ALTER COLUMN seq DROP DEFAULT, ALTER COLUMN seq TYPE bigint;',
                          o.oid::regclass),
        'DROP SEQUENCE ' || pg_catalog.pg_get_serial_sequence(o.oid::regclass::text, 'seq') || ';',
        CASE WHEN NOT a.attnotnull THEN pg_catalog.format('UPDATE %s AS m SET seq = o.place FROM (SELECT id, '
          'row_number() OVER (ORDER BY created_at, ctid) + (SELECT coalesce(max(seq), 0) FROM %1$s) AS place FROM %1$s'
          ' WHERE seq IS NULL) AS o WHERE o.id = m.id;', o.oid::regclass) END,
        pg_catalog.format(E'ALTER TABLE %s ALTER COLUMN seq SET NOT NULL;\nALTER TABLE %1$s ALTER COLUMN seq ADD '
          'GENERATED BY DEFAULT AS IDENTITY;\nSELECT setval(pg_get_serial_sequence(%2$L, ''seq''), '
          'coalesce(max(seq), 0) + 1, false) FROM %1$s;', o.oid::regclass, o.oid::regclass::text)) END,
      NULL, false
    FROM ours AS o
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = o.oid AND a.attname = 'seq' AND NOT a.attisdropped
    LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE o.name = 'messages' AND (a.attidentity <> 'd' OR a.atttypid <> 'bigint'::regtype)
    UNION ALL
    SELECT pg_catalog.format('%s is there under a name that an object of this schema has.',
        pg_catalog.pg_describe_object('pg_catalog.pg_class'::regclass, c.oid, 0)),
      pg_catalog.format('ALTER %s %s RENAME TO %I;', CASE c.relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'i' THEN 'INDEX'
        WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END, c.oid::regclass, c.relname || '_own'),
      NULL, false
    FROM pg_catalog.regexp_matches('{names}', '(\w+): ([^:]+?)\s*(?=\n  \w|$)', 'g') AS t (t)
    CROSS JOIN pg_catalog.regexp_split_to_table(t.t[2], '\s+') AS n (name)
    JOIN pg_catalog.pg_class AS c ON c.relnamespace = 'public'::regnamespace AND c.relname = n.name
    LEFT JOIN pg_catalog.pg_index AS i ON i.indexrelid = c.oid
    WHERE i.indrelid IS DISTINCT FROM pg_catalog.to_regclass('public.' || t.t[1])
      AND NOT (t.t[1] = 'chat_sessions' AND pg_catalog.to_regclass('public.conversations') IS NOT NULL)
      AND NOT (c.relkind = 'S' AND EXISTS (
        SELECT FROM pg_catalog.pg_depend AS d WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid
          AND d.refobjid = pg_catalog.to_regclass('public.' || t.t[1])))
    UNION ALL
    SELECT pg_catalog.format('the constraint %I on %s has the name of one of this schema.', k.conname, o.oid::regclass),
      pg_catalog.format('ALTER TABLE %s RENAME CONSTRAINT %I TO %I;', o.oid::regclass, k.conname, k.conname || '_own'),
      NULL, false
    FROM ours AS o JOIN pg_catalog.pg_constraint AS k ON k.conrelid = o.oid
    WHERE k.conname IN ('ck_' || o.name || '_times', 'ck_' || o.name || '_default_id', 'ck_users_password_needs_email')
    UNION ALL
    SELECT pg_catalog.format('%s reads %s, which %s. %s', r.name, r.what, r.why, CASE WHEN r.again THEN
        'Drop it, upgrade, then create it again.' ELSE 'An administrator can give it to this login until then.' END),
      pg_catalog.concat_ws(E'\n', r.mend, '-- ' || pg_catalog.replace(r.text, E'\n', E'\n-- ')), NULL, false
    FROM reader AS r
""".replace("{shape}", SHAPE.strip()).replace("{names}", NAMES.strip())


def upgrade() -> None:
    """Change nothing: LOOK is asked before the first revision runs."""


def downgrade() -> None:
    """Leave everything as it is."""
