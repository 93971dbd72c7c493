"""``INSERT ... ON CONFLICT (id) DO UPDATE`` into chat_sessions, a view at head: what takes it, and what cannot.

PostgreSQL refuses the statement itself for every relation that computes the array, as ``test_no_form_takes_it`` shows
form by form. What hosted clients send is a request, though. PostgREST writes ON CONFLICT where it knows a primary key
(or is told a column) and a plain INSERT where it does not, so the view hides its key.
"""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.adoption.legacy import Place, psql
from tests.adoption.old_clients import ACME, NEIGHBOUR, USER, Api

pytestmark = pytest.mark.sampled(6)  # each case takes seconds

UPSERT = (
    "INSERT INTO {} (id, messages) VALUES (gen_random_uuid(), '[]')"
    " ON CONFLICT (id) DO UPDATE SET messages = EXCLUDED.messages"
)
HEAD = """
    CREATE TABLE conversation (id uuid PRIMARY KEY);
    CREATE TABLE message (conversation_id uuid, seq bigint GENERATED ALWAYS AS IDENTITY, content jsonb);
    CREATE FUNCTION messages_of(p_id uuid) RETURNS jsonb STABLE LANGUAGE sql AS
      $$ SELECT coalesce(jsonb_agg(content ORDER BY seq), '[]') FROM public.message WHERE conversation_id = p_id $$;
    CREATE FUNCTION write_session() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
"""
COMPUTED = "SELECT id, messages_of(id) AS messages FROM conversation"
FORMS = {
    "a view with INSTEAD OF triggers": (
        f"CREATE VIEW session AS {COMPUTED};"
        "CREATE TRIGGER w INSTEAD OF INSERT OR UPDATE ON session FOR EACH ROW EXECUTE FUNCTION write_session()",
        "no unique or exclusion constraint matching the ON CONFLICT specification",
    ),
    "an automatically updatable view": (
        f"CREATE VIEW session AS {COMPUTED}",
        'cannot insert into column "messages" of view',
    ),
    "a view with rules": (
        f"CREATE VIEW session AS {COMPUTED};"
        "CREATE RULE w AS ON INSERT TO session DO INSTEAD INSERT INTO conversation VALUES (NEW.id)",
        "INSERT with ON CONFLICT clause cannot be used with table that has INSERT or UPDATE rules",
    ),
    "a view of a view with INSTEAD OF triggers": (
        f"CREATE VIEW inner_session AS {COMPUTED};"
        "CREATE TRIGGER w INSTEAD OF INSERT OR UPDATE ON inner_session FOR EACH ROW EXECUTE FUNCTION write_session();"
        "CREATE VIEW session AS SELECT id, messages FROM inner_session",
        "no unique or exclusion constraint matching the ON CONFLICT specification",
    ),
    "a materialized view": (
        f"CREATE MATERIALIZED VIEW session AS {COMPUTED}; CREATE UNIQUE INDEX key ON session (id)",
        "cannot change materialized view",
    ),
    "a foreign table": (
        "CREATE EXTENSION file_fdw; CREATE SERVER here FOREIGN DATA WRAPPER file_fdw;"
        "CREATE FOREIGN TABLE session (id uuid, messages jsonb) SERVER here OPTIONS (filename '/dev/null')",
        "no unique or exclusion constraint matching the ON CONFLICT specification",
    ),
    "a table with a generated column": (
        "CREATE FUNCTION frozen(uuid) RETURNS jsonb IMMUTABLE LANGUAGE sql AS 'SELECT messages_of($1)';"
        "CREATE TABLE session (id uuid PRIMARY KEY, messages jsonb GENERATED ALWAYS AS (frozen(id)) STORED)",
        'cannot insert a non-DEFAULT value into column "messages"',
    ),
}


