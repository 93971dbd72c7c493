"""Create what adopts a table as a whole: indexes, triggers, policies, grants, and the order of it.

What:   adopt_table() moves the table that a revision has built in chat_internal to public where none stands, and
        otherwise changes the one that does. adoption_steps() says what is left for outside a transaction (indexes,
        validations), finish_adoption() ends it.
Why:    the strong lock is held for catalog work alone. Indexes of ours that stand with another definition are renamed,
        built anew and then dropped, so that queries have one at any moment. All policies of the table give way (a
        permissive one left over would open it), each named in the log, and so do triggers that ours replace. What the
        team's own roles may see stays (0005). Where we grant by column, the application's own columns keep what our
        roles were granted on them.
Locks:  none here; adopt_table() and finish_adoption() take AccessExclusive on their table, an instant.
Undone: the functions are dropped.

Revision ID: 0004
Revises: 0003
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

FUNCTIONS = (
    "replaced_uniques(text)",
    "adopt_indexes(text)",
    "drop_replaced_triggers(text)",
    "adopt_rights(text)",
    "adopt_table(text)",
    "adoption_steps(text)",
    "finish_adoption(text)",
)


def upgrade() -> None:
    op.sql(
        r"""
        CREATE FUNCTION chat_internal.adopt_indexes(p_table text) RETURNS void
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
          v_table regclass := ('public.' || pg_catalog.quote_ident(p_table))::regclass;
          i record;
          v_same text;
          v_old text;
        BEGIN
          FOR i IN
            SELECT c.relname AS name, chat_internal.index_text(c.oid, '-') AS text,
                   pg_catalog.to_regclass('public.' || pg_catalog.quote_ident(c.relname)) AS namesake
            FROM pg_catalog.pg_index AS n JOIN pg_catalog.pg_class AS c ON c.oid = n.indexrelid
            WHERE n.indrelid = ('chat_internal.' || p_table)::regclass AND NOT n.indisprimary ORDER BY c.relname
          LOOP
            CONTINUE WHEN chat_internal.index_text(i.namesake, '-') = i.text;
            SELECT c.relname INTO v_same
            FROM pg_catalog.pg_index AS o JOIN pg_catalog.pg_class AS c ON c.oid = o.indexrelid
            WHERE o.indrelid = v_table AND o.indisvalid AND chat_internal.index_text(c.oid, '-') = i.text
              AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint AS k WHERE k.conindid = c.oid AND k.contype <> 'f')
            ORDER BY c.relname LIMIT 1;
            IF v_same IS NOT NULL AND i.namesake IS NULL THEN
              PERFORM chat_internal.change(p_table, pg_catalog.format('index %I renamed to %I', v_same, i.name),
                pg_catalog.format('ALTER INDEX public.%I RENAME TO %I', v_same, i.name),
                pg_catalog.format('ALTER INDEX public.%I RENAME TO %I', i.name, v_same));
            ELSIF i.namesake IS NULL THEN
              PERFORM chat_internal.change(p_table, pg_catalog.format('index %I to be built', i.name), '',
                pg_catalog.format('DROP INDEX IF EXISTS public.%I', i.name));
            ELSE
              PERFORM chat_internal.change(p_table, pg_catalog.format('index %I to be replaced', i.name),
                pg_catalog.format('ALTER INDEX public.%I RENAME TO %I', i.name, i.name || '_legacy'),
                pg_catalog.format('DROP INDEX IF EXISTS public.%1$I, public.%2$I; %3$s', i.name, i.name || '_legacy',
                  chat_internal.index_text(i.namesake, pg_catalog.quote_ident(i.name))));
            END IF;
          END LOOP;
          FOR i IN SELECT * FROM chat_internal.replaced_uniques(p_table) LOOP
            PERFORM chat_internal.change(p_table, pg_catalog.format('constraint %I gives way to an index', i.name), '',
              pg_catalog.format('ALTER TABLE %1$s DROP CONSTRAINT IF EXISTS %2$I, ADD CONSTRAINT %2$I %3$s',
                                v_table, i.name, i.text));
          END LOOP;
        END
        $$;

        -- UNIQUE constraints that say what a unique index of ours says, and that no key points at
        CREATE FUNCTION chat_internal.replaced_uniques(p_table text) RETURNS TABLE (name text, text text)
        LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
          SELECT o.conname, pg_catalog.pg_get_constraintdef(o.oid)
          FROM pg_catalog.pg_constraint AS o
          WHERE o.conrelid = ('public.' || pg_catalog.quote_ident(p_table))::regclass AND o.contype = 'u'
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint AS f
                            WHERE f.conindid = o.conindid AND f.contype = 'f')
            AND EXISTS (SELECT FROM pg_catalog.pg_index AS n
              WHERE n.indrelid = ('chat_internal.' || pg_catalog.quote_ident(p_table))::regclass
                AND n.indisunique AND NOT n.indisprimary
                AND chat_internal.index_text(n.indexrelid, '-') = chat_internal.index_text(o.conindid, '-'))
        $$;

        CREATE FUNCTION chat_internal.drop_replaced_triggers(p_table text) RETURNS void
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
          v_table text := 'public.' || pg_catalog.quote_ident(p_table);
          g record;
        BEGIN
          FOR g IN  -- of the same name, or one that does what our stamp of updated_at does
            SELECT o.tgname AS name, o.tgenabled AS enabled, pg_catalog.pg_get_triggerdef(o.oid) AS text
            FROM pg_catalog.pg_trigger AS o JOIN pg_catalog.pg_proc AS p ON p.oid = o.tgfoid
            LEFT JOIN pg_catalog.pg_trigger AS n
              ON n.tgrelid = ('chat_internal.' || p_table)::regclass AND n.tgname = o.tgname
            WHERE o.tgrelid = v_table::regclass AND NOT o.tgisinternal
              AND (n.tgname IS NOT NULL AND (o.tgenabled <> 'O' OR pg_catalog.pg_get_triggerdef(o.oid)
                  <> pg_catalog.replace(pg_catalog.pg_get_triggerdef(n.oid), ' ON chat_internal.', ' ON public.'))
                OR n.tgname IS NULL AND p.prosrc ~* ('^\s*begin\s+new\.updated_at\s*:?='
                  '\s*(now\(\)|\w+_timestamp\s*(\(\))?);\s*return\s+new;\s*end;?\s*$'))
          LOOP
            PERFORM chat_internal.change(p_table, pg_catalog.format('trigger %I dropped', g.name),
              pg_catalog.format('DROP TRIGGER %I ON %s', g.name, v_table),
              g.text || CASE g.enabled WHEN 'O' THEN ''
                ELSE pg_catalog.format('; ALTER TABLE %s DISABLE TRIGGER %I', v_table, g.name) END);
          END LOOP;
        END
        $$;

        -- last of all: until the rows have what our policies ask for, those that stand decide
        CREATE FUNCTION chat_internal.adopt_rights(p_table text) RETURNS void
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
          v_new regclass := ('chat_internal.' || pg_catalog.quote_ident(p_table))::regclass;
          v_old regclass := ('public.' || pg_catalog.quote_ident(p_table))::regclass;
          v_class pg_catalog.pg_class;
          v_open boolean;  -- whether it had no row level security
          p record;
          v_wanted text;
          v_granted text;
        BEGIN
          SELECT c.* INTO v_class FROM pg_catalog.pg_class AS c WHERE c.oid = v_old;
          v_open := NOT v_class.relrowsecurity OR EXISTS (SELECT FROM chat_internal.adopted AS a
            WHERE a.object = p_table AND a.what = 'row level security enabled');
          IF NOT v_class.relrowsecurity THEN
            PERFORM chat_internal.change(p_table, 'row level security enabled',
              pg_catalog.format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', v_old),
              pg_catalog.format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY', v_old));
          END IF;
          IF v_class.relforcerowsecurity THEN  -- our own backfills would see no row
            PERFORM chat_internal.change(p_table, 'row level security no longer forced on its owner',
              pg_catalog.format('ALTER TABLE %s NO FORCE ROW LEVEL SECURITY', v_old),
              pg_catalog.format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', v_old));
          END IF;
          PERFORM chat_internal.keep_policies(p_table) WHERE NOT v_open;
          FOR p IN
            SELECT o.polname AS name, chat_internal.policy_text(o.oid, v_old) AS text
            FROM pg_catalog.pg_policy AS o WHERE o.polrelid = v_old AND chat_internal.policy_text(o.oid, v_old)
              NOT IN (SELECT chat_internal.policy_text(n.oid, v_old) FROM pg_catalog.pg_policy AS n
                      WHERE n.polrelid = v_new)
              AND NOT EXISTS (SELECT FROM chat_internal.kept AS k
                              WHERE k.object = pg_catalog.concat_ws(' ', 'policy', v_old::oid, o.polname))
            ORDER BY o.polname
          LOOP
            PERFORM chat_internal.change(p_table, pg_catalog.format('policy %I dropped', p.name),
              pg_catalog.format('DROP POLICY %I ON %s', p.name, v_old), p.text);
          END LOOP;
          FOR p IN
            SELECT n.polname AS name, chat_internal.policy_text(n.oid, v_old) AS text FROM pg_catalog.pg_policy AS n
            WHERE n.polrelid = v_new AND NOT EXISTS (SELECT FROM pg_catalog.pg_policy AS o
                                                     WHERE o.polrelid = v_old AND o.polname = n.polname)
            ORDER BY n.polname
          LOOP
            PERFORM chat_internal.change(p_table, pg_catalog.format('policy %I created', p.name), p.text,
              pg_catalog.format('DROP POLICY %I ON %s', p.name, v_old));
          END LOOP;
          FOR p IN
            SELECT g.privilege, pg_catalog.array_agg(g.role) AS roles FROM chat_internal.granted(v_old) AS g
            WHERE v_open GROUP BY g.privilege ORDER BY g.privilege
          LOOP
            PERFORM chat_internal.admit(p_table, p_table, p.privilege, p.roles);
          END LOOP;
          v_granted := chat_internal.grants_of('TABLE', v_old::text, v_class.relowner, v_class.relacl, v_old);
          SELECT chat_internal.grants_of('TABLE', v_old::text, c.relowner, c.relacl, c.oid) INTO v_wanted
          FROM pg_catalog.pg_class AS c WHERE c.oid = v_new;
          SELECT v_wanted || coalesce(pg_catalog.string_agg(
            pg_catalog.format(' GRANT %s (%I) ON TABLE %s TO %I;', w.privilege, o.attname, v_old, r.actual), ''), '')
          INTO v_wanted
          FROM pg_catalog.pg_attribute AS o, (VALUES ('SELECT'), ('INSERT'), ('UPDATE')) AS w (privilege),
            chat_internal.role_names AS r
          WHERE o.attrelid = v_old AND o.attnum > 0 AND NOT o.attisdropped
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute AS n
                            WHERE n.attrelid = v_new AND n.attname = o.attname)
            AND pg_catalog.has_column_privilege(r.actual::name, v_old, o.attnum, w.privilege)
            AND (pg_catalog.has_any_column_privilege(r.actual::name, v_new, w.privilege) OR w.privilege = 'UPDATE'
              AND r.logical = 'authenticated' AND EXISTS (
                SELECT FROM pg_catalog.pg_policy AS n WHERE n.polrelid = v_new AND n.polcmd = 'w'))
            AND NOT pg_catalog.has_table_privilege(r.actual::name, v_new, w.privilege);
          IF v_granted <> v_wanted THEN
            PERFORM chat_internal.change(p_table, 'grants replaced', v_wanted, v_granted);
          END IF;
        END
        $$;

        CREATE FUNCTION chat_internal.adopt_table(p_table text) RETURNS void
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
          v_new regclass := ('chat_internal.' || pg_catalog.quote_ident(p_table))::regclass;
          v_old regclass := pg_catalog.to_regclass('public.' || pg_catalog.quote_ident(p_table));
          g record;
        BEGIN
          IF v_old IS NULL THEN
            PERFORM chat_internal.change(p_table, 'created',
              pg_catalog.format('ALTER TABLE %s SET SCHEMA public', v_new),
              pg_catalog.format('DROP TABLE public.%I', p_table));
            RETURN;
          ELSIF EXISTS (
            SELECT FROM chat_internal.adopted AS a WHERE a.object = p_table AND a.what = 'created'
          ) THEN
            EXECUTE pg_catalog.format('DROP TABLE %s', v_new);
            RETURN;
          END IF;
          EXECUTE pg_catalog.format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', v_old);
          PERFORM chat_internal.change(p_table, 'adopted', '', '');
          PERFORM chat_internal.drop_replaced_triggers(p_table);
          PERFORM chat_internal.adopt_constraints(p_table);
          PERFORM chat_internal.adopt_indexes(p_table);
          FOR g IN  -- now that the table has the columns they name
            SELECT n.tgname AS name, pg_catalog.replace(pg_catalog.pg_get_triggerdef(n.oid), ' ON chat_internal.',
                                                        ' ON public.') AS text
            FROM pg_catalog.pg_trigger AS n
            WHERE n.tgrelid = v_new AND NOT n.tgisinternal
              AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger AS o WHERE o.tgrelid = v_old AND o.tgname = n.tgname)
          LOOP
            PERFORM chat_internal.change(p_table, pg_catalog.format('trigger %I created', g.name), g.text,
              pg_catalog.format('DROP TRIGGER %I ON %s', g.name, v_old));
          END LOOP;
        END
        $$;

        CREATE FUNCTION chat_internal.adoption_steps(p_table text) RETURNS SETOF text
        LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
          WITH new_index AS (
            SELECT c.oid, c.relname AS name,
                   pg_catalog.to_regclass('public.' || pg_catalog.quote_ident(c.relname)) AS old
            FROM pg_catalog.pg_index AS n JOIN pg_catalog.pg_class AS c ON c.oid = n.indexrelid
            WHERE n.indrelid = pg_catalog.to_regclass('chat_internal.' || p_table) AND NOT n.indisprimary
          ), proof AS (  -- a CHECK on each column that is never to be NULL; those of rows that stood have been filled
            SELECT o.attrelid::regclass AS tab, o.attname AS col,
                   'ck_' || p_table || '_' || o.attname || '_present' AS name
            FROM pg_catalog.pg_attribute AS n
            JOIN pg_catalog.pg_attribute AS o
              ON o.attrelid = pg_catalog.to_regclass('public.' || p_table) AND o.attname = n.attname
            WHERE n.attrelid = pg_catalog.to_regclass('chat_internal.' || p_table)
              AND n.attnum > 0 AND n.attnotnull AND NOT o.attnotnull
              AND NOT EXISTS (
                SELECT FROM pg_catalog.pg_constraint AS k
                WHERE k.conrelid = o.attrelid AND k.conname = 'ck_' || p_table || '_' || o.attname || '_present')
          ), missing_check AS (
            SELECT o.oid::regclass AS tab, n.conname AS name, pg_catalog.pg_get_constraintdef(n.oid) AS text
            FROM pg_catalog.pg_constraint AS n
            JOIN pg_catalog.pg_class AS o ON o.oid = pg_catalog.to_regclass('public.' || p_table)
            WHERE n.conrelid = pg_catalog.to_regclass('chat_internal.' || p_table) AND n.contype = 'c'
              AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint AS k
                              WHERE k.conrelid = o.oid AND k.conname = n.conname)
          ), step (place, name, text) AS (
            SELECT 1, n.name, pg_catalog.format('DROP INDEX CONCURRENTLY public.%I', n.name)
            FROM new_index AS n JOIN pg_catalog.pg_index AS o ON o.indexrelid = n.old WHERE NOT o.indisvalid
            UNION ALL
            SELECT 2, n.name, pg_catalog.replace(chat_internal.index_text(n.oid, pg_catalog.quote_ident(n.name)),
                                         'INDEX ' || pg_catalog.quote_ident(n.name),
                                         'INDEX CONCURRENTLY ' || pg_catalog.quote_ident(n.name))
            FROM new_index AS n
            WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_index AS o WHERE o.indexrelid = n.old AND o.indisvalid)
            UNION ALL
            SELECT 3, p.name, pg_catalog.format('ALTER TABLE %s ADD CONSTRAINT %I CHECK (%I IS NOT NULL) NOT VALID',
                                                p.tab, p.name, p.col)
            FROM proof AS p
            UNION ALL
            SELECT s.place, m.name, pg_catalog.format(s.text, m.tab, m.name, m.text)
            FROM missing_check AS m, (VALUES (3, 'ALTER TABLE %s ADD CONSTRAINT %I %s NOT VALID'),
              (4, 'ALTER TABLE %s VALIDATE CONSTRAINT %I')) AS s (place, text)
            UNION ALL
            SELECT 4, p.name, pg_catalog.format('ALTER TABLE %s VALIDATE CONSTRAINT %I', p.tab, p.name) FROM proof AS p
            UNION ALL
            SELECT 4, k.conname,
                   pg_catalog.format('ALTER TABLE %s VALIDATE CONSTRAINT %I', k.conrelid::regclass, k.conname)
            FROM pg_catalog.pg_constraint AS k
            WHERE k.conrelid = pg_catalog.to_regclass('public.' || p_table) AND NOT k.convalidated
              AND pg_catalog.to_regclass('chat_internal.' || p_table) IS NOT NULL
              AND (k.conname LIKE 'ck\_' || p_table || '\_%\_present' OR EXISTS (
                SELECT FROM pg_catalog.pg_constraint AS n
                WHERE n.conrelid = pg_catalog.to_regclass('chat_internal.' || p_table) AND n.conname = k.conname))
          )
          SELECT s.text FROM step AS s ORDER BY s.place, s.name
        $$;

        CREATE FUNCTION chat_internal.finish_adoption(p_table text) RETURNS void
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
          v_new regclass := pg_catalog.to_regclass('chat_internal.' || pg_catalog.quote_ident(p_table));
          v_table text := 'public.' || pg_catalog.quote_ident(p_table);
          v_step text;
          c record;
          v_last bigint;
        BEGIN
          IF v_new IS NULL THEN
            RETURN;  -- made by the chain
          END IF;
          FOR v_step IN SELECT s FROM chat_internal.adoption_steps(p_table) AS s LOOP  -- online none is left
            EXECUTE pg_catalog.replace(v_step, 'INDEX CONCURRENTLY', 'INDEX');
          END LOOP;
          EXECUTE pg_catalog.format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', v_table);
          PERFORM chat_internal.adopt_rights(p_table);
          FOR c IN
            SELECT n.attname AS name, n.attidentity <> '' AS is_identity,
                   'ck_' || p_table || '_' || n.attname || '_present' AS proof
            FROM pg_catalog.pg_attribute AS n
            JOIN pg_catalog.pg_attribute AS o ON o.attrelid = v_table::regclass AND o.attname = n.attname
            WHERE n.attrelid = v_new AND n.attnum > 0 AND n.attnotnull
              AND (NOT o.attnotnull OR n.attidentity <> o.attidentity)
          LOOP
            EXECUTE pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I SET NOT NULL', v_table, c.name);
            EXECUTE pg_catalog.format('ALTER TABLE %s DROP CONSTRAINT %I', v_table, c.proof);
            IF c.is_identity THEN
              EXECUTE pg_catalog.format('SELECT last_value FROM public.%I', p_table || '_' || c.name || '_adopting')
              INTO v_last;
              EXECUTE pg_catalog.format('ALTER TABLE %1$s ALTER COLUMN %2$I DROP DEFAULT; DROP SEQUENCE public.%3$I;'
                ' ALTER TABLE %1$s ALTER COLUMN %2$I ADD GENERATED BY DEFAULT AS IDENTITY',
                v_table, c.name, p_table || '_' || c.name || '_adopting');
              PERFORM pg_catalog.setval(pg_catalog.pg_get_serial_sequence(v_table, c.name), v_last);
              EXECUTE (SELECT chat_internal.grants_of('SEQUENCE', pg_catalog.pg_get_serial_sequence(v_table, c.name),
                                                      s.relowner, s.relacl)
                       FROM pg_catalog.pg_class AS s
                       WHERE s.oid = pg_catalog.pg_get_serial_sequence(v_new::text, c.name)::regclass);
            END IF;
          END LOOP;
          FOR c IN SELECT u.name FROM chat_internal.replaced_uniques(p_table) AS u LOOP
            EXECUTE pg_catalog.format('ALTER TABLE %s DROP CONSTRAINT %I', v_table, c.name);
          END LOOP;
          FOR c IN
            SELECT o.relname AS name FROM pg_catalog.pg_index AS n JOIN pg_catalog.pg_class AS i ON i.oid = n.indexrelid
            JOIN pg_catalog.pg_class AS o ON o.relname = i.relname || '_legacy'
              AND o.relnamespace = 'public'::regnamespace
            WHERE n.indrelid = v_new
          LOOP
            EXECUTE pg_catalog.format('DROP INDEX public.%I', c.name);
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
