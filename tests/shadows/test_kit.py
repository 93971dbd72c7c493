"""The kit finds what is open to it, in functions of the owner and in steps of a run, and nothing in what is not."""

import psycopg
import pytest

from tests.adoption.legacy import Place
from tests.shadows import kit

pytestmark = pytest.mark.parametrize("platform", ["plain"])

PLANTED = """
    CREATE TABLE public.messages (id uuid, content varchar);
    INSERT INTO public.messages VALUES (gen_random_uuid(), 'Hello');
    GRANT ALL ON public.messages TO PUBLIC;
    CREATE FUNCTION public.planted() RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = {path} AS $$
    DECLARE
      {declared};
    BEGIN
      {statement};
      RETURN 'done';
    END
    $$;
"""
OPEN = [
    ("''", "v uuid := pg_catalog.gen_random_uuid()", "NULL", "type uuid"),
    ("''", "v pg_catalog.text := '2026-01-01'", "v := v::date", "type date"),
    ("''", "v pg_catalog.int8", "SELECT pg_catalog.count(*) INTO v FROM messages", "relation messages"),
    ("''", "v pg_catalog.int8", "SELECT pg_catalog.count(*) INTO v FROM pg_class", "relation pg_class"),
    ("''", "v pg_catalog.int8", "INSERT INTO messages (content) VALUES ('x')", "trigger on messages"),
    ("pg_catalog, pg_temp", "v uuid", "SELECT id INTO v FROM public.messages", None),
    ("pg_temp, pg_catalog", "v pg_catalog.int8", "SELECT count(*) INTO v FROM pg_class", "relation pg_class"),
]


@pytest.mark.parametrize(("path", "declared", "statement", "sprung"), OPEN)
def test_a_type_or_relation_that_a_function_of_the_owner_finds_in_pg_temp_is_seen(
    place: Place, stranger: psycopg.Connection, path: str, declared: str, statement: str, sprung: str | None
) -> None:
    place.admin.execute(PLANTED.format(path=path, declared=declared, statement=statement))
    kit.make(stranger, "pg_temp", kit.our_relations())
    log = kit.Log(place.admin.session)
    stranger.execute("SELECT public.planted()")
    assert log.sprung() == ([f"{sprung} as postgres"] if sprung else [])


STEPS = [
    ("UPDATE messages SET content = lower(content)", "function lower(varchar)"),
    ("SELECT FROM messages WHERE content = 'Hello'::varchar", "operator varchar = varchar"),
    ("SELECT FROM messages WHERE content LIKE 'H%'", "operator varchar ~~ varchar"),
    ("SELECT max(content) FROM messages", "aggregate max(varchar)"),
    ("SELECT format('%s', content) FROM messages", "function format(text, varchar)"),
    ("SELECT to_json(content)::jsonb ->> 'x'::varchar FROM messages", "operator jsonb ->> varchar"),
    ("SELECT content || 'x'::varchar FROM messages", "operator varchar || varchar"),
]


@pytest.mark.parametrize(("step", "sprung"), STEPS)
def test_a_function_or_operator_that_a_step_of_the_owner_finds_in_public_is_seen(
    place: Place, stranger: psycopg.Connection, step: str, sprung: str
) -> None:
    place.admin.execute("CREATE TABLE public.messages (id uuid, content varchar)")
    place.admin.execute("INSERT INTO public.messages VALUES (gen_random_uuid(), 'Hello')")
    assert kit.make(stranger, "public", {}) > 1000
    log = kit.Log(place.admin.session)
    place.admin.execute(step)
    assert f"{sprung} as postgres" in log.sprung()
    place.admin.execute("SET search_path = pg_catalog, pg_temp")
    place.admin.execute(step.replace(" messages", " public.messages"))
    assert log.sprung() == []
