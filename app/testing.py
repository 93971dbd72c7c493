"""Fixtures for the tests of a service: a migrated database for each test, and acting for users in it.

pytest loads this module wherever chat-schema is installed. Nothing else happens until a test asks for a fixture, hence
the imports within the functions. The databases are clones of one template on a server of the test run alone, or on that
of ``CHAT_SCHEMA_TEST_URL``, the address of a login that may create databases and roles there.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import sqlalchemy as sa
    from sqlalchemy.orm import Session

ADDRESS = "CHAT_SCHEMA_TEST_URL"

# A server of the test run alone may lose everything in a crash.
_SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_wal_size": "256MB"}


@pytest.fixture(scope="session")
def chat_schema_prepare() -> Callable[[str], None]:
    """What is done to the template after its migration, given its address; override it to add tables of your own."""
    return lambda url: None


@pytest.fixture
def chat_schema_admin_url(_chat_schema_template: _Template) -> Iterator[str]:
    """The address of this test's database for its owner, whom no policy binds."""
    template = _chat_schema_template
    with template.clone() as name:
        yield template.url.set(database=name).render_as_string(hide_password=False)


@pytest.fixture
def chat_schema_url(chat_schema_admin_url: str, _chat_schema_template: _Template) -> str:
    """The address of this test's database for a service: its login may act as users and as the service, and no more.

    A statement outside ``acting_as`` is refused, as it should be in production.
    """
    import sqlalchemy as sa

    template = _chat_schema_template
    url = sa.make_url(chat_schema_admin_url).set(username=template.login, password=template.password)
    return url.render_as_string(hide_password=False)


@pytest.fixture
def chat_schema_session(chat_schema_url: str) -> Iterator[Session]:
    """A session on this test's database, as a service has it."""
    import sqlalchemy as sa
    from sqlalchemy.orm import Session

    with Session(sa.create_engine(chat_schema_url, poolclass=sa.NullPool)) as session:
        yield session


@pytest.fixture
def as_user(chat_schema_session: Session) -> Callable[..., AbstractContextManager[uuid.UUID]]:
    """``with as_user(user_id) as user_id:`` lets ``chat_schema_session`` act for this user, made where missing.

    Without an id it is a new user.
    """
    from sqlalchemy.dialects.postgresql import insert
    from sqlalchemy.orm import Session

    from .acting_as import acting_as, acting_as_service
    from .models import User

    @contextmanager
    def act(user_id: uuid.UUID | str | None = None) -> Iterator[uuid.UUID]:
        user = uuid.UUID(str(user_id)) if user_id else uuid.uuid4()
        with Session(chat_schema_session.get_bind()) as session, acting_as_service(session):
            session.execute(insert(User).values(id=user).on_conflict_do_nothing())
            session.commit()
        with acting_as(chat_schema_session, user):
            yield user

    return act


@dataclass(frozen=True)
class _Template:
    """A migrated database, the administrator's connection beside it, and the login of services in its clones."""

    run: Callable[..., Any]
    url: sa.URL
    name: str
    login: str
    password: str

    @contextmanager
    def clone(self) -> Iterator[str]:
        name = f"chat_schema_test_{uuid.uuid4().hex}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {self.name} STRATEGY FILE_COPY")
        yield name
        for _ in range(50):  # DROP DATABASE itself waits 100 ms at a time for what is still connected
            if not self.run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
            ).rowcount:
                break
            time.sleep(0.002)
        self.run(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def _chat_schema_template(chat_schema_prepare: Callable[[str], None]) -> Iterator[_Template]:
    import psycopg
    from alembic.config import Config

    from alembic import command

    from . import database

    unique = uuid.uuid4().hex
    name, login, password = f"chat_schema_template_{unique}", f"chat_schema_test_{unique}", uuid.uuid4().hex
    with ExitStack() as stack:
        server = stack.enter_context(_server())
        address = server.set(drivername="postgresql").render_as_string(hide_password=False)
        run = stack.enter_context(psycopg.connect(address, autocommit=True)).execute
        run(f"CREATE DATABASE {name}")
        stack.callback(run, f"DROP DATABASE {name} WITH (FORCE)")
        template = server.set(database=name).render_as_string(hide_password=False)
        config = Config(database.project_folder() / "alembic.ini")
        config.attributes |= {"url": template, "configure_logging": False}
        command.upgrade(config, "head")
        chat_schema_prepare(template)
        run(f"CREATE ROLE {login} LOGIN NOINHERIT PASSWORD '{password}'")
        stack.callback(run, f"DROP ROLE {login}")
        run(f"GRANT authenticated, service_role TO {login}")
        yield _Template(run, server, name, login, password)


@contextmanager
def _server() -> Iterator[sa.URL]:
    """Yield the administrator's address of the server that is named, else of an embedded one for this run."""
    from . import embedded
    from .database import parse_url

    if ADDRESS in os.environ:
        yield parse_url(os.environ[ADDRESS])
        return
    with _folder() as folder, ExitStack() as stack:
        try:
            server = stack.enter_context(embedded.running(folder / "data", settings=_SETTINGS))
        except embedded.EmbeddedServerError as error:
            pytest.fail(f"{error}\nFor tests alone, {ADDRESS} names a server too.", pytrace=False)
        yield server.url("postgres")


@contextmanager
def _folder() -> Iterator[Path]:
    """Yield a folder that root's server can enter too, in memory where there is plenty: half the time."""
    memory = Path("/dev/shm")  # noqa: S108  mkdtemp makes the folder ours alone
    roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2**30
    folder = Path(tempfile.mkdtemp(prefix="chat-schema-tests-", dir=memory if roomy else None))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
