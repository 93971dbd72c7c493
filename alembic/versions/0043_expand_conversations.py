"""Expand conversations by what their owner does with them: archive, pin, read, throw away.

What:   columns archived_at, pinned_at, last_read_at, deleted_at, with a CHECK that drivers can read them, not yet
        validated. Neither they nor a new title or tenant move updated_at. What is in the trash (deleted_at) is nobody's
        default conversation; 0055 hides it from chat_sessions.
Why:    a mark is a time, so that each list has its order. updated_at is the order of the sidebar: it tells of what was
        said, not of who tidied up; a trigger of its own leaves these columns out of the comparison. last_read_at has a
        default: what stands is read as of this upgrade, and a new conversation as of its first moment. Messages that
        name no conversation must not vanish into the trash.
Locks:  AccessExclusive on public.conversations, an instant: the default is constant, so that no row is written.
Undone: the columns are dropped; refused while conversations are archived, pinned or in the trash. When each was read
        is forgotten.

Revision ID: 0043
Revises: 0042
"""

import sqlalchemy as sa

from alembic import op

revision = "0043"
down_revision = "0042"
branch_labels = None
depends_on = None

LOOK = """
    SELECT pg_catalog.format('The table %s has a column %I of your own, and one of that name comes to conversations. '
        'Rename yours and what your application calls it.', c.oid::regclass, a.attname) AS says,
      pg_catalog.format('ALTER TABLE %s RENAME COLUMN %I TO %I;', c.oid::regclass, a.attname,
        'own_' || a.attname) AS mends,
      NULL AS rows, false AS unsafe
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid
    WHERE c.oid IN (pg_catalog.to_regclass('public.conversations'), pg_catalog.to_regclass('public.chat_sessions'))
      AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
      AND a.attname IN ('archived_at', 'pinned_at', 'last_read_at', 'deleted_at')
    ORDER BY a.attnum
"""

DEFAULT_CONVERSATION = """
        -- by index, always: a plan made while the table was small would read all of it for one user after the other
        CREATE OR REPLACE FUNCTION chat_internal.default_conversation(p_user_id uuid) RETURNS uuid
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
        DECLARE
          v_id uuid;
          v_new_id uuid := chat_internal.default_conversation_id(p_user_id);
        BEGIN
          LOOP
            SELECT c.id INTO v_id
            FROM public.conversations AS c
            WHERE c.user_id = p_user_id AND c.tenant_id IS NULL%s
            ORDER BY c.created_at, c.id
            LIMIT 1
            FOR KEY SHARE;
            IF FOUND THEN
              RETURN v_id;
            END IF;
            INSERT INTO public.conversations (id, user_id, title, created_at, updated_at)
            SELECT v_new_id, p_user_id, 'Chat History',
                   coalesce(pg_catalog.min(m.created_at), pg_catalog.now()),
                   coalesce(pg_catalog.max(m.created_at), pg_catalog.now())
            FROM public.chat_messages AS m
            WHERE m.user_id = p_user_id
            ON CONFLICT DO NOTHING; -- of every unique index: of one alone, two writers can deadlock between them
            -- a racing writer's row is found now; an id in a tenant or in another user's hands never would be
            v_new_id := pg_catalog.gen_random_uuid();
          END LOOP;
        END
        $$
"""


def upgrade() -> None:
    op.add_column("conversations", sa.Column("archived_at", sa.TIMESTAMP(timezone=True)), schema="public")
    op.add_column("conversations", sa.Column("pinned_at", sa.TIMESTAMP(timezone=True)), schema="public")
    op.add_column(
        "conversations",
        sa.Column("last_read_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()")),
        schema="public",
    )
    op.add_column("conversations", sa.Column("deleted_at", sa.TIMESTAMP(timezone=True)), schema="public")
    op.create_check_constraint(
        op.f("ck_conversations_marks"),
        "conversations",
        "least(archived_at, pinned_at, last_read_at, deleted_at) >= timestamp '0001-01-02' AT TIME ZONE 'UTC'"
        " AND greatest(archived_at, pinned_at, last_read_at, deleted_at)"
        " < timestamp '9999-12-31' AT TIME ZONE 'UTC'",
        schema="public",
        postgresql_not_valid=True,
    )
    op.sql(
        """
        -- what update_updated_at() does, by all columns but these
        CREATE FUNCTION chat_internal.update_conversation() RETURNS trigger
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
          v_said public.conversations := NEW;
        BEGIN
          v_said.title := OLD.title;
          v_said.tenant_id := OLD.tenant_id;
          v_said.archived_at := OLD.archived_at;
          v_said.pinned_at := OLD.pinned_at;
          v_said.last_read_at := OLD.last_read_at;
          v_said.deleted_at := OLD.deleted_at;
          IF NEW.updated_at IS NOT DISTINCT FROM OLD.updated_at AND v_said OPERATOR(pg_catalog.*<>) OLD
            AND pg_catalog.current_setting('chat_internal.adopting', true) IS DISTINCT FROM 'yes' THEN
            NEW.updated_at := pg_catalog.now();
          END IF;
          RETURN NEW;
        END
        $$;

        CREATE OR REPLACE TRIGGER conversations_updated_at BEFORE UPDATE ON public.conversations
        FOR EACH ROW EXECUTE FUNCTION chat_internal.update_conversation();
        """
    )
    op.grant_only("FUNCTION chat_internal.update_conversation()")
    op.sql(DEFAULT_CONVERSATION % " AND c.deleted_at IS NULL")


def downgrade() -> None:
    op.refuse_data_loss(
        "marks of conversations that are archived, pinned or in the trash",
        "SELECT count(*) FROM public.conversations"
        " WHERE archived_at IS NOT NULL OR pinned_at IS NOT NULL OR deleted_at IS NOT NULL",
    )
    op.sql(DEFAULT_CONVERSATION % "")
    op.sql(
        """
        CREATE OR REPLACE TRIGGER conversations_updated_at BEFORE UPDATE ON public.conversations
        FOR EACH ROW EXECUTE FUNCTION public.update_updated_at();
        DROP FUNCTION chat_internal.update_conversation();
        """
    )
    for column in ("deleted_at", "last_read_at", "pinned_at", "archived_at"):
        op.drop_column("conversations", column, schema="public")  # the CHECK goes with them
