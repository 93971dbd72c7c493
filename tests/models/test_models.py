"""What the models promise before a server is asked: names, keys, indexes, what a plain SELECT leaves out."""

import os
import subprocess
import sys
from importlib.resources import files

import pytest
from sqlalchemy import (
    CheckConstraint,
    DateTime,
    DefaultClause,
    ForeignKeyConstraint,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import RelationshipProperty
from sqlalchemy.sql.schema import CallableColumnDefault

import app.models
from app.models import Base, Conversation, Message, User

TABLES = Base.metadata.sorted_tables
FOREIGN_KEYS = [key for table in TABLES for key in sorted(table.foreign_key_constraints, key=lambda key: str(key.name))]
MAPPERS = sorted(Base.registry.mappers, key=str)  # the set has another order in each pytest worker
RELATIONSHIPS = [relationship for mapper in MAPPERS for relationship in mapper.relationships]

each_table = pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
each_foreign_key = pytest.mark.parametrize("key", FOREIGN_KEYS, ids=lambda key: key.name)
each_relationship = pytest.mark.parametrize("relationship", RELATIONSHIPS, ids=str)


def test_the_mappers_configure_without_a_warning() -> None:
    # In a process of its own: here they may be configured already, and then they say nothing.
    program = (
        "import warnings; warnings.simplefilter('error'); "
        "import app.models, sqlalchemy.orm; sqlalchemy.orm.configure_mappers()"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")


def test_the_schema_has_these_tables() -> None:
    assert {table.name for table in TABLES} == {
        "attachments",
        "brands",
        "chat_messages",
        "conversation_messages",
        "conversation_sessions",
        "conversations",
        "feedback",
        "messages",
        "retention_holds",
        "retention_rules",
        "shares",
        "tasks",
        "tenant_users",
        "tenants",
        "user_llm_providers",
        "users",
    }


def test_every_model_is_exported() -> None:
    assert {mapper.class_.__name__ for mapper in Base.registry.mappers} < set(app.models.__all__)
    assert all(hasattr(app.models, name) for name in app.models.__all__)


def test_the_package_is_marked_as_typed() -> None:
    assert files("app").joinpath("py.typed").is_file()


@each_table
def test_every_constraint_and_index_has_a_name_that_postgresql_keeps_whole(table: Table) -> None:
    names = [constraint.name for constraint in table.constraints] + [index.name for index in table.indexes]
    assert None not in names
    assert [name for name in names if len(str(name).encode()) > 63] == []


@each_table
def test_names_follow_the_convention(table: Table) -> None:
    prefixes = {CheckConstraint: f"ck_{table.name}_", ForeignKeyConstraint: f"fk_{table.name}_"}
    for constraint in table.constraints:
        if isinstance(constraint, PrimaryKeyConstraint):
            assert constraint.name == f"{table.name}_pkey"
        else:
            assert str(constraint.name).startswith(prefixes[type(constraint)])
    assert all(str(index.name).startswith(f"idx_{table.name}_") for index in table.indexes)


@each_table
def test_every_time_has_a_time_zone(table: Table) -> None:
    times = [column.type for column in table.columns if isinstance(column.type, DateTime)]
    assert times
    assert all(kind.timezone for kind in times)


@pytest.mark.parametrize("name", sorted(Base.metadata.tables.keys() - {"users", "tenants", "retention_rules"}))
def test_every_owned_table_names_its_owner(name: str) -> None:
    table = Base.metadata.tables[name]
    assert not table.c.user_id.nullable
    assert "users.id" in {key.target_fullname for key in table.c.user_id.foreign_keys}


@each_foreign_key
def test_every_foreign_key_cascades(key: ForeignKeyConstraint) -> None:
    # what hangs on a deleted message is hung on the one before it
    assert key.ondelete == ("CASCADE" if key.name != "fk_messages_parent_id" else None)


@each_foreign_key
def test_every_foreign_key_has_an_index_that_leads_with_its_columns(key: ForeignKeyConstraint) -> None:
    columns = list(key.column_keys)
    candidates = [list(key.table.primary_key.columns.keys())]
    # A partial index holds every row that a cascade must find only where it leaves NULL out and no more. An
    # expression has no name: it ends the lead.
    candidates += [
        [getattr(expression, "name", "") for expression in index.expressions]
        for index in key.table.indexes
        if str(index.dialect_options["postgresql"]["where"]) in ("None", *(f"{name} IS NOT NULL" for name in columns))
    ]
    assert any(candidate[: len(columns)] == columns for candidate in candidates)


@each_relationship
def test_no_relationship_is_fetched_by_reading_it(relationship: RelationshipProperty[object]) -> None:
    assert relationship.lazy in {"write_only", "raise_on_sql"}


@each_relationship
def test_no_parent_loads_its_children_to_delete_them(relationship: RelationshipProperty[object]) -> None:
    if relationship.uselist:
        assert relationship.passive_deletes
        assert relationship.cascade.delete


def test_the_metadata_column_leaves_the_metadata_of_the_class_alone() -> None:
    for model in (Conversation, Message):
        assert isinstance(model.metadata, MetaData)
        assert model.__mapper__.columns["metadata_"].name == "metadata"
        assert model(metadata_={"pinned": True}).metadata_ == {"pinned": True}


def test_a_plain_select_does_not_name_the_password_hash() -> None:
    assert "password_hash" not in str(select(User))
    assert "email" in str(select(User))


@each_table
def test_json_columns_store_none_as_sql_null(table: Table) -> None:
    assert all(column.type.none_as_null for column in table.columns if isinstance(column.type, JSONB))


NAMED_BY_OTHERS = {
    "tenant_users",
    "feedback",
    "user_llm_providers",
    "retention_holds",
}  # their keys are ids of other rows


@pytest.mark.parametrize("name", sorted(Base.metadata.tables.keys() - NAMED_BY_OTHERS))
def test_ids_are_made_by_the_orm_and_by_the_server(name: str) -> None:
    column = Base.metadata.tables[name].c.id
    assert isinstance(column.default, CallableColumnDefault)
    assert isinstance(column.server_default, DefaultClause)
    assert str(column.server_default.arg) == "gen_random_uuid()"
