"""Create what adopts a table that stands already: the journal of what is changed, and what puts it back.

What:   in chat_internal the tables adopted (each change with the statements that undo it), adopted_values (values
        that were changed, before and after) and kept (what stands on and over our tables and is the team's own);
        functions that describe an object as the statements which make it again, change() and release().
Why:    a database can hold any of our tables in an older shape. It is changed in place, and a downgrade gives it
        back as it was: that takes a journal, written in the transaction of the change. A table that the chain made
        is in it too, with DROP TABLE as what undoes it, so that a downgrade need not know which of the two it was.
Locks:  none on existing tables.
Undone: everything is dropped; by then every adopted table has been released.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


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
        op.create_policy(f"{table}_none", f"chat_internal.{table}", "ALL", to="authenticated", using="false")
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

        -- rows that the older shape cannot hold, with those of ours that hang on them by a key that does not cascade
        CREATE FUNCTION chat_internal.delete_lost(p_table regclass, p_condition text) RETURNS void
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
          k record;
        BEGIN
          FOR k IN
            SELECT f.conrelid::regclass AS child, pg_catalog.string_agg(
              pg_catalog.format('%s.%I = %s.%I', f.conrelid::regclass, c.attname, p_table, p.attname), ' AND ') AS same
            FROM pg_catalog.pg_constraint AS f
            JOIN pg_catalog.pg_class AS t ON t.oid = f.conrelid AND t.relnamespace = 'public'::regnamespace
              AND t.relname IN ('messages', 'chat_messages', 'conversation_sessions', 'conversation_messages')
            CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(f.conkey), pg_catalog.unnest(f.confkey)) AS n (here, there)
            JOIN pg_catalog.pg_attribute AS c ON c.attrelid = f.conrelid AND c.attnum = n.here
            JOIN pg_catalog.pg_attribute AS p ON p.attrelid = f.confrelid AND p.attnum = n.there
            WHERE f.contype = 'f' AND f.confrelid = p_table AND f.conrelid <> p_table AND f.confdeltype IN ('a', 'r')
            GROUP BY f.oid
          LOOP
            PERFORM chat_internal.delete_lost(k.child,
              pg_catalog.format('EXISTS (SELECT FROM %s WHERE (%s) AND %s)', p_table, p_condition, k.same));
          END LOOP;
          EXECUTE pg_catalog.format('DELETE FROM %s WHERE %s', p_table, p_condition);
        END
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
              EXECUTE pg_catalog.format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS %I, ALTER COLUMN %I DROP NOT NULL',
                v_table, 'ck_' || pg_catalog.split_part(p_object, '.', 1) || '_' || v_column || '_present', v_column);
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

        CREATE FUNCTION chat_internal.role_list(p_roles oid[]) RETURNS text
        LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
          SELECT pg_catalog.string_agg(CASE r.oid WHEN 0 THEN 'PUBLIC'
            ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(r.oid)) END, ', ' ORDER BY r.place)
          FROM pg_catalog.unnest(p_roles) WITH ORDINALITY AS r (oid, place)
        $$;

        CREATE FUNCTION chat_internal.policy_text(p_policy oid, p_table regclass) RETURNS text
        LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
          SELECT pg_catalog.format('CREATE POLICY %I ON %s AS %s FOR %s TO %s', p.polname, p_table,
              CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
              CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE'
                WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
              chat_internal.role_list(p.polroles))
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

        -- a timestamp without zone was written in UTC, or LOOK has refused it; in UTC it needs no rewrite
        CREATE FUNCTION chat_internal.set_column_type(p_table regclass, p_column text, p_type text) RETURNS void
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET "TimeZone" = 'UTC' AS $$
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
    for function in FUNCTIONS:
        op.grant_only(f"FUNCTION chat_internal.{function}")


FUNCTIONS = (
    "change(text, text, text, text, text)",
    "is_adopted(text)",
    "adoption_losses(text, text)",
    "row_key(regclass, text)",
    "delete_lost(regclass, text)",
    "restore_values(text)",
    "release(text)",
    "grants_of(text, text, oid, aclitem[], oid)",
    "role_list(oid[])",
    "policy_text(oid, regclass)",
    "view_text(regclass)",
    "drop_readers(regclass, text, text)",
    "set_column_type(regclass, text, text)",
)


def downgrade() -> None:
    for function in reversed(FUNCTIONS):
        op.sql(f"DROP FUNCTION chat_internal.{function}")
    # lint: ignore downgrade-destroys -- what the next upgrade notes again
    op.drop_table("kept", schema="chat_internal")
    # lint: ignore downgrade-destroys -- empty by then: each value was given back
    op.drop_table("adopted_values", schema="chat_internal")
    # lint: ignore downgrade-destroys -- empty by then: each change was undone
    op.drop_table("adopted", schema="chat_internal")
