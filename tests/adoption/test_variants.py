"""Databases as real teams have them are adopted with every row, or refused untouched with statements that mend them."""

import os
import re
import subprocess
from uuid import uuid4

import pytest
from alembic.util import CommandError

from app.catalog import Snapshot
from app.embedded import Server, installed_binaries
from tests.adoption.legacy import MOVE, Place, Rows, lost, old_columns, psql, rows
from tests.adoption.test_adoption import at_head, unmoved
from tests.adoption.test_kept import examined
from tests.adoption.variants import VARIANTS
from tests.catalog.planting import told
from tests.migrations.chain import Chain
from tests.migrations.test_stairs import differences

pytestmark = pytest.mark.sampled(8)  # each case takes seconds

ADOPTED = [(name, each.platform) for name, each in VARIANTS.items() if each.told is None]
REFUSED = [(name, each.platform) for name, each in VARIANTS.items() if each.told is not None]


def make(place: Place, name: str) -> None:
    variant = VARIANTS[name]
    place.load(variant.start)
    if variant.statements:
        place.chain.execute(variant.statements)
    if variant.as_admin:
        place.admin.execute(variant.as_admin.format(database=place.database))


def standing(place: Place) -> tuple[Snapshot, Rows]:
    return place.admin.snapshot(), rows(place.admin.session)


def in_utc(found: Rows) -> Rows:
    """Return the same rows, times with and without zone written alike."""
    return {
        table: {
            key: {column: value and re.sub(r"^(\d{4}-.+)\+00$", r"\1", value) for column, value in row.items()}
            for key, row in of_table.items()
        }
        for table, of_table in found.items()
    }


def is_at_head(place: Place) -> None:
    found = examined(place)
    assert not found.faults, told(found)


def mends(refusal: str) -> str:
    """The statements that a refusal gives."""
    return "\n".join(line for line in refusal.splitlines() if line.startswith("    "))


@pytest.mark.parametrize(("name", "platform"), ADOPTED)
def test_it_is_adopted_with_every_row_and_given_back(place: Place, name: str, platform: str) -> None:
    make(place, name)
    columns, (catalog, before) = old_columns(place.chain.session), standing(place)
    assert place.chain.plan("head", *VARIANTS[name].options).would_stop == [], "a plan warns of what is in nobody's way"
    place.chain.upgrade("head", *VARIANTS[name].options)
    is_at_head(place)
    assert lost(in_utc(unmoved(before)), in_utc(at_head(place, columns))) == []
    place.chain.downgrade("base")
    assert differences(catalog, place.admin.snapshot()) == []
    assert rows(place.chain.session) == before


@pytest.mark.parametrize(("name", "platform"), REFUSED)
def test_it_is_refused_untouched_and_the_statements_that_are_given_mend_it(
    place: Place, name: str, platform: str
) -> None:
    variant = VARIANTS[name]
    assert variant.told is not None
    try:
        make(place, name)
        catalog, before = standing(place)
        planned = "\n".join(map(str, place.chain.plan("head", *variant.options).would_stop))
        with pytest.raises(CommandError) as refused:
            place.chain.upgrade("head", *variant.options)
        for each in variant.told.split(" & "):
            assert re.search(each, str(refused.value)), refused.value
            assert re.search(each, planned), f"a plan calls it clear: {planned}"
        assert place.admin.value("SELECT to_regnamespace('chat_internal')") is None
        assert differences(catalog, place.admin.snapshot()) == []
        assert rows(place.admin.session) == before

        place.admin.execute(mends(str(refused.value)))
        place.chain.upgrade("head", *variant.options)
        is_at_head(place)
    finally:
        if variant.undo:
            place.admin.execute(variant.undo)


def test_a_database_without_an_encoding_is_refused_and_its_copy_in_utf8_is_adopted(server: Server) -> None:
    name = f"ascii_{uuid4().hex[:8]}"
    with Chain.on(server.url("postgres").render_as_string(hide_password=False)) as everywhere:
        everywhere.execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
        try:
            url = server.url(name).render_as_string(hide_password=False)
            psql(url, "2_neon_todo_after_003.sql", {})
            with Chain.on(url) as chain, pytest.raises(CommandError, match="is SQL_ASCII") as refused:
                chain.upgrade("head", *MOVE)
            create, copy = re.findall("^  (.+)$", str(refused.value), re.MULTILINE)
            everywhere.execute(create)
            environment = {"PGHOST": str(server.socket_dir), "PGPORT": str(server.port), "PGUSER": "postgres"}
            programs = {"PATH": f"{installed_binaries()}:{os.environ['PATH']}"}
            subprocess.run(
                ["bash", "-o", "pipefail", "-c", copy],
                env=environment | programs,
                stdout=subprocess.DEVNULL,
                check=True,
            )
            with Chain.on(server.url(f"{name}_utf8").render_as_string(hide_password=False)) as copied:
                copied.upgrade("head", *MOVE)
                assert copied.value("SELECT count(*) FROM messages") == 6
        finally:
            everywhere.execute(f"DROP DATABASE {name} WITH (FORCE)")
            everywhere.execute(f"DROP DATABASE IF EXISTS {name}_utf8 WITH (FORCE)")
