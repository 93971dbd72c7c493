"""Backfill public.users from auth.users, where a platform keeps the accounts there.

What:   a row for every account that has none: anonymous, phone-only and soft-deleted ones too, because what they wrote
        is there. Rows that had no column for address or time (a table of profiles) get the account's.
Why:    in batches over the pages of auth.users, although repair_users() would do it at once: each row locks its
        account until the commit, and for that long nobody can delete it. A row that stands already is left alone. Of
        accounts with one address, whatever its case and the blanks around it, the earliest of the batch has it, unless
        another has it already; who loses a race for it is skipped, stays pending, and is stored without by the next
        sweep.
Locks:  the accounts of one batch against deletion, until its commit. None where auth.users is not.
Undone: nothing; the rows are what auth.users holds.

Revision ID: 0015
Revises: 0014
"""

import sqlalchemy as sa

from alembic import context, op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

MISSING = "NOT EXISTS (SELECT FROM public.users AS u WHERE u.id = a.id)"
BATCH = f"""
    WITH account AS MATERIALIZED (
      SELECT a.id, nullif(lower(btrim(a.email)), '') AS email, a.created_at
      FROM auth.users AS a WHERE {{batch}} AND {MISSING}
      FOR KEY SHARE OF a
    )
    INSERT INTO public.users (id, email, created_at)
    SELECT
      n.id,
      CASE
        WHEN row_number() OVER (PARTITION BY n.email ORDER BY n.created_at, n.id) = 1
          AND NOT EXISTS (SELECT FROM public.users AS o WHERE nullif(lower(btrim(o.email)), '') = n.email)
          THEN n.email
      END,
      coalesce(n.created_at, now())
    FROM account AS n
    ON CONFLICT DO NOTHING
"""

ADDED = "EXISTS (SELECT FROM chat_internal.adopted AS j WHERE j.object = 'users' AND j.what = 'column {column} added')"
WITHOUT_ADDRESS = """
    u.email IS NULL AND EXISTS (
      SELECT FROM auth.users AS b WHERE b.id = u.id AND nullif(lower(btrim(b.email)), '') IS NOT NULL AND NOT EXISTS (
        SELECT FROM public.users AS o WHERE nullif(lower(btrim(o.email)), '') = nullif(lower(btrim(b.email)), '')
      )
    )
"""


def upgrade() -> None:
    if context.is_offline_mode():
        op.sql(
            f"""
            DO $$
            BEGIN
              IF chat_internal.has_auth_users() THEN
                LOOP
                  {BATCH.replace("{batch}", "TRUE")};
                  EXIT WHEN NOT FOUND;
                END LOOP;
              END IF;
            END
            $$
            """
        )
    elif op.get_bind().scalar(sa.text("SELECT chat_internal.has_auth_users()")):
        op.backfill("users of auth.users", table="auth.users", alias="a", batch=BATCH, pending=MISSING)
    op.when(f"chat_internal.has_auth_users() AND ({ADDED.format(column='email')})", add_addresses)
    op.when(f"chat_internal.has_auth_users() AND ({ADDED.format(column='created_at')})", add_times)


def add_addresses() -> None:
    op.backfill(
        "addresses of users",
        table="users",
        alias="u",
        batch=f"""
            WITH account AS MATERIALIZED (
              SELECT a.id, a.email::text AS email, a.created_at
              FROM public.users AS u JOIN auth.users AS a ON a.id = u.id
              WHERE {{batch}} AND {WITHOUT_ADDRESS}
              ORDER BY a.created_at, a.id
              FOR NO KEY UPDATE OF u
            )
            SELECT chat_internal.store_auth_user(n.id, n.email, n.created_at) FROM account AS n
        """,
        pending=WITHOUT_ADDRESS,
    )


def add_times() -> None:
    op.backfill(
        "times of users",
        table="users",
        alias="u",
        batch="""
            UPDATE public.users AS u SET created_at = a.created_at
            FROM auth.users AS a WHERE {batch} AND a.id = u.id AND a.created_at < u.created_at
        """,
        pending="EXISTS (SELECT FROM auth.users AS a WHERE a.id = u.id AND a.created_at < u.created_at)",
    )


def downgrade() -> None:
    pass
