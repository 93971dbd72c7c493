"""What a purge deletes by the retention rules, what it leaves, and that it reads what is due and no more."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
import sqlalchemy as sa

from app import database, retention
from tests.cli.test_commands import chat_schema
from tests.conftest import libpq
from tests.schema.rows import Rows

DAY = timedelta(days=1)


@pytest.fixture
def rows(migrated_url: str) -> Iterator[Rows]:
    with psycopg.connect(libpq(migrated_url), autocommit=True) as connection:
        yield Rows(connection)


@pytest.fixture
def user(rows: Rows) -> UUID:
    return rows.user()


@pytest.fixture
def tenant(rows: Rows, user: UUID) -> UUID:
    return rows.tenant(user)


def conversation(rows: Rows, user: UUID, age: int, title: str, **values: Any) -> UUID:
    """Insert a conversation with a message in each store, last used ``age`` days ago."""
    at = datetime.now(UTC) - age * DAY
    made = rows.conversation(user, title=title, created_at=at, updated_at=at, **values)
    rows.message(made, created_at=at)
    rows.insert("chat_messages", user_id=user, role="user", content="Hi", conversation_id=made, created_at=at)
    return made


def titles(rows: Rows) -> set[str]:
    return set(rows.all("SELECT title FROM conversations"))


def purged(url: str, *options: str) -> str:
    done = chat_schema(url, "purge", *options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_a_rule_every_conversation_stays(rows: Rows, user: UUID, tenant: UUID, migrated_url: str) -> None:
    conversation(rows, user, 5000, "old")
    conversation(rows, user, 5000, "trash", deleted_at=datetime.now(UTC) - 5000 * DAY)
    rows.insert("retention_rules", keep=None, trash_keep=None)
    assert "conversations" not in purged(migrated_url)
    assert titles(rows) == {"old", "trash"}


def test_the_rule_of_a_tenant_goes_before_the_one_of_everybody(
    rows: Rows, user: UUID, tenant: UUID, migrated_url: str
) -> None:
    other = rows.tenant(user)
    for of, name in ((None, "personal"), (tenant, "acme"), (other, "globex")):
        for age in (5, 50, 500):
            conversation(rows, user, age, f"{name} {age}", tenant_id=of)
    rows.insert("retention_rules", keep=30 * DAY)
    rows.insert("retention_rules", tenant_id=tenant, keep=100 * DAY)
    dry = purged(migrated_url, "--dry-run")
    assert "Would delete 2 personal conversations" in dry
    assert "with 4 messages" in dry
    assert len(titles(rows)) == 9
    assert "Deleted 1 of 1 conversations of tenant " in purged(migrated_url, "--batch-size", "1")
    assert titles(rows) == {"personal 5", "acme 5", "acme 50", "globex 5"}
    assert (rows.count("messages"), rows.count("chat_messages")) == (4, 4)
    rows.run("UPDATE retention_rules SET keep = NULL WHERE tenant_id IS NOT NULL")
    rows.run("UPDATE retention_rules SET keep = interval '0' WHERE tenant_id IS NULL")
    purged(migrated_url)
    assert titles(rows) == {"acme 5", "acme 50"}, "its own NULL keeps for ever"


def test_the_trash_has_a_time_of_its_own_and_an_idle_conversation_in_it_is_not_idle(
    rows: Rows, user: UUID, migrated_url: str
) -> None:
    now = datetime.now(UTC)
    conversation(rows, user, 500, "thrown away lately", deleted_at=now - 5 * DAY)
    conversation(rows, user, 500, "thrown away long ago", deleted_at=now - 50 * DAY)
    rows.insert("retention_rules", keep=30 * DAY, trash_keep=30 * DAY)
    assert "in the trash since" in purged(migrated_url)
    assert titles(rows) == {"thrown away lately"}


def test_what_is_pinned_or_held_stays_and_what_is_held_stays_in_the_trash(
    rows: Rows, user: UUID, migrated_url: str
) -> None:
    long_ago = datetime.now(UTC) - 400 * DAY
    conversation(rows, user, 500, "pinned", pinned_at=long_ago)
    for name, values in (("held", {}), ("held trash", {"deleted_at": long_ago})):
        held = conversation(rows, user, 500, name, **values)
        rows.insert("retention_holds", conversation_id=held, user_id=user, reason="a dispute")
    conversation(rows, user, 500, "pinned trash", pinned_at=long_ago, deleted_at=long_ago)
    conversation(rows, user, 500, "plain")
    rows.insert("retention_rules", keep=30 * DAY, trash_keep=30 * DAY)
    purged(migrated_url, "--batch-size", "1")
    assert titles(rows) == {"pinned", "held", "held trash"}
    refused = chat_schema(migrated_url, "erase", "--user", str(user))
    assert refused.returncode == 1
    assert "2 conversations of user" in refused.stderr
    rows.run("DELETE FROM retention_holds")
    assert chat_schema(migrated_url, "erase", "--user", str(user)).returncode == 0


def test_storage_keys_of_what_went_are_printed(rows: Rows, user: UUID, migrated_url: str) -> None:
    old = conversation(rows, user, 500, "old")
    rows.hang_on(rows.one("SELECT id FROM messages WHERE conversation_id = %s", old))
    [key] = rows.all("SELECT storage_key FROM attachments")
    rows.insert("retention_rules", keep=30 * DAY)
    assert key not in purged(migrated_url, "--dry-run")
    assert f"storage key {key}\n" in purged(migrated_url)


def test_a_conversation_in_use_is_left_to_the_next_purge(rows: Rows, user: UUID, migrated_url: str) -> None:
    for number in range(3):
        conversation(rows, user, 500, f"old {number}")
    rows.insert("retention_rules", keep=30 * DAY)
    with psycopg.connect(libpq(migrated_url)) as busy:
        busy.execute("SELECT FROM conversations WHERE title = 'old 1' FOR UPDATE")
        assert "1 were in use" in purged(migrated_url)
    assert titles(rows) == {"old 1"}
    purged(migrated_url)
    assert titles(rows) == set()


def test_sessions_follow_the_rule_of_everybody_unless_a_number_of_days_is_given(
    rows: Rows, user: UUID, migrated_url: str
) -> None:
    brand = rows.insert("brands", user_id=user, name="Acme")
    for days in (5, 50, 100):
        rows.session(user, brand, state="delivered", completed_at=datetime.now(UTC) - days * DAY)
    assert "Would delete 1 sessions" in purged(migrated_url, "--dry-run")
    rows.insert("retention_rules", keep=30 * DAY)
    assert "Would delete 2 sessions" in purged(migrated_url, "--dry-run")
    assert "Would delete 3 sessions" in purged(migrated_url, "--dry-run", "--older-than", "1")
    purged(migrated_url)
    assert rows.count("conversation_sessions") == 1


def test_there_is_one_rule_a_tenant_and_none_that_cannot_be_counted_by(rows: Rows, tenant: UUID) -> None:
    rows.insert("retention_rules", keep=DAY)
    rows.insert("retention_rules", tenant_id=tenant, keep=DAY)
    for of in (None, tenant):
        with pytest.raises(psycopg.errors.UniqueViolation):
            rows.insert("retention_rules", tenant_id=of)
    for column in ("keep", "trash_keep"):
        for value in ("-1 second", "1001 years"):
            with pytest.raises(psycopg.errors.CheckViolation):
                rows.run(f"UPDATE retention_rules SET {column} = %s", value)


@pytest.mark.parametrize("of_tenant", [False, True])
@pytest.mark.parametrize("trash", [False, True])
def test_a_batch_reads_what_is_due_and_no_more(
    rows: Rows, user: UUID, tenant: UUID, migrated_url: str, of_tenant: bool, trash: bool
) -> None:
    """500 of a list of 5,000 are due, and each batch takes 100 of them."""
    rows.run(
        "INSERT INTO conversations (user_id, tenant_id, updated_at, deleted_at, created_at)"
        " SELECT %s, CASE n %% 2 WHEN 1 THEN %s::uuid END, at, CASE WHEN n %% 4 < 2 THEN at END, at"
        " FROM generate_series(1, 20000) AS n, LATERAL (SELECT now() - n * interval '1 minute' AS at) AS o",
        user,
        tenant,
    )
    rows.run("VACUUM ANALYZE conversations")
    before = datetime.now(UTC) - timedelta(minutes=18_000)
    due = retention.Due(tenant if of_tenant else None, trash, before)
    with database.connect(sa.make_url(migrated_url)) as connection:
        reads, sizes = [], []

        def read() -> int:
            asked = (
                "SELECT pg_catalog.pg_stat_get_xact_tuples_fetched(c.oid)"
                " + pg_catalog.pg_stat_get_xact_tuples_returned(c.oid)"
                " FROM pg_catalog.pg_class AS c WHERE c.oid = 'public.conversations'::regclass"
            )
            return int(connection.scalar(sa.text(asked)) or 0)

        for batch in retention.purge(connection, due, 100):
            sizes.append(len(batch.ids))
            reads.append(read())
    assert sum(sizes) == pytest.approx(500, abs=2)
    assert max(sizes) == 100
    assert max(reads) < 1_000
