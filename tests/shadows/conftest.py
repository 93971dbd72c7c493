"""``place``: a database of this test alone, on the platform that the test is parametrized with."""

from tests.adoption.conftest import place, platform

__all__ = ["place", "platform"]
