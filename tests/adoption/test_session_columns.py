"""Columns that an application has added to chat_sessions: read, written and inserted through the view as before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from app.catalog import Comparison, compare, load_expected
from tests.adoption.legacy import Place
from tests.adoption.old_clients import ACME, NEIGHBOUR, USER, Api
from tests.adoption.test_kept import examined
from tests.catalog.planting import told
from tests.conftest import libpq
from tests.migrations.test_stairs import differences

OWN = """
    ALTER TABLE chat_sessions ADD COLUMN topic text NOT NULL DEFAULT 'none', ADD COLUMN "Is Starred" boolean,
      ADD COLUMN tags text[] NOT NULL DEFAULT '{}', ADD COLUMN settings json, ADD COLUMN price numeric(10, 4),
      ADD COLUMN length int GENERATED ALWAYS AS (coalesce(length(topic), 0)) STORED;
    UPDATE chat_sessions SET topic = 'Topic of ' || id, tags = ARRAY['a', 'b'];
"""
SETTINGS = '{"b": 1,  "a": [2]}'


@pytest.fixture
def platform() -> str:
    return "supabase-all"


@pytest.fixture
def api(place: Place) -> Iterator[Api]:
    place.load("3a")
    place.chain.execute(OWN)
    place.chain.upgrade()
    api = Api(place.url_of("authenticator"))
    yield api
    api.close()


def session(**columns: Any) -> dict[str, Any]:
    return {"tenant_id": ACME, "user_id": USER, "messages": [{"role": "user", "content": "Hi"}], **columns}


def test_they_are_read_inserted_and_changed_by_their_owner_alone(place: Place, api: Api) -> None:
    found = api.select(USER, "chat_sessions")
    assert {row["topic"] for row in found} == {f"Topic of {row['id']}" for row in found}
    made = api.insert(USER, "chat_sessions", session(topic="Garden", tags=["x"], price=1.5))
    assert (made["topic"], made["tags"], made["price"], made["Is Starred"], made["length"]) == (
        "Garden",
        ["x"],
        1.5,
        None,
        6,
    )
    plain = api.insert(USER, "chat_sessions", session())
    assert (plain["topic"], plain["tags"]) == ("none", [])
    changed = api.update(USER, "chat_sessions", made["id"], {"topic": "Roses", "Is Starred": True})
    assert (changed["topic"], changed["Is Starred"], changed["tags"], changed["length"]) == ("Roses", True, ["x"], 5)
    assert changed["messages"] == made["messages"]
    emptied = api.update(USER, "chat_sessions", made["id"], {"price": None})
    assert emptied["price"] is None
    [stored] = api.select(USER, "chat_sessions", {"id": made["id"]})
    assert stored == {**changed, "price": None, "updated_at": emptied["updated_at"]}
    assert api.select(NEIGHBOUR, "chat_sessions", {"id": made["id"]}) == []
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        api.request(USER, "SELECT topic FROM chat_sessions", role="anon")


def test_an_upsert_changes_what_was_sent_and_nothing_else(place: Place, api: Api) -> None:
    made = api.insert(USER, "chat_sessions", session(topic="Garden", tags=["x"]))
    row = {"id": made["id"], **session(tags=["y"])}
    assert api.insert(USER, "chat_sessions", row, upsert=True)["topic"] == "Garden"
    [stored] = api.select(USER, "chat_sessions", {"id": made["id"]})
    assert (stored["topic"], stored["tags"]) == ("Garden", ["y"])


def test_values_are_stored_as_they_were_written(place: Place, api: Api) -> None:
    with psycopg.connect(libpq(place.url), autocommit=True) as owner:
        [(made,)] = owner.execute(
            "INSERT INTO chat_sessions (tenant_id, user_id, settings, price) VALUES (%s, %s, %s, 1.5000) RETURNING id",
            [ACME, USER, SETTINGS],
        ).fetchall()
    stored = "SELECT settings::text, price::text FROM conversations WHERE id = %s"
    assert place.chain.rows(stored, [made]) == [(SETTINGS, "1.5000")]


def test_the_catalog_is_as_expected_and_another_view_would_not_be(place: Place, api: Api) -> None:
    found = examined(place)
    assert not found.faults, told(found)
    assert views(place).changed == ()
    place.chain.execute("CREATE OR REPLACE VIEW chat_sessions WITH (security_invoker = true) AS " + looser(place))
    assert [each.identity for each in views(place).changed] == ["public.chat_sessions"]


def looser(place: Place) -> str:
    """The view's text with a column that is none of the table's own, after those that are."""
    text = str(place.chain.value("SELECT pg_get_viewdef('chat_sessions'::regclass)"))
    head, _, tail = text.rpartition("FROM")
    return f"{head.rstrip()}, c.title || '' AS title FROM{tail}"


def views(place: Place) -> Comparison:
    return compare({"views": load_expected()["views"]}, {"views": place.chain.snapshot()["views"]})


def test_the_way_back_gives_them_back(place: Place) -> None:
    place.load("3a")
    place.chain.execute(OWN)
    every = "SELECT to_jsonb(s)::text FROM chat_sessions AS s ORDER BY id"
    before, stored = place.chain.snapshot(), place.chain.rows(every)
    place.chain.upgrade()
    place.chain.downgrade("base")
    assert differences(before, place.chain.snapshot()) == []
    assert place.chain.rows(every) == stored
    place.chain.upgrade()
