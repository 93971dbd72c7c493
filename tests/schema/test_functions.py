"""How functions are marked, where a wrong mark shows only under load."""

from tests.schema.rows import Rows


def test_a_function_that_opens_a_subtransaction_is_not_parallel_safe(rows: Rows) -> None:
    marked = rows.all(
        "SELECT p.oid::regprocedure::text FROM pg_proc AS p"
        " WHERE p.pronamespace IN ('public'::regnamespace, 'chat_internal'::regnamespace)"
        " AND p.proparallel = 's' AND p.prosrc ~* 'EXCEPTION\\s+WHEN'"
    )
    assert marked == []


def test_times_are_read_in_a_parallel_plan_as_well(rows: Rows) -> None:
    setting = "debug_parallel_query" if rows.connection.info.server_version >= 160000 else "force_parallel_mode"
    rows.run(f"SET LOCAL {setting} = on")
    assert rows.all("SELECT chat_internal.element_time(to_jsonb(t)) FROM unnest(ARRAY['2026-02-31', 'now']) AS t") == [
        None,
        None,
    ]
