"""What places messages in branches runs as the owner of the tables: no client leads it to code or rows not its own."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.conftest import libpq
from tests.migrations.chain import Chain
from tests.policies.acting import acting, claims_of
from tests.shadows import kit
from tests.shadows.attackers import GATEWAY

ANN, BEN = UUID(int=1), UUID(int=2)
CHAT, OTHER, BENS = UUID(int=3), UUID(int=4), UUID(int=5)
FIRST, REPLY, AGAIN, ELSEWHERE, BENS_FIRST, BENS_REPLY = (UUID(int=n) for n in range(10, 16))
DEFINERS = ("place_message", "move_head", "mend_branches", "fill_message_tenant", "move_messages_to_tenant")
ROWS = f"""
INSERT INTO users (id) VALUES ('{ANN}'), ('{BEN}');
INSERT INTO conversations (id, user_id) VALUES ('{CHAT}', '{ANN}'), ('{OTHER}', '{ANN}'), ('{BENS}', '{BEN}');
INSERT INTO messages (id, conversation_id, user_id, role, content, parent_id) VALUES
  ('{FIRST}', '{CHAT}', '{ANN}', 'user', 'q', NULL), ('{REPLY}', '{CHAT}', '{ANN}', 'assistant', 'a', NULL),
  ('{ELSEWHERE}', '{OTHER}', '{ANN}', 'user', 'q', NULL),
  ('{BENS_FIRST}', '{BENS}', '{BEN}', 'user', 'q', NULL), ('{BENS_REPLY}', '{BENS}', '{BEN}', 'assistant', 'a', NULL);
INSERT INTO messages (id, conversation_id, user_id, role, content, parent_id) VALUES
  ('{AGAIN}', '{CHAT}', '{ANN}', 'assistant', 'b', '{FIRST}');
