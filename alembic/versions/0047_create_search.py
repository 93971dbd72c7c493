r"""Create the search in messages.

What:   chat_internal.search_messages(), full text over messages and chat_messages for a user and for the service;
        search_text(), how it reads a text, and search_terms(), by which the index of 0048 finds it.
Why:    under policies no search can use an index: whether a text contains a word is not leakproof, so each message of
        the user is read first. This one runs as the owner of the tables, and repeats what the policies of both tables
        say: own messages, those of a tenant only while a member. It takes a user from nobody but the service, which it
        knows by the role of the session and not by a claim. What is in the trash is found by nobody.
        A term is the hash of a word, seeded with its user. So the index keeps the words of each user apart, and what
        others store costs nobody anything; no extension is needed for it, and a message however long is stored.
        Scripts that put no spaces between words are indexed by each two characters. What the index finds is held
        against the text, so that terms decide nothing. The first 32,768 characters of a message are searched.
        The newest messages are looked at first, 1,000, then 10,000, then all: a word in every message would else have
        every message read for one page. PUBLIC may execute search_terms(), as whoever inserts a message does.
Locks:  none.
Undone: the functions are dropped.

Revision ID: 0047
Revises: 0046
"""

from alembic import op

revision = "0047"
down_revision = "0046"
branch_labels = None
depends_on = None

# What stands between words: punctuation and symbols, of ASCII and of the blocks of Unicode that have no letters.
BETWEEN = (
    r"\x01-\x1f!-/:-@[-`{-\u00a9\u00ab-\u00b4\u00b6-\u00b9\u00bb-\u00bf\u00d7\u00f7\u2000-\u2bff\u3000-\u3004"
    r"\u3008-\u3040\u30fb\ufe00-\ufe0f\ufe30-\ufe4f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
)
# Thai, Lao, Burmese, Khmer, Chinese, Japanese, Korean, and emoji.
DENSE = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u30fa\u30fc-\u318f\u31f0-\u31ff\u3400-\u9fff"
    r"\uac00-\ud7a3\uf900-\ufaff\uff66-\uff9f\U0001f000-\U0001faff\U00020000-\U0003ffff"
)

TERMS = r"""
    -- of pg_catalog alone: whoever inserts a message may not look into this schema
    CREATE FUNCTION chat_internal.search_terms(p_user_id uuid, p_content text) RETURNS bigint[]
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE COST 10000 SET search_path = pg_catalog, pg_temp AS $$
    DECLARE
      v_seed CONSTANT bigint := pg_catalog.uuid_hash_extended(p_user_id, 0);
      v_text CONSTANT text := pg_catalog.lower(
        pg_catalog.regexp_replace(pg_catalog.left(p_content, 32768), '[BETWEEN]+', ' ', 'g'));
      v_dense text;
    BEGIN
      IF v_text !~ '[DENSE]' THEN
        RETURN ARRAY(
          SELECT pg_catalog.hashtextextended(w, v_seed) FROM pg_catalog.string_to_table(v_text, ' ') AS w
          WHERE w <> '');
      END IF;
      v_dense := pg_catalog.regexp_replace(v_text, '[^DENSE]+', ' ', 'g');
      RETURN ARRAY(
        SELECT pg_catalog.hashtextextended(w, v_seed)
        FROM pg_catalog.string_to_table(pg_catalog.regexp_replace(v_text, '[DENSE]+', ' ', 'g'), ' ') AS w
        WHERE w <> ''
        UNION ALL
        SELECT pg_catalog.hashtextextended(w, v_seed) FROM pg_catalog.string_to_table(v_dense, ' ') AS w
        WHERE pg_catalog.length(w) = 1
        UNION ALL
        SELECT pg_catalog.hashtextextended(p.a || p.b, v_seed)
        FROM (SELECT pg_catalog.string_to_array(v_dense, NULL) AS characters OFFSET 0) AS s,
          ROWS FROM (pg_catalog.unnest(s.characters), pg_catalog.unnest(s.characters[2:])) AS p (a, b)
        WHERE p.a <> ' ' AND p.b <> ' ');
    END
    $$
"""

TEXT = r"""
    -- each word, and each run of a script without spaces, between two single spaces
    CREATE FUNCTION chat_internal.search_text(p_content text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
      SELECT pg_catalog.regexp_replace(' ' || pg_catalog.regexp_replace(
        pg_catalog.lower(pg_catalog.regexp_replace(pg_catalog.left(p_content, 32768), '[BETWEEN]+', ' ', 'g')),
        '([DENSE]+)', ' \1 ', 'g') || ' ', ' {2,}', ' ', 'g')
    $$
"""

