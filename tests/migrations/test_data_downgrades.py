"""A downgrade destroys no row unless somebody has said that it may, and says how many of what it would destroy."""

import os
import subprocess
import sys

import pytest
from alembic.util import CommandError

from app.catalog import Snapshot
from tests.migrations.chain import HEAD, Chain, before
from tests.postgres_binaries import ROOT

ONE_MESSAGE = (
    "INSERT INTO conversations (user_id) VALUES ('{user}');"
    "INSERT INTO messages (conversation_id, user_id, role, content)"
    " SELECT id, user_id, 'user', 'Hi' FROM conversations;"
)

# the revision whose downgrade would destroy something: what it would destroy, and the statements that put it there
DESTROYED = {
    "0013": ("2 users", "SELECT"),
    "0017": ("1 tenants", "INSERT INTO tenants (name) VALUES ('Acme')"),
    "0018": ("3 tasks", "INSERT INTO tasks (user_id, title) SELECT '{user}', n FROM generate_series(1, 3) AS n"),
    "0019": ("1 chat messages", "INSERT INTO chat_messages (user_id, role, content) VALUES ('{user}', 'user', 'Hi')"),
    "0021": ("1 chat sessions", "INSERT INTO chat_sessions (user_id) VALUES ('{user}')"),
    "0022": (
        "1 titles and metadata of conversations",
        "INSERT INTO chat_sessions (user_id, title) VALUES ('{user}', 'Mine')",
    ),
    "0024": (
        "1 idempotency keys of messages",
        "INSERT INTO chat_sessions (user_id, messages) VALUES ('{user}', '[\"Hi\"]');"
        "INSERT INTO messages (conversation_id, user_id, role, content, idempotency_key)"
        " SELECT id, user_id, 'user', 'Hi', 'k' FROM chat_sessions",
    ),
    "0032": (
        "2 assignments of chat messages to other conversations than the default",
        "INSERT INTO conversations (user_id, created_at) VALUES ('{user}', '2026-01-01'), ('{user}', '2026-02-01');"
        "INSERT INTO chat_messages (user_id, role, content, conversation_id)"
        " SELECT user_id, 'user', 'Hi', id FROM conversations;"
        "INSERT INTO conversations (user_id, tenant_id) SELECT '{other}', id FROM tenants;"
        "INSERT INTO chat_messages (user_id, role, content, conversation_id)"
        " SELECT user_id, 'user', 'Hi', id FROM conversations WHERE user_id = '{other}'",
    ),
    "0038": ("1 brands", "INSERT INTO brands (user_id, name) VALUES ('{user}', 'Acme')"),
    "0039": (
        "1 creative sessions",
        "INSERT INTO brands (user_id, name) VALUES ('{user}', 'Acme');"
        "INSERT INTO conversation_sessions (user_id, brand_id) SELECT user_id, id FROM brands",
    ),
    "0040": (
        "2 messages of creative sessions",
        "INSERT INTO brands (user_id, name) VALUES ('{user}', 'Acme');"
        "INSERT INTO conversation_sessions (user_id, brand_id) SELECT user_id, id FROM brands;"
        "INSERT INTO conversation_messages (session_id, user_id, brand_id, role, content)"
        " SELECT id, user_id, brand_id, 'user', n FROM conversation_sessions, generate_series(1, 2) AS n",
    ),
    "0043": (
        "3 marks of conversations that are archived, pinned or in the trash",
        "INSERT INTO conversations (user_id, archived_at) VALUES ('{user}', now());"
        "INSERT INTO conversations (user_id, pinned_at) VALUES ('{user}', now());"
        "INSERT INTO conversations (user_id, deleted_at) VALUES ('{user}', now());"
        "INSERT INTO conversations (user_id) VALUES ('{user}')",
    ),
    "0050": (
        "1 places of messages in branches",
        "INSERT INTO conversations (user_id) VALUES ('{user}');"
        "INSERT INTO messages (conversation_id, user_id, role, content)"
        " SELECT id, user_id, 'user', 'Hi' FROM conversations;"
        "INSERT INTO messages (conversation_id, user_id, role, content, parent_id)"
        " SELECT conversation_id, user_id, 'user', 'Hello', id FROM messages",
    ),
    "0056": (
        "2 attachments",
        f"{ONE_MESSAGE} INSERT INTO attachments"
        " (user_id, conversation_id, name, media_type, size_bytes, sha256, storage_key)"
        " SELECT user_id, id, 'a', 'b', 1, sha256('a'), n FROM conversations, generate_series(1, 2) AS n",
    ),
    "0057": (
        "1 ratings of messages",
        f"{ONE_MESSAGE} INSERT INTO feedback (message_id, user_id, conversation_id, rating)"
        " SELECT id, user_id, conversation_id, 1 FROM messages",
    ),
    "0058": (
        "1 shares of conversations",
        f"{ONE_MESSAGE} INSERT INTO shares (message_id, user_id, conversation_id, token_hash)"
        " SELECT id, user_id, conversation_id, sha256('a') FROM messages",
    ),
    "0062": (
        "3 notes on how messages came about",
        "INSERT INTO conversations (user_id) VALUES ('{user}');"
        "INSERT INTO messages (conversation_id, user_id, role, content, status, model, parts)"
        " SELECT id, user_id, 'assistant', 'Hi', status, model, parts FROM conversations, (VALUES"
        " ('complete', NULL, NULL), ('error', NULL, NULL), ('complete', 'acme-1', NULL),"
        " ('complete', NULL, jsonb '[]')) AS n (status, model, parts)",
    ),
    "0060": (
        "1 retention rules",
        "INSERT INTO retention_rules (keep) VALUES ('1 day');",
    ),
    "0059": (
        "1 keys of model providers",
        "INSERT INTO user_llm_providers (user_id, provider, ciphertext, key_id)"
        " VALUES ('{user}', 'acme', 'sealed', 'a')",
    ),
}

