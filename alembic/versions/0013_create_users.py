"""Create users.

What:   public.users, and public.update_updated_at(), which every table with that column calls. An account without
        password_hash is one whose credential an identity provider holds.
Why:    every other table hangs on it. A user reads its own row and may change its address, no more; password_hash is
        granted to service_role alone, by column. Where a platform keeps the accounts the address is the platform's to
        change, which has proof of it: there a user only reads, and an index finds who has an address, however written.
        A table of profiles has columns of the application's own: what a user could read and change of its own row
        stays so, and that policy is recorded as the team's.
Locks:  none where no such table stands; on one that does see 0004.
Undone: the table is dropped, or given back as it was found; refused while it holds rows that auth.users does not
        hold as well, or that the older shape cannot hold.

Revision ID: 0013
Revises: 0012
"""

import sqlalchemy as sa

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

SELF = "id = (SELECT chat_internal.current_user_id())"
READ = "SELECT (id, email, created_at, updated_at)"
WRITE = "SELECT, INSERT, UPDATE, DELETE"
CHANGES_A_PROFILE = """
    EXISTS (
      SELECT FROM pg_catalog.pg_attribute AS a
      JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid
      JOIN chat_internal.role_names AS r ON r.logical = 'authenticated'
      JOIN pg_catalog.pg_roles AS client ON client.rolname = r.actual
      WHERE c.oid = pg_catalog.to_regclass('public.users') AND a.attnum > 0 AND NOT a.attisdropped
        AND a.attname NOT IN ('id', 'email', 'password_hash', 'created_at', 'updated_at')
        AND pg_catalog.has_column_privilege(client.oid, c.oid, a.attnum, 'UPDATE')
        AND (NOT c.relrowsecurity OR EXISTS (
          SELECT FROM pg_catalog.pg_policy AS p, pg_catalog.unnest(p.polroles) AS e
          WHERE p.polrelid = c.oid AND p.polpermissive AND p.polcmd IN ('w', '*')
            AND (e = 0 OR pg_catalog.pg_has_role(client.oid, e, 'USAGE'))))
    )
"""


def upgrade() -> None:
    op.adopt_function(
        "update_updated_at()",
        """
        CREATE OR REPLACE FUNCTION public.update_updated_at() RETURNS trigger
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
          -- a statement that sets the column itself (a new message moving its conversation) is left alone, one that
          -- changes nothing, and the backfill of a table that is being adopted
          IF NEW.updated_at IS NOT DISTINCT FROM OLD.updated_at AND NEW OPERATOR(pg_catalog.*<>) OLD
            AND pg_catalog.current_setting('chat_internal.adopting', true) IS DISTINCT FROM 'yes' THEN
            NEW.updated_at := pg_catalog.now();
          END IF;
          RETURN NEW;
        END
        $$
        """,
    )
    op.grant_only("FUNCTION update_updated_at()")

    op.stage_table(
        "users",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("email", sa.String(255), nullable=True),
        sa.Column("password_hash", sa.String(255), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="users_pkey"),
        sa.CheckConstraint(  # a CHECK takes NULL for true, hence both
            "password_hash IS NULL OR email IS NOT NULL AND btrim(email) <> ''",
            name=op.f("ck_users_password_needs_email"),
        ),
        sa.CheckConstraint(
            "least(created_at, updated_at) >= timestamp '0001-01-02' AT TIME ZONE 'UTC'"
            " AND greatest(created_at, updated_at) < timestamp '9999-12-31' AT TIME ZONE 'UTC'",
            name=op.f("ck_users_times"),
        ),
    )
    op.create_index("idx_users_email", "users", ["email"], unique=True, schema="chat_internal")
    op.sql(
        "CREATE TRIGGER users_updated_at BEFORE UPDATE ON chat_internal.users"
        " FOR EACH ROW EXECUTE FUNCTION public.update_updated_at()"
    )

    op.enable_row_level_security("chat_internal.users")
    op.create_policy("users_select_own", "chat_internal.users", "SELECT", to="authenticated", using=SELF)
    op.create_service_policy("chat_internal.users")
    op.when("chat_internal.has_auth_users()", then=let_users_read, otherwise=let_users_change_addresses)
    op.adopt_table("users")
    op.fill_adopted(
        "users",
        {
            "created_at": "coalesce(t.updated_at, pg_catalog.now())",
            "updated_at": "coalesce(t.created_at, pg_catalog.now())",
        },
    )
    # lint: ignore update-in-one-step -- one row of the journal
    op.sql(  # auth.users holds the addresses that come into the new column, see 0015
        """
        UPDATE chat_internal.adopted AS a
        SET lost = 'email IS NOT NULL AND NOT EXISTS (SELECT FROM auth.users AS a WHERE a.id = users.id'
                   ' AND pg_catalog.lower(pg_catalog.btrim(a.email)) = users.email)'
        WHERE a.object = 'users' AND a.what = 'column email added' AND chat_internal.has_auth_users()
        """
    )
    op.finish_table("users")
    op.sql(
        """
        SELECT chat_internal.change('users', 'policy users_update_own kept for the columns of your own', '',
                                    'SELECT' || chat_internal.keep_policy(p.polrelid, p.polname))
        FROM pg_catalog.pg_policy AS p
        WHERE p.polrelid = 'public.users'::regclass AND p.polname = 'users_update_own'
          AND chat_internal.has_auth_users()
        """
    )


def let_users_change_addresses() -> None:
    op.create_policy("users_update_own", "chat_internal.users", "UPDATE", to="authenticated", using=SELF, check=SELF)
    op.grant_only("chat_internal.users", authenticated=f"{READ}, UPDATE (email)", service_role=WRITE)


def let_users_read() -> None:
    op.grant_only("chat_internal.users", authenticated=READ, service_role=WRITE)
    op.when(CHANGES_A_PROFILE, let_users_change_profiles)
    op.create_index("idx_users_address", "users", [sa.text("nullif(lower(btrim(email)), '')")], schema="chat_internal")


def let_users_change_profiles() -> None:
    """Leave a user the application's own columns of its own row, as they stand: adopt_rights() grants these alone."""
    op.create_policy("users_update_own", "chat_internal.users", "UPDATE", to="authenticated", using=SELF, check=SELF)


def downgrade() -> None:
    op.release_table("users", what="users", lost="password_hash IS NOT NULL OR NOT chat_internal.has_auth_users()")
    op.release("update_updated_at()")