SEARCH = r"""
    -- p_after_store, p_after_at and p_after_id (p_after_rank too, where the best come first) are of the last row of the
    -- page before. In a snippet what was found stands between the control characters STX and ETX.
    CREATE FUNCTION chat_internal.search_messages(
      p_query text, p_user_id uuid DEFAULT NULL, p_conversation_id uuid DEFAULT NULL, p_roles text[] DEFAULT NULL,
      p_since timestamptz DEFAULT NULL, p_until timestamptz DEFAULT NULL, p_best_first boolean DEFAULT false,
      p_after_store text DEFAULT NULL, p_after_at timestamptz DEFAULT NULL, p_after_id uuid DEFAULT NULL,
      p_after_rank double precision DEFAULT NULL, p_limit integer DEFAULT 20
    ) RETURNS TABLE (
      store text, id uuid, conversation_id uuid, role text, created_at timestamptz, snippet text, rank double precision
    )
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
    #variable_conflict use_column
    DECLARE
      v_me CONSTANT uuid := coalesce(
        nullif(pg_catalog.current_setting('request.jwt.claim.sub', true), ''),
        nullif(nullif(pg_catalog.current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub', ''));
      -- in here current_user is the owner of the tables
      v_role CONSTANT name := CASE pg_catalog.current_setting('role')
        WHEN 'none' THEN session_user ELSE pg_catalog.current_setting('role')::name END;
      v_sees_all CONSTANT boolean := v_role = current_user OR EXISTS (
        SELECT FROM chat_internal.role_names AS n
        WHERE n.logical = 'service_role' AND pg_catalog.pg_has_role(v_role, n.actual::name, 'USAGE'));
      v_user CONSTANT uuid := CASE WHEN v_sees_all THEN coalesce(p_user_id, v_me) ELSE v_me END;
      v_limit CONSTANT integer := least(greatest(coalesce(p_limit, 20), 0), 200);
      v_wanted CONSTANT integer := CASE WHEN p_best_first THEN 100 ELSE v_limit END;
      v_after_at CONSTANT timestamptz := CASE WHEN p_after_id IS NOT NULL THEN coalesce(p_after_at, '-infinity') END;

      v_token text[];
      v_words text;
      v_mark text;
      v_marks text[] := '{}';
      v_group integer := 1;
      v_terms bigint[] := '{}';  -- of this group
      v_condition text := '';
      v_needles text[] := '{}';  -- what a text must contain, or must not; of which group; which of the two
      v_groups integer[] := '{}';
      v_excluded boolean[] := '{}';

      v_store text;
      v_scope text;
      v_part text;
      v_step integer;
      v_ceiling timestamptz;
      v_floor timestamptz;
      v_count integer;
      v_row record;
      v_text text;
      v_times bigint;
      v_stores text[] := '{}';
      v_ids uuid[] := '{}';
      v_ats timestamptz[] := '{}';
      v_ranks double precision[] := '{}';
    BEGIN
      IF pg_catalog.length(p_query) > 1000 THEN
        RAISE EXCEPTION 'The query has % characters, and 1000 are allowed. Nothing was searched: shorten it.',
          pg_catalog.length(p_query) USING ERRCODE = 'program_limit_exceeded';
      ELSIF v_user IS NULL AND v_sees_all THEN
        RAISE EXCEPTION 'The messages of one user are searched, and none was named. Pass p_user_id.'
          USING ERRCODE = 'null_value_not_allowed';
      ELSIF v_user IS NULL OR NOT v_sees_all AND p_user_id <> v_user THEN
        RETURN;
      END IF;

      -- words, "phrases", -without, and OR between groups of them
      FOR v_token IN
        SELECT r.token FROM pg_catalog.regexp_matches(p_query, '(-?)(?:"([^"]*)"?|([^\s"]+))', 'g') AS r (token)
        UNION ALL SELECT ARRAY['', NULL, 'or']
      LOOP
        IF v_token[1] = '' AND pg_catalog.lower(v_token[3]) = 'or' THEN
          IF v_terms <> '{}' THEN
            v_condition := v_condition || CASE v_condition WHEN '' THEN '' ELSE ' OR ' END || pg_catalog.format(
              'chat_internal.search_terms(m.user_id, m.content) @> %L::bigint[]', v_terms);
          END IF;
          v_terms := '{}';
          v_group := v_group + 1;
          CONTINUE;
        END IF;
        v_words := chat_internal.search_text(coalesce(v_token[2], v_token[3]));
        CONTINUE WHEN v_words = ' ';
        v_mark := pg_catalog.replace(pg_catalog.btrim(v_words, ' '), ' ', '[ BETWEEN]*');
        IF v_words ~ '^ [DENSE]{2}' THEN  -- found within a run; one character alone is found alone
          v_words := pg_catalog.ltrim(v_words, ' ');
        ELSE
          v_mark := '(?<![^ BETWEENDENSE])' || v_mark;
        END IF;
        IF v_words ~ '[DENSE]{2} $' THEN
          v_words := pg_catalog.rtrim(v_words, ' ');
        ELSE
          v_mark := v_mark || '(?![^ BETWEENDENSE])';
        END IF;
        v_needles := v_needles || v_words;
        v_groups := v_groups || v_group;
        v_excluded := v_excluded || (v_token[1] = '-');
        IF v_token[1] = '' THEN
          v_terms := v_terms || chat_internal.search_terms(v_user, v_words);
          v_marks := v_marks || v_mark;
        END IF;
      END LOOP;
      IF v_condition = '' THEN
        RETURN;
      END IF;

      v_condition := pg_catalog.format('(%s)', v_condition)
        || coalesce(' AND m.role = ANY (' || pg_catalog.quote_literal(p_roles) || '::text[])', '')
        || CASE WHEN v_sees_all THEN '' ELSE pg_catalog.format(
             ' AND (m.tenant_id IS NULL OR m.tenant_id = ANY (%L::uuid[]))',
             ARRAY(SELECT tu.tenant_id FROM public.tenant_users AS tu WHERE tu.user_id = v_user)) END
        || pg_catalog.format(' AND m.conversation_id <> ALL (%L::uuid[])',
             ARRAY(SELECT c.id FROM public.conversations AS c WHERE c.user_id = v_user AND c.deleted_at IS NOT NULL));

      FOREACH v_store IN ARRAY ARRAY['messages', 'chat_messages'] LOOP
        v_scope := pg_catalog.format('FROM public.%I AS m WHERE m.user_id = %L', v_store, v_user)
          || coalesce(' AND m.conversation_id = ' || pg_catalog.quote_literal(p_conversation_id), '')
          || coalesce(' AND m.created_at >= ' || pg_catalog.quote_literal(p_since), '')
          || coalesce(' AND m.created_at <= ' || pg_catalog.quote_literal(p_until), '');
        v_ceiling := CASE WHEN NOT p_best_first THEN v_after_at END;
        v_count := 0;
        FOREACH v_step IN ARRAY ARRAY[1000, 10000, NULL] LOOP
          v_part := v_scope || coalesce(' AND (m.created_at <= ' || pg_catalog.quote_literal(v_ceiling)
            || CASE WHEN v_step IS NULL THEN ' OR m.created_at IS NULL)' ELSE ')' END, '');
          IF v_step IS NOT NULL THEN
            EXECUTE pg_catalog.format('SELECT m.created_at %s AND m.created_at IS NOT NULL'
              ' ORDER BY m.created_at DESC OFFSET %s LIMIT 1', v_part, v_step) INTO v_floor;
            CONTINUE WHEN v_floor IS NULL;  -- there are no more than that
            v_part := v_part || pg_catalog.format(' AND m.created_at > %L', v_floor);
          END IF;
          FOR v_row IN EXECUTE pg_catalog.format('SELECT m.id, coalesce(m.created_at, ''-infinity'') AS at'
            ' %s AND %s ORDER BY 2 DESC, 1 DESC', v_part, v_condition)
          LOOP
            CONTINUE WHEN NOT p_best_first
              AND (v_row.at, v_row.id, v_store) >= (v_after_at, p_after_id, coalesce(p_after_store, ''));
            IF v_store = 'messages' THEN
              SELECT m.content INTO v_text FROM public.messages AS m WHERE m.id = v_row.id;
            ELSE
              SELECT m.content INTO v_text FROM public.chat_messages AS m WHERE m.id = v_row.id;
            END IF;
            v_text := chat_internal.search_text(v_text);
            SELECT pg_catalog.max(g.times) INTO v_times FROM (
              SELECT pg_catalog.sum(n.times) AS times
              FROM (
                SELECT u.part, u.excluded, (pg_catalog.length(v_text)
                  - pg_catalog.length(pg_catalog.replace(v_text, u.needle, ''))) / pg_catalog.length(u.needle) AS times
                FROM ROWS FROM (pg_catalog.unnest(v_needles), pg_catalog.unnest(v_groups),
                                pg_catalog.unnest(v_excluded)) AS u (needle, part, excluded)
              ) AS n
              GROUP BY n.part
              HAVING pg_catalog.bool_and((n.times > 0) <> n.excluded) AND NOT pg_catalog.bool_and(n.excluded)
            ) AS g;
            CONTINUE WHEN v_times IS NULL;
            v_stores := v_stores || v_store;
            v_ids := v_ids || v_row.id;
            v_ats := v_ats || v_row.at;
            v_ranks := v_ranks || v_times / pg_catalog.ln((10 + pg_catalog.length(v_text))::double precision);
            v_count := v_count + 1;
            EXIT WHEN v_count = v_wanted;
          END LOOP;
          EXIT WHEN v_count = v_wanted;
          v_ceiling := v_floor;
        END LOOP;
      END LOOP;

      v_mark := pg_catalog.array_to_string(v_marks, '|');
      RETURN QUERY
        SELECT h.store, h.id, m.conversation_id, m.role::text, m.created_at,
          CASE WHEN m.at > 61 THEN '…' ELSE '' END
            || pg_catalog.regexp_replace(pg_catalog.substr(m.content, greatest(m.at - 60, 1), 240), v_mark,
                                         pg_catalog.chr(2) || '\&' || pg_catalog.chr(3), 'gi')
            || CASE WHEN pg_catalog.length(m.content) > greatest(m.at - 61, 0) + 240 THEN '…' ELSE '' END,
          h.rank
        FROM (
          SELECT * FROM ROWS FROM (pg_catalog.unnest(v_stores), pg_catalog.unnest(v_ids), pg_catalog.unnest(v_ats),
                                   pg_catalog.unnest(v_ranks)) AS u (store, id, at, rank)
          WHERE NOT p_best_first OR p_after_id IS NULL
            OR (u.rank, u.at, u.id, u.store) < (p_after_rank, v_after_at, p_after_id, coalesce(p_after_store, ''))
          ORDER BY CASE WHEN p_best_first THEN u.rank END DESC, u.at DESC, u.id DESC, u.store DESC
          LIMIT v_limit
        ) AS h
        CROSS JOIN LATERAL (
          SELECT s.*, pg_catalog.regexp_instr(s.content, v_mark, 1, 1, 0, 'i') AS at
          FROM (
            SELECT o.conversation_id, o.role, o.created_at, pg_catalog.translate(
              pg_catalog.left(o.content, 32768), pg_catalog.chr(2) || pg_catalog.chr(3), '') AS content
            FROM (
              SELECT t.conversation_id, t.role, t.created_at, t.content FROM public.messages AS t
              WHERE t.id = h.id AND h.store = 'messages'
              UNION ALL
              SELECT t.conversation_id, t.role, t.created_at, t.content FROM public.chat_messages AS t
              WHERE t.id = h.id AND h.store = 'chat_messages'
            ) AS o
          ) AS s
        ) AS m
        ORDER BY CASE WHEN p_best_first THEN h.rank END DESC, h.at DESC, h.id DESC, h.store DESC;
    END
    $$
"""

ARGUMENTS = (
    "text, uuid, uuid, text[], timestamptz, timestamptz, boolean, text, timestamptz, uuid, double precision, integer"
)


def upgrade() -> None:
    for function in (TERMS, TEXT, SEARCH):
        op.sql(function.replace("BETWEEN", BETWEEN).replace("DENSE", DENSE))
    op.grant_only("FUNCTION chat_internal.search_terms(uuid, text)", authenticated="EXECUTE", service_role="EXECUTE")
    op.sql("GRANT EXECUTE ON FUNCTION chat_internal.search_terms(uuid, text) TO PUBLIC")
    op.grant_only("FUNCTION chat_internal.search_text(text)")
    op.grant_only(
        f"FUNCTION chat_internal.search_messages({ARGUMENTS})", authenticated="EXECUTE", service_role="EXECUTE"
    )


def downgrade() -> None:
    op.sql(f"DROP FUNCTION chat_internal.search_messages({ARGUMENTS})")
    op.sql("DROP FUNCTION chat_internal.search_text(text)")
    op.sql("DROP FUNCTION chat_internal.search_terms(uuid, text)")
