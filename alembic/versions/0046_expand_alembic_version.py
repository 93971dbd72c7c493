"""Expand alembic_version by a right to read it.

What:   authenticated and service_role may read the revision in chat_internal.alembic_version, and nothing else there;
        two policies for SELECT take the place of the one that let nobody in.
Why:    a service asks at its start, and an init container before it, whether the database is where the service needs
        it, with the login of the service: the right to migrate would be too much for that. Logins are members of one
        of the two roles. A number is all they see: the column is granted, and for other verbs there is no policy.
Locks:  AccessExclusive on chat_internal.alembic_version, an instant; no client waits for it, who asks is a start-up.
Undone: the right is taken back, and the policy that lets nobody in comes back.

Revision ID: 0046
Revises: 0045
"""

from alembic import op

revision = "0046"
down_revision = "0045"
branch_labels = None
depends_on = None

TABLE = "chat_internal.alembic_version"


def upgrade() -> None:
    op.drop_policy("alembic_version_none", TABLE)
    for role in ("authenticated", "service_role"):
        op.create_policy(f"alembic_version_read_{role}", TABLE, "SELECT", to=role, using="true")
    op.grant_only(TABLE, authenticated="SELECT (version_num)", service_role="SELECT (version_num)")


def downgrade() -> None:
    op.grant_only(TABLE)
    for role in ("service_role", "authenticated"):
        op.drop_policy(f"alembic_version_read_{role}", TABLE)
    op.create_policy("alembic_version_none", TABLE, "ALL", to="authenticated", using="false")
