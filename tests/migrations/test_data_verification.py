"""The chain counts what it has moved: it raises with figures where something is wrong, else it prints them."""

from uuid import UUID

import pytest
from alembic.util import CommandError

from tests.migrations.chain import HEAD, Chain, before

LAST_COUNT, ARRAYS_COUNT = "0042", "0027"

# what is planted, as the superuser that alone can, what the count calls it, and what mends it
FAULTS = {
    "a message without conversation": (
        "ALTER TABLE chat_messages ALTER conversation_id DROP NOT NULL, DISABLE TRIGGER USER;"
        "UPDATE chat_messages SET conversation_id = NULL WHERE user_id = '{user}'",
        "2 chat messages without conversation",
        "ALTER TABLE chat_messages ENABLE TRIGGER USER; UPDATE chat_messages SET role = role;"
        "ALTER TABLE chat_messages ALTER conversation_id SET NOT NULL",
    ),
    "a chat message in another user's conversation": (
        "SET session_replication_role = replica;"
        "UPDATE chat_messages SET user_id = '{other}' WHERE content = 'two';"
        "RESET session_replication_role",
        "1 chat messages whose owner is not their conversation's",
        "UPDATE chat_messages SET user_id = '{user}' WHERE content = 'two'",
    ),
    "a message in another user's conversation": (
        "SET session_replication_role = replica;UPDATE messages SET user_id = '{other}';RESET session_replication_role",
        "1 messages whose owner is not their conversation's",
        "UPDATE messages SET user_id = '{user}'",
    ),
    "a user whose conversation is gone": (
        "SET session_replication_role = replica;"
        "DELETE FROM conversations WHERE user_id = '{user}';"
        "RESET session_replication_role",
        "1 users with messages and no conversation",
        "INSERT INTO conversations (id, user_id) SELECT DISTINCT conversation_id, user_id FROM chat_messages",
    ),
    "a key that was not validated": (
        "ALTER TABLE chat_messages DROP CONSTRAINT fk_chat_messages_conversation;"
        "ALTER TABLE chat_messages ADD CONSTRAINT fk_chat_messages_conversation FOREIGN KEY (conversation_id, user_id)"
        " REFERENCES conversations (id, user_id) ON DELETE CASCADE NOT VALID",
        "1 constraints not validated",
        "ALTER TABLE chat_messages VALIDATE CONSTRAINT fk_chat_messages_conversation",
    ),
    "an index that was not finished": (
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'idx_chat_messages_conversation'::regclass",
        "1 indexes not valid",
        "REINDEX INDEX idx_chat_messages_conversation",
    ),
}


@pytest.fixture
def filled(chain: Chain) -> tuple[Chain, dict[str, UUID]]:
    """A database one revision before the last count, with two chat messages and a message of one user of two."""
    chain.upgrade(before(LAST_COUNT))
    people = {"user": chain.new_user(), "other": chain.new_user()}
    for text in ("one", "two"):
        chain.execute(
            "INSERT INTO chat_messages (user_id, role, content) VALUES (%s, 'user', %s)", [people["user"], text]
        )
    chain.execute("INSERT INTO messages (conversation_id, role, content) SELECT id, 'user', 'three' FROM conversations")
    return chain, people


@pytest.mark.sampled(3)
@pytest.mark.parametrize("by_script", [False, True], ids=["online", "by_script"])
@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_is_named_with_its_number_and_once_mended_the_upgrade_goes_through(
    filled: tuple[Chain, dict[str, UUID]], fault: str, by_script: bool
) -> None:
    chain, people = filled
    planted, figure, mended = (text.format(**people) for text in FAULTS[fault])
    chain.execute(planted)
    assert f"{LAST_COUNT} would find {figure}." in [each.says for each in chain.plan().would_stop]
    if by_script:
        done = chain.run_script(chain.upgrade_script(f"{before(LAST_COUNT)}:head"))
        assert done.returncode != 0
        assert figure in done.stderr
    else:
        with pytest.raises(CommandError, match=f"Verification failed: (.*; )?{figure}"):
            chain.upgrade()
    assert chain.revision() == before(LAST_COUNT)
    assert chain.value("SELECT count(*) FROM chat_messages") == 2, "the database stays usable"

    chain.execute(mended)
    chain.upgrade()
    assert chain.revision() == HEAD


