"""A command of Alembic within this process: what it refuses comes back as the message that the user would read."""

from __future__ import annotations

import argparse
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from alembic.util import CommandError

from tests.conftest import alembic_config
from tests.live.command_line import connect


def run(url: str, command: Callable[..., object], *arguments: str, x: tuple[str, ...] = ()) -> None:
    """Run ``command`` on the database at ``url`` with the options ``x``, as ``-x`` would give them."""
    config = alembic_config(url)
    config.cmd_opts = argparse.Namespace(x=list(x))
    command(config, *arguments)


def refusal(url: str, command: Callable[..., object], *arguments: str, x: tuple[str, ...] = ()) -> str:
    """Run what must be refused, and return the message."""
    with pytest.raises(CommandError) as refused:
        run(url, command, *arguments, x=x)
    return str(refused.value)


@contextmanager
def login(url: str, attributes: str = "") -> Iterator[str]:
    """Yield ``url`` with a login of its own, for a block."""
    name = f"login_{uuid.uuid4().hex}"
    with connect(url) as superuser:
        superuser.execute(f"CREATE ROLE {name} LOGIN {attributes}".encode())
        try:
            yield url.replace("postgres@", f"{name}@", 1)
        finally:
            superuser.execute(f"DROP OWNED BY {name}")
            superuser.execute(f"DROP ROLE {name}")
