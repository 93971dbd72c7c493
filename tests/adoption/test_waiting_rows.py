"""What clients write to rows of an adopted table while these wait for their values."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.adoption.legacy import STARTS, Place
from tests.adoption.old_clients import ACME, USER, Api
from tests.live.command_line import alembic, wait_for
from tests.migrations.chain import before

SEVERAL = 40  # rows: the first batch takes the first 15 of a table at most, the others wait


@contextmanager
def held(place: Place, start: str, table: str, revision: str) -> Iterator[list[str]]:
    """Upgrade, the backfill of ``table`` in ``revision`` held in its first batch; gives the ids of rows, last first."""
    place.chain.upgrade(before(revision), *STARTS[start].options)
    with alembic(place.url, "upgrade", "head", x=STARTS[start].options) as run:
        with place.admin.connect() as holder, holder.transaction():
            holder.execute("LOCK TABLE chat_internal.adopted_values IN SHARE MODE")
            waits = f"SELECT true FROM pg_stat_activity WHERE {holder.info.backend_pid} = ANY (pg_blocking_pids(pid))"
            wait_for(lambda: place.admin.rows(waits) or not run.goes_on, "the backfill to come to the lock")
            assert run.goes_on, run.output
            yield place.admin.rows(f"SELECT id::text FROM {table} ORDER BY ctid DESC")
        run.succeeds()


@pytest.mark.parametrize("platform", ["owner"])
def test_a_server_writes_to_messages_that_wait_for_their_place(place: Place) -> None:
    place.load("2")
    place.chain.execute(
        "INSERT INTO messages (conversation_id, user_id, role, content) SELECT c.id, c.user_id, 'user', n::text"
        f" FROM (SELECT * FROM conversations ORDER BY id LIMIT 1) AS c, generate_series(1, {SEVERAL}) AS n"
    )
    with held(place, "2", "messages", "0024") as [changed, upserted, deleted, *_]:
        assert place.chain.value("SELECT count(*) FROM messages WHERE seq IS NULL") > SEVERAL
        place.chain.execute("UPDATE messages SET content = 'changed' WHERE id = %s", [changed])
        place.chain.execute(
            "INSERT INTO messages AS m SELECT * FROM messages WHERE id = %s"
            " ON CONFLICT (id) DO UPDATE SET content = 'upserted'",
            [upserted],
        )
        place.chain.execute("DELETE FROM messages WHERE id = %s", [deleted])
        assert place.chain.value("SELECT seq IS NULL FROM messages WHERE id = %s", [changed])
    of_both = "SELECT content FROM messages WHERE id IN (%s, %s) AND seq IS NOT NULL ORDER BY content"
    assert place.chain.rows(of_both, [changed, upserted]) == ["changed", "upserted"]
    assert place.chain.rows("SELECT id FROM messages WHERE id = %s", [deleted]) == []


@pytest.mark.parametrize(
    ("table", "revision", "text", "rows", "values"),
    [
        (
            "conversations",
            "0020",
            "title",
            f"SELECT '{ACME}', '{USER}', n::text, NULL FROM generate_series(1, {SEVERAL}) AS n",
            "tenant_id, user_id, title, created_at",
        ),
        (
            "messages",
            "0024",
            "content",
            "SELECT c.id, NULL, n::text, NULL FROM (SELECT id FROM conversations"
            f" WHERE (tenant_id, user_id) = ('{ACME}', '{USER}') LIMIT 1) AS c, generate_series(1, {SEVERAL}) AS n",
            "conversation_id, role, content, created_at",
        ),
    ],
)
def test_hosted_clients_write_to_rows_that_wait_for_their_values(
    place: Place, table: str, revision: str, text: str, rows: str, values: str
) -> None:
    place.load("3b")
    place.chain.execute(f"INSERT INTO {table} ({values}) {rows}")
    api = Api(place.url_of("authenticator"))
    with held(place, "3b", table, revision) as [changed, upserted, deleted, *_]:
        [row] = api.select(USER, table, {"id": upserted})
        assert row["created_at"] is None
        assert api.update(USER, table, changed, {text: "changed"})["created_at"] is None
        assert api.insert(USER, table, {**row, text: "upserted"}, upsert=True)[text] == "upserted"
        assert len(api.delete(USER, table, {"id": deleted})) == 1
    for key, expected in ((changed, "changed"), (upserted, "upserted")):
        [row] = api.select(USER, table, {"id": key})
        assert row[text] == expected
        assert row["created_at"] is not None
    assert api.select(USER, table, {"id": deleted}) == []
    api.close()


@pytest.mark.parametrize("platform", ["owner"])
def test_a_row_with_an_infinite_time_can_be_written_while_it_waits_for_another(place: Place) -> None:
    place.load("2")
    place.chain.execute(
        "INSERT INTO messages (conversation_id, user_id, role, content, created_at)"
        " SELECT c.id, c.user_id, 'user', n::text, 'infinity'"
        f" FROM (SELECT * FROM conversations ORDER BY id LIMIT 1) AS c, generate_series(1, {SEVERAL}) AS n"
    )
    with held(place, "2", "messages", "0024") as [changed, *_]:
        place.chain.execute("UPDATE messages SET content = 'changed' WHERE id = %s", [changed])
    assert place.chain.value("SELECT content FROM messages WHERE id = %s", [changed]) == "changed"
    assert place.chain.value("SELECT count(*) FROM messages WHERE NOT isfinite(created_at)") == 0


def test_rows_that_the_older_shape_cannot_hold_go_with_what_hangs_on_them(place: Place) -> None:
    """3b: a conversation has a tenant there, and its messages hang on it by a key that does not cascade."""
    place.load("3b")
    old = place.chain.value("SELECT count(*) FROM messages")
    place.chain.upgrade()
    place.chain.execute(
        "WITH made AS (INSERT INTO conversations (user_id) SELECT id FROM users ORDER BY id LIMIT 1 RETURNING *)"
        " INSERT INTO messages (conversation_id, user_id, role, content) SELECT id, user_id, 'user', 'Hi' FROM made"
    )
    place.chain.downgrade("base", "allow-data-loss=yes")
    assert place.chain.value("SELECT count(*) FROM messages") == old
