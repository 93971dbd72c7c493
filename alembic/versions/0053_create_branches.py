"""Create what reads branches.

What:   in chat_internal: branch(), a page from a message or the end of the active branch back; branch_elements(), what
        chat_sessions shows of one; parent_of(), siblings() and latest_leaf().
Why:    a step back is one look-up, wherever it is in whatever tree, and along the trunk one range of an index. They run
        as their caller, so that policies bind them.
Locks:  none.
Undone: the functions are dropped.

Revision ID: 0053
Revises: 0052
"""

from alembic import op

revision = "0053"
down_revision = "0052"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.sql(
        """
        -- by index, always, as in 0031. A page from p_before back, newest first; NULL is the end of the active branch
        CREATE FUNCTION chat_internal.branch(p_conversation_id uuid, p_before uuid, p_limit integer)
        RETURNS SETOF public.messages
        LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
        BEGIN
          RETURN QUERY
          WITH RECURSIVE chain AS (
            SELECT m AS said, m.user_id, m.parent_id, m.id, (p_before IS NULL)::integer AS place
            FROM public.messages AS m
            WHERE m.conversation_id = p_conversation_id AND m.id = coalesce(
              p_before,
              (SELECT c.head_message_id FROM public.conversations AS c WHERE c.id = p_conversation_id),
              (SELECT n.id FROM public.messages AS n WHERE n.conversation_id = p_conversation_id
               ORDER BY n.created_at DESC, n.seq DESC LIMIT 1)
            )
            UNION ALL
            SELECT m, m.user_id, m.parent_id, m.id, c.place + 1
            FROM chain AS c JOIN public.messages AS m
              ON m.user_id = c.user_id AND m.conversation_id = p_conversation_id AND m.id = c.parent_id
            WHERE c.parent_id <> c.id AND (c.place < p_limit OR p_limit IS NULL)
          )
          SELECT (p.said).*
          FROM (
            SELECT c.said, c.place::bigint FROM chain AS c WHERE c.place > 0
            UNION ALL
            SELECT t.said, c.place + t.place
            FROM chain AS c CROSS JOIN LATERAL (
              SELECT m AS said, pg_catalog.row_number() OVER (ORDER BY m.created_at DESC, m.seq DESC) AS place
              FROM public.messages AS m
              WHERE m.conversation_id = p_conversation_id AND m.user_id = c.user_id AND m.parent_id IS NULL
                AND (m.created_at, m.seq) < ((c.said).created_at, (c.said).seq)
              ORDER BY m.created_at DESC, m.seq DESC
              LIMIT p_limit
            ) AS t
            WHERE c.parent_id IS NULL
          ) AS p
          ORDER BY p.place
          LIMIT p_limit;
        END
        $$;

        -- the active branch as chat_sessions shows it; the view would name the columns in the order that the table has
        CREATE FUNCTION chat_internal.branch_elements(p_conversation_id uuid) RETURNS jsonb
        LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
          RETURN (
            SELECT pg_catalog.jsonb_agg(b.element ORDER BY b.place DESC)
            FROM (
              SELECT chat_internal.message_element(m.*) AS element, pg_catalog.row_number() OVER () AS place
              FROM chat_internal.branch(p_conversation_id, NULL, NULL) AS m
            ) AS b
          );
        END
        $$;

        -- the message that p_message_id answers: the one before it in the trunk, where it names none; NULL is a first
        CREATE FUNCTION chat_internal.parent_of(p_conversation_id uuid, p_message_id uuid) RETURNS uuid
        LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
        DECLARE
          v_of public.messages;
          v_parent uuid;
        BEGIN
          SELECT m.* INTO v_of FROM public.messages AS m
          WHERE m.id = p_message_id AND m.conversation_id = p_conversation_id;
          IF NOT FOUND THEN
            RAISE foreign_key_violation USING MESSAGE = pg_catalog.format(
              'There is no message %s in conversation %s.', p_message_id, p_conversation_id);
          END IF;
          IF v_of.parent_id IS NOT NULL THEN
            RETURN CASE WHEN v_of.parent_id <> v_of.id THEN v_of.parent_id END;
          END IF;
          SELECT m.id INTO v_parent FROM public.messages AS m
          WHERE m.conversation_id = p_conversation_id AND m.user_id = v_of.user_id AND m.parent_id IS NULL
            AND (m.created_at, m.seq) < (v_of.created_at, v_of.seq)
          ORDER BY m.created_at DESC, m.seq DESC
          LIMIT 1;
          RETURN v_parent;
        END
        $$;

        -- the answers to what p_message_id answers, itself among them, the earliest written first
        CREATE FUNCTION chat_internal.siblings(p_conversation_id uuid, p_message_id uuid)
        RETURNS SETOF public.messages
        LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
        DECLARE
          v_parent public.messages;
        BEGIN
          SELECT m.* INTO v_parent FROM public.messages AS m
          WHERE m.id = chat_internal.parent_of(p_conversation_id, p_message_id)
            AND m.conversation_id = p_conversation_id;
          IF v_parent.id IS NULL THEN
            RETURN QUERY SELECT s.* FROM (
              SELECT m.* FROM public.messages AS m
              WHERE m.conversation_id = p_conversation_id AND m.parent_id = m.id
              UNION ALL
              (SELECT m.* FROM public.messages AS m
               WHERE m.conversation_id = p_conversation_id AND m.parent_id IS NULL
               ORDER BY m.created_at, m.seq
               LIMIT 1)
            ) AS s ORDER BY s.seq;
            RETURN;
          END IF;
          RETURN QUERY SELECT s.* FROM (
            SELECT m.* FROM public.messages AS m
            WHERE m.user_id = v_parent.user_id AND m.conversation_id = p_conversation_id
              AND m.parent_id = v_parent.id AND m.id <> v_parent.id
            UNION ALL
            (SELECT m.* FROM public.messages AS m
             WHERE m.conversation_id = p_conversation_id AND m.user_id = v_parent.user_id AND m.parent_id IS NULL
               AND v_parent.parent_id IS NULL AND (m.created_at, m.seq) > (v_parent.created_at, v_parent.seq)
             ORDER BY m.created_at, m.seq
             LIMIT 1)
          ) AS s ORDER BY s.seq;
        END
        $$;

        -- from a message along the answers written last to the end: the branch that was shown when it was left
        CREATE FUNCTION chat_internal.latest_leaf(p_conversation_id uuid, p_message_id uuid) RETURNS uuid
        LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
        DECLARE
          v_at public.messages;
          v_next public.messages;
        BEGIN
          SELECT m.* INTO v_next FROM public.messages AS m
          WHERE m.id = p_message_id AND m.conversation_id = p_conversation_id;
          IF NOT FOUND THEN
            RAISE foreign_key_violation USING MESSAGE = pg_catalog.format(
              'There is no message %s in conversation %s.', p_message_id, p_conversation_id);
          END IF;
          WHILE v_next.id IS NOT NULL LOOP
            v_at := v_next;
            SELECT m.* INTO v_next FROM public.messages AS m
            WHERE m.user_id = v_at.user_id AND m.conversation_id = p_conversation_id
              AND m.parent_id = v_at.id AND m.id <> v_at.id
            ORDER BY m.seq DESC
            LIMIT 1;
            IF v_next.id IS NULL AND v_at.parent_id IS NULL THEN  -- the trunk goes on: what hangs on it is later
              SELECT m.* INTO v_next FROM public.messages AS m
              WHERE m.conversation_id = p_conversation_id AND m.user_id = v_at.user_id AND m.parent_id IS NULL
                AND (m.created_at, m.seq) > (v_at.created_at, v_at.seq)
              ORDER BY m.created_at, m.seq
              LIMIT 1;
            END IF;
          END LOOP;
          RETURN v_at.id;
        END
        $$;
        """
    )
    for function in (
        "branch(uuid, uuid, integer)",
        "branch_elements(uuid)",
        "parent_of(uuid, uuid)",
        "siblings(uuid, uuid)",
        "latest_leaf(uuid, uuid)",
    ):
        op.grant_only(f"FUNCTION chat_internal.{function}", authenticated="EXECUTE", service_role="EXECUTE")


def downgrade() -> None:
    op.sql(
        """
        DROP FUNCTION chat_internal.latest_leaf(uuid, uuid);
        DROP FUNCTION chat_internal.siblings(uuid, uuid);
        DROP FUNCTION chat_internal.parent_of(uuid, uuid);
        DROP FUNCTION chat_internal.branch_elements(uuid);
        DROP FUNCTION chat_internal.branch(uuid, uuid, integer);
        """
    )
