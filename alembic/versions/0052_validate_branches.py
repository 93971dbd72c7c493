"""Validate the key from a message to the one that it answers.

What:   the key of 0050 is checked against the rows that stood.
Why:    the planner and a dump trust a key that is validated.
Locks:  ShareUpdateExclusive on public.messages for one scan: reads and writes go on.
Undone: the key is there again, not validated.

Revision ID: 0052
Revises: 0051
"""

from alembic import op

revision = "0052"
down_revision = "0051"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.validate_constraint("fk_messages_parent_id", "messages")


def downgrade() -> None:
    op.sql(
        """
        ALTER TABLE public.messages DROP CONSTRAINT fk_messages_parent_id;
        ALTER TABLE public.messages ADD CONSTRAINT fk_messages_parent_id
          FOREIGN KEY (user_id, conversation_id, parent_id) REFERENCES public.messages (user_id, conversation_id, id)
          DEFERRABLE INITIALLY DEFERRED NOT VALID;
        """
    )
