"""Index messages by owner, conversation and id: what a key can point at that names all three.

What:   idx_messages_user_id becomes UNIQUE (user_id, conversation_id, id); before it had user_id alone.
Why:    the next revision's key from a message to the one that it answers points at it, so that both stand in one
        conversation of one owner. It leads with user_id and serves the cascade from users as before: a message costs
        as many index entries as it did.
Locks:  ShareUpdateExclusive on public.messages while building: reads and writes go on.
Undone: the index has user_id alone again, built CONCURRENTLY.

Revision ID: 0046
Revises: 0067
"""

from alembic import op

revision = "0046"
down_revision = "0067"
branch_labels = None
depends_on = None


def upgrade() -> None:
    replace(["user_id", "conversation_id", "id"], unique=True)


def replace(columns: list[str], unique: bool) -> None:
    """Build the index under another name, drop the old one, rename; each step bears a rerun."""
    op.create_index_online("idx_messages_user_id_new", "messages", columns, unique=unique)
    op.drop_index_online("idx_messages_user_id")
    op.sql("ALTER INDEX public.idx_messages_user_id_new RENAME TO idx_messages_user_id")


def downgrade() -> None:
    op.drop_index_online("idx_messages_user_id_new")  # what an upgrade has left that did not come to its end
    replace(["user_id"], unique=False)