"""
BRANCH = f"INSERT INTO public.messages (conversation_id, user_id, role, content, parent_id) VALUES ('{CHAT}', '{ANN}'"
CALLS = {  # what each client may do that reaches the functions of a branch
    "an answer": f"{BRANCH}, 'user', 'x', '{REPLY}')",
    "two that follow": f"{BRANCH}, 'user', 'x', NULL), ('{CHAT}', '{ANN}', 'assistant', 'y', NULL)",
    "a deletion": f"DELETE FROM public.messages WHERE id IN ('{AGAIN}', '{FIRST}')",
    "a switch": f"UPDATE public.conversations SET head_message_id = '{REPLY}' WHERE id = '{CHAT}'",
    "a page of a branch": f"SELECT * FROM chat_internal.branch('{CHAT}', NULL, 50)",
    "the elements": f"SELECT chat_internal.branch_elements('{CHAT}')",
    "the parent": f"SELECT chat_internal.parent_of('{CHAT}', '{AGAIN}')",
    "the siblings": f"SELECT * FROM chat_internal.siblings('{CHAT}', '{AGAIN}')",
    "the leaf": f"SELECT chat_internal.latest_leaf('{CHAT}', '{FIRST}')",
}


@pytest.fixture
def admin(migrated_url: str) -> Iterator[Chain]:
    with Chain.on(migrated_url) as admin:
        admin.execute(ROWS)
        yield admin


@pytest.mark.parametrize("schema", ["pg_temp", "public"])
def test_no_name_that_a_client_forges_is_found(logins: None, admin: Chain, migrated_url: str, schema: str) -> None:
    """As every trigger and function of branches runs, beside a shadow of each type, relation, function and operator."""
    admin.execute("GRANT CREATE ON SCHEMA public TO authenticated")
    log = kit.Log(admin.session)
    relations = {**kit.our_relations(), "gone": {"id": "uuid", "parent_id": "uuid"}}
    with psycopg.connect(libpq(migrated_url).replace("postgres@", f"{GATEWAY}@", 1), autocommit=True) as client:
        client.execute("SET ROLE authenticated")
        assert kit.make(client, schema, relations if schema == "pg_temp" else {}) > 100
        client.execute("SELECT set_config('request.jwt.claims', %s, false)", [claims_of(ANN)])
        client.execute("SET search_path = public, pg_temp")
        for call in CALLS.values():
            client.execute(f"BEGIN; {call}; ROLLBACK".encode())
    assert log.sprung() == []


@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role"])
@pytest.mark.parametrize("function", DEFINERS)
def test_nobody_calls_them_or_hangs_them_on_a_table_of_its_own(admin: Chain, role: str, function: str) -> None:
    attacks = {
        "call": f"SELECT chat_internal.{function}()",
        "trigger": "CREATE TEMPORARY TABLE mine (id uuid, conversation_id uuid, user_id uuid, parent_id uuid,"
        " tenant_id uuid, seq bigint, created_at timestamptz);"
        f"CREATE TRIGGER mine BEFORE INSERT ON mine FOR EACH ROW EXECUTE FUNCTION chat_internal.{function}()",
    }
    for attack in attacks.values():
        with (
            admin.session.transaction(force_rollback=True),
            acting(admin.session, ANN, role=role),
            pytest.raises(psycopg.errors.InsufficientPrivilege, match=f"{function}|schema chat_internal"),
            admin.session.transaction(),
        ):
            admin.session.execute(attack.encode())


def rows_of_ben(admin: Chain) -> list[object]:
    return admin.rows(f"SELECT to_jsonb(m) FROM messages AS m WHERE user_id = '{BEN}' ORDER BY id") + admin.rows(
        f"SELECT to_jsonb(c) FROM conversations AS c WHERE user_id = '{BEN}'"
    )


@pytest.mark.parametrize(
    "statement",
    [
        # in his conversation, in his name or in hers
        f"INSERT INTO messages (conversation_id, user_id, role, content) VALUES ('{BENS}', '{BEN}', 'user', 'x')",
        f"INSERT INTO messages (conversation_id, user_id, role, content) VALUES ('{BENS}', '{ANN}', 'user', 'x')",
        # behind his message
        "INSERT INTO messages (conversation_id, user_id, role, content, parent_id)"
        f" VALUES ('{BENS}', '{BEN}', 'user', 'x', '{BENS_FIRST}')",
        "INSERT INTO messages (conversation_id, user_id, role, content, parent_id)"
        f" VALUES ('{CHAT}', '{ANN}', 'user', 'x', '{BENS_FIRST}')",
        # her own message, moved there
        f"UPDATE messages SET conversation_id = '{BENS}' WHERE id = '{AGAIN}'",
        f"UPDATE messages SET conversation_id = '{BENS}', user_id = '{BEN}' WHERE id = '{AGAIN}'",
        # his message shown in hers
        f"UPDATE conversations SET head_message_id = '{BENS_FIRST}' WHERE id = '{CHAT}'",
    ],
)
def test_no_statement_of_a_user_places_anything_among_the_rows_of_another(admin: Chain, statement: str) -> None:
    before = rows_of_ben(admin)
    with (
        admin.session.transaction(),
        acting(admin.session, ANN),
        pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.ForeignKeyViolation)),
        admin.session.transaction(),
    ):
        admin.session.execute(f"{statement}; SET CONSTRAINTS ALL IMMEDIATE".encode())
    assert rows_of_ben(admin) == before


@pytest.mark.parametrize(
    "statement",
    [
        f"DELETE FROM messages WHERE id IN ('{BENS_FIRST}', '{AGAIN}', '{FIRST}')",
        f"DELETE FROM messages WHERE conversation_id = '{BENS}'",
        f"UPDATE conversations SET head_message_id = '{BENS_FIRST}' WHERE id = '{BENS}'",
    ],
)
def test_what_a_user_deletes_or_switches_is_its_own(admin: Chain, statement: str) -> None:
    before = rows_of_ben(admin)
    with admin.session.transaction(), acting(admin.session, ANN):
        admin.session.execute(statement.encode())
    assert rows_of_ben(admin) == before


@pytest.mark.parametrize(
    "tail",
    [f"{AGAIN} {BENS_FIRST}", f"{AGAIN} {ELSEWHERE}", f"{AGAIN} {UUID(int=99)}", f"{AGAIN} '; DROP TABLE x", "x", ""],
)
def test_a_forged_note_of_the_row_before_leads_nowhere(admin: Chain, tail: str) -> None:
    """Within one statement a setting says which row was before; every client can write settings."""
    with admin.session.transaction(), acting(admin.session, ANN):
        admin.session.execute("SELECT set_config('chat_internal.tail', %s, true)", [tail])
        admin.session.execute(f"{BRANCH}, 'user', 'x', NULL)".encode())
    assert admin.rows("SELECT parent_id FROM messages WHERE content = 'x'") == [AGAIN]


def test_a_refusal_does_not_tell_which_messages_of_another_are_there(admin: Chain) -> None:
    said = []
    for parent in (BENS_FIRST, uuid4()):
        with (
            admin.session.transaction(),
            acting(admin.session, ANN),
            pytest.raises(psycopg.Error) as refusal,
            admin.session.transaction(),
        ):
            admin.session.execute(
                "INSERT INTO messages (conversation_id, user_id, role, content, parent_id)"
                f" VALUES ('{BENS}', '{BEN}', 'user', 'x', '{parent}')".encode()
            )
        said.append(str(refusal.value))
    assert said[0] == said[1]
