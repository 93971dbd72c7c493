"""Drifts on the three roles and around sessions: attributes, memberships, settings, rights, default privileges.

Roles and settings belong to the server, so each drift is planted in a transaction that is rolled back.
"""

import pytest
import sqlalchemy as sa

from tests.catalog.planting import Drift, check_drift, examined, examined_as, told

BOB = 'CREATE ROLE "Bob" LOGIN'
GROUP = "CREATE ROLE staff NOLOGIN"

DRIFTS = [
    # attributes
    Drift("ALTER ROLE anon SUPERUSER", "roles", "anon", "superuser: expected no, found yes"),
    Drift("ALTER ROLE authenticated SUPERUSER", "roles", "authenticated", "ALTER ROLE authenticated NOSUPERUSER"),
    Drift("ALTER ROLE service_role SUPERUSER", "roles", "service_role", "mend as a superuser with"),
    Drift("ALTER ROLE anon BYPASSRLS", "roles", "anon", "bypassrls: expected no, found yes"),
    Drift("ALTER ROLE authenticated BYPASSRLS", "roles", "authenticated", "ALTER ROLE authenticated NOBYPASSRLS"),
    Drift("ALTER ROLE authenticated CREATEROLE", "roles", "authenticated", "createrole: expected no"),
    Drift("ALTER ROLE service_role CREATEROLE CREATEDB", "roles", "service_role", "NOCREATEROLE NOCREATEDB"),
    Drift("ALTER ROLE anon CREATEDB", "roles", "anon", "createdb: expected no"),
    Drift("ALTER ROLE service_role REPLICATION", "roles", "service_role", "replication: expected no"),
    Drift("ALTER ROLE anon LOGIN", "roles", "anon", "login: expected no"),
    Drift("ALTER ROLE authenticated LOGIN PASSWORD 'x'", "roles", "authenticated", "NOLOGIN"),
    # what the three are members of
    Drift("GRANT service_role TO anon", "memberships", "anon in service_role", "anon can do what service_role can"),
    Drift("GRANT service_role TO authenticated", "memberships", "authenticated in service_role", "REVOKE service_role"),
    Drift("GRANT authenticated TO anon", "memberships", "anon in authenticated", "anon can do what authenticated can"),
    Drift('GRANT "Drift Owner" TO authenticated', "memberships", 'authenticated in "Drift Owner"', 'REVOKE "Drift Ow'),
    Drift('GRANT "Drift Owner" TO service_role', "memberships", 'service_role in "Drift Owner"', "can do what"),
    Drift("GRANT postgres TO anon", "memberships", "anon in postgres", "anon can do what postgres can"),
    Drift("GRANT pg_read_all_data TO anon", "memberships", "anon in pg_read_all_data", "REVOKE pg_read_all_data"),
    Drift("GRANT pg_write_all_data TO authenticated", "memberships", "authenticated in pg_write_all_data", "can do"),
    Drift("GRANT pg_execute_server_program TO service_role", "memberships", "service_role in pg_exec", "can do what"),
    Drift(
        f"{GROUP}; GRANT service_role TO staff; GRANT staff TO authenticated",
        "memberships",
        "authenticated in staff",
        "authenticated can do what service_role can",
    ),
    # who is a member of the three
    Drift(
        f'{BOB}; GRANT service_role TO "Bob"',
        "memberships",
        '"Bob" in service_role',
        "sees every row without switching its role",
    ),
    Drift(
        f'{GROUP}; {BOB}; GRANT service_role TO staff; GRANT staff TO "Bob"',
        "memberships",
        "staff in service_role",
        "sees every row",
    ),
    Drift(
        f'{BOB} NOINHERIT; GRANT service_role TO "Bob" WITH ADMIN OPTION',
        "memberships",
        '"Bob" in service_role',
        "can make others members of service_role",
    ),
    Drift(
        f'{BOB} NOINHERIT; GRANT authenticated TO "Bob" WITH ADMIN OPTION',
        "memberships",
        '"Bob" in authenticated',
        "REVOKE ADMIN OPTION FOR authenticated",
    ),
    # settings
    Drift("ALTER ROLE anon SET role = 'service_role'", "settings", "role of role anon", "ALTER ROLE anon RESET role"),
    Drift("ALTER ROLE authenticated SET row_security = off", "settings", "row_security of role auth", "that policies"),
    Drift(
        "ALTER ROLE service_role SET search_path = evil", "settings", "search_path of role service_role", "looked up"
    ),
    Drift(
        'ALTER ROLE "Drift Owner" SET session_replication_role = replica',
        "settings",
        'session_replication_role of role "Drift Owner"',
        "triggers and keys are not enforced",
    ),
    Drift(
        'ALTER ROLE authenticated SET request.jwt.claims = \'{"sub": "x"}\'',
        "settings",
        "request.jwt.claims of role authenticated",
        "RESET request.jwt.claims",
    ),
    Drift(
        "ALTER ROLE ALL SET request.jwt.claim.sub = '0'",
        "settings",
        "request.jwt.claim.sub of all roles",
        "ALTER ROLE ALL RESET",
    ),
    Drift("ALTER DATABASE {database} SET row_security = off", "settings", "row_security in this database", "RESET row"),
    Drift(
        "ALTER DATABASE {database} SET search_path = evil, public",
        "settings",
        "search_path in this database",
        "ALTER DATABASE",
    ),
    Drift("ALTER DATABASE {database} SET role = anon", "settings", "role in this database", "begins as somebody"),
    Drift(
        "ALTER ROLE anon IN DATABASE {database} SET session_preload_libraries = ''",
        "settings",
        "session_preload_libraries of role anon in this database",
        "IN DATABASE",
    ),
    # rights on the database and in schemas
    Drift("GRANT CREATE ON DATABASE {database} TO PUBLIC", "grants", "PUBLIC on the database", "REVOKE CREATE ON DAT"),
    Drift("GRANT CREATE ON DATABASE {database} TO anon", "grants", "anon on the database", "can create schemas"),
    Drift(f'{BOB}; GRANT CREATE ON DATABASE {{database}} TO "Bob"', "grants", '"Bob" on the database', 'FROM "Bob"'),
    Drift("GRANT CREATE ON SCHEMA public TO PUBLIC", "schemas", "public", "REVOKE CREATE ON SCHEMA public FROM PUBLIC"),
    Drift("GRANT CREATE ON SCHEMA public TO anon", "schemas", "public", "grants to anon: expected none, found CREATE"),
    Drift("GRANT CREATE ON SCHEMA chat_internal TO authenticated", "schemas", "chat_internal", "found CREATE, USAGE"),
    Drift(f'{BOB}; GRANT CREATE ON SCHEMA public TO "Bob"', "grants", '"Bob" on schema public', "stand in for others"),
    Drift("ALTER DATABASE {database} OWNER TO authenticated", "grants", "authenticated on the database", "OWNER TO"),
    Drift("ALTER SCHEMA public OWNER TO anon", "grants", "anon on schema public", "mend as a superuser"),
    Drift(f'{BOB}; ALTER SCHEMA public OWNER TO "Bob"', "grants", '"Bob" on schema public', "OWNER TO pg_database_own"),
    Drift(
        'ALTER DATABASE {database} SET search_path = "$user", public, extensions; CREATE SCHEMA extensions;'
        " GRANT CREATE ON SCHEMA extensions TO anon",
        "grants",
        "anon on schema extensions",
        "REVOKE CREATE ON SCHEMA extensions",
        also=1,
    ),
    # default privileges of the owner
    Drift(
        'ALTER DEFAULT PRIVILEGES FOR ROLE "Drift Owner" IN SCHEMA public GRANT SELECT ON TABLES TO anon',
        "default privileges",
        'tables of "Drift Owner" in schema public to anon',
        "REVOKE SELECT ON TABLES FROM anon",
    ),
    Drift(
        'ALTER DEFAULT PRIVILEGES FOR ROLE "Drift Owner" GRANT ALL ON TABLES TO PUBLIC',
        "default privileges",
        'tables of "Drift Owner" to PUBLIC',
        "on what the owner creates later",
    ),
    Drift(
        'ALTER DEFAULT PRIVILEGES FOR ROLE "Drift Owner" IN SCHEMA chat_internal'
        " GRANT EXECUTE ON FUNCTIONS TO authenticated",
        "default privileges",
        'functions of "Drift Owner" in schema chat_internal to authenticated',
        "EXECUTE ON FUNCTIONS",
    ),
    Drift(
        'ALTER DEFAULT PRIVILEGES FOR ROLE "Drift Owner" IN SCHEMA public GRANT USAGE, UPDATE ON SEQUENCES TO anon',
        "default privileges",
        'sequences of "Drift Owner" in schema public to anon',
        "ON SEQUENCES",
    ),
]


