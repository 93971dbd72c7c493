"""public.users as the mirror of auth.users, on a hosted platform: nothing that breaks it may block a sign-up."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import psycopg
import pytest
import sqlalchemy as sa
from alembic.util import CommandError
from psycopg import errors

from app.verification import Check, verify
from tests.adoption.legacy import OTHERS, SUPABASE, Place, psql
from tests.adoption.old_clients import USER, Api, Auth
from tests.conftest import alembic_config
from tests.live.command_line import alembic, wait_for
from tests.migrations.chain import HEAD
from tests.migrations.test_stairs import differences

pytestmark = pytest.mark.sampled(3)  # each case takes seconds

PEOPLE = "00_auth_people.sql"
ANA, ANONYMOUS, GONE, TWIN = (f"a0000000-0000-4000-8000-00000000000{n}" for n in (1, 6, 7, 8))


@pytest.fixture
def hosted(place: Place) -> Place:
    """A platform with a few accounts, at head."""
    psql(place.url, PEOPLE, {})
    place.chain.upgrade()
    return place


@pytest.fixture
def auth(place: Place) -> Iterator[Auth]:
    auth = Auth(place.admin.url)
    yield auth
    auth.close()


def email(place: Place, user: str) -> str | None:
    """The address of the user's row, which must be there."""
    [found] = place.chain.rows("SELECT email FROM public.users WHERE id = %s", [user])
    return None if found is None else str(found)


def users(place: Place) -> list[tuple[str, str | None]]:
    return place.chain.rows("SELECT id::text, email FROM public.users ORDER BY id")


def repair(place: Place) -> int:
    """Run the one command, as a service does."""
    with place.chain.session.transaction():
        place.chain.execute("SELECT set_config('role', 'service_role', true)")
        return int(place.chain.value("SELECT chat_internal.repair_users()"))


