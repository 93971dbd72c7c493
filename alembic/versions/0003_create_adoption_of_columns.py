"""Create what brings a function, a view, columns and constraints that stand already into the shape of this chain.

What:   adopt_function() and adopt_view() replace one that stands; adopt_columns() and adopt_constraints() compare the
        table of that name in chat_internal, as a revision builds it there, with the one in public, and change that
        one until they agree.
Why:    one definition of each table serves the empty database and the one that is in use, and whatever differs is
        found, not listed. Each step looks before it changes, so that a rerun after a kill goes on. No table is
        rewritten. What is not ours stays, but for CHECKs of role and keys that ours replace.
Locks:  none here; adopt_table() of the next revision takes AccessExclusive on its table, an instant.
Undone: the functions are dropped.

Revision ID: 0003
Revises: 0002
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

FUNCTIONS = (
    "run_or_replace(text, text, text)",
    "adopt_function(text, text)",
    "adopt_view(text, text)",
    "index_text(oid, text)",
    "adopt_columns(text)",
    "adopt_constraints(text)",
)


def upgrade() -> None:
    op.sql(
        r"""
        CREATE FUNCTION chat_internal.run_or_replace(p_kind text, p_name text, p_definition text) RETURNS void
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
          EXECUTE p_definition;
        EXCEPTION WHEN invalid_function_definition OR invalid_table_definition THEN
          EXECUTE pg_catalog.format('DROP %s %s', p_kind, p_name);  -- its columns or arguments are others
          EXECUTE p_definition;
        END
        $$;

        CREATE FUNCTION chat_internal.adopt_function(p_signature text, p_definition text) RETURNS void
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
          v_name text := 'public.' || p_signature;
          v_do text := pg_catalog.format('SELECT chat_internal.run_or_replace(%L, %L, %L)',
                                         'FUNCTION', v_name, p_definition);
        BEGIN
          IF EXISTS (SELECT FROM chat_internal.adopted AS a WHERE a.object = p_signature) THEN
            EXECUTE v_do;
          ELSIF pg_catalog.to_regprocedure(v_name) IS NULL THEN
            PERFORM chat_internal.change(p_signature, 'created', v_do, 'DROP FUNCTION ' || v_name);
          ELSE
            PERFORM chat_internal.change(p_signature, 'function replaced', v_do, (
              SELECT pg_catalog.format('SELECT chat_internal.run_or_replace(%L, %L, %L); %s', 'FUNCTION', v_name,
                pg_catalog.pg_get_functiondef(p.oid),
                chat_internal.grants_of('ROUTINE', v_name, p.proowner, p.proacl))
              FROM pg_catalog.pg_proc AS p WHERE p.oid = pg_catalog.to_regprocedure(v_name)));
          END IF;
        END
        $$;

        CREATE FUNCTION chat_internal.adopt_view(p_name text, p_definition text) RETURNS void
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
          v_name text := 'public.' || p_name;
          v_do text := pg_catalog.format('SELECT chat_internal.run_or_replace(%L, %L, %L)',
                                         'VIEW', v_name, p_definition);
        BEGIN
          IF EXISTS (SELECT FROM chat_internal.adopted AS a WHERE a.object = p_name) THEN
            EXECUTE v_do;
          ELSIF pg_catalog.to_regclass(v_name) IS NULL THEN
            PERFORM chat_internal.change(p_name, 'created', v_do, 'DROP VIEW ' || v_name);
          ELSE
            PERFORM chat_internal.change(p_name, 'view replaced', v_do, pg_catalog.format(
              'SELECT chat_internal.run_or_replace(%L, %L, %L)', 'VIEW', v_name, chat_internal.view_text(v_name)));
          END IF;
        END
        $$;

        -- an index as the statement that makes it, p_name instead of its own name and schema public for its table
        CREATE FUNCTION chat_internal.index_text(p_index oid, p_name text) RETURNS text
        LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
          SELECT pg_catalog.regexp_replace(pg_catalog.pg_get_indexdef(p_index),
            '^(CREATE (UNIQUE )?INDEX) .+? ON (ONLY )?(public|chat_internal)\.', '\1 ' || p_name || ' ON \3public.')
        $$;

        CREATE FUNCTION chat_internal.adopt_columns(p_table text) RETURNS void
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
          v_table text := 'public.' || pg_catalog.quote_ident(p_table);
          c record;
          v_lost text;
        BEGIN
          FOR c IN
            SELECT n.attname AS name, n.attidentity <> '' AS is_identity, o.attnum IS NULL AS is_missing,
              pg_catalog.format_type(n.atttypid, n.atttypmod) AS type, n.attnotnull AS not_null,
              pg_catalog.pg_get_expr(nd.adbin, nd.adrelid) AS value,
              pg_catalog.format_type(o.atttypid, o.atttypmod) AS old_type, o.attnotnull AS old_not_null,
              pg_catalog.pg_get_expr(od.adbin, od.adrelid) AS old_value,
              o.atttypid = 'varchar'::regtype AND (n.atttypid = 'text'::regtype
                OR n.atttypid = 'varchar'::regtype AND (n.atttypmod = -1 OR o.atttypmod BETWEEN 0 AND n.atttypmod)
              ) OR n.atttypid = 'timestamptz'::regtype AND o.atttypid IN ('timestamp'::regtype, 'timestamptz'::regtype)
              AS is_wider,
              CASE WHEN o.atttypid = 'varchar'::regtype THEN o.atttypmod - 4 END AS old_length
            FROM pg_catalog.pg_attribute AS n
            LEFT JOIN pg_catalog.pg_attrdef AS nd ON nd.adrelid = n.attrelid AND nd.adnum = n.attnum
            LEFT JOIN pg_catalog.pg_attribute AS o
              ON o.attrelid = v_table::regclass AND o.attname = n.attname AND NOT o.attisdropped
            LEFT JOIN pg_catalog.pg_attrdef AS od ON od.adrelid = o.attrelid AND od.adnum = o.attnum
            WHERE n.attrelid = ('chat_internal.' || p_table)::regclass AND n.attnum > 0 AND NOT n.attisdropped
            ORDER BY n.attnum
          LOOP
            IF c.is_missing AND c.is_identity THEN
              -- rows that come from now on are numbered past those that stand here, however many they are
              PERFORM chat_internal.change(p_table, pg_catalog.format('column %I added', c.name),
                pg_catalog.format('ALTER TABLE %1$s ADD COLUMN %2$I bigint; CREATE SEQUENCE %3$s START %4$s'
                  ' OWNED BY %1$s.%2$I; GRANT USAGE ON SEQUENCE %3$s TO PUBLIC;'
                  ' ALTER TABLE %1$s ALTER COLUMN %2$I SET DEFAULT pg_catalog.nextval(%3$L);',
                  v_table, c.name, 'public.' || pg_catalog.quote_ident(p_table || '_' || c.name || '_adopting'),
                  pg_catalog.pg_relation_size(v_table::regclass) / 28 + 1000),
                pg_catalog.format('ALTER TABLE %s DROP COLUMN %I', v_table, c.name));
            ELSIF c.is_missing THEN
              PERFORM chat_internal.change(p_table, pg_catalog.format('column %I added', c.name),
                pg_catalog.format('ALTER TABLE %s ADD COLUMN %I %s%s%s;', v_table, c.name, c.type,
                  coalesce(' DEFAULT ' || c.value, ''),
                  CASE WHEN c.not_null AND c.value IS NOT NULL THEN ' NOT NULL' ELSE '' END),
                pg_catalog.format('ALTER TABLE %s DROP COLUMN %I', v_table, c.name),
                CASE
                  WHEN c.type = 'jsonb' AND c.value IS NOT NULL THEN
                    pg_catalog.format('%I - %L <> %s', c.name, 'legacy', c.value)
                  WHEN c.not_null OR c.name = 'tenant_id' AND p_table LIKE '%messages' THEN NULL  -- its conversation's
                  ELSE pg_catalog.format('%I IS DISTINCT FROM %s', c.name, coalesce(c.value, 'NULL'))
                END);
            ELSE
              IF c.type <> c.old_type AND NOT c.is_wider THEN
                RAISE EXCEPTION '%.% is %, and this schema has % there. Nothing of this revision was applied. Convert '
                  'the column (ALTER TABLE % ALTER COLUMN % TYPE %), then run the command again.',
                  v_table, c.name, c.old_type, c.type, v_table, c.name, c.type;
              ELSIF c.type <> c.old_type THEN
                v_lost := CASE WHEN c.old_length > 0 THEN
                  pg_catalog.format('pg_catalog.length(%I) > %s', c.name, c.old_length) END;
                PERFORM chat_internal.change(p_table, pg_catalog.format('column %I widened', c.name),
                  pg_catalog.format('SELECT chat_internal.set_column_type(%L, %L, %L)', v_table, c.name, c.type),
                  coalesce(pg_catalog.format('SELECT chat_internal.delete_lost(%L, ', v_table)
                           || pg_catalog.quote_literal(v_lost) || '); ', '')
                  || pg_catalog.format('SELECT chat_internal.set_column_type(%L, %L, %L)', v_table, c.name, c.old_type),
                  v_lost);
              END IF;
              IF NOT c.is_identity AND c.value IS DISTINCT FROM c.old_value THEN
                PERFORM chat_internal.change(p_table, pg_catalog.format('default of %I changed', c.name),
                  pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I %s', v_table, c.name,
                                    coalesce('SET DEFAULT ' || c.value, 'DROP DEFAULT')),
                  pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I %s', v_table, c.name,
                                    coalesce('SET DEFAULT ' || c.old_value, 'DROP DEFAULT')));
              END IF;
              IF c.old_not_null AND NOT c.not_null THEN
                v_lost := pg_catalog.format('%I IS NULL', c.name);
                PERFORM chat_internal.change(p_table, pg_catalog.format('column %I may be NULL', c.name),
                  pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL', v_table, c.name),
                  pg_catalog.format('SELECT chat_internal.delete_lost(%1$L, %3$L);'
                    ' ALTER TABLE %1$s ALTER COLUMN %2$I SET NOT NULL', v_table, c.name, v_lost), v_lost);
              ELSIF c.not_null AND NOT c.old_not_null THEN
                -- once its NULLs are filled: a CHECK would refuse clients' updates of rows that wait for that
                PERFORM chat_internal.change(p_table, pg_catalog.format('column %I is never NULL', c.name), '',
                  pg_catalog.format('ALTER TABLE %1$s DROP CONSTRAINT IF EXISTS %3$I, ALTER COLUMN %2$I DROP NOT NULL',
                    v_table, c.name, 'ck_' || p_table || '_' || c.name || '_present'));
              END IF;
            END IF;
          END LOOP;
        END
        $$;

        CREATE FUNCTION chat_internal.adopt_constraints(p_table text) RETURNS void
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
          v_table text := 'public.' || pg_catalog.quote_ident(p_table);
          v_new regclass := ('chat_internal.' || p_table)::regclass;
          v_accounts oid := CASE WHEN chat_internal.has_auth_users() THEN pg_catalog.to_regclass('auth.users') END;
          k record;
        BEGIN
          FOR k IN  -- what gives way: narrower CHECKs of role, keys that one of ours replaces
            SELECT o.conname AS name, pg_catalog.pg_get_constraintdef(o.oid) AS text,
              CASE
                WHEN o.contype = 'c' THEN
                  pg_catalog.format('(%s) IS FALSE', pg_catalog.pg_get_expr(o.conbin, o.conrelid))
                WHEN o.confrelid = v_accounts THEN pg_catalog.format(
                  'NOT EXISTS (SELECT FROM auth.users AS u WHERE u.id = %s.%I)', v_table, a.attname)
              END AS lost
            FROM pg_catalog.pg_constraint AS o
            JOIN pg_catalog.pg_attribute AS a ON a.attrelid = o.conrelid AND a.attnum = o.conkey[1]
            WHERE o.conrelid = v_table::regclass AND NOT EXISTS (
                SELECT FROM pg_catalog.pg_constraint AS n WHERE n.conrelid = v_new
                  AND pg_catalog.pg_get_constraintdef(n.oid)
                    = pg_catalog.replace(pg_catalog.pg_get_constraintdef(o.oid), ' NOT VALID', ''))
              AND (o.contype = 'c' AND a.attname = 'role' AND pg_catalog.cardinality(o.conkey) = 1
                OR o.contype = 'f' AND EXISTS (
                  SELECT FROM pg_catalog.pg_constraint AS n WHERE n.conrelid = v_new AND n.contype = 'f'
                    AND (n.confrelid = o.confrelid OR o.confrelid = v_accounts
                         AND n.confrelid = 'public.users'::regclass
                         OR EXISTS (  -- by way of a table whose own key says the same
                           SELECT FROM ROWS FROM (pg_catalog.unnest(n.conkey), pg_catalog.unnest(n.confkey))
                             AS c (here, there)
                           JOIN pg_catalog.pg_attribute AS x ON x.attrelid = v_new AND x.attnum = c.here
                           JOIN pg_catalog.pg_constraint AS t ON t.conrelid = n.confrelid AND t.contype = 'f'
                             AND t.confrelid = o.confrelid AND t.conkey = ARRAY[c.there]
                           WHERE o.conkey = ARRAY[a.attnum] AND x.attname = a.attname))
                    AND (SELECT pg_catalog.array_agg(x.attname) FROM pg_catalog.pg_attribute AS x
                         WHERE x.attrelid = v_new AND x.attnum = ANY (n.conkey))
                     @> (SELECT pg_catalog.array_agg(x.attname) FROM pg_catalog.pg_attribute AS x
                         WHERE x.attrelid = o.conrelid AND x.attnum = ANY (o.conkey))))
            ORDER BY o.contype, o.conname
          LOOP
            PERFORM chat_internal.change(p_table, pg_catalog.format('constraint %I dropped: %s', k.name, k.text),
              pg_catalog.format('ALTER TABLE %s DROP CONSTRAINT %I', v_table, k.name),
              coalesce(pg_catalog.format('SELECT chat_internal.delete_lost(%L, ', v_table)
                       || pg_catalog.quote_literal(k.lost) || '); ', '')
              || pg_catalog.format('ALTER TABLE %s ADD CONSTRAINT %I %s', v_table, k.name, k.text), k.lost);
          END LOOP;

          PERFORM chat_internal.adopt_columns(p_table);
          -- values go back once our constraints are gone and before the older ones are there again
          PERFORM chat_internal.change(p_table, 'values kept', '',
                                       pg_catalog.format('SELECT chat_internal.restore_values(%L)', p_table));

          FOR k IN
            SELECT n.conname AS name, n.contype AS type, pg_catalog.pg_get_constraintdef(n.oid) AS text,
              (SELECT o.conname FROM pg_catalog.pg_constraint AS o WHERE o.conrelid = v_table::regclass
                 AND pg_catalog.replace(pg_catalog.pg_get_constraintdef(o.oid), ' NOT VALID', '')
                   = pg_catalog.pg_get_constraintdef(n.oid)
               ORDER BY o.conname <> n.conname, o.conname LIMIT 1) AS old_name
            FROM pg_catalog.pg_constraint AS n
            WHERE n.conrelid = v_new AND n.contype IN ('p', 'c', 'f')
            ORDER BY n.contype <> 'p', n.conname
          LOOP
            IF k.old_name IS NULL AND k.type = 'p' THEN
              RAISE EXCEPTION '% has another primary key than %, so nothing of this revision was applied. It is '
                'another application''s table, or needs that key first.', v_table, k.text;
            ELSIF k.old_name IS NULL THEN
              PERFORM chat_internal.change(p_table, pg_catalog.format('constraint %I added', k.name),
                CASE k.type  -- a CHECK once values are filled: it would refuse updates of rows that wait for that
                  WHEN 'c' THEN ''
                  ELSE pg_catalog.format('ALTER TABLE %s ADD CONSTRAINT %I %s NOT VALID', v_table, k.name, k.text)
                END,
                pg_catalog.format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS %I', v_table, k.name));
            ELSIF k.old_name <> k.name THEN
              PERFORM chat_internal.change(p_table,
                pg_catalog.format('constraint %I renamed to %I', k.old_name, k.name),
                pg_catalog.format('ALTER TABLE %s RENAME CONSTRAINT %I TO %I', v_table, k.old_name, k.name),
                pg_catalog.format('ALTER TABLE %s RENAME CONSTRAINT %I TO %I', v_table, k.name, k.old_name));
            END IF;
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
