"""What a team has made over our tables stops a downgrade that would drop them: before its first change, and by name."""

import re

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
    "a default": (
        "CREATE TABLE own_defaults (id uuid DEFAULT chat_internal.current_user_id());",
        "default value for column id of table public.own_defaults depends on function chat_internal.current_user_id()",
        "DROP TABLE own_defaults",
    ),
    "the next number of our sequence": (
        "CREATE TABLE own_numbers (n bigint DEFAULT nextval('public.messages_seq_seq'));",
        "default value for column n of table public.own_numbers depends on sequence public.messages_seq_seq",
        "DROP TABLE own_numbers",
    ),
    "a generated column": (
        "CREATE TABLE own_generated (id uuid, c uuid GENERATED ALWAYS AS"
        " (chat_internal.default_conversation_id(id)) STORED);",
        "column c of table public.own_generated depends on function chat_internal.default_conversation_id(uuid)",
        "DROP TABLE own_generated",
    ),
    "an index": (
        "CREATE TABLE own_indexed (id uuid);"
        " CREATE INDEX own_by_default ON own_indexed (chat_internal.default_conversation_id(id));",
        "index public.own_by_default depends on function chat_internal.default_conversation_id(uuid)",
        "DROP TABLE own_indexed",
    ),
    "a domain": (
        "CREATE DOMAIN own_domain AS uuid CONSTRAINT own_check"
        " CHECK (chat_internal.default_conversation_id(VALUE) IS NOT NULL);",
        "constraint own_check of domain public.own_domain depends on"
        " function chat_internal.default_conversation_id(uuid)",
        "DROP DOMAIN own_domain",
    ),
    "a rule on a table of theirs": (
        "CREATE TABLE own_log (id uuid);"
        " CREATE RULE own_rule AS ON INSERT TO own_log DO ALSO DELETE FROM tasks WHERE false;",
        "rule own_rule on table public.own_log depends on table public.tasks",
        "DROP TABLE own_log",
    ),
    "a table that inherits": (
        "CREATE TABLE own_child () INHERITS (brands);",
        "table public.own_child depends on table public.brands",
        "DROP TABLE own_child",
    ),
    "a partition with a key": (
        "CREATE TABLE own_parts (id int, user_id uuid CONSTRAINT own_parts_key REFERENCES users)"
        " PARTITION BY LIST (id);"
        " CREATE TABLE own_part PARTITION OF own_parts FOR VALUES IN (1);",
        "constraint own_parts_key on table public.own_part depends on column id of table public.users",
        "DROP TABLE own_parts",
    ),
    "a key on a table of ours": (
        "ALTER TABLE tasks ADD own_brand uuid CONSTRAINT own_brand_key REFERENCES brands;",
        "constraint own_brand_key on table public.tasks depends on index public.brands_pkey",
        "ALTER TABLE tasks DROP own_brand",
    ),
    "a row in a column": (
        "CREATE TABLE own_rows (c brands[]);",
        "column c of table public.own_rows depends on type public.brands[]",
        "DROP TABLE own_rows",
    ),
    "a view in our schema": (
        "CREATE VIEW chat_internal.own_inner AS SELECT t.id FROM tasks AS t;",
        "view chat_internal.own_inner depends on column id of table public.tasks",
        "DROP VIEW chat_internal.own_inner",
    ),
    "a table in our schema": (
        "CREATE TABLE chat_internal.own_members (id uuid CONSTRAINT own_member REFERENCES users);",
        "constraint own_member on table chat_internal.own_members depends on column id of table public.users",
        "DROP TABLE chat_internal.own_members",
    ),
    "a member of an extension": (
        "CREATE EXTENSION btree_gin; CREATE VIEW own_member_view AS SELECT t.id FROM tasks AS t;"
        " ALTER EXTENSION btree_gin ADD VIEW own_member_view;",
        "view public.own_member_view depends on column id of table public.tasks",
        "DROP EXTENSION btree_gin",
    ),
}
OF_BRANDS = ("a policy on one of ours", "a table that inherits", "a key on a table of ours", "a row in a column")


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
    theirs.add("constraint own_parts_key on table public.own_parts")
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
    assert len(set(re.findall(r"^- (.+) depends on", str(refused.value), re.MULTILINE))) == len(OF_BRANDS)
    chain.downgrade("0038")
    assert chain.revision() == "0038"


def test_what_is_on_our_tables_goes_with_them_unasked(chain: Chain) -> None:
    chain.upgrade()
    chain.execute("CREATE INDEX own_index ON messages (role); ALTER TABLE messages ADD COLUMN own_column text;")
    chain.execute("CREATE POLICY own_policy ON messages USING (chat_internal.current_user_id() IS NOT NULL)")
    chain.execute("CREATE VIEW own_sessions AS SELECT s.id FROM chat_sessions AS s")
    chain.execute(
        "CREATE FUNCTION own_nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        " CREATE TRIGGER own_audit AFTER UPDATE OF tenant_id ON messages FOR EACH ROW EXECUTE FUNCTION own_nothing();"
        " CREATE TABLE own_log (id uuid);"
        " CREATE RULE own_rule AS ON INSERT TO tasks DO ALSO INSERT INTO own_log VALUES (NEW.id);"
        " CREATE PUBLICATION own_feed FOR TABLE messages (id, tenant_id);"
        " CREATE STATISTICS own_statistics ON user_id, tenant_id FROM messages;"
    )
    chain.downgrade(before("0030"))
    assert chain.value("SELECT count(*) FROM own_sessions") == 0, "a view of the old name is made again"
    chain.execute("DROP VIEW own_sessions")
    chain.downgrade("base")
    chain.execute("DROP TABLE own_log; DROP FUNCTION own_nothing(); DROP PUBLICATION own_feed")
    assert chain.rows(NOTHING) == []
