"""Databases as real teams have them are adopted with every row, or refused untouched with statements that mend them."""

import re

import pytest
from alembic.util import CommandError

from app.catalog import Snapshot
from tests.adoption.legacy import Place, Rows, lost, old_columns, rows
from tests.adoption.test_adoption import at_head, unmoved
from tests.adoption.test_kept import examined
from tests.adoption.variants import VARIANTS
from tests.catalog.planting import told
from tests.migrations.test_stairs import differences

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
    place.chain.upgrade("head", *VARIANTS[name].options)
    is_at_head(place)
    assert lost(in_utc(unmoved(before)), in_utc(at_head(place, columns))) == []
    place.chain.downgrade("base")
    assert differences(catalog, place.chain.snapshot()) == []
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
        with pytest.raises(CommandError) as refused:
            place.chain.upgrade("head", *variant.options)
        for each in variant.told.split(" & "):
            assert re.search(each, str(refused.value)), refused.value
        assert place.admin.value("SELECT to_regnamespace('chat_internal')") is None
        assert differences(catalog, place.admin.snapshot()) == []
        assert rows(place.admin.session) == before

        place.admin.execute(mends(str(refused.value)))
        place.chain.upgrade("head", *variant.options)
        is_at_head(place)
    finally:
        if variant.undo:
            place.admin.execute(variant.undo)
