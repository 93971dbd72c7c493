"""The queries of a chat product read by index: a page of a listing, all of it, and what is looked up."""

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

PAGE = 20


class Plans:
    """EXPLAIN for the user of the product who has the most conversations."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection
        self.user = self._one("SELECT user_id FROM conversations GROUP BY user_id ORDER BY count(*) DESC LIMIT 1")
        self.conversation = self._one(
            "SELECT conversation_id FROM messages WHERE user_id = %(user)s"
            " GROUP BY conversation_id ORDER BY count(*) DESC, conversation_id LIMIT 1"
        )
        self.task = self._one("SELECT id FROM tasks WHERE user_id = %(user)s LIMIT 1")

    def as_user(self) -> None:
        """Go on as role authenticated, under the policies, until the transaction ends."""
        claims = json.dumps({"sub": str(self.user)})
        self._connection.execute(
            "SELECT set_config('role', 'authenticated', true), set_config('request.jwt.claims', %s, true)", [claims]
        )

    def as_on_solid_state(self) -> None:
        """Take the setting of hosts with SSDs; by the default, 4, a page read out of order costs four in order."""
        self._connection.execute("SET LOCAL random_page_cost = 1.1")

    def without_bitmaps(self) -> None:
        """Ask whether an index can do it, not whether the planner likes it best.

        Some dozen rows of a listing it may read in the order of their pages and sort, whatever indexes there are.
        """
        self._connection.execute("SET LOCAL enable_bitmapscan = off")

    def nodes(self, query: str, *, analyze: bool = False) -> list[dict[str, Any]]:
        """Return every node of the plan of ``query``, outermost first."""
        options = "ANALYZE, FORMAT JSON" if analyze else "FORMAT JSON"
        return list(_walk(self._one(f"EXPLAIN ({options}) {query}")[0]["Plan"]))

    def _one(self, query: str) -> Any:
        row = self._connection.execute(query.encode(), vars(self)).fetchone()
        assert row is not None
        return row[0]


def _walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", []):
        yield from _walk(child)


@pytest.fixture
def plans(product_db: psycopg.Connection) -> Plans:
    return Plans(product_db)


# what is asked, and the index that serves both filter and order
TASKS = ("SELECT * FROM tasks WHERE user_id = %(user)s ORDER BY created_at DESC", "idx_tasks_user_id_created_at")
TASK = ("SELECT * FROM tasks WHERE id = %(task)s AND user_id = %(user)s", "tasks_pkey")
CONVERSATIONS = (
    "SELECT * FROM conversations WHERE user_id = %(user)s ORDER BY updated_at DESC",
    "idx_conversations_user_id_updated_at",
)
MESSAGES = (
    "SELECT * FROM messages WHERE conversation_id = %(conversation)s ORDER BY created_at, seq",
    "idx_messages_conversation_id_created_at",
)
MESSAGES_AS_FIRST_ASKED = (
    "SELECT * FROM messages WHERE conversation_id = %(conversation)s ORDER BY created_at",
    "idx_messages_conversation_id_created_at",
)
OWN_MESSAGES = (
    "SELECT * FROM messages WHERE conversation_id = %(conversation)s AND user_id = %(user)s ORDER BY created_at, seq",
    "idx_messages_conversation_id",
)
A_USERS_MESSAGES = ("SELECT * FROM messages WHERE user_id = %(user)s", "idx_messages_user_id")

LISTINGS = {
    "a user's tasks, newest first": TASKS,
    "a user's conversations, the latest active first": CONVERSATIONS,
    "a conversation's messages in order": MESSAGES,
    "a conversation's messages by time alone": MESSAGES_AS_FIRST_ASKED,
    "a conversation's messages in order, of one user": OWN_MESSAGES,
}
LOOKUPS = {
    "a task by its id and its user": TASK,
    "a user's messages": A_USERS_MESSAGES,
}
each_listing = pytest.mark.parametrize(("query", "index"), LISTINGS.values(), ids=LISTINGS)


def scans(nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [node for node in nodes if "Index Name" in node]


def assert_served(nodes: list[dict[str, Any]], index: str) -> None:
    kinds = [node["Node Type"] for node in nodes]
    assert not {"Sort", "Incremental Sort", "Seq Scan", "BitmapAnd"} & {*kinds}, kinds
    assert [scan["Index Name"] for scan in scans(nodes)] == [index]
    assert scans(nodes)[0]["Index Cond"]


@each_listing
def test_a_page_of_a_listing_is_read_in_the_order_of_an_index(plans: Plans, query: str, index: str) -> None:
    if index == "idx_messages_conversation_id":
        plans.as_on_solid_state()
    assert_served(plans.nodes(f"{query} LIMIT {PAGE}"), index)


@each_listing
def test_a_whole_listing_is_read_in_the_order_of_an_index(plans: Plans, query: str, index: str) -> None:
    plans.as_on_solid_state()
    plans.without_bitmaps()
    assert_served(plans.nodes(query), index)


@pytest.mark.parametrize(("query", "index"), LOOKUPS.values(), ids=LOOKUPS)
def test_what_is_looked_up_is_found_by_an_index(plans: Plans, query: str, index: str) -> None:
    assert_served(plans.nodes(query), index)


@each_listing
def test_policies_change_nothing_about_a_page(plans: Plans, query: str, index: str) -> None:
    plans.as_user()
    if index == "idx_messages_conversation_id":
        plans.as_on_solid_state()
    assert_served(plans.nodes(f"{query} LIMIT {PAGE}"), with_the_user(index))


@each_listing
def test_policies_change_nothing_about_a_whole_listing(plans: Plans, query: str, index: str) -> None:
    plans.as_user()
    plans.as_on_solid_state()
    plans.without_bitmaps()
    assert_served(plans.nodes(query), with_the_user(index))


def with_the_user(index: str) -> str:
    """Return the index that serves once a policy has added the user to the condition."""
    return index.replace("idx_messages_conversation_id_created_at", "idx_messages_conversation_id")


def test_a_page_of_a_long_conversation_reads_that_page_and_no_more(plans: Plans) -> None:
    plans.as_user()
    [scan] = scans(plans.nodes(f"{MESSAGES[0]} LIMIT {PAGE}", analyze=True))
    assert scan["Actual Rows"] == PAGE


def test_the_next_page_begins_where_the_last_one_ended(plans: Plans) -> None:
    plans.as_user()
    nodes = plans.nodes(
        "SELECT * FROM messages WHERE conversation_id = %(conversation)s AND (created_at, seq) > ('2026-01-02', 0)"
        f" ORDER BY created_at, seq LIMIT {PAGE}"
    )
    assert_served(nodes, "idx_messages_conversation_id")
    [scan] = scans(nodes)
    assert "ROW(created_at, seq) >" in scan["Index Cond"]
