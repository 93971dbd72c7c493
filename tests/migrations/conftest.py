import pytest

from app.embedded import installed_binaries
from app.online import batches
from tests.migrations.chain import Chain


@pytest.fixture
def chain(database_url: str) -> Chain:
    """An empty database and the chain to run on it."""
    return Chain(database_url, installed_binaries())


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a backfill begin with four rows, then eight and so on: a few dozen rows take several batches."""
    monkeypatch.setattr(batches, "_FIRST_BATCH", 4)
