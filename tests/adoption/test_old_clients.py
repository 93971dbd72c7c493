"""The old applications on their own databases, before anything is migrated: what they do there is what must go on."""

import pytest

from tests.adoption.legacy import STARTS, Place
from tests.adoption.old_clients import CLIENTS, Working


@pytest.mark.parametrize(("start", "platform"), [(start, STARTS[start].platforms[-1]) for start in CLIENTS])
def test_an_application_works_on_its_own_database(place: Place, start: str, platform: str) -> None:
    place.load(start)
    with Working(place, start) as working:
        pass
    working.check()
