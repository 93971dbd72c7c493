"""What a team has made over our tables stops a downgrade that would drop them: before its first change, and by name."""

import pytest
from alembic.util import CommandError

from tests.migrations.chain import HEAD, Chain, before
from tests.migrations.test_stairs import NOTHING, differences

# what the team has made, and how the message names it
OWN = {
    "a key to the unique index of conversations": (
        "CREATE TABLE own_marks (user_id uuid, conversation_id uuid,"
        " CONSTRAINT own_key FOREIGN KEY (user_id, conversation_id) REFERENCES conversations (user_id, id));",
        "constraint own_key on table public.own_marks depends on index public.idx_conversations_user_id",
        "DROP TABLE own_marks",
    ),
    "a view": (
        "CREATE VIEW own_view AS SELECT m.content FROM messages AS m;",
        "view public.own_view depends on column content of table public.messages",
        "DROP VIEW own_view",
    ),
    "a materialized view on the view of the old name": (
        "CREATE MATERIALIZED VIEW own_matview AS SELECT s.id FROM chat_sessions AS s;",
        "materialized view public.own_matview depends on column id of view public.chat_sessions",
        "DROP MATERIALIZED VIEW own_matview",
    ),
    "a policy on a table of theirs": (
        "CREATE TABLE own_notes (user_id uuid); CREATE POLICY own_policy ON own_notes"
        " USING (user_id = (SELECT chat_internal.current_user_id()));",
        "policy own_policy on table public.own_notes depends on function chat_internal.current_user_id()",
        "DROP TABLE own_notes",
    ),
    "a policy on one of ours": (
        "CREATE POLICY own_reader ON tasks USING (EXISTS (SELECT FROM brands AS b WHERE b.user_id = tasks.user_id));",
        "policy own_reader on table public.tasks depends on column user_id of table public.brands",
        "DROP POLICY own_reader ON tasks",
    ),
    "a function": (
        "CREATE FUNCTION own_count() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM users AS u; END;",
        "function public.own_count() depends on table public.users",
        "DROP FUNCTION own_count()",
    ),
    "a function of a row": (
        "CREATE FUNCTION own_title(c conversations) RETURNS text LANGUAGE sql AS 'SELECT c.title';",
        "function public.own_title(public.conversations) depends on type public.conversations",
        "DROP FUNCTION own_title",
    ),
    "a trigger": (
        "CREATE TABLE own_things (updated_at timestamptz); CREATE TRIGGER own_stamp BEFORE UPDATE ON own_things"
        " FOR EACH ROW EXECUTE FUNCTION update_updated_at();",
        "trigger own_stamp on table public.own_things depends on function public.update_updated_at()",
        "DROP TABLE own_things",
    ),
}


def test_all_of_it_is_named_before_the_first_change_and_nothing_is_undone(chain: Chain) -> None:
    chain.upgrade()
    for create, _, _ in OWN.values():
        chain.execute(create)
    stood = chain.snapshot()
    with pytest.raises(CommandError) as refused:
        chain.downgrade("base")
    said = str(refused.value)
    assert "so nothing was undone" in said
    listed = [line.removeprefix("- ") for line in said.splitlines() if line.startswith("- ")]
    assert [named for _, named, _ in OWN.values() if named not in listed] == []
    theirs = {named.partition(" depends on ")[0] for _, named, _ in OWN.values()}
    assert {line.partition(" depends on ")[0] for line in listed} == theirs, "nothing of ours is named"
    assert chain.revision() == HEAD
    assert not differences(stood, chain.snapshot())


def test_none_of_it_stops_the_way_to_base_once_it_is_dropped(chain: Chain) -> None:
    chain.upgrade()
    for create, _, _ in OWN.values():
        chain.execute(create)
    for _, _, drop in OWN.values():
        chain.execute(drop)
    chain.downgrade("base")
    assert chain.rows(NOTHING) == []


def test_what_a_downgrade_does_not_drop_may_have_dependents(chain: Chain) -> None:
    chain.upgrade()
    for create, _, _ in OWN.values():
        chain.execute(create)
    with pytest.raises(CommandError, match=r"policy own_reader on table public\.tasks depends on ") as refused:
        chain.downgrade(before("0038"))
    assert str(refused.value).count("\n- ") == 1
    chain.downgrade("0038")
    assert chain.revision() == "0038"


def test_what_is_on_our_tables_goes_with_them_unasked(chain: Chain) -> None:
    chain.upgrade()
    chain.execute("CREATE INDEX own_index ON messages (role); ALTER TABLE messages ADD COLUMN own_column text;")
    chain.execute("CREATE POLICY own_policy ON messages USING (chat_internal.current_user_id() IS NOT NULL)")
    chain.execute("CREATE VIEW own_sessions AS SELECT s.id FROM chat_sessions AS s")
    chain.downgrade(before("0030"))
    assert chain.value("SELECT count(*) FROM own_sessions") == 0, "a view of the old name is made again"
    chain.execute("DROP VIEW own_sessions")
    chain.downgrade("base")
    assert chain.rows(NOTHING) == []
