"""``place``: a database of this test alone, on the platform that the test is parametrized with."""

from collections.abc import Iterator

import pytest

from app.embedded import Server
from tests.adoption import legacy


@pytest.fixture
def platform() -> str:
    """The platform; tests parametrize it."""
    return "supabase"


@pytest.fixture
def place(server: Server, platform: str) -> Iterator[legacy.Place]:
    with legacy.place(server, platform) as place:
        yield place
