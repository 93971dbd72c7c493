"""Index the lists of a user's conversations: the sidebar, what is pinned, the archive, the trash.

What:   four partial indexes of conversations, each with the rows of its list in their order; id settles ties.
Why:    a page of a list is read from its index alone, however many conversations are in the others. They are partial
        so that a conversation costs the entries of the lists that it is in: most are in the sidebar and in no other.
        idx_conversations_user_id_updated_at stays, for clients that know no archive. last_read_at is in none, so that
        reading a conversation writes no index.
Locks:  ShareUpdateExclusive on public.conversations while building: reads and writes go on.
Undone: the indexes are dropped CONCURRENTLY.

Revision ID: 0044
Revises: 0043
"""

from alembic import op

revision = "0044"
down_revision = "0043"
branch_labels = None
depends_on = None

LISTS = {
    "idx_conversations_sidebar": ("updated_at", "archived_at IS NULL AND deleted_at IS NULL"),
    "idx_conversations_pinned": (
        "pinned_at",
        "pinned_at IS NOT NULL AND archived_at IS NULL AND deleted_at IS NULL",
    ),
    "idx_conversations_archive": ("archived_at", "archived_at IS NOT NULL AND deleted_at IS NULL"),
    "idx_conversations_trash": ("deleted_at", "deleted_at IS NOT NULL"),
}


def upgrade() -> None:
    for name, (time, where) in LISTS.items():
        op.create_index_online(name, "conversations", ["user_id", f"{time} DESC", "id DESC"], where=where)


def downgrade() -> None:
    for name in reversed(LISTS):
        op.drop_index_online(name)
