"""Hostile clients: sessions that stay open while the chain goes up and down, and what each of them tries at a revision.

Each statement is one transaction, rolled back: what it leaves behind is its words in the server's log. None holds a
transaction open while a revision runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from tests.adoption.legacy import SUPABASE, Place
from tests.conftest import libpq
from tests.migrations.chain import Chain
from tests.shadows import kit

GATEWAY, STRANGER = "shadow_gateway", "shadow_stranger"  # the fixture ``logins`` makes them
USER = "a0000000-0000-4000-8000-000000000001"  # Ana of the older databases
SENT = '[{"role": "user", "content": "x", "timestamp": "2026-01-01T09:00:00Z"}, 7]'

SAMPLES = {
    "uuid": USER,
    "jsonb": SENT,
    "json": SENT,
    "integer": "10",
    "bigint": "1",
    "numeric": "0",
    "boolean": "true",
    "interval": "90 days",
    "timestamp with time zone": "2026-01-01T09:00:00Z",
    "regclass": "public.messages",
    "date": "2026-01-01",
}


@dataclass
class Attacker:
    """A client with the kit in its pg_temp, under ``login``, acting as ``role``."""

    name: str
    session: psycopg.Connection
    done: int = 0

    def attack(self, statements: Iterable[str]) -> None:
        for statement in statements:
            try:
                self.session.execute(f"BEGIN; {statement}; ROLLBACK".encode())
                self.done += 1
            except psycopg.Error:
                if self.session.info.transaction_status != TransactionStatus.IDLE:
                    self.session.execute("ROLLBACK")

    def plant(self, admin: Chain) -> None:
        """Make a trigger, to stay, on each table where the role may: the next revision that writes there runs it."""
        for relation, kind in admin.rows(_MAY_HAVE_TRIGGERS, [self.name]):
            when = "INSTEAD OF" if kind == "v" else "BEFORE"
            self.session.execute(
                f"CREATE TRIGGER shadow {when} INSERT OR UPDATE OR DELETE ON {relation}"
                " FOR EACH ROW EXECUTE FUNCTION pg_temp.trap_trigger()".encode()
            )


_MAY_HAVE_TRIGGERS = """
    SELECT pg_catalog.format('%%I.%%I', n.nspname, c.relname), c.relkind::text
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname IN ('public', 'chat_internal') AND c.relkind IN ('r', 'v')
      AND pg_catalog.has_table_privilege(%s, c.oid, 'TRIGGER')
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger AS t WHERE t.tgrelid = c.oid AND t.tgname = 'shadow')
"""


@contextmanager
def attackers(place: Place, relations: kit.Relations) -> Iterator[list[Attacker]]:
    """Yield the clients of a platform, each with its kit: the three roles, who hands them out, and a login of none."""
    gateway = "authenticator" if place.platform in SUPABASE else GATEWAY
    with ExitStack() as stack:
        found = []
        for login, role in (
            (gateway, "anon"),
            (gateway, "authenticated"),
            (gateway, "service_role"),
            (gateway, None),
            (STRANGER, None),
        ):
            session = stack.enter_context(
                psycopg.connect(libpq(place.url_of(login)), autocommit=True, prepare_threshold=None)
            )
            if role:
                session.execute(f"SET ROLE {role}")
                session.execute("SELECT set_config('request.jwt.claims', %s, false)", [f'{{"sub": "{USER}"}}'])
            assert kit.make(session, "pg_temp", relations) > 100
            session.execute("SET search_path = pg_temp, public, pg_catalog")
            session.execute("SET client_min_messages = error")
            found.append(Attacker(role or login, session))
        yield found


def attacks(admin: Chain, role: str) -> list[str]:
    """Return what ``role`` can try at the revision that the database is at."""
    statements = [statement for row in admin.rows(_RELATIONS, [role] * 4) for statement in _on_relation(*row)]
    for name, kind, arguments in admin.rows(_FUNCTIONS, [role] * 2):
        for values in (["NULL"] * len(arguments), [_literal(SAMPLES.get(type, "x")) for type in arguments]):
            call = f"{name}({', '.join(values)})"
            statements.append(f"CALL {call}" if kind == "p" else f"SELECT * FROM {call}")
    return statements


_RELATIONS = """
    SELECT pg_catalog.format('%%I.%%I', n.nspname, c.relname), pg_catalog.has_table_privilege(r.oid, c.oid, 'DELETE'),
      pg_catalog.jsonb_object_agg(a.attname, pg_catalog.jsonb_build_object(
        'type', pg_catalog.format_type(a.atttypid, NULL),
        'select', pg_catalog.has_column_privilege(r.oid, c.oid, a.attnum, 'SELECT'),
        'insert', pg_catalog.has_column_privilege(r.oid, c.oid, a.attnum, 'INSERT') AND a.attidentity <> 'a',
        'update', pg_catalog.has_column_privilege(r.oid, c.oid, a.attnum, 'UPDATE')) ORDER BY a.attnum)
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_catalog.pg_roles AS r ON r.rolname = %s
    WHERE n.nspname IN ('public', 'chat_internal', 'auth') AND c.relkind IN ('r', 'v', 'm', 'p')
      AND pg_catalog.has_schema_privilege(%s, n.oid, 'USAGE')
      AND (pg_catalog.has_any_column_privilege(%s, c.oid, 'SELECT, INSERT, UPDATE')
           OR pg_catalog.has_table_privilege(%s, c.oid, 'DELETE, TRUNCATE'))
    GROUP BY n.nspname, c.relname, c.oid, r.oid
    ORDER BY c.oid
