"""Expand auth.users, where a platform keeps the accounts there, with a mirror in public.users.

What:   in chat_internal the functions mirror_auth_user(), store_auth_user(), users_to_mend() and repair_users();
        where auth.users is (Supabase), its triggers chat_mirror_user and zz_chat_mirror_user and the key fk_users_id,
        not yet validated, by which a deletion there reaches public.users and what hangs on it.
Why:    every table hangs on public.users. An error within a trigger of auth.users would block sign-up, so this one
        warns instead and goes on, waits a second for a lock and no longer, and repair_users() mends what it missed.
        It looks at the address itself: UPDATE OF email, as a condition in WHEN, stands in the way of Auth's own
        migrations. An address is stored in lower case, as Auth has it, and once: the twin that single sign-on may
        have is stored without. Addresses that differ in case or in blanks around them are one, as they are at sign-in,
        and an empty one is none. Triggers fire in the order of their names. Where the application had public.users,
        a trigger of its own may make the row at sign-up, so there ours comes last and adds the address; elsewhere it
        comes first, so that what other triggers write can point at the row. The functions stand everywhere, so that
        the catalog differs by few objects.
Locks:  ShareRowExclusive on auth.users and on users, an instant; sign-ins wait for it. None where auth.users is not.
Undone: the triggers go, and the key, then the functions; the rows stay. Only the owner of auth.users may drop a
        trigger of it, who is not who migrates; dropping the function takes the trigger along.

Revision ID: 0014
Revises: 0013
"""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

ADDRESS = "nullif(pg_catalog.lower(pg_catalog.btrim({email})), '')"  # the index of 0013 is on it


