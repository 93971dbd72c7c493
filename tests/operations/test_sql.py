"""``op.sql`` says to the server what the revision says, to the letter."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from alembic.operations import Operations

from alembic import op
from app.engine.operations.sql import sql
from tests.operations.conftest import Revision, Script, value

FUNCTION = """
    CREATE FUNCTION public.odd(p_name text) RETURNS text
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
    DECLARE
      v_text text := 'a :name, 100%, %s, %(x)s and %%';
    BEGIN
      RETURN v_text || p_name::text;
    END
    $$;
    INSERT INTO public.notes (body) VALUES (public.odd(' :bind'));
"""
ODD = "a :name, 100%, %s, %(x)s and %% :bind"


def test_percent_signs_and_colons_arrive(connection: sa.Connection, revision: Revision) -> None:
    with revision() as operations:
        sql(operations, FUNCTION)
    assert value(connection, "SELECT body FROM notes") == ODD


def test_the_script_holds_what_the_revision_says(connection: sa.Connection, script: Script) -> None:
    sql(script.operations(), FUNCTION)
    assert str(script).strip() == FUNCTION.strip()
    connection.exec_driver_sql(str(script))
    connection.commit()
    assert value(connection, "SELECT body FROM notes") == ODD


def test_a_revision_that_fails_leaves_nothing(connection: sa.Connection, revision: Revision) -> None:
    with pytest.raises(sa.exc.ProgrammingError, match="no_such_table"), revision() as operations:
        sql(operations, f"{FUNCTION}; DELETE FROM no_such_table")
    assert value(connection, "SELECT count(*) FROM notes") == 0
    assert value(connection, "SELECT to_regprocedure('public.odd(text)')") is None


@pytest.mark.parametrize(
    "name",
    [
        "sql",
        "backfill",
        "verify",
        "refuse_data_loss",
        "create_index_online",
        "drop_index_online",
        "add_not_null_check",
        "drop_not_null_check",
        "validate_not_null_check",
        "validate_constraint",
        "set_not_null",
        "create_missing_roles",
        "record_role_names",
        "enable_row_level_security",
        "create_policy",
        "drop_policy",
        "create_owner_policies",
        "alter_owner_policies",
        "create_service_policy",
        "grant_only",
        "grant_more",
        "grant_schema_usage",
        "revoke_schema_usage",
    ],
)
def test_a_revision_finds_it_in_op(name: str) -> None:
    assert getattr(Operations, name).__doc__
    assert getattr(op, name)
