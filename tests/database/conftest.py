"""A command of Alembic within this process: what it refuses comes back as the message that the user would read."""

from __future__ import annotations

import argparse
import io
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout

import pytest
from alembic.util import CommandError

from app.cli import plan
from tests.conftest import alembic_config, unrehearsed
from tests.live.command_line import connect


def run(url: str, command: Callable[..., object], *arguments: str, x: Sequence[str] = ()) -> None:
    """Run ``command`` on the database at ``url`` with the options ``x``, as ``-x`` would give them."""
    config = alembic_config(url)
    config.cmd_opts = argparse.Namespace(x=list(x))
    command(config, *arguments)


def refusal(url: str, command: Callable[..., object], *arguments: str, x: tuple[str, ...] = ()) -> str:
    """Run what must be refused, and return the message."""
    with pytest.raises(CommandError) as refused:
        run(url, command, *arguments, x=x)
    return str(refused.value)


def warning(url: str, x: tuple[str, ...] = (), to: str = "head") -> str:
    """Plan what would be refused, beside which it must exit with 2, and return in one line what the plan tells."""
    told = io.StringIO()
    with redirect_stdout(told), pytest.raises(SystemExit) as ended:
        run(url, plan, to, x=unrehearsed(x))
    assert ended.value.code == 2
    return " ".join(told.getvalue().split())


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
