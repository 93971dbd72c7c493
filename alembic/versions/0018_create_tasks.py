"""Create tasks.

What:   public.tasks, a user's to-do list.
Why:    (user_id, created_at DESC) serves "a user's tasks, newest first" without a sort.
Locks:  ShareRowExclusive on public.users for an instant (the foreign key); on a table that stands already see
        0004.
Undone: the table is dropped, or given back as it was found; refused while rows would be lost.

Revision ID: 0018
Revises: 0017
"""

import sqlalchemy as sa

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.stage_table(
        "tasks",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("title", sa.String(255), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("completed", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="tasks_pkey"),
        sa.ForeignKeyConstraint(["user_id"], ["public.users.id"], name="fk_tasks_user_id", ondelete="CASCADE"),
        sa.CheckConstraint(
            "least(created_at, updated_at) >= timestamp '0001-01-02' AT TIME ZONE 'UTC'"
            " AND greatest(created_at, updated_at) < timestamp '9999-12-31' AT TIME ZONE 'UTC'",
            name=op.f("ck_tasks_times"),
        ),
    )
    op.create_index("idx_tasks_user_id", "tasks", ["user_id"], schema="chat_internal")
    op.create_index(
        "idx_tasks_user_id_created_at", "tasks", ["user_id", sa.text("created_at DESC")], schema="chat_internal"
    )
    op.sql(
        "CREATE TRIGGER tasks_updated_at BEFORE UPDATE ON chat_internal.tasks"
        " FOR EACH ROW EXECUTE FUNCTION public.update_updated_at()"
    )

    op.enable_row_level_security("chat_internal.tasks")
    op.create_owner_policies("chat_internal.tasks", owner="user_id = (SELECT chat_internal.current_user_id())")
    op.grant_only(
        "chat_internal.tasks",
        authenticated="SELECT, INSERT, UPDATE, DELETE",
        service_role="SELECT, INSERT, UPDATE, DELETE",
    )
    op.adopt_table("tasks")
    op.fill_adopted(
        "tasks",
        {
            "created_at": "coalesce(t.updated_at, pg_catalog.now())",
            "updated_at": "coalesce(t.created_at, pg_catalog.now())",
        },
    )
    op.finish_table("tasks")


def downgrade() -> None:
    op.release_table("tasks", what="tasks")
