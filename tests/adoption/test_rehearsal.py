"""The rehearsal before the first upgrade of a database that is in use: what it copies, leaves behind and says."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from app import rehearsal
from app.options import Options
from tests.adoption.legacy import MOVE, Place, rows
from tests.adoption.variants import REFUSES
from tests.conftest import scratch_folder
from tests.live.command_line import alembic
from tests.migrations.test_stairs import differences

plain = pytest.mark.parametrize("platform", ["plain"])
OPTIONS = Options(on_owner_mismatch="move")


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The system's temporary folder, this test's alone."""
    with scratch_folder() as folder:
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        yield folder


@plain
@pytest.mark.parametrize("refuses", [False, True])
def test_it_changes_nothing_and_leaves_nothing_behind(place: Place, temporary: Path, refuses: bool) -> None:
    place.load("2")
    if refuses:
        place.chain.execute(
            REFUSES + "CREATE TRIGGER own_lock BEFORE UPDATE ON messages FOR EACH ROW EXECUTE FUNCTION own_refusal()"
        )
    catalog, before = place.chain.snapshot(), rows(place.chain.session)
    found = rehearsal.rehearse(sa.make_url(place.url), OPTIONS)
    assert found.notes == []
    assert [each.mends for each in found.obstacles] == (
        ["ALTER TABLE public.messages DISABLE TRIGGER own_lock;  -- and enable it after the upgrade"] if refuses else []
    )
    assert differences(catalog, place.chain.snapshot()) == []
    assert rows(place.chain.session) == before
    assert list(temporary.iterdir()) == []


@plain
def test_no_secret_is_copied_and_every_row_has_what_it_hangs_on(
    place: Place, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.load("2")
    place.chain.execute("ALTER TABLE users ADD COLUMN reset_token text UNIQUE; UPDATE users SET reset_token = email")
    monkeypatch.setattr(rehearsal, "_SAMPLE", 1)
    seen = {}

    def look(scratch: rehearsal._Scratch, *arguments: str) -> bool:
        with psycopg.connect(host=str(scratch.server.socket_dir), user="postgres", dbname=scratch.database) as copy:
            seen["users"] = copy.execute("SELECT id::text, password_hash, reset_token FROM public.users").fetchall()
            seen["lost"] = copy.execute(
                "SELECT m.id FROM public.messages AS m LEFT JOIN public.conversations AS c ON c.id = m.conversation_id"
                " LEFT JOIN public.users AS u ON u.id = m.user_id WHERE c.id IS NULL OR u.id IS NULL"
            ).fetchall()
            seen["roles"] = copy.execute("SELECT rolname FROM pg_authid WHERE rolpassword IS NOT NULL").fetchall()
        return False

    monkeypatch.setattr(rehearsal._Scratch, "goes", look)
    rehearsal.rehearse(sa.make_url(place.url), OPTIONS)
    hashes = set(place.chain.rows("SELECT password_hash FROM users UNION SELECT email FROM users"))
    assert seen["users"]
    assert not {secret for _, *secrets in seen["users"] for secret in secrets} & hashes
    assert seen["lost"] == seen["roles"] == []


@pytest.mark.parametrize("platform", ["owner"])
def test_a_table_that_the_login_may_not_read_is_left_out(place: Place, temporary: Path) -> None:
    place.load("2")
    place.admin.execute("CREATE TABLE public.others (id int); CREATE SCHEMA shut; CREATE TABLE shut.others (id int)")
    found = rehearsal.rehearse(sa.make_url(place.url), OPTIONS)
    assert (found.notes, found.obstacles) == ([], [])


@plain
def test_a_catalog_that_the_scratch_server_cannot_hold_is_told_in_a_line(place: Place, temporary: Path) -> None:
    place.load("2")
    place.admin.execute(
        "CREATE FUNCTION own_c() RETURNS int LANGUAGE internal AS 'int4pl';"
        "UPDATE pg_proc SET prosrc = 'no_such_function' WHERE proname = 'own_c'"
    )
    found = rehearsal.rehearse(sa.make_url(place.url), OPTIONS)
    assert found.obstacles == []
    [note] = found.notes
    assert "statements of the catalog could not be copied" in note
    assert "no_such_function" in note


@plain
def test_an_upgrade_of_a_database_in_use_is_rehearsed_and_one_of_an_empty_database_is_not(place: Place) -> None:
    with alembic(place.url, "upgrade", "0001", x=("rehearse=yes",)) as upgrade:
        assert "Rehearsing" not in upgrade.succeeds()
    place.chain.downgrade("base")
    place.load("2")
    with alembic(place.url, "upgrade", "0001", x=(*MOVE, "rehearse=yes")) as upgrade:
        assert "Rehearsing on a copy" in upgrade.succeeds()
    with alembic(place.url, "upgrade", "head", x=(*MOVE, "rehearse=yes")) as upgrade:
        assert "Rehearsing" not in upgrade.succeeds()