def problems(place: Place) -> list[Check]:
    """What `chat-schema verify` finds wrong."""
    engine = sa.create_engine(place.url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        return [check for check in verify(connection, alembic_config(place.url)) if not check.passed]


class TestTheUpgrade:
    @pytest.mark.parametrize("platform", SUPABASE)
    def test_every_account_becomes_a_user_under_its_address_once(self, hosted: Place, platform: str) -> None:
        assert hosted.chain.value("SELECT count(*) FROM public.users") == 8
        assert email(hosted, ANA) == "ana@example.test"
        assert email(hosted, ANONYMOUS) is None
        assert email(hosted, GONE) == "gone@example.test"
        assert email(hosted, TWIN) is None
        same_time = "SELECT count(*) FROM public.users AS u JOIN auth.users AS a USING (id, created_at)"
        assert hosted.chain.value(same_time) == 8
        assert problems(hosted) == []

    @pytest.mark.parametrize("platform", SUPABASE)
    def test_an_empty_platform_goes_to_head_and_back_and_to_head(self, place: Place, platform: str) -> None:
        empty = place.chain.snapshot()
        place.chain.upgrade()
        head = place.chain.snapshot()
        assert problems(place) == []
        place.chain.check()
        place.chain.downgrade("base")
        assert differences(empty, place.chain.snapshot()) == []
        place.chain.upgrade()
        assert differences(head, place.chain.snapshot()) == []

    @pytest.mark.parametrize("platform", SUPABASE)
    def test_the_script_makes_the_same_users(self, place: Place, platform: str) -> None:
        psql(place.url, PEOPLE, {})
        place.chain.upgrade_by_script("head")
        by_script, catalog = users(place), place.chain.snapshot()
        place.chain.downgrade("base")
        place.chain.upgrade()
        assert users(place) == by_script
        assert differences(place.chain.snapshot(), catalog) == []

    def test_thousands_of_accounts_come_in_batches(self, place: Place) -> None:
        place.admin.execute(
            "INSERT INTO auth.users (id, email, created_at, is_sso_user)"
            " SELECT gen_random_uuid(), n %% 4000 || '@example.test', now() - n * interval '1 s', n >= 4000"
            " FROM generate_series(0, 4999) AS n".replace("%%", "%")
        )
        with alembic(place.url, "upgrade", "head", x=("batch-time=5ms", "backfill-workers=3")) as upgrade:
            assert "users of auth.users: 100 %" in upgrade.succeeds()
        assert place.chain.value("SELECT count(*) FROM public.users") == 5000
        assert place.chain.value("SELECT count(email) FROM public.users") == 4000
        assert problems(place) == []

    def test_sign_ups_go_on_meanwhile_and_none_is_missed(self, place: Place) -> None:
        psql(place.url, PEOPLE, {})
        signed_up: dict[str, str] = {}
        failures: list[BaseException] = []
        stop = threading.Event()

        def sign_up(auth: Auth, number: int) -> None:
            try:
                while not stop.is_set():
                    address = f"{number}-{len(signed_up)}@example.test"
                    user = auth.sign_up(address)
                    auth.sign_in(user)
                    if len(signed_up) % 3:
                        signed_up[user] = address
                    else:
                        auth.delete(user)
                        signed_up[user] = ""
            except psycopg.Error as failure:
                failures.append(failure)

        clients = [Auth(place.admin.url) for _ in range(2)]
        threads = [threading.Thread(target=sign_up, args=[client, n]) for n, client in enumerate(clients)]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(signed_up) > 100 or failures, "sign-ups before the upgrade")
        with alembic(place.url, "upgrade", "head") as upgrade:
            upgrade.succeeds()
        after = len(signed_up)
        wait_for(lambda: len(signed_up) > after + 100 or failures, "sign-ups after the upgrade")
        stop.set()
        for thread in threads:
            thread.join()
        for client in clients:
            client.close()
        assert failures == []
        assert problems(place) == []
        mirrored = dict(users(place))
        assert {user: mirrored.get(user, "") for user in signed_up} == signed_up

    def test_users_that_are_no_account_stop_it_and_are_named(self, place: Place) -> None:
        place.chain.upgrade("0013")
        stranger = place.chain.new_user()
        with pytest.raises(CommandError, match=r"1 rows of public\.users have no account in auth\.users") as raised:
            place.chain.upgrade()
        assert str(stranger) in str(raised.value)
        place.chain.execute("INSERT INTO auth.users (id, email) VALUES (%s, 'it@example.test')", [stranger])
        place.chain.upgrade()
        assert place.chain.revision() == HEAD
        assert email(place, str(stranger)) == "it@example.test", "what its account says counts from now on"

    def test_a_row_that_stands_is_left_alone(self, place: Place) -> None:
        psql(place.url, PEOPLE, {})
        place.chain.upgrade("0013")
        place.chain.execute("INSERT INTO public.users (id, email) VALUES (%s, 'Ana@Own.test')", [ANA])
        place.chain.upgrade()
        assert email(place, ANA) == "Ana@Own.test"
        assert email(place, TWIN) == "ana@example.test", "nobody else has it"
        assert problems(place) == []

    @pytest.mark.parametrize("by_script", [False, True])
    def test_addresses_that_stand_are_compared_as_sign_in_does(self, place: Place, by_script: bool) -> None:
        """A row that stands keeps its address as it was written; nobody else is stored with the same one."""
        psql(place.url, PEOPLE, {})
        place.chain.upgrade("0013")
        place.chain.execute("INSERT INTO public.users (id, email) VALUES (%s, ' ANA@Example.test ')", [ANA])
        place.chain.execute("INSERT INTO public.users (id, email) VALUES (%s, '')", [ANONYMOUS])
        place.admin.execute("UPDATE auth.users SET email = ' ' WHERE id = %s", [GONE])
        if by_script:
            place.chain.upgrade_by_script(f"0013:{HEAD}")
        else:
            place.chain.upgrade()
        assert email(place, ANA) == " ANA@Example.test "
        assert [email(place, each) for each in (TWIN, GONE)] == [None, None]
        assert problems(place) == []
        assert repair(place) == 0

    def test_a_login_that_row_level_security_binds_is_refused(self, place: Place) -> None:
        place.admin.execute("ALTER ROLE supa_owner NOBYPASSRLS")
        with pytest.raises(CommandError, match=r"row level security hides auth\.users from the login supa_owner"):
            place.chain.upgrade()
        assert place.chain.rows("SELECT tgname FROM pg_trigger WHERE tgrelid = 'auth.users'::regclass") == []


