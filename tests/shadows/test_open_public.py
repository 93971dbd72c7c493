"""Databases from before PostgreSQL 15 let everybody create in ``public``: no command calls what a stranger made."""

import contextlib

import psycopg
import pytest

from alembic import command
from app import cli
from tests.adoption.legacy import STARTS, Place
from tests.adoption.test_adoption import EACH, MOST
from tests.conftest import alembic_config
from tests.migrations.chain import HEAD
from tests.shadows import kit
from tests.shadows.attackers import seed

pytestmark = pytest.mark.sampled(9)  # each case takes seconds

# A superuser's path leads everywhere and a plain owner's may not: both beside the richest platform of each start.
BOTH = [*MOST, *(each for each in EACH if each[1] in ("plain", "owner") and each not in MOST)]


@pytest.mark.parametrize(("start", "platform"), BOTH)
def test_no_command_calls_what_a_stranger_made(
    place: Place, start: str, stranger: psycopg.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    place.load(start)
    options = (*STARTS[start].options, "allow-data-loss=yes")
    assert kit.make(stranger, "public", {}) > 1000
    log = kit.Log(place.admin.session)
    config = alembic_config(place.url)
    config.attributes["configure_logging"] = False

    place.chain.upgrade("head", *options)
    assert log.sprung() == []
    seed(place.admin)
    log.sprung()  # the superuser's own statements look into public
    place.chain.check()
    command.current(config)
    cli.plan(config)
    cli.purge(config, older_than=1)
    with contextlib.suppress(SystemExit):
        cli.verify(config)
    assert "Verif" in capsys.readouterr().out
    assert log.sprung() == []

    place.chain.downgrade("base", *options)
    assert log.sprung() == []
    place.chain.upgrade_by_script("head", *options)
    assert log.sprung() == []
    done = place.chain.run_script(place.chain.downgrade_script(f"{HEAD}:base", *options))
    assert (done.returncode, done.stderr.count("ERROR")) == (0, 0), done.stderr
    assert log.sprung() == []