# what else the downgrade of one of these would destroy
ALSO_DESTROYED = [
    (
        "0060",
        "1 held conversations",
        "INSERT INTO conversations (user_id) VALUES ('{user}');"
        "INSERT INTO retention_holds (conversation_id, user_id) SELECT id, user_id FROM conversations",
    ),
]
CASES = [*DESTROYED.items(), *((revision, tuple(case)) for revision, *case in ALSO_DESTROYED)]

each_case = pytest.mark.parametrize(
    ("revision", "case"), CASES, ids=[f"{revision}-{case[0]}" for revision, case in CASES]
)


@pytest.fixture
def full(chain: Chain, revision: str, case: tuple[str, str]) -> Chain:
    chain.upgrade(revision)
    people = {"user": chain.new_user(), "other": chain.new_user()}
    if revision > "0017":
        chain.new_tenant(*people.values())
    chain.execute(case[1].format(**people))
    return chain


def state(chain: Chain) -> tuple[str, Snapshot, dict[str, int]]:
    """Return revision, catalog and the number of rows of every table."""
    tables = chain.rows(
        "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    )
    return chain.revision(), chain.snapshot(), {table: chain.value(f"SELECT count(*) FROM {table}") for table in tables}


@pytest.mark.sampled(2)
@each_case
def test_a_downgrade_that_would_destroy_rows_is_refused_with_their_number_and_nothing_is_half_undone(
    full: Chain, revision: str, case: tuple[str, str]
) -> None:
    untouched = state(full)
    what = case[0]
    with pytest.raises(CommandError, match=f"would destroy {what}.*-x allow-data-loss=yes"):
        full.downgrade(before(revision))
    assert state(full) == untouched

    refused = full.run_script(full.downgrade_script(f"{revision}:{before(revision)}"))
    assert refused.returncode != 0
    assert f"would destroy {what}" in refused.stderr
    assert state(full) == untouched

    with pytest.raises(CommandError, match=what):
        full.downgrade(before(revision), "allow-data-loss=no")
    assert state(full) == untouched


@pytest.mark.sampled(4)
@pytest.mark.parametrize("by_script", [False, True], ids=["online", "by_script"])
@each_case
def test_it_goes_through_once_somebody_has_said_that_it_may(full: Chain, revision: str, by_script: bool) -> None:
    said = "allow-data-loss=yes"
    if by_script:
        done = full.run_script(full.downgrade_script(f"{revision}:base", said))
        assert done.returncode == 0, done.stderr
    else:
        full.downgrade("base", said)
    assert full.value("SELECT to_regnamespace('chat_internal')") is None
    full.upgrade()
    assert full.revision() == HEAD


def test_an_empty_table_goes_without_a_word(chain: Chain) -> None:
    chain.upgrade()
    chain.downgrade("base")
    assert chain.value("SELECT to_regclass('public.users')") is None


def test_the_revisions_above_a_refused_one_are_undone_and_come_back(chain: Chain) -> None:
    chain.upgrade()
    chain.new_user()
    with pytest.raises(CommandError, match="1 users"):
        chain.downgrade("base")
    assert chain.revision() == "0013"
    chain.upgrade()
    assert chain.value("SELECT count(*) FROM users") == 1


def test_conversations_of_titles_and_tenants_survive_down_to_where_titles_begin(chain: Chain) -> None:
    chain.upgrade()
    user = chain.new_user()
    tenant = chain.new_tenant(user)
    chain.execute(
        "INSERT INTO conversations (user_id, tenant_id, title, metadata) VALUES (%s, %s, 'Mine', '{\"pinned\": true}')",
        [user, tenant],
    )
    chain.execute(
        "INSERT INTO messages (conversation_id, role, content, metadata)"
        " SELECT id, 'tool', 'Hi', '{\"a\": 1}' FROM conversations"
    )
    everything = (  # what is read begins anew where its column does
        "SELECT to_jsonb(c) - 'last_read_at', to_jsonb(m) FROM conversations AS c"
        " JOIN messages AS m ON m.conversation_id = c.id"
    )
    at_first = chain.rows(everything)
    chain.downgrade("0022")
    chain.upgrade("0027")
    assert chain.rows("SELECT role, content, metadata - 'legacy' FROM messages") == [("tool", "Hi", {"a": 1})]
    assert chain.rows("SELECT title, tenant_id, metadata FROM chat_sessions") == [("Mine", tenant, {"pinned": True})]
    chain.upgrade()
    [(conversation, _)] = chain.rows(everything)
    assert conversation == at_first[0][0]


@pytest.mark.parametrize("to", ["0030", "0021"])
def test_chat_messages_keep_every_row_and_the_default_conversation_goes_and_comes(chain: Chain, to: str) -> None:
    chain.upgrade()
    silent, talkative = chain.new_user(), chain.new_user()
    chain.execute("INSERT INTO conversations (user_id) VALUES (%s)", [silent])
    for at in ("2026-01-01", "2026-01-02", None):
        chain.execute(
            "INSERT INTO chat_messages (user_id, role, content, created_at) VALUES (%s, 'user', 'Hi', %s)",
            [talkative, at],
        )
    rows = chain.rows("SELECT id, user_id, role, content, created_at FROM chat_messages ORDER BY id")
    [default] = chain.rows("SELECT id FROM conversations WHERE user_id = %s", [talkative])
    chain.downgrade(to)
    assert chain.rows("SELECT user_id FROM chat_sessions") == [silent]
    assert chain.rows("SELECT * FROM chat_messages ORDER BY id") == rows
    chain.upgrade()
    assert chain.rows("SELECT id, user_id, role, content, created_at FROM chat_messages ORDER BY id") == rows
    assert chain.rows("SELECT DISTINCT conversation_id FROM chat_messages") == [default]


def test_a_default_conversation_that_somebody_uses_stays(chain: Chain) -> None:
    chain.upgrade()
    named, used = chain.new_user(), chain.new_user()
    for user in (named, used):
        chain.execute("INSERT INTO chat_messages (user_id, role, content) VALUES (%s, 'user', 'Hi')", [user])
    chain.execute("UPDATE conversations SET title = 'Mine' WHERE user_id = %s", [named])
    chain.execute(
        "INSERT INTO messages (conversation_id, role, content) SELECT id, 'user', 'new' FROM conversations"
        " WHERE user_id = %s",
        [used],
    )
    chain.downgrade("0030")
    assert set(chain.rows("SELECT user_id FROM conversations")) == {named, used}
    chain.upgrade()
    assert chain.value("SELECT count(*) FROM conversations") == 2


def test_the_command_line_exits_with_1_and_says_it_once(chain: Chain) -> None:
    chain.upgrade("0013")
    chain.new_user()
    environment = {**os.environ, "DATABASE_URL": chain.url}
    command = [sys.executable, "-m", "alembic", "downgrade", "base"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode not in (0, None)
    assert (done.stdout + done.stderr).count("would destroy 1 users") == 1
    assert "Traceback" not in done.stderr