def upgrade() -> None:
    op.sql(
        f"""
        CREATE FUNCTION chat_internal.store_auth_user(p_id uuid, p_email text, p_created_at timestamptz) RETURNS void
        LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
          given text := {ADDRESS.format(email="p_email")};
          address text;
        BEGIN
          PERFORM FROM public.users AS o WHERE {ADDRESS.format(email="o.email")} = given AND o.id <> p_id LIMIT 1;
          IF FOUND THEN  -- the address of another account
            given := NULL;
          END IF;
          FOREACH address IN ARRAY ARRAY[given, NULL] LOOP
            BEGIN
              INSERT INTO public.users AS u (id, email, created_at)
              VALUES (p_id, address, coalesce(p_created_at, pg_catalog.now()))
              ON CONFLICT (id) DO UPDATE
              SET email = coalesce(EXCLUDED.email, CASE WHEN u.password_hash IS NOT NULL THEN u.email END)
              WHERE {ADDRESS.format(email="u.email")} IS DISTINCT FROM EXCLUDED.email;
              RETURN;
            EXCEPTION WHEN unique_violation THEN  -- who was stored meanwhile has it
              IF address IS NULL THEN
                RAISE;
              END IF;
            END;
          END LOOP;
        END
        $$;

        CREATE FUNCTION chat_internal.mirror_auth_user() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
        BEGIN
          IF TG_OP = 'INSERT' AND (TG_NAME = 'zz_chat_mirror_user') = chat_internal.is_adopted('users')
            OR TG_OP = 'UPDATE' AND NEW.email IS DISTINCT FROM OLD.email THEN
            PERFORM chat_internal.store_auth_user(NEW.id, NEW.email, NEW.created_at);
          END IF;
          RETURN NULL;
        EXCEPTION WHEN OTHERS THEN
          RAISE WARNING 'public.users does not follow auth.users: %', SQLERRM
            USING HINT = 'Mend the cause, then run: SELECT chat_internal.repair_users()';
          RETURN NULL;
        END
        $$;

        CREATE FUNCTION chat_internal.users_to_mend()
        RETURNS TABLE (user_id uuid, address text, since timestamptz, missing boolean)
        LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
          IF chat_internal.has_auth_users() THEN
            RETURN QUERY
            SELECT a.id, a.email::text, a.created_at, u.id IS NULL
            FROM auth.users AS a
            LEFT JOIN public.users AS u ON u.id = a.id
            CROSS JOIN LATERAL (
              SELECT {ADDRESS.format(email="a.email")} AS given, {ADDRESS.format(email="u.email")} AS present
            ) AS address
            WHERE u.id IS NULL
               OR address.present IS DISTINCT FROM CASE
                    WHEN address.given IS NOT NULL AND NOT EXISTS (
                      SELECT FROM public.users AS o
                      WHERE {ADDRESS.format(email="o.email")} = address.given AND o.id <> a.id
                    ) THEN address.given
                    WHEN u.password_hash IS NOT NULL THEN address.present
                  END;
          END IF;
        END
        $$;

        CREATE FUNCTION chat_internal.repair_users() RETURNS bigint
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
          mended bigint := 0;
          account record;
        BEGIN
          IF NOT chat_internal.has_auth_users() THEN
            RETURN 0;
          END IF;
          SELECT pg_catalog.count(*) INTO mended FROM chat_internal.users_to_mend();
          UPDATE public.users AS u SET email = NULL  -- free for whom the address is now
          FROM chat_internal.users_to_mend() AS m
          WHERE u.id = m.user_id AND u.email IS NOT NULL AND u.password_hash IS NULL;
          FOR account IN SELECT m.user_id, m.address, m.since FROM chat_internal.users_to_mend() AS m
                         ORDER BY m.since, m.user_id LOOP
            PERFORM FROM auth.users AS a WHERE a.id = account.user_id FOR KEY SHARE;
            IF FOUND THEN  -- and not deleted meanwhile
              PERFORM chat_internal.store_auth_user(account.user_id, account.address, account.since);
            END IF;
          END LOOP;
          RETURN mended;
        END
        $$;
        """
    )
    op.grant_only("FUNCTION chat_internal.store_auth_user(uuid, text, timestamptz)")
    op.grant_only("FUNCTION chat_internal.mirror_auth_user()")
    op.grant_only("FUNCTION chat_internal.users_to_mend()")
    op.grant_only("FUNCTION chat_internal.repair_users()", service_role="EXECUTE")
    op.sql(
        """
        DO $$
        BEGIN
          IF chat_internal.has_auth_users() THEN
            IF pg_catalog.row_security_active('auth.users') THEN
              RAISE EXCEPTION 'row level security hides auth.users from the login %: run it as one with BYPASSRLS',
                current_user USING ERRCODE = 'insufficient_privilege';
            END IF;
            CREATE TRIGGER chat_mirror_user AFTER INSERT OR UPDATE ON auth.users
            FOR EACH ROW EXECUTE FUNCTION chat_internal.mirror_auth_user();
            CREATE TRIGGER zz_chat_mirror_user AFTER INSERT ON auth.users
            FOR EACH ROW EXECUTE FUNCTION chat_internal.mirror_auth_user();
            -- one of the application's own would refuse a deletion before ours hands it on
            PERFORM chat_internal.change('fk_users_id',
              pg_catalog.format('constraint %I dropped: %s', k.conname, pg_catalog.pg_get_constraintdef(k.oid)),
              pg_catalog.format('ALTER TABLE public.users DROP CONSTRAINT %I', k.conname),
              pg_catalog.format('ALTER TABLE public.users ADD CONSTRAINT %I %s', k.conname,
                                pg_catalog.pg_get_constraintdef(k.oid)))
            FROM pg_catalog.pg_constraint AS k
            JOIN pg_catalog.pg_attribute AS a ON a.attrelid = k.conrelid AND k.conkey = ARRAY[a.attnum]
            WHERE k.conrelid = 'public.users'::regclass AND k.contype = 'f' AND a.attname = 'id'
              AND k.confrelid = pg_catalog.to_regclass('auth.users');
            ALTER TABLE public.users ADD CONSTRAINT fk_users_id
            FOREIGN KEY (id) REFERENCES auth.users (id) ON DELETE CASCADE NOT VALID;
          END IF;
        END
        $$
        """
    )


def downgrade() -> None:
    op.sql("DROP FUNCTION chat_internal.mirror_auth_user() CASCADE")  # takes the triggers along, and nothing else
    op.sql("ALTER TABLE public.users DROP CONSTRAINT IF EXISTS fk_users_id")
    op.release("fk_users_id")
    op.sql("DROP FUNCTION chat_internal.repair_users()")
    op.sql("DROP FUNCTION chat_internal.users_to_mend()")
    op.sql("DROP FUNCTION chat_internal.store_auth_user(uuid, text, timestamptz)")
