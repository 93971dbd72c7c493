"""Validate, before anything is changed, what is set on the database, and that no chats stand where nobody would look.

What:   LOOK, a query on the catalog: settings under which functions of this schema would mean something else or no
        statement could write, tables that force row level security on the login that migrates, and tables of chats in
        other schemas or under quoted names.
Why:    a function is parsed by the settings of whoever calls it, so what a database sets for everybody binds our
        functions too. A backfill sees no row of a table that forces row level security on it, and succeeds. Tables of
        chats that are not in public under the names of this schema are not adopted; where public has none either,
        somebody would find an empty schema beside the rows. What a hosted platform keeps in schemas of its own is
        left out by the platforms' names.
Locks:  AccessShare while it looks.
Undone: nothing; nothing is changed.

Revision ID: 0012
Revises: 0011
"""

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

LOOK = r"""
    WITH setting AS (  -- set for everybody or for a role, in this database or in all of them
      SELECT pg_catalog.split_part(c, '=', 1) AS name, pg_catalog.split_part(c, '=', 2) AS value,
        CASE
          WHEN s.setrole = 0 THEN pg_catalog.format('ALTER DATABASE %I', pg_catalog.current_database())
          WHEN s.setdatabase = 0 THEN pg_catalog.format('ALTER ROLE %I', pg_catalog.pg_get_userbyid(s.setrole))
          ELSE pg_catalog.format('ALTER ROLE %I IN DATABASE %I', pg_catalog.pg_get_userbyid(s.setrole),
                                 pg_catalog.current_database())
        END AS place
      FROM pg_catalog.pg_db_role_setting AS s CROSS JOIN pg_catalog.unnest(s.setconfig) AS c
      WHERE s.setdatabase IN (0, (
          SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database()))
    ), wrong (name, bad, good, why) AS (
      VALUES
        ('standard_conforming_strings', 'off', 'on', 'functions of this schema, which are parsed by the settings of '
          'whoever calls them, would read \ in a text as another character'),
        ('default_transaction_read_only', 'on', 'off', 'no statement of an upgrade may write')
    ), chats AS (
      SELECT n.nspname, c.relname, c.oid::regclass AS tab, f.name,
        pg_catalog.string_agg(pg_catalog.format('ALTER TABLE public.%I RENAME COLUMN %I TO %I;', f.name, a.attname,
          pg_catalog.lower(pg_catalog.regexp_replace(a.attname, '([a-z])([A-Z])', '\1_\2', 'g'))), E'\n'
          ORDER BY a.attnum) FILTER (WHERE a.attname <> pg_catalog.lower(a.attname)) AS columns
      FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
      JOIN (VALUES ('users', '{id}'), ('conversations', '{id,userid}'), ('messages', '{conversationid,role,content}'),
                   ('chat_messages', '{userid,role,content}'), ('chat_sessions', '{userid,messages}')
      ) AS f (name, needs) ON pg_catalog.lower(pg_catalog.replace(pg_catalog.rtrim(c.relname, 's'), '_', ''))
        = pg_catalog.replace(pg_catalog.rtrim(f.name, 's'), '_', '')
      JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      WHERE c.relkind IN ('r', 'p') AND (n.nspname <> 'public' OR c.relname <> f.name)
        AND n.nspname !~ '^(pg_|information_schema$|chat_internal$|set_aside$)'
        AND n.nspname NOT IN ('auth', 'realtime', 'storage', 'vault', 'extensions', 'graphql', 'neon_auth', 'cron')
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_class AS o WHERE o.relnamespace = 'public'::regnamespace
          AND o.relname IN ('conversations', 'messages', 'chat_messages', 'chat_sessions', f.name))
        AND f.needs::text[] <@ ARRAY(
          SELECT pg_catalog.lower(pg_catalog.replace(o.attname, '_', '')) FROM pg_catalog.pg_attribute AS o
          WHERE o.attrelid = c.oid AND o.attnum > 0 AND NOT o.attisdropped)
      GROUP BY n.nspname, c.relname, c.oid, f.name
    )
    SELECT pg_catalog.format('%s is %s here: %s. Give it its usual value; sessions that begin afterwards have it.',
        w.name, w.bad, w.why) AS says,
      coalesce((SELECT pg_catalog.string_agg(s.place || ' RESET ' || s.name || ';', E'\n' ORDER BY s.place)
                FROM setting AS s WHERE s.name = w.name AND s.value = w.bad),
               pg_catalog.format('ALTER DATABASE %I SET %s = %s;', pg_catalog.current_database(), w.name, w.good))
        AS mends, NULL AS rows, false AS unsafe
    FROM wrong AS w JOIN pg_catalog.pg_settings AS p ON p.name = w.name
    WHERE p.reset_val = w.bad OR EXISTS (
      SELECT FROM setting AS s WHERE s.name = w.name AND s.value = w.bad AND w.name = 'standard_conforming_strings')
    UNION ALL
    SELECT pg_catalog.format('%s forces row level security on its owner, so this login would see few of its rows or '
        'none. This schema does not force it: a client comes as one of the three roles, and never as the owner.',
        c.oid::regclass),
      pg_catalog.format('ALTER TABLE %s NO FORCE ROW LEVEL SECURITY;', c.oid::regclass), NULL, false
    FROM pg_catalog.pg_class AS c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.relforcerowsecurity
      AND c.relname IN ('users', 'tenants', 'tenant_users', 'tasks', 'chat_messages', 'chat_sessions', 'conversations',
        'messages', 'brands', 'conversation_sessions', 'conversation_messages')
      AND pg_catalog.row_security_active(c.oid)
    UNION ALL
    SELECT pg_catalog.format('%s looks like a table of chats, and only public.%s is adopted. Move and rename it, as '
        'the statements do, or say -x chats-elsewhere=leave: then it stays as it is, beside an empty schema.', c.tab,
        c.name),
      pg_catalog.concat_ws(E'\n',
        CASE WHEN c.nspname <> 'public' THEN pg_catalog.format('ALTER TABLE %s SET SCHEMA public;', c.tab) END,
        CASE WHEN c.relname <> c.name THEN
          pg_catalog.format('ALTER TABLE public.%I RENAME TO %I;', c.relname, c.name) END, c.columns), NULL, false
    FROM chats AS c
    WHERE NOT {leaves} AND EXISTS (SELECT FROM chats AS o WHERE o.nspname = c.nspname AND o.name <> 'users')
"""


def upgrade() -> None:
    """Change nothing: LOOK is asked before the first revision runs."""


def downgrade() -> None:
    """Leave everything as it is."""