def test_all_that_is_wrong_is_named_at_once(filled: tuple[Chain, dict[str, UUID]]) -> None:
    chain, people = filled
    faults = ("a message in another user's conversation", "an index that was not finished")
    for fault in faults:
        chain.execute(FAULTS[fault][0].format(**people))
    with pytest.raises(CommandError) as raised:
        chain.upgrade()
    assert all(FAULTS[fault][1] in str(raised.value) for fault in faults)
    assert "run the upgrade again" in str(raised.value)


def test_what_is_right_is_printed_in_figures(
    filled: tuple[Chain, dict[str, UUID]], caplog: pytest.LogCaptureFixture
) -> None:
    chain, _ = filled
    caplog.set_level("INFO")
    chain.upgrade()
    assert "checks found nothing wrong in 1 conversations, 1 messages, 2 chat messages." in caplog.text


def test_the_script_prints_the_figures_as_notices(filled: tuple[Chain, dict[str, UUID]]) -> None:
    chain, _ = filled
    done = chain.run_script(chain.upgrade_script(f"{before(LAST_COUNT)}:head"))
    assert done.returncode == 0
    for figure in ("1 conversations", "1 messages", "2 chat messages"):
        assert f"NOTICE:  {figure}" in done.stderr


def test_a_user_with_a_conversation_and_no_message_is_fine(chain: Chain) -> None:
    chain.upgrade(before(LAST_COUNT))
    chain.execute("INSERT INTO conversations (user_id) VALUES (%s)", [chain.new_user()])
    chain.upgrade()
    assert chain.revision() == HEAD


def test_what_clients_delete_before_the_last_count_is_no_fault(chain: Chain) -> None:
    chain.upgrade("0021")
    user = chain.new_user()
    for _ in range(2):
        chain.execute("INSERT INTO chat_sessions (user_id, messages) VALUES (%s, '[\"Hi\"]')", [user])
    chain.upgrade(before(LAST_COUNT))
    chain.execute("UPDATE chat_sessions SET messages = '[]' WHERE id = (SELECT id FROM conversations LIMIT 1)")
    chain.execute("DELETE FROM messages")
    chain.upgrade()
    assert chain.revision() == HEAD


def test_a_constraint_of_somebody_else_is_not_ours_to_judge(chain: Chain) -> None:
    chain.execute("CREATE TABLE theirs (id integer, CONSTRAINT positive CHECK (id > 0) NOT VALID)")
    chain.execute("INSERT INTO theirs VALUES (1)")
    chain.execute("ALTER TABLE theirs ADD CONSTRAINT small CHECK (id < 9) NOT VALID")
    chain.upgrade()
    assert chain.revision() == HEAD


@pytest.mark.parametrize(
    ("planted", "figure"),
    [
        ("DELETE FROM messages WHERE content = 'b'", "1 sessions whose array and rows differ in number"),
        ("DELETE FROM chat_internal.chat_session_arrays", "1 sessions whose array was not kept"),
        ("UPDATE chat_internal.chat_session_arrays SET messages = '[]'", "1 sessions whose array was not kept"),
    ],
)
def test_arrays_are_counted_before_they_go(chain: Chain, planted: str, figure: str) -> None:
    chain.upgrade(before(ARRAYS_COUNT))
    chain.execute('INSERT INTO chat_sessions (user_id, messages) VALUES (%s, \'["a", "b"]\')', [chain.new_user()])
    chain.execute(planted)
    with pytest.raises(CommandError, match=figure):
        chain.upgrade()
    assert chain.revision() == before(ARRAYS_COUNT)
    chain.execute("UPDATE chat_sessions SET messages = messages")  # the trigger writes both anew
    chain.upgrade()
    assert chain.rows("SELECT content FROM messages ORDER BY seq") == ["a", "b"]