@pytest.mark.parametrize("drift", DRIFTS, ids=lambda drift: drift.id)
def test_a_drift_is_reported_by_name_and_its_remedy_mends_it(drift: Drift, planted: sa.Connection) -> None:
    database = planted.scalar(sa.text("SELECT current_database()"))
    check_drift(planted, drift.in_database(str(database)))


FINE = {
    "service_role passes policies on hosted platforms": "ALTER ROLE service_role BYPASSRLS",
    "a service's login may switch": 'CREATE ROLE "Bob" LOGIN NOINHERIT; GRANT authenticated, service_role TO "Bob"',
    "the owner hands on the roles": 'GRANT anon, authenticated, service_role TO "Drift Owner" WITH ADMIN OPTION',
    "who may create roles hands them on": f'{BOB} CREATEROLE NOINHERIT; GRANT service_role TO "Bob" WITH ADMIN OPTION',
    "a group without logins": f"{GROUP}; GRANT service_role TO staff",
    "a membership in a role that can do nothing": f"{GROUP}; GRANT staff TO authenticated",
    "the path that PostgreSQL has": "ALTER ROLE authenticated SET search_path = '$user', public",
    "a timeout": "ALTER ROLE anon SET statement_timeout = '3s'",
    "settings of somebody else": f'{BOB}; ALTER ROLE "Bob" SET search_path = evil',
    "default privileges of another": f'{BOB}; ALTER DEFAULT PRIVILEGES FOR ROLE "Bob" GRANT ALL ON TABLES TO anon',
    "default privileges of the owner elsewhere": """CREATE SCHEMA elsewhere;
        ALTER DEFAULT PRIVILEGES FOR ROLE "Drift Owner" IN SCHEMA elsewhere GRANT ALL ON TABLES TO anon""",
    "functions that are nobody's but the owner's": """ALTER DEFAULT PRIVILEGES FOR ROLE "Drift Owner"
        REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC""",
}


