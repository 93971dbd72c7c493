"""docs/beside.md holds: the service of that page, with a chain of its own in one database with ours."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from app.models import TABLES
from tests.migrations.chain import HEAD, Chain, before
from tests.postgres_binaries import ROOT


def blocks(page: str) -> dict[str, str]:
    """Return the Python of a page by the name in its first line."""
    found = re.findall(r"^```python\n# (\S+)\n(.*?)^```$", (ROOT / "docs" / page).read_text(), re.MULTILINE | re.DOTALL)
    return dict(found)


PAGE = blocks("beside.md")
LABELS = blocks("services.md")["labels.py"]
IN_ONE_METADATA = LABELS.replace(
    "class Base(DeclarativeBase):", "class Base(models.Base):\n    __abstract__ = True"
).replace("from chat_schema.models", "from chat_schema import models\nfrom chat_schema.models")
WITHOUT_MODELS = """
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase

class Base(DeclarativeBase):
    pass

class Label(Base):
    __tablename__ = "labels"
    id = sa.Column(sa.Uuid, primary_key=True)
    user_id = sa.Column(sa.Uuid)
"""
IN_A_SCHEMA = """
import sqlalchemy as sa

class Base:
    metadata = sa.MetaData(schema="marks")

sa.Table("messages", Base.metadata, sa.Column("id", sa.Uuid, primary_key=True), sa.Column("mark", sa.Text))
"""


@dataclass(frozen=True)
class Service:
    """The service's project, a folder of its own, and the database that it shares with ours."""

    folder: Path
    url: str

    def alembic(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PG")},
            "PYTHONPATH": f"{ROOT}{os.pathsep}{self.folder}",
            "DATABASE_URL": self.url,
        }
        command = [sys.executable, "-m", "alembic", *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=120, check=False
        )

    def succeeds(self, *arguments: str) -> str:
        done = self.alembic(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def refuses(self, *arguments: str) -> str:
        done = self.alembic(*arguments)
        assert done.returncode != 0, done.stdout
        said = (done.stdout + done.stderr).strip().splitlines()
        return "\n".join(line for line in said if line.startswith("FAILED:") or "Traceback" in line)

    def proposes(self) -> str:
        """Return what `alembic revision --autogenerate` writes into upgrade()."""
        self.succeeds("revision", "--autogenerate", "--rev-id", "0002", "-m", "proposed")
        [written] = self.folder.glob("alembic/versions/0002_*.py")
        return written.read_text().partition("def upgrade()")[2].partition("def downgrade()")[0]

    def revision(self) -> str | None:
        with sa.create_engine(self.url, poolclass=sa.NullPool).connect() as connection:
            if connection.scalar(sa.text("SELECT to_regclass('public.alembic_version')")) is None:
                return None
            found = connection.scalar(sa.text("SELECT version_num FROM public.alembic_version"))
            return None if found is None else str(found)


@pytest.fixture
def new_service(tmp_path: Path) -> Callable[..., Service]:
    def create(url: str, labels: str = LABELS, revision: str = PAGE["versions/0001_labels.py"]) -> Service:
        versions = tmp_path / "alembic" / "versions"
        versions.mkdir(parents=True)
        (tmp_path / "alembic.ini").write_text("[alembic]\nscript_location = %(here)s/alembic\n")
        (tmp_path / "labels.py").write_text(labels)
        (tmp_path / "alembic" / "env.py").write_text(PAGE["env.py"])
        (tmp_path / "alembic" / "script.py.mako").write_text(MAKO)
        if revision:
            (versions / "0001_labels.py").write_text(revision)
        return Service(tmp_path, url)

    return create


MAKO = """
from alembic import op
import sqlalchemy as sa
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
def upgrade() -> None:
    ${upgrades if upgrades else "pass"}
def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
"""

each_metadata = pytest.mark.parametrize(
    ("labels", "table"),
    [
        (LABELS, "labels"),
        (IN_ONE_METADATA, "labels"),
        (WITHOUT_MODELS, "labels"),
        (IN_A_SCHEMA, "messages"),
    ],
    ids=["beside ours", "in one metadata", "without our models", "in a schema of its own"],
)


@each_metadata
def test_autogenerate_proposes_the_services_own_tables_and_nothing_of_ours(
    migrated_url: str, new_service: Callable[..., Service], labels: str, table: str
) -> None:
    with sa.create_engine(migrated_url).begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA marks; ALTER TABLE messages ADD own_mark text")
        connection.exec_driver_sql("CREATE INDEX own_index ON messages (own_mark)")
    service = new_service(migrated_url, labels, revision="")
    proposed = service.proposes()
    assert re.findall(r"op\.create_table\('(\w+)'", proposed) == [table]
    assert "drop_" not in proposed
    assert "add_column" not in proposed
    assert "chat_internal" not in proposed
    service.succeeds("upgrade", "head")
    service.succeeds("check")


def test_without_the_function_it_would_propose_to_drop_what_is_ours(
    migrated_url: str, new_service: Callable[..., Service]
) -> None:
    service = new_service(migrated_url, WITHOUT_MODELS, revision="")
    env = service.folder / "alembic" / "env.py"
    env.write_text(env.read_text().replace('"include_object": include_object,', ""))
    proposed = service.proposes()
    assert set(re.findall(r"op\.drop_table\('(\w+)'", proposed)) >= TABLES
    assert "schema='chat_internal'" in proposed


def test_where_another_schema_comes_first_ours_are_left_alone_as_well(
    migrated_url: str, new_service: Callable[..., Service]
) -> None:
    with sa.create_engine(migrated_url).begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA marks")
    url = sa.make_url(migrated_url).update_query_dict({"options": "-c search_path=marks,public"})
    service = new_service(url.render_as_string(hide_password=False), WITHOUT_MODELS, revision="")
    assert re.findall(r"op\.\w+\('\w+'", service.proposes()) == ["op.create_table('labels'"]


def test_the_revision_of_the_page_goes_up_and_down_beside_ours(
    migrated_url: str, new_service: Callable[..., Service]
) -> None:
    service = new_service(migrated_url)
    service.succeeds("upgrade", "head")
    service.succeeds("check")
    with Chain.on(migrated_url) as chain:
        chain.check()
        assert chain.revision() == HEAD
    service.succeeds("downgrade", "base")


def test_a_revision_that_needs_ours_changes_nothing_before_ours_is_there(
    database_url: str, new_service: Callable[..., Service]
) -> None:
    own = PAGE["versions/0001_labels.py"].replace('("0046")', '("0030")').replace("op.create_index", "# ")
    service = new_service(database_url, revision=own)
    said = service.refuses("upgrade", "head")
    assert said == (
        "FAILED: Nothing of this revision was run. The database has no chat-schema, and 0030 is needed: no table of "
        "it is there yet. Run `chat-schema upgrade head`, or check that the address leads to the right database."
    )
    with Chain.on(database_url) as chain:
        chain.upgrade(before("0030"))
        assert f"The database is at revision {before('0030')}, and 0030 is needed" in service.refuses("upgrade", "head")
        assert "chat-schema at revision 0030 or above, and this database is at 0029" in (
            chain.run_script(service.succeeds("upgrade", "head", "--sql")).stderr
        )
        assert service.revision() is None
        assert chain.value("SELECT to_regclass('public.labels')") is None
        chain.upgrade("0030")
    service.succeeds("upgrade", "head")
    assert service.revision() == "0001"


@pytest.mark.parametrize("wanted", ["30", "head", "0030'; DROP TABLE users; --"])
def test_what_is_no_revision_is_refused(migrated_url: str, new_service: Callable[..., Service], wanted: str) -> None:
    own = PAGE["versions/0001_labels.py"].replace('("0046")', f'("{wanted}")')
    service = new_service(migrated_url, revision=own)
    for offline in ((), ("--sql",)):
        assert "names no revision of chat-schema" in service.refuses("upgrade", "head", *offline)


def test_a_revision_of_a_later_package_is_known_to_be_missing(
    migrated_url: str, new_service: Callable[..., Service]
) -> None:
    own = PAGE["versions/0001_labels.py"].replace('("0046")', '("9998")')
    service = new_service(migrated_url, revision=own)
    assert "The installed chat-schema has no 9998 yet" in service.refuses("upgrade", "head")
    with sa.create_engine(migrated_url).begin() as connection:
        connection.exec_driver_sql("UPDATE chat_internal.alembic_version SET version_num = '9999'")
    service.succeeds("upgrade", "head")


def test_a_script_runs_where_ours_is_there(migrated_url: str, new_service: Callable[..., Service]) -> None:
    script = new_service(migrated_url).succeeds("upgrade", "head", "--sql")
    with Chain.on(migrated_url) as chain:
        done = chain.run_script(script)
        assert done.returncode == 0, done.stderr
        assert chain.value("SELECT to_regclass('public.labels')") is not None


def test_the_login_of_the_services_chain_needs_no_more_than_to_refer_to_our_tables(
    migrated_url: str, new_service: Callable[..., Service]
) -> None:
    with Chain.on(migrated_url) as chain:
        chain.execute("CREATE ROLE own_migrator LOGIN; GRANT authenticated TO own_migrator")
        chain.execute("CREATE SCHEMA own AUTHORIZATION own_migrator; GRANT REFERENCES ON conversations TO own_migrator")
        try:
            url = sa.make_url(migrated_url).set(username="own_migrator")
            url = url.update_query_dict({"options": "-c search_path=own,public"})
            new_service(url.render_as_string(hide_password=False)).succeeds("upgrade", "head")
            assert chain.value("SELECT count(*) FROM own.labels") == 0
            chain.execute("REVOKE REFERENCES ON conversations FROM own_migrator; DROP TABLE own.labels")
        finally:
            chain.execute("DROP OWNED BY own_migrator; DROP ROLE own_migrator")


@pytest.mark.parametrize("script", [(), ("--sql",)], ids=["online", "as a script"])
def test_our_revisions_in_a_chain_of_theirs_are_refused_with_the_way_that_works(
    database_url: str, new_service: Callable[..., Service], script: tuple[str, ...]
) -> None:
    own = PAGE["versions/0001_labels.py"].replace('revision = "0001"', 'revision = "own"', 1)
    own = own.replace("down_revision = None", 'down_revision = None\ndepends_on = "0046"')
    service = new_service(database_url, revision=own)
    ini = service.folder / "alembic.ini"
    theirs = f"version_locations = %(here)s/alembic/versions:{ROOT / 'alembic' / 'versions'}\npath_separator = os\n"
    ini.write_text(ini.read_text() + theirs)
    said = service.refuses("upgrade", "heads", *script)
    assert "run `chat-schema upgrade head` before `alembic upgrade head`" in said
    assert "op.require_chat_schema" in said
    with Chain.on(database_url) as chain:
        assert chain.value("SELECT to_regnamespace('chat_internal')") is None
        assert chain.value("SELECT to_regclass('public.labels')") is None


def test_the_start_of_the_page_lets_a_service_in_and_keeps_it_out(
    migrated_url: str, new_service: Callable[..., Service]
) -> None:
    namespace: dict[str, Callable[[str], sa.Engine]] = {}
    exec(PAGE["started.py"], namespace)  # noqa: S102  the page's own
    with Chain.on(migrated_url) as chain:
        chain.execute("CREATE ROLE own_service LOGIN NOINHERIT; GRANT authenticated, service_role TO own_service")
        url = sa.make_url(migrated_url).set(username="own_service").render_as_string(hide_password=False)
        try:
            namespace["start"](url).dispose()
            chain.downgrade(before(HEAD))
            with pytest.raises(RuntimeError, match="Run `chat-schema upgrade head`"):
                namespace["start"](url)
        finally:
            chain.execute("DROP OWNED BY own_service; DROP ROLE own_service")
