"""Index conversation_messages by time, for the volume of some days.

What:   idx_conversation_messages_created, and idx_conversation_messages_user ends in the time of a message.
Why:    daily_message_volume (0067) reads the days that are asked for: those of a user by the index of that user, those
        of everybody, which a service asks for, by the other. The index of a user is replaced by the longer one under
        its name, so that a message is written to one more index and not to two.
Locks:  ShareUpdateExclusive on public.conversation_messages while building: reads and writes go on.
Undone: the new index is dropped CONCURRENTLY, and the shorter one is built again.

Revision ID: 0066
Revises: 0065
"""

from alembic import op

revision = "0066"
down_revision = "0065"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index_online("idx_conversation_messages_created", "conversation_messages", ["created_at"])
    replace_index_of_a_user("idx_conversation_messages_user_created", ["user_id", "created_at"])


def replace_index_of_a_user(beside: str, columns: list[str]) -> None:
    op.create_index_online(beside, "conversation_messages", columns)
    op.drop_index_online("idx_conversation_messages_user")
    op.sql(f"ALTER INDEX public.{beside} RENAME TO idx_conversation_messages_user")


def downgrade() -> None:
    op.drop_index_online("idx_conversation_messages_user_created")  # of an upgrade that did not come to its end
    replace_index_of_a_user("idx_conversation_messages_user_alone", ["user_id"])
    op.drop_index_online("idx_conversation_messages_created")
