"""Index the messages of creative sessions in their order, which ends in seq, and with what they cost.

What:   idx_conversation_messages_session (session_id, user_id, created_at, seq) and
        idx_conversation_messages_session_created (session_id, created_at, seq), which ended in id, and
        idx_conversation_messages_user (user_id, created_at); each includes cost_usd.
Why:    a page is read from an index in the order that is asked for: from the first by a user, to whose query the policy
        adds user_id, from the second by the service. The costs of a session and of a user are summed from the index:
        from the table, 20,000 messages were as many pages. Each takes the name of the one that it replaces.
Locks:  ShareUpdateExclusive on public.conversation_messages while building: reads and writes go on.
Undone: the indexes are built as they were, CONCURRENTLY.

Revision ID: 0070
Revises: 0069
"""

from alembic import op

revision = "0070"
down_revision = "0069"
branch_labels = None
depends_on = None

BY_SEQ = {
    "idx_conversation_messages_session": ["session_id", "user_id", "created_at", "seq"],
    "idx_conversation_messages_session_created": ["session_id", "created_at", "seq"],
    "idx_conversation_messages_user": ["user_id", "created_at"],
}
BY_ID = {
    "idx_conversation_messages_session": ["session_id", "user_id", "created_at", "id"],
    "idx_conversation_messages_session_created": ["session_id", "created_at", "id"],
    "idx_conversation_messages_user": ["user_id", "created_at"],
}


def upgrade() -> None:
    replace_indexes(BY_SEQ, "_with_cost", ["cost_usd"])


def replace_indexes(indexes: dict[str, list[str]], beside: str, include: list[str]) -> None:
    """Build each beside the one that it replaces; what was built or dropped before a kill is found as it is."""
    for name, columns in indexes.items():
        op.create_index_online(f"{name}{beside}", "conversation_messages", columns, include=include)
        op.drop_index_online(name)
        op.sql(f"ALTER INDEX public.{name}{beside} RENAME TO {name}")


def downgrade() -> None:
    for name in BY_SEQ:  # of an upgrade that did not come to its end
        op.drop_index_online(f"{name}_with_cost")
    replace_indexes(BY_ID, "_alone", [])