class TestElsewhere:
    @pytest.mark.parametrize("platform", OTHERS)
    def test_nothing_of_it_is_there(self, place: Place, platform: str) -> None:
        place.chain.upgrade()
        assert place.chain.rows("SELECT conname FROM pg_constraint WHERE conname = 'fk_users_id'") == []
        assert place.chain.rows("SELECT tgname FROM pg_trigger WHERE tgname = 'chat_mirror_user'") == []
        assert place.chain.value("SELECT chat_internal.repair_users()") == 0
        assert problems(place) == []


class TestAnAccount:
    def test_a_newcomer_is_a_user_at_once_and_can_write(self, hosted: Place, auth: Auth) -> None:
        user = auth.sign_up("New@Example.test")
        assert email(hosted, user) == "new@example.test", "as Auth itself writes addresses"
        api = Api(hosted.url_of("authenticator"))
        assert api.insert(user, "tasks", {"user_id": user, "title": "Say hello"})["user_id"] == user
        api.close()

    def test_an_anonymous_one_and_one_with_a_telephone_alone_have_no_address(self, hosted: Place, auth: Auth) -> None:
        assert email(hosted, auth.sign_up()) is None
        assert email(hosted, auth.sign_up(phone="431234567")) is None

    def test_an_anonymous_one_that_gives_its_address_later_has_it(self, hosted: Place, auth: Auth) -> None:
        user = auth.sign_up()
        auth.change(user, "email = 'late@example.test', is_anonymous = false")
        assert email(hosted, user) == "late@example.test"

    def test_the_twin_of_single_sign_on_has_no_address_until_the_first_gives_it_up(
        self, hosted: Place, auth: Auth
    ) -> None:
        first = auth.sign_up("twin@example.test")
        second = auth.sign_up("twin@example.test", sso=True)
        third = auth.sign_up("Twin@Example.test", sso=True)
        assert [email(hosted, user) for user in (first, second, third)] == ["twin@example.test", None, None]
        assert repair(hosted) == 0
        auth.delete(first)
        assert repair(hosted) > 0
        assert [email(hosted, user) for user in (second, third)] == ["twin@example.test", None]

    def test_an_address_is_the_same_in_other_letters_and_with_blanks(self, hosted: Place, auth: Auth) -> None:
        first = auth.sign_up("first@example.test")
        hosted.chain.execute("UPDATE public.users SET email = ' First@Example.TEST ' WHERE id = %s", [first])
        assert repair(hosted) == 0
        second = auth.sign_up(" FIRST@example.test", sso=True)
        assert [email(hosted, user) for user in (first, second)] == [" First@Example.TEST ", None]
        assert repair(hosted) == 0
        auth.change(first, "email = 'other@example.test'")
        assert repair(hosted) == 1
        assert [email(hosted, user) for user in (first, second)] == ["other@example.test", "first@example.test"]

    def test_an_empty_address_is_none(self, hosted: Place, auth: Auth) -> None:
        empty, blank = auth.sign_up("", sso=True), auth.sign_up("  ", sso=True)
        assert [email(hosted, user) for user in (empty, blank)] == [None, None]
        known = auth.sign_up("known@example.test", sso=True)
        auth.change(known, "email = ''")
        assert email(hosted, known) is None
        assert repair(hosted) == 0

    def test_two_rows_with_one_address_are_told_apart_by_the_repair(self, hosted: Place, auth: Auth) -> None:
        first = auth.sign_up("first@example.test")
        second = auth.sign_up("second@example.test")
        hosted.chain.execute("UPDATE public.users SET email = 'FIRST@example.test' WHERE id = %s", [second])
        assert repair(hosted) == 2
        assert [email(hosted, user) for user in (first, second)] == ["first@example.test", "second@example.test"]

    def test_who_has_an_address_is_found_by_index(self, hosted: Place) -> None:
        hosted.admin.execute(
            "INSERT INTO auth.users (id, email) SELECT gen_random_uuid(), n || '@example.test'"
            " FROM generate_series(1, 5000) AS n"
        )
        hosted.chain.execute("ANALYZE public.users")
        plan = hosted.chain.rows(
            "EXPLAIN SELECT FROM public.users AS o"
            " WHERE nullif(lower(btrim(o.email)), '') = '77@example.test' AND o.id <> gen_random_uuid()"
        )
        assert any("idx_users_address" in line for line in plan), plan

    def test_a_changed_address_follows(self, hosted: Place, auth: Auth) -> None:
        auth.change(ANA, "email = 'ana.new@example.test'")
        assert email(hosted, ANA) == "ana.new@example.test"
        newcomer = auth.sign_up("ana@example.test")
        auth.change(newcomer, "email = 'ana.new@example.test', is_sso_user = true")
        assert email(hosted, newcomer) is None, "it is Ana's"

    def test_two_that_sign_up_with_one_address_at_the_same_time_both_do(self, hosted: Place, auth: Auth) -> None:
        with hosted.admin.connect() as other, other.transaction():
            other.execute(
                "INSERT INTO auth.users (id, email, is_sso_user) VALUES (gen_random_uuid(), 'both@example.test', true)"
            )
            waiting = threading.Thread(target=auth.sign_up, args=["both@example.test"])
            waiting.start()
            waits = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted"
            wait_for(lambda: hosted.admin.value(waits), "the second to wait for the first")
        waiting.join()
        assert hosted.chain.value("SELECT count(*) FROM auth.users WHERE email = 'both@example.test'") == 2
        assert hosted.chain.value("SELECT count(*) FROM public.users WHERE email = 'both@example.test'") == 1
        assert problems(hosted) == []

    def test_a_sign_in_changes_nothing(self, hosted: Place, auth: Auth) -> None:
        before = hosted.chain.rows("SELECT * FROM public.users ORDER BY id")
        auth.sign_in(ANA)
        assert hosted.chain.rows("SELECT * FROM public.users ORDER BY id") == before

    def test_a_soft_deletion_keeps_the_user(self, hosted: Place, auth: Auth) -> None:
        auth.change(ANA, "deleted_at = now(), email = 'a3f5', phone = ''")
        assert email(hosted, ANA) == "a3f5"

    def test_a_deletion_takes_the_user_and_what_it_wrote(self, hosted: Place, auth: Auth) -> None:
        api = Api(hosted.url_of("authenticator"))
        api.insert(USER, "chat_messages", {"user_id": USER, "role": "user", "content": "Hello"})
        api.insert(USER, "chat_sessions", {"user_id": USER, "messages": [{"role": "user", "content": "Hello"}]})
        api.close()
        auth.delete(USER)
        for table in ("users", "conversations", "messages", "chat_messages"):
            key = "id" if table == "users" else "user_id"
            assert hosted.chain.value(f"SELECT count(*) FROM public.{table} WHERE {key} = %s", [USER]) == 0
        assert problems(hosted) == []

    def test_a_password_of_our_own_keeps_its_address(self, hosted: Place, auth: Auth) -> None:
        hosted.chain.execute("UPDATE public.users SET password_hash = 'x' WHERE id = %s", [ANA])
        auth.change(ANA, "email = NULL")
        assert email(hosted, ANA) == "ana@example.test"
        assert repair(hosted) == 0

    def test_a_user_takes_no_address_here_and_who_it_belongs_to_has_it(self, hosted: Place, auth: Auth) -> None:
        """Auth has proof of an address, a row of public.users has none."""
        for statement in (
            "UPDATE public.users SET email = 'victim@example.test'",
            "UPDATE public.users SET email = NULL",
        ):
            with hosted.chain.session.transaction(force_rollback=True):
                claims = json.dumps({"sub": ANA})
                hosted.chain.execute("SELECT set_config('role', 'authenticated', true)")
                hosted.chain.execute("SELECT set_config('request.jwt.claims', %s, true)", [claims])
                assert hosted.chain.value("SELECT email FROM public.users") == "ana@example.test"
                with pytest.raises(errors.InsufficientPrivilege):
                    hosted.chain.execute(statement)
        victim = auth.sign_up("victim@example.test")
        assert email(hosted, victim) == "victim@example.test"
        assert email(hosted, ANA) == "ana@example.test"

    def test_services_still_write_it(self, hosted: Place) -> None:
        with hosted.chain.session.transaction():
            hosted.chain.execute("SELECT set_config('role', 'service_role', true)")
            assert hosted.chain.execute("UPDATE public.users SET password_hash = 'x' WHERE id = %s", [ANA]) == 1
            assert hosted.chain.execute("UPDATE public.users SET email = 'a@b.test' WHERE id = %s", [ANA]) == 1

    def test_users_cannot_be_made_without_one(self, hosted: Place) -> None:
        with pytest.raises(errors.ForeignKeyViolation):
            hosted.chain.new_user()


