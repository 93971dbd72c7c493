"""Validate that every session has its times and a row for each element of its array.

What:   the two CHECKs of 0022 are validated; the next revision turns them into NOT NULL. Elements and rows are
        counted.
Why:    in a revision of its own, so that the scans are over before a strong lock is asked for. The count is made
        here because array and rows change together until the next revision; afterwards there is no array to compare
        with.
Locks:  ShareUpdateExclusive on public.chat_sessions for two scans: reads and writes go on.
Undone: the CHECKs are there again, not yet validated.

Revision ID: 0027
Revises: 0026
"""

from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.when("NOT chat_internal.is_adopted('conversations')", validate_chat_sessions)


def validate_chat_sessions() -> None:
    op.validate_not_null_check("chat_sessions", "created_at")
    op.validate_not_null_check("chat_sessions", "updated_at")
    op.verify(
        none_of={
            "sessions whose array and rows differ in number": """
                SELECT count(*) FROM public.chat_sessions AS s
                WHERE (
                  SELECT count(*) FROM public.messages AS m WHERE m.conversation_id = s.id AND m.user_id = s.user_id
                )
                  IS DISTINCT FROM CASE jsonb_typeof(s.messages)
                    WHEN 'array' THEN jsonb_array_length(s.messages)
                    WHEN 'null' THEN 0
                    ELSE (s.messages IS NOT NULL)::integer
                  END
            """,
            "sessions whose array was not kept": """
                SELECT count(*) FROM public.chat_sessions AS s
                WHERE NOT EXISTS (
                  SELECT FROM chat_internal.chat_session_arrays AS a
                  WHERE a.session_id = s.id AND a.messages IS NOT DISTINCT FROM s.messages
                )
            """,
        },
        figures={
            "sessions": "SELECT count(*) FROM public.chat_sessions",
            "messages in them": "SELECT count(*) FROM public.messages",
        },
    )


def downgrade() -> None:
    op.when("NOT chat_internal.is_adopted('conversations')", restore_checks)


def restore_checks() -> None:
    for column in ("created_at", "updated_at"):
        op.drop_not_null_check("chat_sessions", column)
        op.add_not_null_check("chat_sessions", column)