@pytest.mark.parametrize("sql", FINE.values(), ids=FINE)
def test_what_a_right_platform_has_is_no_fault(sql: str, planted: sa.Connection) -> None:
    planted.exec_driver_sql(sql)
    found = examined(planted)
    assert not found.faults, told(found)


def test_a_role_that_is_missing_is_named_with_the_statement_that_makes_it(planted: sa.Connection) -> None:
    planted.exec_driver_sql("ALTER ROLE anon RENAME TO nobody")
    [fault] = [each for each in examined(planted).faults if each.kind == "roles"]
    assert fault.found is None
    for statement in fault.mend.statements:
        planted.exec_driver_sql(statement)
    assert not [each for each in examined(planted).faults if each.kind == "roles"]


def test_temporary_objects_of_everybody_are_named_and_no_fault(planted: sa.Connection) -> None:
    [noted] = examined(planted).noted
    assert (noted.name, noted.says) == (
        "grant PUBLIC on the database",
        "can create temporary objects, as on every PostgreSQL",
    )


def test_a_setting_that_may_hold_a_secret_is_named_without_its_value(planted: sa.Connection) -> None:
    planted.exec_driver_sql("ALTER ROLE authenticated SET request.jwt.claims = 'hunter2'")
    assert "hunter2" not in told(examined(planted))
    assert "hunter2" not in str([each.found for each in examined(planted).faults])


def test_roles_are_printed_under_the_names_that_they_have_here(planted: sa.Connection) -> None:
    planted.exec_driver_sql(
        'ALTER ROLE authenticated RENAME TO "App User"; GRANT TRUNCATE ON tasks TO "App User";'
        "UPDATE chat_internal.role_names SET actual = 'App User' WHERE logical = 'authenticated';"
        'ALTER ROLE "App User" CREATEDB'
    )
    found = examined_as(planted, "App User")
    assert {each.identity for each in found.faults} == {"public.tasks", "authenticated"}, told(found)
    for fault in found.faults:
        for statement in fault.mend.statements:
            assert '"App User"' in statement
            planted.exec_driver_sql(statement)
    assert not examined_as(planted, "App User").faults
