"""What a service has made beside ours, and on ours, meets our commands without surprise: docs/beside.md."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory

from app.verification import Check, verify
from tests.conftest import alembic_config
from tests.migrations.chain import HEAD, Chain, before

OWN = """
    CREATE SCHEMA own;
    CREATE EXTENSION pg_trgm SCHEMA own;
    CREATE ROLE own_reports NOLOGIN;
    CREATE TABLE own.notes (
      id int PRIMARY KEY, conversation_id uuid CONSTRAINT own_key REFERENCES public.conversations ON DELETE CASCADE
    );
    GRANT USAGE ON SCHEMA own TO own_reports;
    GRANT SELECT ON own.notes TO own_reports;
    CREATE TABLE public.labels (id int PRIMARY KEY);
    ALTER TABLE public.labels ENABLE ROW LEVEL SECURITY;
    ALTER TABLE public.messages ADD own_mark text;
    CREATE INDEX own_marks ON public.messages (own_mark) WHERE own_mark IS NOT NULL;
    CREATE INDEX own_words ON public.messages USING gin (content own.gin_trgm_ops);
    CREATE TABLE public.alembic_version (version_num varchar(32) PRIMARY KEY);
    INSERT INTO public.alembic_version VALUES ('0001');
"""
STANDS = """
    SELECT (SELECT count(*) FROM own.notes), (SELECT count(*) FROM public.labels),
      (SELECT own_mark FROM public.messages WHERE own_mark IS NOT NULL),
      to_regclass('public.own_marks') IS NOT NULL, to_regclass('public.own_words') IS NOT NULL,
      has_table_privilege('own_reports', 'own.notes', 'SELECT'),
      (SELECT version_num FROM public.alembic_version), (SELECT count(*) FROM pg_extension WHERE extname = 'pg_trgm')
"""


@pytest.fixture
def lived_in(chain: Chain) -> Iterator[Chain]:
    """A database some revisions below head, where a service has lived."""
    chain.upgrade(before("0042"))
    chain.execute(OWN)
    user = chain.new_user()
    chain.execute("INSERT INTO conversations (user_id) VALUES (%s)", [user])
    chain.execute(
        "INSERT INTO messages (conversation_id, user_id, role, content, own_mark)"
        " SELECT id, user_id, 'user', 'Hello', 'kept' FROM conversations"
    )
    chain.execute("INSERT INTO own.notes SELECT 1, id FROM conversations; INSERT INTO labels VALUES (1)")
    yield chain
    chain.execute("DROP OWNED BY own_reports; DROP ROLE own_reports")


def verified(chain: Chain) -> dict[str, Check]:
    with sa.create_engine(chain.url, poolclass=sa.NullPool).connect() as connection:
        return {check.name: check for check in verify(connection, alembic_config(chain.url))}


def test_it_stays_as_it_is_on_the_way_up_and_down_and_is_no_difference(lived_in: Chain) -> None:
    stands = lived_in.rows(STANDS)
    assert stands == [(1, 1, "kept", True, True, True, "0001", 1)]
    lived_in.upgrade()
    lived_in.check()
    checks = verified(lived_in)
    assert {check.name: check.problems for check in checks.values() if not check.passed} == {}
    notes = checks["objects of your own"].notes
    assert {"column own_mark on public.messages", "index own_marks on public.messages", "table public.labels"} <= {
        *notes
    }
    lived_in.downgrade(before("0042"))
    lived_in.upgrade()
    assert lived_in.rows(STANDS) == stands
    assert lived_in.revision() == HEAD == ScriptDirectory.from_config(alembic_config("")).get_current_head()
