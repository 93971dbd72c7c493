"""Index messages and chat_messages for the search.

What:   idx_messages_search and idx_chat_messages_search over the terms of each message; idx_messages_user_id leads the
        messages of a user newest first, as idx_chat_messages_user_created does.
Why:    search_messages() (0047) intersects both: the messages of a user with a word, and the newest of that user. The
        expression needs no column, and a message that changes anything but its text does not touch its terms. The
        index of a user is replaced by the longer one under its name, so that a message is not written to one more.
Locks:  ShareUpdateExclusive on public.messages and public.chat_messages while building: reads and writes go on.
Undone: the indexes are dropped CONCURRENTLY, and the shorter one is built again.

Revision ID: 0048
Revises: 0047
"""

from alembic import op

revision = "0048"
down_revision = "0047"
branch_labels = None
depends_on = None

TERMS = ["chat_internal.search_terms(user_id, content)"]
PENDING = "gin_pending_list_limit = 128"  # kB of new terms, which every search reads from end to end


def upgrade() -> None:
    op.create_index_online("idx_messages_search", "messages", TERMS, using="gin", storage=PENDING)
    op.create_index_online("idx_chat_messages_search", "chat_messages", TERMS, using="gin", storage=PENDING)
    replace_index_of_a_user("idx_messages_user_id_created_at", ["user_id", "created_at DESC"])


def replace_index_of_a_user(beside: str, columns: list[str]) -> None:
    op.create_index_online(beside, "messages", columns)
    op.drop_index_online("idx_messages_user_id")
    op.sql(f"ALTER INDEX public.{beside} RENAME TO idx_messages_user_id")


def downgrade() -> None:
    op.drop_index_online("idx_messages_user_id_created_at")  # of an upgrade that did not come to its end
    replace_index_of_a_user("idx_messages_user_id_alone", ["user_id"])
    op.drop_index_online("idx_chat_messages_search")
    op.drop_index_online("idx_messages_search")