@pytest.fixture
def scratch(database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(HEAD)
        yield connection


@pytest.mark.parametrize("form", FORMS)
def test_no_form_takes_it(scratch: psycopg.Connection, form: str) -> None:
    creation, refusal = FORMS[form]
    scratch.execute(creation.encode())
    with pytest.raises(psycopg.Error, match=refusal):
        scratch.execute(UPSERT.format("session").encode())


def test_a_table_in_the_place_of_the_view_would_take_it_and_show_nobody_what_it_took(
    scratch: psycopg.Connection,
) -> None:
    """Its trigger can write the rows elsewhere, but then stores nothing: nothing to read, no row for RETURNING."""
    scratch.execute(
        "CREATE TABLE session (id uuid PRIMARY KEY, messages jsonb);"
        "CREATE FUNCTION forward() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO conversation VALUES (NEW.id) ON CONFLICT DO NOTHING; RETURN NULL; END $$;"
        "CREATE TRIGGER w BEFORE INSERT ON session FOR EACH ROW EXECUTE FUNCTION forward()"
    )
    returned = scratch.execute(f"{UPSERT.format('session')} RETURNING id".encode()).fetchall()
    assert returned == []
    assert scratch.execute("SELECT FROM session").rowcount == 0
    assert scratch.execute("SELECT FROM conversation").rowcount == 1


def test_a_stored_array_would_take_it_and_be_written_whole_with_every_message(scratch: psycopg.Connection) -> None:
    """The table below is the only form that works. Its price: the hundredth message writes all hundred once more."""
    scratch.execute(
        "CREATE TABLE session (id uuid PRIMARY KEY, messages jsonb);"
        "ALTER TABLE session ALTER messages SET STORAGE EXTERNAL;"
        "CREATE FUNCTION append() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " UPDATE session SET messages = messages || NEW.content WHERE id = NEW.conversation_id; RETURN NULL; END $$;"
        "CREATE TRIGGER w AFTER INSERT ON message FOR EACH ROW EXECUTE FUNCTION append()"
    )
    scratch.execute(UPSERT.format("session").encode())

    def written(message: int) -> int:
        before = scratch.execute("SELECT pg_current_wal_insert_lsn()").fetchone()
        content = Jsonb({"role": "user", "content": "x" * 1000, "number": message})
        scratch.execute("INSERT INTO message (conversation_id, content) SELECT id, %s FROM session", [content])
        after = scratch.execute("SELECT pg_current_wal_insert_lsn() - %s::pg_lsn", before).fetchone()
        assert after
        return int(after[0])

    scratch.execute("SELECT pg_switch_wal()")
    sizes = [written(message) for message in range(100)]
    assert sizes[99] > 100 * 1000
    assert min(sizes[:10]) < 10 * 1000


class TestAtHead:
    @pytest.fixture
    def api(self, place: Place) -> Iterator[Api]:
        psql(place.url, "00_auth_people.sql", {})
        place.chain.upgrade()
        place.chain.execute("INSERT INTO tenants (id, name) VALUES (%s, 'Acme')", [ACME])
        for user in (USER, NEIGHBOUR):
            place.chain.execute("INSERT INTO tenant_users (tenant_id, user_id) VALUES (%s, %s)", [ACME, user])
        api = Api(place.url_of("authenticator"))
        yield api
        api.close()

    def row(self, *contents: str, **more: Any) -> dict[str, Any]:
        messages = [{"role": "user", "content": content} for content in contents]
        return {"id": str(uuid4()), "tenant_id": ACME, "user_id": USER, "messages": messages, **more}

    def test_an_upsert_makes_a_session_and_writes_over_it(self, api: Api) -> None:
        row = self.row("one")
        made = api.insert(USER, "chat_sessions", row, upsert=True)
        longer = self.row("one", "two", id=row["id"])
        over = api.insert(USER, "chat_sessions", longer, upsert=True)
        assert over["messages"] == longer["messages"]
        assert over["created_at"] == made["created_at"]
        assert over["updated_at"] > made["updated_at"]
        [listed] = api.select(USER, "chat_sessions", {"id": row["id"]})
        assert listed == over

    def test_what_an_upsert_does_not_send_stays(self, api: Api) -> None:
        row = api.insert(USER, "chat_sessions", self.row("one"))
        api.insert(USER, "chat_sessions", {"id": row["id"], "user_id": USER}, upsert=True)
        [listed] = api.select(USER, "chat_sessions", {"id": row["id"]})
        assert (listed["messages"], listed["tenant_id"]) == (row["messages"], ACME)

    def test_an_upsert_that_is_to_ignore_duplicates_leaves_the_session_alone(self, api: Api) -> None:
        row = api.insert(USER, "chat_sessions", self.row("one"))
        ignored = api.request(
            USER,
            "INSERT INTO chat_sessions (id, user_id, messages) VALUES (%s, %s, '[]') RETURNING id",
            [row["id"], USER],
            prefer="resolution=ignore-duplicates,return=representation",
        )
        assert ignored == []
        assert api.select(USER, "chat_sessions", {"id": row["id"]}) == [row]

    def test_an_insert_that_is_none_is_refused_where_a_session_stands(self, api: Api) -> None:
        row = api.insert(USER, "chat_sessions", self.row("one"))
        with pytest.raises(psycopg.errors.UniqueViolation):
            api.insert(USER, "chat_sessions", self.row("two", id=row["id"]))
        assert api.select(USER, "chat_sessions", {"id": row["id"]}) == [row]

    def test_nobody_writes_over_the_session_of_another(self, api: Api) -> None:
        row = api.insert(USER, "chat_sessions", self.row("one"))
        for owner, refusal in (
            (NEIGHBOUR, psycopg.errors.UniqueViolation),
            (USER, psycopg.errors.InsufficientPrivilege),
        ):
            with pytest.raises(refusal):
                api.insert(NEIGHBOUR, "chat_sessions", self.row("two", id=row["id"], user_id=owner), upsert=True)
        assert api.select(USER, "chat_sessions", {"id": row["id"]}) == [row]

    def test_the_one_statement_that_changes_is_an_upsert_that_names_the_column(self, api: Api) -> None:
        with pytest.raises(psycopg.errors.InvalidColumnReference):
            api.insert(USER, "chat_sessions", self.row("one"), upsert=True, on_conflict="id")

    def test_a_session_is_still_found_by_the_index_of_its_id(self, api: Api, place: Place) -> None:
        place.chain.execute("SET enable_seqscan = off")
        plan = place.chain.rows(f"EXPLAIN SELECT * FROM chat_sessions WHERE id = '{uuid4()}'")
        assert any("conversations_pkey" in line and "Index" in line for line in plan), plan
