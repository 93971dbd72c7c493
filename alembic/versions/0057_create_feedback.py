"""Create feedback: how a user rates a reply.

What:   public.feedback, one row a message and user, with its keys, indexes and policies.
Why:    a thumb up or down (1, -1) and a reason in words. conversation_id is in it for the composite keys, by which a
        user rates messages of its own conversations alone; it follows a message that is moved. The policy asks for the
        message as the caller sees it.
Locks:  ShareRowExclusive on public.conversations, public.messages and public.users for an instant (the foreign keys).
Undone: the table is dropped; refused while rows would be lost.

Revision ID: 0057
Revises: 0056
"""

import sqlalchemy as sa

from alembic import op

revision = "0057"
down_revision = "0056"
branch_labels = None
depends_on = None

LOOK = """
    SELECT pg_catalog.format('public.%s is a %s of your own, and the upgrade creates something of this name. Rename '
        'yours, in your application too.', o.name, o.kind) AS says,
      pg_catalog.format('ALTER %s public.%s RENAME TO %s_of_before;', o.kind, o.name, o.name) AS mends,
      NULL AS rows, false AS unsafe
    FROM (
      SELECT c.relname AS name, CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW'
        WHEN 'S' THEN 'SEQUENCE' WHEN 'i' THEN 'INDEX' WHEN 'f' THEN 'FOREIGN TABLE' WHEN 'c' THEN 'TYPE'
        ELSE 'TABLE' END AS kind
      FROM pg_catalog.pg_class AS c WHERE c.relnamespace = pg_catalog.to_regnamespace('public')
      UNION ALL
      SELECT t.typname, CASE t.typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END
      FROM pg_catalog.pg_type AS t
      WHERE t.typnamespace = pg_catalog.to_regnamespace('public') AND t.typrelid = 0 AND t.typelem = 0
    ) AS o
    WHERE o.name IN ('feedback', 'feedback_pkey', 'idx_feedback_conversation_id', 'idx_feedback_message_id',
      'idx_feedback_user_id')
"""


def upgrade() -> None:
    op.create_table(
        "feedback",
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("conversation_id", sa.Uuid(), nullable=False),
        sa.Column("rating", sa.SmallInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("message_id", "user_id", name="feedback_pkey"),
        sa.ForeignKeyConstraint(["user_id"], ["public.users.id"], name="fk_feedback_user_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["conversation_id", "user_id"],
            ["public.conversations.id", "public.conversations.user_id"],
            name="fk_feedback_conversation_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["message_id", "conversation_id", "user_id"],
            ["public.messages.id", "public.messages.conversation_id", "public.messages.user_id"],
            name="fk_feedback_message_id",
            onupdate="CASCADE",
            ondelete="CASCADE",
        ),
        sa.CheckConstraint("rating IN (-1, 1)", name=op.f("ck_feedback_rating")),
        sa.CheckConstraint(
            "least(created_at, updated_at) >= timestamp '0001-01-02' AT TIME ZONE 'UTC'"
            " AND greatest(created_at, updated_at) < timestamp '9999-12-31' AT TIME ZONE 'UTC'",
            name=op.f("ck_feedback_times"),
        ),
        schema="public",
    )
    for name, columns in (
        ("idx_feedback_user_id", ["user_id"]),
        ("idx_feedback_conversation_id", ["conversation_id", "user_id"]),
        ("idx_feedback_message_id", ["message_id", "conversation_id", "user_id"]),
    ):
        op.create_index(name, "feedback", columns, schema="public")
    op.sql(
        "CREATE TRIGGER feedback_updated_at BEFORE UPDATE ON public.feedback"
        " FOR EACH ROW EXECUTE FUNCTION public.update_updated_at()"
    )
    op.enable_row_level_security("feedback")
    op.create_owner_policies(
        "feedback",
        owner="user_id = (SELECT chat_internal.current_user_id())"
        " AND EXISTS (SELECT FROM public.messages AS o WHERE o.id = feedback.message_id)",
    )
    op.grant_only(
        "feedback",
        authenticated="SELECT, INSERT, UPDATE, DELETE",
        service_role="SELECT, INSERT, UPDATE, DELETE",
    )


def downgrade() -> None:
    op.refuse_data_loss("ratings of messages", "SELECT count(*) FROM public.feedback")
    op.drop_table("feedback", schema="public")
