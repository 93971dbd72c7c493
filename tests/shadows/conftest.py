"""``place``: a database of this test alone, on the platform that it is parametrized with; ``chain``: an empty one."""

from tests.adoption.conftest import place, platform
from tests.migrations.conftest import chain

__all__ = ["chain", "place", "platform"]
