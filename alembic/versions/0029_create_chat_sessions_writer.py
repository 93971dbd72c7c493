"""Create what writes for clients through the view chat_sessions, which the next revision makes of the table.

What:   chat_internal.write_chat_session(): inserts, whole-array updates and deletes, as the caller.
Why:    no view with INSTEAD OF triggers takes INSERT ... ON CONFLICT. PostgREST writes that where it knows a primary
        key and a plain INSERT where it does not, with the request's headers in a setting; so the view hides its key,
        and an upsert is told by its header. The statements are put together for each row, because an application can
        have columns of its own there: the view shows them after ours. A NULL in an insert stands for what was not
        sent, as for our columns: the column then has its default.
Locks:  none.
Undone: the function is dropped.

Revision ID: 0029
Revises: 0028
"""

from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.sql(
        r"""
        CREATE FUNCTION chat_internal.write_chat_session() RETURNS trigger
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
          made record;
          sent text[];
          own text[] := ARRAY(
            SELECT v.attname FROM pg_catalog.pg_attribute AS v
            JOIN pg_catalog.pg_attribute AS t ON t.attname = v.attname
              AND t.attrelid = pg_catalog.to_regclass('public.conversations')
            WHERE v.attrelid = TG_RELID AND v.attnum > 6 AND NOT v.attisdropped
              AND t.attgenerated = '' AND t.attidentity <> 'a'
            ORDER BY v.attnum
          );
          duplicates text := substring(
            nullif(pg_catalog.current_setting('request.headers', true), '')::json ->> 'prefer'
            FROM 'resolution=([a-z]+)-duplicates'
          );
        BEGIN
          IF TG_OP = 'DELETE' THEN
            DELETE FROM public.conversations AS c WHERE c.id = OLD.id AND c.user_id = OLD.user_id;
            RETURN OLD;
          ELSIF TG_OP = 'INSERT' THEN
            IF own <> '{}' THEN
              sent := ARRAY(SELECT o FROM pg_catalog.unnest(own) AS o
                            WHERE pg_catalog.to_jsonb(NEW) -> o <> 'null');
            END IF;
            EXECUTE pg_catalog.format(
              'INSERT INTO public.conversations AS c (id, tenant_id, user_id, created_at, updated_at%s)'
              ' VALUES (coalesce(($1).id, pg_catalog.gen_random_uuid()), ($1).tenant_id, ($1).user_id,'
              ' coalesce(($1).created_at, ($1).updated_at, pg_catalog.now()),'
              ' coalesce(($1).updated_at, ($1).created_at, pg_catalog.now())%s)'
              ' ON CONFLICT DO NOTHING RETURNING c.*',
              (SELECT pg_catalog.string_agg(pg_catalog.format(', %I', o), '') FROM pg_catalog.unnest(sent) AS o),
              (SELECT pg_catalog.string_agg(pg_catalog.format(', ($1).%I', o), '') FROM pg_catalog.unnest(sent) AS o)
            ) INTO made USING NEW;
            IF made.id IS NULL THEN
              IF duplicates = 'ignore' THEN
                RETURN NULL;
              ELSIF duplicates = 'merge' THEN  -- what was not sent is NULL here, and stays
                EXECUTE pg_catalog.format(
                  'UPDATE public.chat_sessions AS s SET %s WHERE s.id = ($1).id AND s.user_id = ($1).user_id'
                  ' RETURNING s.*',
                  (SELECT pg_catalog.string_agg(pg_catalog.format('%1$I = coalesce(($1).%1$I, s.%1$I)', o), ', ')
                   FROM pg_catalog.unnest('{tenant_id,messages,created_at,updated_at}' || own) AS o)
                ) INTO made USING NEW;
                IF made.id IS NOT NULL THEN
                  RETURN made;
                END IF;
              END IF;
              RAISE unique_violation USING MESSAGE = 'a chat session with this id stands already';
            END IF;
            NEW.messages := coalesce(NEW.messages, '[]');
          ELSE
            IF (NEW.id, NEW.user_id) IS DISTINCT FROM (OLD.id, OLD.user_id) THEN
              RAISE EXCEPTION 'id and user_id of a chat session never change'
                USING ERRCODE = 'feature_not_supported', HINT = 'Delete the session and insert another.';
            END IF;
            EXECUTE pg_catalog.format(
              'UPDATE public.conversations AS c SET tenant_id = ($1).tenant_id,'
              ' created_at = coalesce(($1).created_at, ($2).created_at),'
              -- of what is written here the table sees all but the messages
              ' updated_at = CASE WHEN ($1).messages IS DISTINCT FROM ($2).messages'
              ' AND ($1).updated_at IS NOT DISTINCT FROM ($2).updated_at THEN pg_catalog.now()'
              ' ELSE coalesce(($1).updated_at, ($2).updated_at) END%s'
              ' WHERE c.id = ($2).id AND c.user_id = ($2).user_id RETURNING c.*',
              (SELECT pg_catalog.string_agg(pg_catalog.format(', %1$I = ($1).%1$I', o), '')
               FROM pg_catalog.unnest(own) AS o)
            ) INTO made USING NEW, OLD;
            IF made.id IS NULL THEN
              RETURN NULL;  -- deleted meanwhile: the statement counts no row, as on a table
            END IF;
          END IF;
          IF own = '{}' THEN
            NEW.id := made.id;
            NEW.created_at := made.created_at;
            NEW.updated_at := made.updated_at;
          ELSE
            NEW := pg_catalog.jsonb_populate_record(NEW, pg_catalog.to_jsonb(made) - 'messages');
          END IF;
          IF TG_OP = 'INSERT' OR NEW.messages IS DISTINCT FROM OLD.messages THEN
            PERFORM chat_internal.store_session_messages(
              NEW.id, NEW.user_id, NEW.messages, CASE TG_OP WHEN 'INSERT' THEN NEW.created_at ELSE NEW.updated_at END
            );
          END IF;
          RETURN NEW;
        END
        $$
        """
    )
    op.grant_only("FUNCTION chat_internal.write_chat_session()")


def downgrade() -> None:
    op.sql("DROP FUNCTION chat_internal.write_chat_session()")
