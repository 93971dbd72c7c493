"""A project of one's own is steered by the same commands as the chat schema: ``chat-schema -c alembic.ini pause``."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from tests.conftest import libpq
from tests.database.conftest import login
from tests.engine.conftest import MakeProject, Project, rows
from tests.engine.test_environments import OWN_ENVIRONMENT, OWN_REVISION, REVISION_OF_TWO, TWO
from tests.engine.test_foreign_project import fill
from tests.live.command_line import connect, value, wait_for

OURS = ("-c", "alembic.ini")
CONTROL = "SELECT pg_catalog.to_regclass('billing.alembic_version_control') IS NOT NULL"
MOVED = "SELECT count(*) FROM billing.invoices WHERE amount IS NOT NULL"


def status(project: Project) -> dict[str, Any]:
    seen = json.loads(project.steer(*OURS, "status", "--json"))
    assert isinstance(seen, dict)
    return seen


def test_a_run_is_paused_halfway_and_goes_on(billing: Project, client: psycopg.Connection) -> None:
    billing.succeeds("upgrade", "01")
    fill(client, 20_000)
    assert billing.steer(*OURS, "throttle", "1%").startswith("Backfills work 1 % of the time")
    with billing.alembic("-x", "batch-time=5ms", "upgrade", "head") as upgrade:
        wait_for(lambda: _moved(client), "the backfill to have begun", lambda: upgrade.output)
        said = billing.steer(*OURS, "pause")
        assert said == "Paused. No batch runs, no lock is held. `chat-schema -c alembic.ini resume` goes on.\n"
        moved = _moved(client)
        seen = status(billing)
        assert (seen["state"], seen["head"], seen["revisions"]) == ("paused", "07", ["02"])
        assert (seen["step"], seen["throttle_percent"]) == ("amounts of invoices", 1)
        told = billing.steer(*OURS, "status")
        assert "runs        upgrade 03" in told
        assert "throttled   to 1 % of the time" in told
        assert _moved(client) == moved < 20_000
        assert billing.steer(*OURS, "throttle", "off") == "No longer throttled to 1 %.\n"
        assert billing.steer(*OURS, "resume").startswith("Resumed; it was paused since ")
        upgrade.succeeds()
    assert _moved(client) == 20_000
    assert not value(client, CONTROL)
    assert status(billing)["state"] == "idle"


def _moved(client: psycopg.Connection) -> int:
    if value(client, "SELECT version_num FROM billing.alembic_version") == "01":
        return 0
    found = value(client, MOVED)
    assert isinstance(found, int)
    return found


def test_the_section_is_part_of_what_is_typed_next(billing: Project) -> None:
    address = libpq(billing.url).replace("%", "%%")
    billing.succeeds("upgrade", "01")
    billing.change("alembic.ini", f"sqlalchemy.url = {address}\n", "")
    section = f"[staging]\nscript_location = %(here)s/migrations\nsqlalchemy.url = {address}\n"
    billing.change("alembic.ini", "[loggers]", f"{section}\n[loggers]")
    of_staging = (*OURS, "-n", "staging")
    assert billing.steer(*of_staging, "pause") == (
        "Paused. No deployment runs; the next one will wait. "
        "`chat-schema -c alembic.ini -n staging resume` lets it go on.\n"
    )
    assert "No database is named" in billing.steer(*OURS, "status", status=1)
    assert billing.steer(*of_staging, "resume").startswith("Resumed")


def test_each_database_of_a_project_is_steered(make_project: MakeProject, database_url: str, second_url: str) -> None:
    project = make_project(database_url)
    for file in (project.folder / "migrations/versions").glob("*.py"):
        file.unlink()
    project.write("migrations/env.py", TWO)
    project.write("migrations/versions/01_two.py", REVISION_OF_TWO)
    first, second = (libpq(url).replace("%", "%%") for url in (database_url, second_url))
    sections = f"\n[first]\nsqlalchemy.url = {first}\n\n[second]\nsqlalchemy.url = {second}\n"
    project.change("alembic.ini", "\n[loggers]", f"databases = first, second\n{sections}\n[loggers]")
    project.succeeds("upgrade", "head")
    assert project.steer(*OURS, "pause").count("Paused. No deployment runs") == 2
    seen = [json.loads(line) for line in project.steer(*OURS, "status", "--json").splitlines()]
    assert [each["state"] for each in seen] == ["paused", "paused"]
    for url, each in zip((database_url, second_url), seen, strict=True):
        with connect(url) as client:
            assert client.info.dbname in each["database"]
            assert rows(client, "SELECT name FROM alembic_version_control") == ["pause"]
    assert project.steer(*OURS, "status").count("database    postgresql://") == 2
    assert project.steer(*OURS, "resume").count("Resumed") == 2


def test_nothing_is_steered_before_the_first_revision(billing: Project) -> None:
    said = billing.steer(*OURS, "pause", status=1)
    assert "which has no billing.alembic_version, so there is nothing to steer. `alembic upgrade head` begins" in said
    assert billing.steer(*OURS, "status").splitlines() == [
        "head        07",
        "revision    none",
        "deployment  none is running",
    ]


def test_who_does_not_own_the_version_table_may_not_steer(billing: Project, client: psycopg.Connection) -> None:
    billing.succeeds("upgrade", "01")
    with login(billing.url) as stranger:
        name = stranger.partition("://")[2].partition("@")[0]
        billing.change("alembic.ini", libpq(billing.url).replace("%", "%%"), libpq(stranger).replace("%", "%%"))
        assert "permission denied for schema billing" in billing.steer(*OURS, "pause", status=1)
        client.execute(
            f"GRANT USAGE ON SCHEMA billing TO {name}; GRANT SELECT ON billing.alembic_version TO {name}".encode()
        )
        assert "which owns billing.alembic_version, or as a member" in billing.steer(*OURS, "pause", status=1)
        assert "hidden      how far a deployment is" in billing.steer(*OURS, "status")
    assert not value(client, CONTROL)


@pytest.mark.parametrize("word", ["status", "pause"])
def test_an_environment_that_runs_revisions_by_itself_cannot_be_steered(
    make_project: MakeProject, database_url: str, word: str
) -> None:
    project = make_project(database_url)
    for file in (project.folder / "migrations/versions").glob("*.py"):
        file.unlink()
    project.write("migrations/env.py", OWN_ENVIRONMENT)
    project.write("migrations/versions/01_notes.py", OWN_REVISION)
    assert "so there is nothing to steer, and nothing was changed" in project.steer(*OURS, word, status=1)
    with connect(database_url) as client:
        assert rows(client, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == []
