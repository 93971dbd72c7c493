"""Validate, before anything is changed, that the rows which stand can be kept.

What:   LOOK, a query that gives the queries to count with: rows whose owner, conversation or other parent is missing,
        rows whose owner is not the owner of what they hang on, and rows that a CHECK or unique index of this schema
        would refuse (roles, addresses, times that drivers cannot read, ids kept for others, idempotency keys).
Why:    which of two owners of a row is right is not guessed at: the operator decides by -x on-owner-mismatch=move. Nor
        is it guessed who a missing owner was. Where a key that is validated says so already, nothing is counted. An
        account of auth.users is an owner too: it will have its row.
Locks:  AccessShare while it looks: it reads each table once or twice.
Undone: nothing; nothing is changed.

Revision ID: 0011
Revises: 0010
"""

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

LOOK = r"""
    WITH tab AS MATERIALIZED (
      SELECT c.oid, c.relname AS name, CASE WHEN c.relname = 'tenant_users' THEN 'user_id' ELSE 'id' END AS key,
        CASE WHEN c.relname = 'tenant_users' THEN 'tenant_id' ELSE 'id' END AS other_key
      FROM pg_catalog.pg_class AS c
      WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.relname IN (
        'users', 'tenants', 'tenant_users', 'tasks', 'chat_messages', 'chat_sessions', 'conversations', 'messages',
        'brands', 'conversation_sessions', 'conversation_messages') AND NOT pg_catalog.row_security_active(c.oid)
    ), col AS MATERIALIZED (
      SELECT t.oid, t.name AS tab, t.key, a.attname AS col, a.attnum, a.attnotnull, a.atttypid AS type,
             a.atttypid = 'uuid'::regtype AS is_id
      FROM tab AS t JOIN pg_catalog.pg_attribute AS a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
    ), account AS MATERIALIZED (  -- the shape that chat_internal.has_auth_users() asks for
      SELECT c.oid, pg_catalog.row_security_active(c.oid) AS is_hidden,
        NOT pg_catalog.row_security_active(c.oid) AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')
          AND pg_catalog.has_table_privilege(c.oid, 'SELECT') AS is_read
      FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
      WHERE n.nspname = 'auth' AND c.relname = 'users' AND c.relkind = 'r' AND 3 = (
        SELECT pg_catalog.count(*) FROM pg_catalog.pg_attribute AS a
        WHERE a.attrelid = c.oid AND (a.attname, a.atttypid) IN (
          ('id', 'uuid'::regtype), ('email', 'varchar'::regtype), ('email', 'text'::regtype),
          ('created_at', 'timestamptz'::regtype)))
    ), parent (col, tab) AS (
      VALUES ('user_id', 'users'), ('tenant_id', 'tenants'), ('conversation_id', 'conversations'),
             ('session_id', 'conversation_sessions'), ('brand_id', 'brands')
    ), hangs AS MATERIALIZED (
      SELECT c.*, p.tab AS parent, EXISTS (SELECT FROM tab AS t WHERE t.name = p.tab) AS parent_stands,
        pg_catalog.format('p.%I IS NOT NULL%s%s', c.col,
          (SELECT pg_catalog.format(' AND NOT EXISTS (SELECT FROM public.%I AS o WHERE o.id = p.%I)', p.tab, c.col)
           FROM col AS i WHERE i.tab = p.tab AND i.col = 'id'),
          CASE WHEN p.tab = 'users' AND EXISTS (SELECT FROM account) THEN
            pg_catalog.format(' AND NOT EXISTS (SELECT FROM auth.users AS o WHERE o.id = p.%I)', c.col) END) AS lost
      FROM col AS c JOIN parent AS p ON p.col = c.col
      WHERE c.is_id AND c.tab <> p.tab
        AND NOT EXISTS (SELECT FROM col AS i WHERE i.tab = p.tab AND i.col = 'id' AND NOT i.is_id)
        AND NOT EXISTS (
          SELECT FROM pg_catalog.pg_constraint AS k
          WHERE k.conrelid = c.oid AND k.contype = 'f' AND k.convalidated AND k.conkey = ARRAY[c.attnum]
            AND (k.confrelid = pg_catalog.to_regclass('public.' || p.tab)
                 OR p.tab = 'users' AND k.confrelid IN (SELECT oid FROM account)))
        AND NOT (p.tab = 'users' AND EXISTS (SELECT FROM account AS a WHERE NOT a.is_read))
        AND NOT (p.tab = 'conversations' AND NOT EXISTS (SELECT FROM tab AS t WHERE t.name = 'conversations'))
    ), ownerless AS (  -- the owners to be made, where this schema keeps the accounts
      SELECT h.*, h.parent = 'users' AND NOT EXISTS (SELECT FROM account) AS makes_owners FROM hangs AS h
    ), unreadable AS (
      SELECT c.*, pg_catalog.format('%1$I < %2$s OR %1$I >= %3$s', c.col, pg_catalog.format(f.at, '0001-01-02'),
                                    pg_catalog.format(f.at, '9999-12-31')) AS condition
      FROM col AS c JOIN (VALUES
        ('timestamptz'::regtype, 'timestamp %L AT TIME ZONE ''UTC'''), ('timestamp'::regtype, 'timestamp %L')
      ) AS f (type, at) ON f.type = c.type
      WHERE c.col IN ('created_at', 'updated_at', 'last_activity_at', 'completed_at') AND c.tab <> 'messages'
    )
    SELECT pg_catalog.format('{count} rows of public.%s have a %s that stands nowhere; the first are {first}. %s',
        h.tab, h.col, CASE
          WHEN h.makes_owners AND NOT h.parent_stands THEN 'There is no table of users: this schema keeps a row for '
            'each user, and your application has to insert it before the user''s first message. The statements make '
            'the table and the rows.'
          WHEN h.makes_owners THEN 'The statements make the missing users, without address and password.'
          ELSE 'The statements set them aside, in a schema of that name.' END) AS says,
      CASE WHEN h.makes_owners THEN pg_catalog.concat_ws(E'\n',
        CASE WHEN NOT h.parent_stands THEN
          'CREATE TABLE IF NOT EXISTS public.users (id uuid PRIMARY KEY, email varchar(255));' END,
        (SELECT pg_catalog.string_agg(pg_catalog.format('ALTER TABLE public.users ALTER COLUMN %I DROP NOT NULL;',
           c.col), E'\n')
         FROM col AS c WHERE c.tab = 'users' AND c.col IN ('email', 'password_hash') AND c.attnotnull),
        pg_catalog.format('INSERT INTO public.users (id) SELECT DISTINCT p.%1$I FROM public.%2$I AS p WHERE p.%1$I IS '
          'NOT NULL ON CONFLICT DO NOTHING;', h.col, h.tab))
      ELSE pg_catalog.concat_ws(E'\n', 'CREATE SCHEMA IF NOT EXISTS set_aside;',
        (SELECT pg_catalog.string_agg(pg_catalog.format(E'CREATE TABLE set_aside.%1$s_%2$s_%3$s AS SELECT * FROM '
           'public.%1$I WHERE conversation_id IN (SELECT p.id FROM public.%2$I AS p WHERE %4$s);\nDELETE FROM '
           'public.%1$I WHERE conversation_id IN (SELECT p.id FROM public.%2$I AS p WHERE %4$s);', c.tab, h.tab, h.col,
           h.lost), E'\n')
         FROM col AS c WHERE h.tab = 'conversations' AND c.col = 'conversation_id' AND c.is_id),
        pg_catalog.format(E'CREATE TABLE set_aside.%1$s_%2$s AS SELECT * FROM public.%1$I AS p WHERE %3$s;\n'
                          'DELETE FROM public.%1$I AS p WHERE %3$s;', h.tab, h.col, h.lost)) END AS mends,
      pg_catalog.format('SELECT p.%I FROM public.%I AS p WHERE %s', h.key, h.tab, h.lost) AS rows, false AS unsafe
    FROM ownerless AS h
    UNION ALL
    SELECT pg_catalog.format('{count} rows of public.%s name another owner than their row of public.%s, the first of '
        'them {first}. Mend them, or run the upgrade with -x on-owner-mismatch=move: %s.', w.tab, w.parent,
        CASE w.tab WHEN 'conversation_messages' THEN 'each takes owner and brand of its session'
          ELSE 'each goes to its owner''s default conversation' END),
      NULL, pg_catalog.format('SELECT c.id FROM public.%I AS c JOIN public.%I AS p ON p.id = c.%I WHERE %s',
                              w.tab, w.parent, w.key, w.differs), false
    FROM (VALUES
      ('messages', 'conversations', 'conversation_id', 'p.user_id <> c.user_id'),
      ('chat_messages', 'conversations', 'conversation_id', 'p.user_id <> c.user_id'),
      ('conversation_messages', 'conversation_sessions', 'session_id',
       '(p.user_id, p.brand_id) IS DISTINCT FROM (c.user_id, c.brand_id)')
    ) AS w (tab, parent, key, differs)
    WHERE NOT {moves} AND 4 = (SELECT pg_catalog.count(*) FROM col AS c WHERE c.is_id AND (c.tab, c.col) IN (
      (w.tab, 'user_id'), (w.tab, w.key), (w.parent, 'id'), (w.parent, 'user_id')))
    UNION ALL
    SELECT pg_catalog.format('{count} rows of public.%s have a role that this schema has not; the first are {first}. '
        'Give them one of %s, as the statement does, or otherwise.', c.tab, w.roles),
      pg_catalog.format('UPDATE public.%I SET role = %L WHERE role::text <> ALL (%L);', c.tab, w.usual, w.roles),
      pg_catalog.format('SELECT %I FROM public.%I WHERE role::text <> ALL (%L)', c.key, c.tab, w.roles), false
    FROM (VALUES
      ('messages', '{user,assistant,agent,system,tool}', 'user'),
      ('conversation_messages', '{user,assistant,system,director}', 'user'),
      ('tenant_users', '{owner,admin,member}', 'member')
    ) AS w (tab, roles, usual)
    JOIN col AS c ON c.tab = w.tab AND c.col = 'role'
    UNION ALL  -- a message takes its conversation's time instead, as an element of an array does
    SELECT pg_catalog.format('{count} rows of public.%s have times that a driver cannot read in %s (infinite, or not '
        'within the years 1 to 9999). Give them others, as the statement does; the first are {first}, and this shows '
        'them: SELECT * FROM public.%1$s WHERE %3$s;', u.tab, u.col, u.condition),
      pg_catalog.format('UPDATE public.%I SET %I = now() WHERE %s;', u.tab, u.col, u.condition),
      pg_catalog.format('SELECT %I FROM public.%I WHERE %s', u.key, u.tab, u.condition), false
    FROM unreadable AS u
    UNION ALL
    SELECT pg_catalog.format('{count} rows of public.%s %s; the first are {first}, and this shows them: SELECT * FROM '
        'public.%1$s WHERE %3$s;', t.name, f.told, f.condition),
      pg_catalog.replace(f.mends, '{tab}', t.name), pg_catalog.format('SELECT id FROM public.%I WHERE %s', t.name,
        f.condition), false
    FROM (VALUES
      ($$id BETWEEN '63686174-6465-8000-0000-000000000000' AND '63686174-6465-8fff-ffff-ffffffffffff' AND id <>$$
       || pg_catalog.replace(
         $$ encode(set_byte(set_byte({b}, 6, (get_byte({b}, 6) & 15) | 128), 8, (get_byte({b}, 8) & 63) | 128),$$
         || ' ''hex'')::uuid', '{b}', $$(convert_to('chatde', 'UTF8')$$
         || $$ || substring(sha256(convert_to('chat-schema default conversation ' || user_id, 'UTF8')), 7, 10))$$),
       'have an id that is kept for the default conversation of another user. Give them other ids', NULL,
       '{id,user_id}'::name[], '{conversations,chat_sessions}'::name[]),
      ($$password_hash IS NOT NULL AND coalesce(btrim(email::text), '') = ''$$,
       'have a password and no address. Give them one, or take the password away, as the statements do',
       E'ALTER TABLE public.users ALTER COLUMN password_hash DROP NOT NULL;\nUPDATE public.users SET password_hash = '
       || $$NULL WHERE coalesce(btrim(email::text), '') = '';$$,
       '{id,email,password_hash}', '{users}')
    ) AS f (condition, told, mends, needs, tables)
    JOIN tab AS t ON t.name = ANY (f.tables)
    WHERE f.needs <@ ARRAY(SELECT c.col FROM col AS c WHERE c.tab = t.name AND (c.col NOT LIKE '%id' OR c.is_id))
    UNION ALL
    SELECT '{count} rows of public.users have the address of another one, and an address is unique here; the first are '
        '{first}. Give them others, as the statement does, or otherwise.',
      $$UPDATE public.users AS u SET email = u.id || '@duplicate.invalid' WHERE EXISTS (SELECT FROM public.users AS o $$
        || 'WHERE o.email = u.email AND o.id < u.id);',
      'SELECT u.id FROM public.users AS u WHERE EXISTS (SELECT FROM public.users AS o WHERE o.email = u.email'
        ' AND o.id < u.id)', false
    FROM col AS c WHERE c.tab = 'users' AND c.col = 'email'
    UNION ALL
    SELECT '{count} rows of public.messages have an idempotency_key that another message of their user has; the first '
        'are {first}. The statement takes the key of all but the first of them away.',
      pg_catalog.format('UPDATE public.messages SET idempotency_key = NULL WHERE id IN (%s);', d.rows), d.rows, false
    FROM (
      SELECT 'SELECT t.id FROM (SELECT m.id, row_number() OVER (PARTITION BY ' || CASE
          WHEN EXISTS (SELECT FROM col AS u WHERE u.tab = 'messages' AND u.col = 'user_id')
            THEN 'coalesce(m.user_id, c.user_id)' ELSE 'c.user_id' END
        || ', m.idempotency_key ORDER BY m.ctid) AS place FROM public.messages AS m LEFT JOIN public.conversations AS c'
           ' ON c.id = m.conversation_id WHERE m.idempotency_key IS NOT NULL) AS t WHERE t.place > 1' AS rows
      WHERE 3 = (SELECT pg_catalog.count(*) FROM col AS c WHERE (c.tab, c.col) IN (
        ('messages', 'conversation_id'), ('conversations', 'id'), ('conversations', 'user_id')) AND c.is_id)
    ) AS d
    JOIN col AS c ON c.tab = 'messages' AND c.col = 'idempotency_key'
    UNION ALL
    SELECT pg_catalog.format('{count} rows of public.%s have the id of another one; the first are {first}. The '
        'statements for its primary key give all but the first of them another one.', t.name), NULL,
      pg_catalog.format('SELECT id FROM public.%I GROUP BY id HAVING count(*) > 1', t.name), false
    FROM tab AS t JOIN col AS c ON c.oid = t.oid AND c.col = 'id' AND c.is_id
    WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_index AS i WHERE i.indrelid = t.oid AND i.indisunique AND i.indisvalid
      AND i.indpred IS NULL AND i.indnkeyatts = 1 AND i.indkey[0] = c.attnum)
    UNION ALL
    SELECT '{count} rows of public.users have no account in auth.users; the first are {first}. Give them one, or '
        'delete them: here each user has an account there.',
      NULL, 'SELECT u.id FROM public.users AS u WHERE NOT EXISTS (SELECT FROM auth.users AS a WHERE a.id = u.id)', false
    FROM account AS a, col AS c WHERE a.is_read AND c.tab = 'users' AND c.col = 'id' AND c.is_id
    UNION ALL
    SELECT pg_catalog.format('row level security hides auth.users from the login %s. Run the upgrade as one with '
        'BYPASSRLS.', current_user), NULL, NULL, false
    FROM account AS a WHERE a.is_hidden
    UNION ALL
    SELECT 'public.chat_sessions and public.conversations are both there, and the one becomes the other; rename the '
        'one that is no longer written.',
      'ALTER TABLE public.chat_sessions RENAME TO chat_sessions_own;', NULL, false
    FROM tab AS s, tab AS c WHERE s.name = 'chat_sessions' AND c.name = 'conversations'
    UNION ALL
    SELECT 'public.messages is there without public.conversations; rename it.',
      'ALTER TABLE public.messages RENAME TO messages_own;', NULL, false
    FROM tab AS m WHERE m.name = 'messages' AND NOT EXISTS (SELECT FROM tab AS c WHERE c.name = 'conversations')
"""


def upgrade() -> None:
    """Change nothing: LOOK is asked before the first revision runs."""


def downgrade() -> None:
    """Leave everything as it is."""
