"""Who holds which right: written out, and the same where a hosted platform grants everything by default."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from alembic import command
from alembic.script import ScriptDirectory
from tests.conftest import alembic_config
from tests.policies.acting import Refusal, acting, refused, values
from tests.policies.world import OWNER

READ = {"SELECT"}
WRITE = {"SELECT", "INSERT", "UPDATE", "DELETE"}
NOBODY: dict[str, set[str]] = {}
BOTH_WRITE = {"authenticated": WRITE, "service_role": WRITE}
BOTH_READ = {"authenticated": READ, "service_role": READ}
MEMBERS_READ = {"authenticated": READ, "service_role": WRITE}

RELATIONS: dict[str, dict[str, set[str]]] = {
    "public.users": {
        "authenticated": {"SELECT(id)", "SELECT(email)", "SELECT(created_at)", "SELECT(updated_at)", "UPDATE(email)"},
        "service_role": WRITE,
    },
    "public.tenants": MEMBERS_READ,
    "public.tenant_users": MEMBERS_READ,
    "public.tasks": BOTH_WRITE,
    "public.conversations": BOTH_WRITE,
    "public.messages": BOTH_WRITE,
    "public.messages_seq_seq": NOBODY,  # an identity column's sequence asks for no right
    "public.chat_messages": BOTH_WRITE,
    "public.chat_sessions": BOTH_WRITE,
    "public.brands": BOTH_WRITE,
    "public.conversation_sessions": BOTH_WRITE,
    "public.conversation_messages": BOTH_WRITE,
    "public.provider_usage_stats": BOTH_READ,
    "public.daily_message_volume": BOTH_READ,
    "chat_internal.alembic_version": NOBODY,
    "chat_internal.backfill_progress": NOBODY,
    "chat_internal.role_names": NOBODY,
    "chat_internal.chat_session_arrays": NOBODY,
}

# Trigger functions are in neither list: a trigger asks for no right when it fires.
CALLED_BY_BOTH = {
    "chat_internal.current_user_id()",
    "chat_internal.current_tenant_ids()",
    "chat_internal.lost_conversation_ids()",
    "chat_internal.default_conversation(uuid)",
    "chat_internal.default_conversation_id(uuid)",
    "chat_internal.element_role(jsonb)",
    "chat_internal.element_time(jsonb)",
    "chat_internal.message_element(public.messages)",
    "chat_internal.session_elements(jsonb,timestamp with time zone)",
    "chat_internal.store_session_messages(uuid,uuid,jsonb,timestamp with time zone)",
    "public.complete_conversation_session(uuid)",
    "public.cancel_conversation_session(uuid)",
    "public.get_conversation_history(uuid,integer)",
    "public.get_session_cost(uuid)",
    "public.get_session_message_stats(uuid)",
}
CALLED_BY_SERVICES = {
    "chat_internal.purge_conversation_session_batch(timestamp with time zone,integer)",
    "chat_internal.purge_conversation_sessions(interval,integer)",
}

SCHEMAS = "('public'::regnamespace, 'chat_internal'::regnamespace)"
RELATION_RIGHTS = f"""
SELECT c.oid::regclass::text, coalesce(r.rolname, 'PUBLIC'), a.privilege_type, a.is_grantable
FROM pg_class AS c
CROSS JOIN aclexplode(coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))) AS a
LEFT JOIN pg_roles AS r ON r.oid = a.grantee
WHERE c.relnamespace IN {SCHEMAS} AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND a.grantee <> c.relowner
UNION ALL
SELECT c.oid::regclass::text, coalesce(r.rolname, 'PUBLIC'), format('%%s(%%s)', a.privilege_type, t.attname), a.is_grantable
FROM pg_attribute AS t
JOIN pg_class AS c ON c.oid = t.attrelid
CROSS JOIN aclexplode(t.attacl) AS a
LEFT JOIN pg_roles AS r ON r.oid = a.grantee
WHERE c.relnamespace IN {SCHEMAS} AND a.grantee <> c.relowner
""".replace("%%", "%")
FUNCTION_RIGHTS = f"""
SELECT p.oid::regprocedure::text, coalesce(r.rolname, 'PUBLIC'), a.privilege_type, a.is_grantable
FROM pg_proc AS p
CROSS JOIN aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
LEFT JOIN pg_roles AS r ON r.oid = a.grantee
WHERE p.pronamespace IN {SCHEMAS} AND a.grantee <> p.proowner
"""
HOSTED_DEFAULTS = """
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO anon, authenticated, service_role;
"""
