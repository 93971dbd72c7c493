"""Whether the login of a service is one that policies bind: asked at start-up, before it serves anybody."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from .acting_as import LoginError
from .engine.session import SEARCH_PATH
from .models import TABLES

_SET_PATH = sa.text("SELECT pg_catalog.set_config('search_path', :path, true)")
_LOGIN = sa.text(
    """
    WITH login AS (
      SELECT r.oid, r.rolname, r.rolsuper, r.rolbypassrls FROM pg_roles AS r WHERE r.rolname = session_user
    ), wanted AS (
      SELECT w.name, r.oid FROM unnest(CAST(:roles AS text[])) AS w (name) LEFT JOIN pg_roles AS r ON r.rolname = w.name
    ), tables AS (
      SELECT c.oid, c.relname, c.relowner, c.relacl FROM pg_class AS c
      WHERE c.relnamespace = to_regnamespace('public') AND c.relkind = 'r' AND c.relname = ANY (CAST(:tables AS text[]))
    ), owner AS (
      SELECT t.relowner AS oid, r.rolname FROM tables AS t JOIN pg_roles AS r ON r.oid = t.relowner
      WHERE t.relname = 'conversations'
    ), edge AS (  -- what the login is a member of; since PostgreSQL 16 each grantor's membership has its own options
      SELECT r.oid, r.rolname, r.oid IN (SELECT w.oid FROM wanted AS w) AS is_wanted,
             bool_or(coalesce((to_jsonb(m) ->> 'set_option')::boolean, true) OR m.admin_option) AS sets,
             bool_or(coalesce((to_jsonb(m) ->> 'inherit_option')::boolean, l.rolinherit)) AS inherits,
             jsonb_agg(CASE WHEN to_jsonb(m) ? 'inherit_option' THEN pg_get_userbyid(m.grantor) END) AS grantors
      FROM pg_auth_members AS m JOIN pg_roles AS r ON r.oid = m.roleid
      JOIN pg_roles AS l ON l.oid = m.member JOIN login AS u ON u.oid = l.oid
      GROUP BY r.oid, r.rolname
    ), power AS (
      SELECT DISTINCT r.rolname AS role, e.rolname AS via, e.is_wanted, e.grantors
      FROM pg_roles AS r CROSS JOIN login AS l CROSS JOIN edge AS e
      WHERE e.sets AND r.oid <> l.oid AND r.oid NOT IN (SELECT w.oid FROM wanted AS w WHERE w.oid IS NOT NULL)
        AND (r.rolsuper OR r.rolbypassrls OR r.oid IN (SELECT o.oid FROM owner AS o))
        AND (e.oid = r.oid OR pg_has_role(e.oid, r.oid, 'MEMBER'))
        AND (pg_has_role(l.oid, r.oid, 'MEMBER WITH ADMIN OPTION') OR pg_has_role(l.oid, r.oid,
               CASE WHEN current_setting('server_version_num')::integer >= 160000 THEN 'SET' ELSE 'MEMBER' END))
    ), creates AS (
      SELECT DISTINCT o.what, o.name, CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(x.grantee) END AS role,
             x.grantee = o.owner AS owns, e.rolname AS via, e.grantors
      FROM (
        SELECT 'DATABASE' AS what, d.datname::text AS name, d.datdba AS owner,
               coalesce(d.datacl, acldefault('d', d.datdba)) AS acl
        FROM pg_database AS d WHERE d.datname = current_database()
        UNION ALL
        SELECT 'SCHEMA', n.nspname::text, n.nspowner, coalesce(n.nspacl, acldefault('n', n.nspowner))
        FROM pg_namespace AS n WHERE n.nspname = 'public'
      ) AS o
      CROSS JOIN LATERAL aclexplode(o.acl) AS x CROSS JOIN login AS l
      LEFT JOIN edge AS e
        ON e.inherits AND x.grantee NOT IN (0, l.oid) AND (e.oid = x.grantee OR pg_has_role(e.oid, x.grantee, 'USAGE'))
      WHERE x.privilege_type = 'CREATE'
        AND CASE x.grantee WHEN 0 THEN true ELSE pg_has_role(l.oid, x.grantee, 'USAGE') END
    ), rights AS (
      SELECT e.rolname AS role, e.grantors, jsonb_agg(DISTINCT t.relname ORDER BY t.relname) AS tables
      FROM tables AS t CROSS JOIN LATERAL aclexplode(t.relacl) AS x CROSS JOIN login AS l
      JOIN edge AS e ON e.inherits AND NOT e.is_wanted AND x.grantee <> t.relowner
        AND (e.oid = x.grantee OR x.grantee <> 0 AND pg_has_role(e.oid, x.grantee, 'USAGE'))
      WHERE x.grantee NOT IN (SELECT w.oid FROM wanted AS w WHERE w.oid IS NOT NULL)
      GROUP BY e.rolname, e.grantors
      UNION ALL
      SELECT l.rolname, NULL, jsonb_agg(DISTINCT t.relname ORDER BY t.relname)
      FROM tables AS t CROSS JOIN LATERAL aclexplode(t.relacl) AS x JOIN login AS l ON l.oid = x.grantee
      WHERE x.privilege_type IN ('TRUNCATE', 'REFERENCES', 'TRIGGER')
      GROUP BY l.rolname
    ), setting AS (
      SELECT s.setrole <> 0 AS of_login, s.setdatabase <> 0 AS of_database, split_part(c, '=', 1) AS name,
             string_to_array(replace(substr(c, strpos(c, '=') + 1), '"', ''), ', ') AS listed
      FROM pg_db_role_setting AS s CROSS JOIN unnest(s.setconfig) AS c
      WHERE s.setrole IN (SELECT l.oid FROM login AS l UNION ALL SELECT 0::oid)
        AND s.setdatabase IN (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database()
                              UNION ALL SELECT 0::oid)
    ), defeat AS (
      SELECT s.name, s.of_login, s.of_database FROM setting AS s
      WHERE s.name = 'role' AND s.listed <> '{none}' OR s.name = 'session_authorization'
        OR s.name = 'row_security' AND s.listed <> '{on}' OR s.name LIKE 'request.%'
        OR s.name LIKE 'chat\\_schema.%'
        OR s.name = 'search_path' AND ('public' <> ALL (s.listed) OR EXISTS (
          SELECT FROM pg_namespace AS n CROSS JOIN login AS l
          WHERE (n.nspname::text = ANY (s.listed) OR '$user' = ANY (s.listed) AND n.nspname = l.rolname)
            AND n.nspname <> 'public' AND n.nspname NOT LIKE 'pg\\_%'
            AND (EXISTS (SELECT FROM pg_class AS c WHERE c.relnamespace = n.oid
                         AND c.relname = ANY (CAST(:tables AS text[])))
              OR EXISTS (SELECT FROM aclexplode(n.nspacl) AS x WHERE x.privilege_type = 'CREATE'
                         AND (x.grantee = 0 OR x.grantee IN (SELECT w.oid FROM wanted AS w))))))
    )
    SELECT l.rolname::text AS login, l.rolsuper AS is_superuser, l.rolbypassrls AS bypasses,
           pg_has_role(l.oid, o.oid, 'USAGE') AS owns, o.rolname AS owner, current_database() AS database,
           w.name AS role, w.oid IS NOT NULL AS exists,
           pg_has_role(l.oid, w.oid, 'USAGE') AS inherits,
           pg_has_role(
             l.oid, w.oid,
             CASE WHEN current_setting('server_version_num')::integer >= 160000 THEN 'SET' ELSE 'MEMBER' END
           ) AS may_become,
           (SELECT jsonb_agg(p) FROM power AS p) AS powers,
           (SELECT jsonb_agg(c) FROM creates AS c) AS creates,
           (SELECT jsonb_agg(r) FROM rights AS r) AS rights,
           (SELECT jsonb_agg(d) FROM defeat AS d) AS settings
    FROM login AS l CROSS JOIN wanted AS w LEFT JOIN owner AS o ON true
    """
)
_TABLES = sorted(TABLES)


def check_login(
    connection: sa.Connection,
    *,
    role: str = "authenticated",
    service_role: str | None = "service_role",
    switches_role: bool = False,
) -> None:
    """Raise :class:`LoginError` unless policies bind the login where :func:`acting_as` was forgotten.

    Fit is a login that may become ``role`` and ``service_role`` (None: a service that acts for users only) and that by
    itself sees nothing and can make nothing: no superuser, no BYPASSRLS, not the owner of the tables nor one who may
    become any of these, no rights on the tables by other roles, none to create in the database or in schema public (for
    PUBLIC neither: a stranger's operators would be called), no settings that choose role, claims or another path.
    ``switches_role=True`` is the service's word that each of its statements runs within a block; then only the first
    is asked for.
    """
    roles = [role] if service_role is None else [role, service_role]
    with _safe_search_path(connection):
        found = connection.execute(_LOGIN, {"roles": roles, "tables": _TABLES}).all()
    for row in found:
        if not row.exists:
            raise LoginError(
                f"This server has no role {row.role}, so no service can act in it. Run `chat-schema upgrade head`."
            )
    quoted = connection.dialect.identifier_preparer.quote
    login = quoted(found[0].login)
    missing = [quoted(row.role) for row in found if not row.may_become]
    if missing:
        raise LoginError(
            f"The login {login} may not become {' or '.join(missing)}, so acting_as() would fail. Have an "
            f"administrator run:\n  ALTER ROLE {login} NOINHERIT;\n  GRANT {', '.join(missing)} TO {login};"
        )
    if switches_role:
        return
    reasons = {
        "is a superuser": found[0].is_superuser,
        "has BYPASSRLS": found[0].bypasses,
        "owns the tables": found[0].owns,
    }
    for reason, holds in reasons.items():
        if holds:
            raise LoginError(
                f"The login {login} {reason}, so policies bind nothing that it does without switching its role: one "
                "statement outside acting_as() shows the rows of every user. Have an administrator make a login for "
                "the service, and connect as that:\n"
                "  CREATE ROLE chat_service LOGIN NOINHERIT PASSWORD '...';\n"
                f"  GRANT {', '.join(quoted(name) for name in roles)} TO chat_service;\n"
                "Where the platform gives you no other login, run every statement within acting_as() or "
                "acting_as_service(), and say so: check_login(connection, switches_role=True)."
            )
    if any(row.inherits for row in found if row.role == service_role):
        name = quoted(str(service_role))
        raise LoginError(
            f"The login {login} inherits the rights of {name}, so one statement outside acting_as() shows the rows of "
            f"every user. Have an administrator run:\n"
            f"  ALTER ROLE {login} NOINHERIT;\n"
            f"  REVOKE {name} FROM {login};  -- from PostgreSQL 16 on, a grant keeps the INHERIT it was made with\n"
            f"  GRANT {name} TO {login};"
        )
    for explained in (_powers, _rights, _creates, _settings):
        problems = list(explained(found[0], quoted))
        if problems:
            what = "; ".join(dict.fromkeys(problem for problem, _ in problems))
            statements = dict.fromkeys(statement for _, several in problems for statement in several)
            raise LoginError(f"The login {login} {what}. Have an administrator run:\n  " + "\n  ".join(statements))


@contextmanager
def _safe_search_path(connection: sa.Connection) -> Iterator[None]:
    """Look without calling what a stranger made in a schema on the login's path: whether one could is asked here."""
    before = connection.scalar(sa.text("SELECT pg_catalog.current_setting('search_path')"))
    connection.execute(_SET_PATH, {"path": SEARCH_PATH})
    yield
    connection.execute(_SET_PATH, {"path": before})


_Quote = Callable[[str], str]
_Problems = Iterator[tuple[str, list[str]]]


def _powers(found: sa.Row[Any], quoted: _Quote) -> _Problems:
    """Explain each role that the login may become and that policies do not bind."""
    for each in found.powers or ():
        role, via = quoted(each["role"]), quoted(each["via"])
        problem = f"may become {role}, whom policies do not bind, so one SET ROLE shows the rows of every user"
        if each["is_wanted"]:
            yield problem, [f"REVOKE {role} FROM {via};"]
        else:
            yield problem, [f"REVOKE {via} FROM {quoted(found.login)}{by};" for by in _grantors(each, quoted)]


def _rights(found: sa.Row[Any], quoted: _Quote) -> _Problems:
    """Explain each right on the tables that the login has without switching its role."""
    for each in found.rights or ():
        tables = ", ".join(f"public.{quoted(table)}" for table in each["tables"])
        if each["role"] == found.login:
            problem = f"has rights on {tables} that policies do not bind"
            yield problem, [f"REVOKE TRUNCATE, REFERENCES, TRIGGER ON TABLE {tables} FROM {quoted(found.login)};"]
        else:
            problem = f"has rights on {tables} through {quoted(each['role'])}, without acting for anybody"
            yield problem, _to_stop_inheriting(each["role"], each, found.login, quoted)


def _creates(found: sa.Row[Any], quoted: _Quote) -> _Problems:
    """Explain each place where the login, or everybody, can create what is called in place of something else."""
    for each in found.creates or ():
        target = f"{each['what']} {quoted(each['name'])}"
        everybody = "lives where everybody" if each["role"] == "PUBLIC" else "itself"
        problem = f"{everybody} can create objects in {target.lower()}, which statements may call in place of others"
        if each["via"] is not None:
            yield problem, _to_stop_inheriting(each["via"], each, found.login, quoted)
        elif each["owns"]:
            database = f"ALTER DATABASE {quoted(found.database)} OWNER TO {quoted(found.owner)};"
            schema = f"ALTER {target} OWNER TO pg_database_owner;"
            yield problem, [schema if each["role"] == found.login and each["what"] == "SCHEMA" else database]
        else:
            grantee = each["role"] if each["role"] == "PUBLIC" else quoted(each["role"])
            yield problem, [f"REVOKE CREATE ON {target} FROM {grantee};"]


def _settings(found: sa.Row[Any], quoted: _Quote) -> _Problems:
    """Explain each setting with which a session of the login begins as somebody, or elsewhere."""
    for each in found.settings or ():
        database = quoted(found.database)
        if each["of_login"]:
            subject = f"ROLE {quoted(found.login)}" + (f" IN DATABASE {database}" if each["of_database"] else "")
        else:
            subject = f"DATABASE {database}" if each["of_database"] else "ROLE ALL"
        problem = f"begins its sessions with {each['name']} set, so statements outside acting_as() act as somebody"
        if each["name"] in ("search_path", "row_security"):
            problem = f"begins its sessions with {each['name']} set, so that statements meet other tables or fail"
        yield problem, [f"ALTER {subject} RESET {each['name']};"]


def _to_stop_inheriting(role: str, each: Mapping[str, Any], login: str, quoted: _Quote) -> list[str]:
    """Since PostgreSQL 16 a membership has its own INHERIT, for each grantor; before, the login has."""
    return [
        f"GRANT {quoted(role)} TO {quoted(login)} WITH INHERIT FALSE{by};"
        if by
        else f"ALTER ROLE {quoted(login)} NOINHERIT;"
        for by in _grantors(each, quoted)
    ]


def _grantors(each: Mapping[str, Any], quoted: _Quote) -> list[str]:
    return [f" GRANTED BY {quoted(name)}" if name else "" for name in each["grantors"]]


async def check_login_async(
    connection: AsyncConnection,
    *,
    role: str = "authenticated",
    service_role: str | None = "service_role",
    switches_role: bool = False,
) -> None:
    """Do as :func:`check_login` does, for an asynchronous connection."""
    await connection.run_sync(
        lambda sync: check_login(sync, role=role, service_role=service_role, switches_role=switches_role)
    )
