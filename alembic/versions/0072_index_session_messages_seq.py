"""Index the messages of creative sessions in their order, which ends in seq.

What:   idx_conversation_messages_session (session_id, user_id, created_at, seq) and
        idx_conversation_messages_session_created (session_id, created_at, seq), which ended in id.
Why:    a page is read from an index in the order that is asked for: from the first by a user, to whose query the policy
        adds user_id, from the second by the service. Each takes the name of the one that it replaces.
Locks:  ShareUpdateExclusive on public.conversation_messages while building: reads and writes go on.
Undone: the indexes end in id again, built CONCURRENTLY.

Revision ID: 0072
Revises: 0071
"""

from alembic import op

revision = "0072"
down_revision = "0071"
branch_labels = None
depends_on = None

LEADING = {
    "idx_conversation_messages_session": ["session_id", "user_id", "created_at"],
    "idx_conversation_messages_session_created": ["session_id", "created_at"],
}


def upgrade() -> None:
    replace_indexes("seq")


def replace_indexes(last: str) -> None:
    """Build each beside the one that it replaces; what was built or dropped before a kill is found as it is."""
    for name, columns in LEADING.items():
        beside = f"{name}_{last}"
        op.create_index_online(beside, "conversation_messages", [*columns, last])
        op.drop_index_online(name)
        op.sql(f"ALTER INDEX public.{beside} RENAME TO {name}")


def downgrade() -> None:
    for name in LEADING:  # of an upgrade that did not come to its end
        op.drop_index_online(f"{name}_seq")
    replace_indexes("id")