BREAKAGES = {
    "unwritable": (
        "ALTER TABLE public.users ADD CONSTRAINT closed CHECK (false) NOT VALID",
        "ALTER TABLE public.users DROP CONSTRAINT closed",
    ),
    "renamed": ("ALTER TABLE public.users RENAME TO people", "ALTER TABLE public.people RENAME TO users"),
    "without its function": (
        "ALTER FUNCTION chat_internal.store_auth_user(uuid, text, timestamptz) RENAME TO gone",
        "ALTER FUNCTION chat_internal.gone(uuid, text, timestamptz) RENAME TO store_auth_user",
    ),
    "of another shape": (
        "ALTER TABLE public.users ADD COLUMN nickname text NOT NULL DEFAULT 'x';"
        "ALTER TABLE public.users ALTER COLUMN nickname DROP DEFAULT",
        "ALTER TABLE public.users DROP COLUMN nickname",
    ),
    "behind a trigger that raises": (
        "CREATE FUNCTION public.raises() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'no'; END $$;"
        "CREATE TRIGGER raises BEFORE INSERT OR UPDATE ON public.users FOR EACH ROW EXECUTE FUNCTION public.raises()",
        "DROP FUNCTION public.raises() CASCADE",
    ),
    "without its trigger": (
        "ALTER TABLE auth.users DISABLE TRIGGER chat_mirror_user",
        "ALTER TABLE auth.users ENABLE TRIGGER chat_mirror_user",
    ),
}