"""

_FUNCTIONS = """
    SELECT p.oid::pg_catalog.regproc::text, p.prokind::text,
      ARRAY(SELECT pg_catalog.format_type(t.oid, NULL)
            FROM pg_catalog.unnest(p.proargtypes) WITH ORDINALITY AS t (oid, place) ORDER BY t.place)
    FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
    WHERE n.nspname IN ('public', 'chat_internal', 'auth') AND p.prokind IN ('f', 'p')
      AND p.prorettype <> 'pg_catalog.trigger'::pg_catalog.regtype
      AND pg_catalog.has_schema_privilege(%s, n.oid, 'USAGE')
      AND pg_catalog.has_function_privilege(%s, p.oid, 'EXECUTE')
    ORDER BY p.oid
"""


def _on_relation(name: str, may_delete: bool, columns: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    def values(privilege: str) -> dict[str, str]:
        found = {column: _value(column, str(told["type"])) for column, told in columns.items() if told[privilege]}
        return {column: value for column, value in found.items() if value is not None}

    if readable := [column for column, told in columns.items() if told["select"]]:
        yield f"SELECT {_list(readable)} FROM {name}"
    new = values("insert")
    for left_out in ((), ("id", "conversation_id"), tuple(column for column in new if column not in OLD_CLIENTS)):
        if some := {column: value for column, value in new.items() if column not in left_out}:
            yield f"INSERT INTO {name} ({_list(some)}) VALUES ({', '.join(map(_literal, some.values()))})"
    changes = [f'"{c}" = {_literal(value)}' for c, value in values("update").items() if not _is_key(c)]
    for change in (*changes, ", ".join(changes)):
        if change:
            yield f"UPDATE {name} SET {change}"
    if may_delete:
        yield f"DELETE FROM {name}"
    yield f"TRUNCATE {name}"


def _is_key(column: str) -> bool:
    return column == "id" or column.endswith("_id")


def _value(column: str, type: str) -> str | None:
    """Return what goes through: a new key, Ana's own rows to hang on, a word that is allowed."""
    if column == "id":
        return "0000000f-0000-4000-8000-00000000000f"
    if column == "user_id":
        return USER
    if column in ROWS:
        return ROWS[column]
    if _is_key(column):
        return None
    return {"role": "user", "state": "initial", "email": "mallory@example.test"}.get(column, SAMPLES.get(type, "x"))


OLD_CLIENTS = ("user_id", "role", "content", "title", "messages")  # what those write, and no more
ROWS = {
    "tenant_id": "0000000b-0000-4000-8000-00000000000a",
    "conversation_id": "0000000c-0000-4000-8000-00000000000a",
    "brand_id": "0000000d-0000-4000-8000-00000000000a",
    "session_id": "0000000e-0000-4000-8000-00000000000a",
}
"""What Ana has in every database: a membership, a conversation with messages of each kind, a creative session."""

_SEEDS = (
    f"INSERT INTO auth.users (id, email, created_at) VALUES ('{USER}', 'ana@example.test', now())",
    f"INSERT INTO public.users (id, email) VALUES ('{USER}', 'ana@example.test')",
    f"INSERT INTO public.tenants (id, name) VALUES ('{ROWS['tenant_id']}', 'Acme')",
    f"INSERT INTO public.tenant_users (tenant_id, user_id) VALUES ('{ROWS['tenant_id']}', '{USER}')",
    f"INSERT INTO public.tasks (user_id, title) SELECT '{USER}', 'x' WHERE NOT EXISTS (SELECT FROM public.tasks)",
    "INSERT INTO public.chat_sessions (id, user_id, tenant_id, messages)"
    f" VALUES ('{ROWS['conversation_id']}', '{USER}', '{ROWS['tenant_id']}', '{SENT}')",
    "INSERT INTO public.conversations (id, user_id, tenant_id)"
    " VALUES ('{conversation_id}', '{user}', '{tenant_id}')".format(user=USER, **ROWS),
    "INSERT INTO public.conversations (id, user_id) VALUES ('{conversation_id}', '{user}')".format(user=USER, **ROWS),
    "INSERT INTO public.messages (conversation_id, role, content) SELECT '{conversation_id}', 'user', 'x'"
    " WHERE NOT EXISTS (SELECT FROM public.messages WHERE conversation_id = '{conversation_id}')".format(**ROWS),
    f"INSERT INTO public.chat_messages (user_id, role, content) SELECT '{USER}', 'user', 'x'"
    f" WHERE NOT EXISTS (SELECT FROM public.chat_messages WHERE user_id = '{USER}')",
    "INSERT INTO public.brands (id, user_id, name) VALUES ('{brand_id}', '{user}', 'Soap')".format(user=USER, **ROWS),
    "INSERT INTO public.conversation_sessions (id, brand_id, user_id)"
    " VALUES ('{session_id}', '{brand_id}', '{user}')".format(user=USER, **ROWS),
    "INSERT INTO public.conversation_messages (session_id, brand_id, user_id, role, content)"
    " SELECT '{session_id}', '{brand_id}', '{user}', 'user', 'x' WHERE NOT EXISTS (SELECT FROM"
    " public.conversation_messages WHERE session_id = '{session_id}')".format(user=USER, **ROWS),
)


def seed(admin: Chain) -> None:
    """Give Ana what the revision has room for."""
    for statement in _SEEDS:
        try:
            admin.execute(statement)
        except psycopg.Error:
            continue  # its table is not here at this revision, or the row is


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _list(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
