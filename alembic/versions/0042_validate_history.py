"""Validate what the chain has moved, in figures.

What:   counts what must be none (messages without conversation, messages of another owner than their conversation,
        users with messages and no conversation, constraints not validated, indexes not valid) and what was moved;
        records what was noted as the team's before the chain, each named in the log.
Why:    a change of this size says at its end that it is right, or stops and says what is not.
Locks:  AccessShare: reads only.
Undone: what was recorded is noted as before.

Revision ID: 0042
Revises: 0041
"""

from alembic import op

revision = "0042"
down_revision = "0041"
branch_labels = None
depends_on = None

TABLES = ", ".join(  # a database's own tables, and what is unfinished on them, are not ours to judge
    f"'{table}'::regclass"
    for table in (
        "public.users",
        "public.tenants",
        "public.tenant_users",
        "public.tasks",
        "public.conversations",
        "public.messages",
        "public.chat_messages",
        "public.brands",
        "public.conversation_sessions",
        "public.conversation_messages",
        "chat_internal.chat_session_arrays",
    )
)


def upgrade() -> None:
    op.verify(
        none_of={
            "chat messages without conversation": (
                "SELECT count(*) FROM public.chat_messages WHERE conversation_id IS NULL"
            ),
            "chat messages whose owner is not their conversation's": (
                "SELECT count(*) FROM public.chat_messages AS m"
                " JOIN public.conversations AS c ON c.id = m.conversation_id WHERE c.user_id <> m.user_id"
            ),
            "messages whose owner is not their conversation's": (
                "SELECT count(*) FROM public.messages AS m JOIN public.conversations AS c ON c.id = m.conversation_id"
                " WHERE c.user_id <> m.user_id"
            ),
            "messages whose tenant is not their conversation's": (
                "SELECT count(*) FROM public.conversations AS c JOIN ("
                "SELECT conversation_id, tenant_id FROM public.messages"
                " UNION ALL SELECT conversation_id, tenant_id FROM public.chat_messages"
                ") AS m ON m.conversation_id = c.id WHERE m.tenant_id IS DISTINCT FROM c.tenant_id"
            ),
            "users with messages and no conversation": (
                "SELECT count(DISTINCT m.user_id) FROM public.chat_messages AS m"
                " WHERE NOT EXISTS (SELECT FROM public.conversations AS c WHERE c.user_id = m.user_id)"
            ),
            "constraints not validated": (
                "SELECT count(*) FROM pg_catalog.pg_constraint AS c"
                f" WHERE NOT c.convalidated AND c.conrelid IN ({TABLES})"
                " AND NOT EXISTS (SELECT FROM chat_internal.kept AS k"
                " WHERE k.object = pg_catalog.concat_ws(' ', 'constraint', c.conrelid, c.conname))"
            ),
            "indexes not valid": (
                f"SELECT count(*) FROM pg_catalog.pg_index WHERE NOT indisvalid AND indrelid IN ({TABLES})"
            ),
        },
        figures={
            "conversations": "SELECT count(*) FROM public.conversations",
            "messages": "SELECT count(*) FROM public.messages",
            "chat messages": "SELECT count(*) FROM public.chat_messages",
        },
    )
    op.keep_what_stood()


def downgrade() -> None:
    op.sql("DO $$ BEGIN PERFORM chat_internal.unsettle_surroundings(); END $$")
