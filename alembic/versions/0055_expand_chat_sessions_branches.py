"""Expand chat_sessions to show and write the active branch of a conversation, and to hide what is in the trash.

What:   the view and store_session_messages(), which its INSTEAD OF trigger calls, read the branch that is shown.
Why:    clients that know arrays see one thread, and what they write goes on in it. A conversation without branches is
        read as before. By itself, since its clients lock the view before the tables: a revision that has locked a table
        would wait for those who wait for it.
Locks:  AccessExclusive on public.chat_sessions, an instant.
Undone: both read all messages of a conversation again.

Revision ID: 0055
Revises: 0054
"""

from alembic import op

revision = "0055"
down_revision = "0054"
branch_labels = None
depends_on = None

# The columns of the application's own are those that the view has after ours.
CHAT_SESSIONS = """
    DO $do$
    BEGIN
      EXECUTE pg_catalog.format($view$
        CREATE OR REPLACE VIEW public.chat_sessions WITH (security_invoker = true) AS
        SELECT
          CASE WHEN true THEN c.id END AS id,  -- the planner sees through it, PostgREST does not
          c.tenant_id,
          c.user_id,
          coalesce(%s, '[]') AS messages,
          c.created_at,
          c.updated_at%%s
        FROM public.conversations AS c%s
      $view$, (
        SELECT pg_catalog.string_agg(pg_catalog.format(', c.%%I', a.attname), '' ORDER BY a.attnum)
        FROM pg_catalog.pg_attribute AS a
        WHERE a.attrelid = 'public.chat_sessions'::regclass AND a.attnum > 6 AND NOT a.attisdropped
      ));
    END
    $do$
"""
TRUNK = """(
            SELECT pg_catalog.jsonb_agg(chat_internal.message_element(m.*) ORDER BY m.seq)
            FROM public.messages AS m
            WHERE m.conversation_id = c.id AND m.user_id = c.user_id
          )"""
BRANCH = f"""CASE
          WHEN c.head_message_id IS NULL THEN {TRUNK}
          ELSE chat_internal.branch_elements(c.id)
          END"""

STORE = """
        CREATE OR REPLACE FUNCTION chat_internal.store_session_messages(
          p_conversation_id uuid, p_user_id uuid, p_messages jsonb, p_at timestamptz
        ) RETURNS void
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
          v_present bigint;
        BEGIN
          -- position by position: what is equal keeps its row, what differs is changed in place, the rest goes or comes
          WITH present AS (%s
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
        $$
"""
ALL_PRESENT = """
            SELECT m.id, pg_catalog.row_number() OVER (ORDER BY m.seq) AS ordinal,
                   chat_internal.message_element(m) AS element
            FROM public.messages AS m
            WHERE m.conversation_id = p_conversation_id AND m.user_id = p_user_id"""
BRANCH_PRESENT = f"""{ALL_PRESENT}
          AND NOT EXISTS (SELECT FROM public.conversations AS c
                          WHERE c.id = p_conversation_id AND c.head_message_id IS NOT NULL)
        UNION ALL
        SELECT b.id, pg_catalog.row_number() OVER (ORDER BY b.place DESC), b.element
        FROM (
          SELECT m.id, chat_internal.message_element(m.*) AS element, pg_catalog.row_number() OVER () AS place
          FROM public.conversations AS c, chat_internal.branch(c.id, NULL, NULL) AS m
          WHERE c.id = p_conversation_id AND c.head_message_id IS NOT NULL AND m.user_id = p_user_id
        ) AS b"""


def upgrade() -> None:
    op.sql(CHAT_SESSIONS % (BRANCH, " WHERE c.deleted_at IS NULL"))
    op.sql(STORE % BRANCH_PRESENT)
    op.when("NOT chat_internal.is_adopted('conversations')", entitle_old_clients)


def entitle_old_clients() -> None:
    """Let the team's own roles that were granted chat_sessions read the branch that it shows now."""
    for command in ("SELECT", "INSERT", "UPDATE"):
        op.entitle(
            "branches of chat_sessions",
            "conversations",
            command,
            [
                "EXECUTE ON FUNCTION chat_internal.branch(uuid, uuid, integer)",
                "EXECUTE ON FUNCTION chat_internal.branch_elements(uuid)",
            ],
        )


def downgrade() -> None:
    op.release("branches of chat_sessions")
    op.sql(STORE % ALL_PRESENT)
    op.sql(CHAT_SESSIONS % (TRUNK, ""))
