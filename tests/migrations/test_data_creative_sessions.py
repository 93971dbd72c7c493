"""Messages of creative sessions keep the order in which they were written, also those of one transaction."""

from collections.abc import Callable
from uuid import UUID

import pytest
from psycopg import sql

from tests.migrations.chain import HEAD, REVISIONS, Chain, before

EXPAND = "0068"  # where seq comes
TURNS = 30  # several small batches

pytestmark = pytest.mark.usefixtures("small_batches")


@pytest.fixture
def session(chain: Chain) -> UUID:
    """A creative session below the revision that brings seq."""
    chain.upgrade(before(EXPAND))
    user = chain.new_user()
    found: UUID = chain.value(
        "WITH b AS (INSERT INTO brands (user_id, name) VALUES (%s, 'Soap') RETURNING id, user_id)"
        " INSERT INTO conversation_sessions (brand_id, user_id) SELECT id, user_id FROM b RETURNING id",
        [user],
    )
    return found


def take_turns(chain: Chain, session: UUID, turns: range) -> None:
    """Write as a client does that knows no seq: a question and its reply in one statement, all at the same time."""
    for turn in turns:
        chain.execute(
            "INSERT INTO conversation_messages (session_id, brand_id, user_id, role, content, created_at)"
            " SELECT s.id, s.brand_id, s.user_id, said.*, '2026-01-01' FROM conversation_sessions AS s,"
            " (VALUES ('user', %s), ('director', %s)) AS said WHERE s.id = %s",
            [f"question {turn}", f"reply {turn}", session],
        )


def said(turns: range) -> list[str]:
    return [f"{what} {turn}" for turn in turns for what in ("question", "reply")]


def history(chain: Chain, session: UUID) -> list[str]:
    return chain.rows("SELECT content FROM get_conversation_history(%s, 1000)", [session])


def online(chain: Chain) -> None:
    chain.upgrade()


def by_script(chain: Chain) -> None:
    chain.upgrade_by_script(f"{before(EXPAND)}:head")


@pytest.mark.parametrize("upgrade", [online, by_script])
def test_messages_of_the_same_time_are_read_in_the_order_in_which_they_were_written(
    chain: Chain, session: UUID, upgrade: Callable[[Chain], None]
) -> None:
    take_turns(chain, session, range(TURNS))
    assert history(chain, session) != said(range(TURNS))
    upgrade(chain)
    take_turns(chain, session, range(TURNS, TURNS + 2))
    assert history(chain, session) == said(range(TURNS + 2))
    assert chain.value("SELECT count(DISTINCT seq) FROM conversation_messages") == 2 * (TURNS + 2)


def test_what_an_old_client_writes_between_any_two_revisions_has_its_place(chain: Chain, session: UUID) -> None:
    for turn, revision in enumerate(REVISIONS[REVISIONS.index(before(EXPAND)) :]):
        chain.upgrade(revision)
        take_turns(chain, session, range(turn, turn + 1))
        assert len(history(chain, session)) == 2 * (turn + 1)
    assert history(chain, session) == said(range(turn + 1))


def test_a_row_written_back_as_it_was_read_keeps_its_place(chain: Chain, session: UUID) -> None:
    """As clients do that read every column and upsert the whole row."""
    take_turns(chain, session, range(3))
    chain.upgrade()
    columns = [
        sql.Identifier(name)
        for name in chain.rows(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'conversation_messages'::regclass AND attnum > 0"
        )
    ]
    chain.session.execute(
        sql.SQL(
            "INSERT INTO conversation_messages SELECT * FROM conversation_messages WHERE content = 'question 1'"
            " ON CONFLICT (id) DO UPDATE SET {}"
        ).format(sql.SQL(", ").join(sql.SQL("{0} = EXCLUDED.{0}").format(name) for name in columns))
    )
    assert history(chain, session) == said(range(3))


def test_a_downgrade_keeps_every_message_and_another_upgrade_numbers_them_again(chain: Chain, session: UUID) -> None:
    take_turns(chain, session, range(TURNS))
    chain.upgrade()
    take_turns(chain, session, range(TURNS, TURNS + 2))
    chain.downgrade(before(EXPAND))
    assert sorted(history(chain, session)) == sorted(said(range(TURNS + 2)))
    chain.upgrade()
    assert chain.revision() == HEAD
    assert sorted(history(chain, session)) == sorted(said(range(TURNS + 2)))
    assert chain.value("SELECT count(DISTINCT seq) FROM conversation_messages") == 2 * (TURNS + 2)
