import psycopg
import pytest
from pytest_postgresql import factories

from alembic import command
from tests.conftest import alembic_config
from tests.schema.rows import Rows

# A product some months old: 1,000 users, 20,100 tasks, 4,096 conversations, 36,512 messages. Most conversations are
# short and some are long, most users have a few and one has many. Messages stand in the table in the order of time,
# those of a conversation far apart.
PRODUCT = """
    INSERT INTO users (id, email)
    SELECT md5('user ' || n)::uuid, n || '@example.org' FROM generate_series(1, 1000) AS n;

    INSERT INTO tasks (user_id, title, created_at)
    SELECT md5('user ' || n)::uuid, 'Task', timestamptz '2026-01-01' + k * interval '1 day' + n * interval '1 s'
    FROM generate_series(1, 20) AS k, generate_series(1, 1000) AS n
    UNION ALL
    SELECT md5('user 1')::uuid, 'Task', timestamptz '2026-02-01' + k * interval '1 hour'
    FROM generate_series(1, 100) AS k;

    INSERT INTO conversations (id, user_id, created_at, updated_at)
    SELECT md5(c.key)::uuid, c.user_id, c.at, c.at
    FROM (
      SELECT format('conversation %s of %s', k, n) AS key, md5('user ' || n)::uuid AS user_id,
             timestamptz '2026-01-01' + k * interval '1 day' + n * interval '1 min' AS at
      FROM generate_series(1, 1000) AS n, LATERAL generate_series(1, CASE WHEN n = 1 THEN 100 ELSE 4 END) AS k
    ) AS c;

    INSERT INTO messages (conversation_id, user_id, role, content, created_at)
    SELECT c.id, c.user_id, CASE n % 2 WHEN 1 THEN 'user' ELSE 'assistant' END, repeat('word ', 60),
           c.created_at + (n + 1) / 2 * interval '1 hour'
    FROM (SELECT *, row_number() OVER (ORDER BY id) AS number FROM conversations) AS c,
         LATERAL generate_series(1, CASE WHEN number % 60 = 0 THEN 300 ELSE 4 END) AS n
    ORDER BY c.created_at + (n + 1) / 2 * interval '1 hour', n;

    ANALYZE;
"""


def _load(*, host: str, port: int, dbname: str, **_: object) -> None:
    command.upgrade(alembic_config(f"postgresql://postgres@/{dbname}?host={host}&port={port}"), "head")
    with psycopg.connect(host=host, port=port, user="postgres", dbname=dbname) as connection:
        connection.execute(PRODUCT.encode())
    with psycopg.connect(host=host, port=port, user="postgres", dbname=dbname, autocommit=True) as connection:
        connection.execute("VACUUM")  # as autovacuum would have, for the planner's view of the pages


product_template = factories.postgresql_noproc(depends_on="address", dbname="product", load=[_load])
product_db = factories.postgresql("product_template")


@pytest.fixture
def rows(shared_db: psycopg.Connection) -> Rows:
    """A migrated database; what a test does to it is rolled back, so now() stands still."""
    return Rows(shared_db)


@pytest.fixture
def committed(db: psycopg.Connection) -> Rows:
    """A migrated database of this test alone, where each statement is committed."""
    db.autocommit = True
    return Rows(db)
