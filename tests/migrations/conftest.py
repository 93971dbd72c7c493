from collections.abc import Iterator

import pytest

from app.engine import batches
from tests.migrations.chain import Chain


@pytest.fixture
def chain(database_url: str) -> Iterator[Chain]:
    """An empty database and the chain to run on it."""
    with Chain.on(database_url) as chain:
        yield chain


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a backfill begin with four rows, then eight and so on: a few dozen rows take several batches."""
    monkeypatch.setattr(batches, "_FIRST_BATCH", 4)