class TestABrokenMirror:
    @pytest.mark.parametrize("breakage", BREAKAGES)
    def test_it_blocks_no_sign_up_and_one_command_mends_it(self, hosted: Place, auth: Auth, breakage: str) -> None:
        breaks, mends = BREAKAGES[breakage]
        hosted.admin.execute(breaks)
        newcomers = [auth.sign_up("new@example.test"), auth.sign_up()]
        auth.change(ANA, "email = 'ana.new@example.test'")
        auth.sign_in(USER)
        hosted.admin.execute(mends)
        [found] = problems(hosted)
        assert found.name == "accounts in auth.users without a row in users"
        assert found.problems == ("2 rows break this rule: run `SELECT chat_internal.repair_users()`",)
        assert repair(hosted) == 3
        assert [email(hosted, user) for user in newcomers] == ["new@example.test", None]
        assert email(hosted, ANA) == "ana.new@example.test"
        assert problems(hosted) == []
        assert repair(hosted) == 0

    def test_a_lock_on_users_holds_no_sign_up_for_long(self, hosted: Place, auth: Auth) -> None:
        with hosted.chain.connect() as other, other.transaction():
            other.execute("LOCK TABLE public.users")
            user = auth.sign_up("new@example.test")
        assert repair(hosted) == 1
        assert email(hosted, user) == "new@example.test"

    def test_what_a_sign_up_says_names_the_command_and_no_person(self, hosted: Place) -> None:
        hosted.admin.execute(BREAKAGES["unwritable"][0])
        with hosted.admin.connect() as connection:
            said: list[str] = []
            connection.add_notice_handler(
                lambda notice: said.append(
                    f"{notice.severity_nonlocalized} {notice.message_primary} {notice.message_hint}"
                )
            )
            connection.execute("INSERT INTO auth.users (id, email) VALUES (gen_random_uuid(), 'new@example.test')")
        [warning] = said
        assert warning.startswith("WARNING public.users does not follow auth.users")
        assert "repair_users()" in warning
        assert "@" not in warning

    def test_addresses_that_were_exchanged_meanwhile_are_both_right_again(self, hosted: Place, auth: Auth) -> None:
        ben = USER.removesuffix("1") + "2"
        hosted.admin.execute(BREAKAGES["without its trigger"][0])
        auth.change(ANA, "email = 'between'")
        auth.change(ben, "email = 'ana@example.test'")
        auth.change(ANA, "email = 'ben@example.test'")
        assert repair(hosted) == 2
        assert (email(hosted, ANA), email(hosted, ben)) == ("ben@example.test", "ana@example.test")

    @pytest.mark.parametrize("role", ["anon", "authenticated"])
    def test_clients_may_neither_repair_nor_look(self, hosted: Place, role: str) -> None:
        for function in ("repair_users", "users_to_mend", "has_auth_users"):
            with hosted.chain.session.transaction(force_rollback=True):
                hosted.chain.execute("SELECT set_config('role', %s, true)", [role])
                with pytest.raises(errors.InsufficientPrivilege):
                    hosted.chain.execute(f"SELECT * FROM chat_internal.{function}()")

    @pytest.mark.parametrize(
        ("drift", "named"),
        [
            (BREAKAGES["without its trigger"][0], "trigger chat_mirror_user on auth.users differs"),
            ("DROP TRIGGER chat_mirror_user ON auth.users", "trigger chat_mirror_user on auth.users is missing"),
            (
                "ALTER TABLE public.users DROP CONSTRAINT fk_users_id",
                "constraint fk_users_id on public.users is missing",
            ),
            ("DROP INDEX public.idx_users_address", "index idx_users_address on public.users is missing"),
            ("GRANT UPDATE (email) ON public.users TO authenticated", "table public.users differs"),
            (
                "CREATE POLICY users_update_own ON public.users FOR UPDATE TO authenticated USING (true)",
                "policy users_update_own on public.users is not part of the package",
            ),
        ],
    )
    def test_verify_names_what_is_missing_of_it(self, hosted: Place, drift: str, named: str) -> None:
        hosted.admin.execute(drift)
        [found] = problems(hosted)
        assert found.name == "catalog"
        assert found.problems[0].startswith(named)


class TestTheDowngrade:
    @pytest.mark.parametrize("by_script", [False, True])
    def test_sign_ups_work_after_it_and_nothing_is_left(self, hosted: Place, auth: Auth, by_script: bool) -> None:
        if by_script:
            done = hosted.chain.run_script(hosted.chain.downgrade_script(f"{HEAD}:base"))
            assert done.returncode == 0, done.stderr
        else:
            hosted.chain.downgrade("base")
        left = "SELECT tgname FROM pg_trigger WHERE tgrelid = 'auth.users'::regclass"
        assert hosted.chain.rows(left) == []
        auth.delete(auth.sign_up("new@example.test"))
        assert hosted.chain.value("SELECT count(*) FROM auth.users") == 8

    def test_it_is_refused_for_a_user_that_has_a_password_here(self, hosted: Place) -> None:
        hosted.chain.execute("UPDATE public.users SET password_hash = 'x' WHERE id = %s", [ANA])
        with pytest.raises(CommandError, match="would destroy 1 users"):
            hosted.chain.downgrade("base")
