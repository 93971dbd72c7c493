"""Index chat_sessions for what it is about to be: conversations.

What:   five indexes under their final names. idx_conversations_user_id is UNIQUE (user_id, id): composite keys
        point at it. Pages by activity end in id, which settles ties: a page begins where the last one ended.
Why:    built CONCURRENTLY, because the table is being written; before the messages table, because its key needs the
        unique one. Personal conversations stay out of the tenants' indexes: asked for the one of a user, the planner
        would combine the user's index with all entries of no tenant.
Locks:  ShareUpdateExclusive on public.chat_sessions while building: reads and writes go on.
Undone: the indexes are dropped CONCURRENTLY.

Revision ID: 0023
Revises: 0022
"""

from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.when("NOT chat_internal.is_adopted('conversations')", index_chat_sessions)


def index_chat_sessions() -> None:
    op.create_index_online("idx_conversations_user_id", "chat_sessions", ["user_id", "id"], unique=True)
    op.create_index_online("idx_conversations_user_created", "chat_sessions", ["user_id", "created_at DESC"])
    by_activity = ["updated_at DESC", "id DESC"]
    op.create_index_online("idx_conversations_user_id_updated_at", "chat_sessions", ["user_id", *by_activity])
    op.create_index_online(
        "idx_conversations_tenant_id", "chat_sessions", ["tenant_id", *by_activity], where="tenant_id IS NOT NULL"
    )
    op.create_index_online(
        "idx_conversations_user_id_tenant_id",
        "chat_sessions",
        ["user_id", "tenant_id", *by_activity],
        where="tenant_id IS NOT NULL",
    )


def downgrade() -> None:
    op.when("NOT chat_internal.is_adopted('conversations')", drop_indexes)


def drop_indexes() -> None:
    op.drop_index_online("idx_conversations_user_id_tenant_id")
    op.drop_index_online("idx_conversations_tenant_id")
    op.drop_index_online("idx_conversations_user_id_updated_at")
    op.drop_index_online("idx_conversations_user_created")
    op.drop_index_online("idx_conversations_user_id")
