"""Validate that every user is an account of the platform, where that keeps the accounts in auth.users.

What:   the key fk_users_id.
Why:    a user without an account would outlive every deletion there. Which of them to keep is not guessed at: the
        upgrade stops with their number and the first ids.
Locks:  ShareUpdateExclusive on users for the length of one scan, RowShare on auth.users; both go on being written.
Undone: nothing; the key goes with its revision.

Revision ID: 0016
Revises: 0015
"""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.sql(
        """
        DO $$
        DECLARE
          strangers bigint;
          first text;
        BEGIN
          IF chat_internal.has_auth_users() THEN
            SELECT pg_catalog.count(*), (pg_catalog.array_agg(u.id ORDER BY u.id))[1:3]::text INTO strangers, first
            FROM public.users AS u
            WHERE NOT EXISTS (SELECT FROM auth.users AS a WHERE a.id = u.id);
            IF strangers > 0 THEN
              RAISE EXCEPTION '% rows of public.users have no account in auth.users, the first of them %. '
                'Give them one or delete them.', strangers, first USING ERRCODE = 'foreign_key_violation';
            END IF;
            ALTER TABLE public.users VALIDATE CONSTRAINT fk_users_id;
          END IF;
        END
        $$
        """
    )


def downgrade() -> None:
    pass
