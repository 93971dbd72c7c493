"""A command of Alembic within this process: what it refuses comes back as the message that the user would read."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import pytest
from alembic.util import CommandError

from tests.conftest import alembic_config


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
