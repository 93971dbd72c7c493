"""Expand every write of an array into rows, from now on.

What:   the functions that read a message out of a JSON element and give it back, the table that keeps the arrays,
        and a trigger on chat_sessions that writes both whenever an array is written.
Why:    the trigger comes before the backfill, so that nothing written meanwhile is missed. An element becomes one
        row and none is lost, whatever it is: role by known name, else user (never system, which would hand the text
        authority); content as text, other JSON as its JSON text, null as ''; time from timestamp, created_at or
        createdAt in ISO 8601 or epoch seconds or milliseconds, else the session's. What the columns cannot hold
        stands in metadata.legacy: "fields" is the element without its text, "element" is one whose content was no
        text; message_element() puts it together again. The trigger's function is SECURITY DEFINER: it keeps arrays
        that no client may read, and works on NEW alone.
Locks:  ShareRowExclusive on public.chat_sessions, an instant.
Undone: trigger, functions and kept arrays are dropped; chat_sessions has them all.

Revision ID: 0025
Revises: 0024
"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "chat_session_arrays",
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("messages", JSONB(), nullable=True),
        sa.PrimaryKeyConstraint("session_id", name="chat_session_arrays_pkey"),
        schema="chat_internal",
    )
    op.sql(
        """
        DO $$ BEGIN
          EXECUTE pg_catalog.format(
            'ALTER TABLE chat_internal.chat_session_arrays ADD CONSTRAINT fk_chat_session_arrays_session_id'
            ' FOREIGN KEY (session_id, user_id) REFERENCES %s (id, user_id) ON DELETE CASCADE',
            coalesce(pg_catalog.to_regclass('public.conversations')::text, 'public.chat_sessions'));
        END $$
        """
    )
    op.create_index(
        "idx_chat_session_arrays_session_id",
        "chat_session_arrays",
        ["session_id", "user_id"],
        schema="chat_internal",
    )
    op.enable_row_level_security("chat_internal.chat_session_arrays")
    op.create_policy(
        "chat_session_arrays_none", "chat_internal.chat_session_arrays", "ALL", to="authenticated", using="false"
    )
    op.grant_only("chat_internal.chat_session_arrays")

    op.sql(
        r"""
        -- not PARALLEL SAFE: EXCEPTION opens a subtransaction, which no parallel worker may before PostgreSQL 17
        CREATE FUNCTION chat_internal.element_time(p_value jsonb) RETURNS timestamptz
        LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp SET "TimeZone" = 'UTC' AS $$
        DECLARE
          v_text text := p_value #>> '{}';
          v_at timestamptz;
        BEGIN
          IF v_text ~ '^\d{9,10}(\.\d+)?$' THEN
            RETURN pg_catalog.to_timestamp(v_text::double precision);
          ELSIF v_text ~ '^\d{12,13}(\.\d+)?$' THEN
            RETURN pg_catalog.to_timestamp(v_text::double precision / 1000);
          ELSIF v_text ~ '^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d([.,]\d+)?)?( ?(Z|[+-]\d\d(:?\d\d)?))?)?$' THEN
            v_at := pg_catalog.replace(v_text, ',', '.')::timestamptz;
            IF v_at >= '0001-01-02' AND v_at < '9999-12-31' THEN  -- what messages take
              RETURN v_at;
            END IF;
          END IF;
          RETURN NULL;  -- 'yesterday' and 'infinity' mean something to PostgreSQL and nothing to a reader
        EXCEPTION WHEN datetime_field_overflow OR invalid_datetime_format OR invalid_time_zone_displacement_value THEN
          RETURN NULL;
        END
        $$;

        CREATE FUNCTION chat_internal.element_role(p_element jsonb) RETURNS text
        LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
          SELECT CASE
            WHEN p_element ->> 'role' IN ('user', 'assistant', 'agent', 'system', 'tool') THEN p_element ->> 'role'
            ELSE 'user'
          END
        $$;

        CREATE FUNCTION chat_internal.session_elements(p_messages jsonb, p_at timestamptz)
        RETURNS TABLE (
          ordinal bigint, element jsonb, role text, content text, tool_calls jsonb, metadata jsonb,
          created_at timestamptz
        )
        LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
          SELECT
            e.ordinal,
            e.element,
            chat_internal.element_role(f.fields),
            coalesce(f.content #>> '{}', ''),
            nullif(f.fields -> 'tool_calls', 'null'),
            f.own_metadata || pg_catalog.jsonb_build_object(
              'legacy',
              CASE
                WHEN pg_catalog.jsonb_typeof(f.content) = 'string' AND pg_catalog.jsonb_typeof(e.element) = 'object'
                  THEN pg_catalog.jsonb_build_object(
                    'fields',
                    e.element - 'content'
                      - CASE
                        WHEN pg_catalog.jsonb_typeof(f.fields -> 'tool_calls') <> 'null' THEN 'tool_calls'
                        ELSE 'content'
                      END
                      - CASE WHEN f.own_metadata <> '{}' THEN 'metadata' ELSE 'content' END
                  )
                ELSE pg_catalog.jsonb_build_object('element', e.element)
              END
            ),
            coalesce(
              chat_internal.element_time(f.fields -> 'timestamp'),
              chat_internal.element_time(f.fields -> 'created_at'),
              chat_internal.element_time(f.fields -> 'createdAt'),
              p_at
            )
          FROM pg_catalog.jsonb_array_elements(
            CASE pg_catalog.jsonb_typeof(p_messages)
              WHEN 'array' THEN p_messages
              WHEN 'null' THEN '[]'
              ELSE pg_catalog.jsonb_build_array(p_messages)
            END
          ) WITH ORDINALITY AS e (element, ordinal)
          CROSS JOIN LATERAL (
            SELECT
              CASE WHEN pg_catalog.jsonb_typeof(e.element) = 'object' THEN e.element ELSE '{}' END AS fields,
              CASE WHEN pg_catalog.jsonb_typeof(e.element) = 'object' THEN e.element -> 'content' ELSE e.element END
                AS content,
              CASE
                WHEN pg_catalog.jsonb_typeof(e.element) = 'object'
                  AND pg_catalog.jsonb_typeof(e.element -> 'metadata') = 'object'
                  AND NOT e.element -> 'metadata' ? 'legacy' THEN e.element -> 'metadata'
                ELSE '{}'
              END AS own_metadata
          ) AS f
          WHERE p_messages IS NOT NULL
        $$;

        CREATE FUNCTION chat_internal.message_element(m public.messages) RETURNS jsonb
        LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET "TimeZone" = 'UTC' AS $$
          SELECT CASE
            -- an element whose content was no text, and that nobody has edited since
            WHEN legacy.element IS NOT NULL
              AND m.role = chat_internal.element_role(legacy.element)
              AND m.content = coalesce(
                CASE pg_catalog.jsonb_typeof(legacy.element)
                  WHEN 'object' THEN legacy.element ->> 'content'
                  ELSE legacy.element #>> '{}'
                END, ''
              ) THEN legacy.element
            WHEN legacy.fields IS NOT NULL THEN
              legacy.fields
              || pg_catalog.jsonb_build_object('content', m.content)
              || CASE
                WHEN m.role = chat_internal.element_role(legacy.fields) THEN '{}'
                ELSE pg_catalog.jsonb_build_object('role', m.role)
              END
              || CASE
                WHEN m.tool_calls IS NULL THEN '{}'
                ELSE pg_catalog.jsonb_build_object('tool_calls', m.tool_calls)
              END
              || CASE
                WHEN m.metadata - 'legacy' = '{}' THEN '{}'
                ELSE pg_catalog.jsonb_build_object('metadata', m.metadata - 'legacy')
              END
            ELSE
              pg_catalog.jsonb_build_object(
                'id', m.id, 'role', m.role, 'content', m.content,
                'timestamp', pg_catalog.to_char(m.created_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
              )
              || CASE
                WHEN m.tool_calls IS NULL THEN '{}'
                ELSE pg_catalog.jsonb_build_object('tool_calls', m.tool_calls)
              END
              || CASE
                WHEN m.metadata - 'legacy' = '{}' THEN '{}'
                ELSE pg_catalog.jsonb_build_object('metadata', m.metadata - 'legacy')
              END
          END
          FROM (
            SELECT m.metadata -> 'legacy' -> 'element' AS element, m.metadata -> 'legacy' -> 'fields' AS fields
          ) AS legacy
        $$;

        CREATE FUNCTION chat_internal.store_session_messages(
          p_conversation_id uuid, p_user_id uuid, p_messages jsonb, p_at timestamptz
        ) RETURNS void
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
          v_present bigint;
        BEGIN
          -- position by position: what is equal keeps its row, what differs is changed in place, the rest goes or comes
          WITH present AS (
            SELECT m.id, pg_catalog.row_number() OVER (ORDER BY m.seq) AS ordinal,
                   chat_internal.message_element(m) AS element
            FROM public.messages AS m
            WHERE m.conversation_id = p_conversation_id AND m.user_id = p_user_id
          ), wanted AS (
            SELECT * FROM chat_internal.session_elements(p_messages, p_at)
          ), deleted AS (
            DELETE FROM public.messages AS m
            USING present AS p
            WHERE m.id = p.id AND p.ordinal > (SELECT pg_catalog.count(*) FROM wanted)
          ), changed AS (
            UPDATE public.messages AS m
            SET role = w.role, content = w.content, tool_calls = w.tool_calls, metadata = w.metadata,
                created_at = w.created_at
            FROM present AS p JOIN wanted AS w USING (ordinal)
            WHERE m.id = p.id AND p.element IS DISTINCT FROM w.element
          )
          SELECT pg_catalog.count(*) INTO v_present FROM present;

          INSERT INTO public.messages (conversation_id, user_id, role, content, tool_calls, metadata, created_at)
          SELECT p_conversation_id, p_user_id, w.role, w.content, w.tool_calls, w.metadata, w.created_at
          FROM chat_internal.session_elements(p_messages, p_at) AS w
          WHERE w.ordinal > v_present
          ORDER BY w.ordinal;
        END
        $$;
        """
    )
    for function in (
        "element_time(jsonb)",
        "element_role(jsonb)",
        "session_elements(jsonb, timestamptz)",
        "message_element(public.messages)",
        "store_session_messages(uuid, uuid, jsonb, timestamptz)",
    ):
        op.grant_only(f"FUNCTION chat_internal.{function}", authenticated="EXECUTE", service_role="EXECUTE")
    op.when("NOT chat_internal.is_adopted('conversations')", expand_written_arrays)


def expand_written_arrays() -> None:
    op.sql(
        """
        CREATE FUNCTION chat_internal.expand_chat_session(
          p_session_id uuid, p_user_id uuid, p_messages jsonb, p_at timestamptz
        ) RETURNS void
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
          PERFORM chat_internal.store_session_messages(p_session_id, p_user_id, p_messages, p_at);
          INSERT INTO chat_internal.chat_session_arrays AS a (session_id, user_id, messages)
          VALUES (p_session_id, p_user_id, p_messages)
          ON CONFLICT (session_id) DO UPDATE SET messages = EXCLUDED.messages;
        END
        $$;

        CREATE FUNCTION chat_internal.expand_written_chat_session() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
          PERFORM chat_internal.expand_chat_session(NEW.id, NEW.user_id, NEW.messages, NEW.created_at);
          RETURN NULL;
        END
        $$
        """
    )
    op.grant_only("FUNCTION chat_internal.expand_chat_session(uuid, uuid, jsonb, timestamptz)")
    op.grant_only("FUNCTION chat_internal.expand_written_chat_session()")
    op.sql(
        "CREATE TRIGGER chat_sessions_expand AFTER INSERT OR UPDATE OF messages ON public.chat_sessions"
        " FOR EACH ROW EXECUTE FUNCTION chat_internal.expand_written_chat_session()"
    )


def downgrade() -> None:
    op.when("NOT chat_internal.is_adopted('conversations')", stop_expanding)
    op.sql(
        """
        DROP FUNCTION chat_internal.store_session_messages(uuid, uuid, jsonb, timestamptz);
        DROP FUNCTION chat_internal.message_element(public.messages);
        DROP FUNCTION chat_internal.session_elements(jsonb, timestamptz);
        DROP FUNCTION chat_internal.element_role(jsonb);
        DROP FUNCTION chat_internal.element_time(jsonb);
        """
    )
    # lint: ignore downgrade-destroys -- chat_sessions has every array
    op.drop_table("chat_session_arrays", schema="chat_internal")


def stop_expanding() -> None:
    op.sql(
        """
        DROP TRIGGER chat_sessions_expand ON public.chat_sessions;
        DROP FUNCTION chat_internal.expand_written_chat_session();
        DROP FUNCTION chat_internal.expand_chat_session(uuid, uuid, jsonb, timestamptz);
        """
    )
