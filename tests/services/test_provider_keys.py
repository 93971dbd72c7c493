"""Users' own keys of model providers: who reads what of them, that no secret is ever shown, and the rotation."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, InvalidRequestError
from sqlalchemy.orm import Session

from app.acting_as import acting_as, acting_as_service
from app.models import UserLlmProvider
from app.provider_keys import ApiKey, KeyRing, KeyRingError, store, stored
from tests.postgres_binaries import ROOT
from tests.services.people import ANN, BEN

SECRET = "sk-ant-0123456789-the-secret"
OLD, NEW = (base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2))


@pytest.fixture
def ring() -> KeyRing:
    return KeyRing.parse(f"old:{OLD}")


@pytest.fixture
def kept(engine: sa.Engine, ring: KeyRing) -> None:
    """Ann's key, and Ben's."""
    with Session(engine) as session, acting_as_service(session):
        for user in (ANN, BEN):
            session.execute(store(ring, user, "acme", f"{SECRET} of {user}"))
        session.commit()


def revealed(engine: sa.Engine, ring: KeyRing, user: UUID) -> str:
    with Session(engine) as session, acting_as_service(session):
        return ring.decrypt(session.execute(stored(user, "acme")).one()).reveal()


def rotate(url: sa.URL, keys: str, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "DATABASE_URL": url.render_as_string(hide_password=False),
        "CHAT_SCHEMA_PROVIDER_KEYS": keys,
    }
    run = [sys.executable, "-m", "app", "rotate-keys", *options]
    return subprocess.run(run, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_what_is_stored_comes_back_to_the_service(engine: sa.Engine, ring: KeyRing, kept: None) -> None:
    assert revealed(engine, ring, ANN) == f"{SECRET} of {ANN}"
    with Session(engine) as session, acting_as_service(session):
        session.execute(store(ring, ANN, "acme", "another"))
        session.commit()
    assert revealed(engine, ring, ANN) == "another"


def test_the_database_holds_no_key(engine: sa.Engine, kept: None) -> None:
    with engine.connect() as connection, acting_as_service(connection):
        held = connection.scalars(sa.text("SELECT t::text FROM user_llm_providers AS t")).all()
    assert len(held) == 2
    for row in held:
        assert SECRET not in row
        assert SECRET.encode().hex() not in row


def test_a_user_sees_that_its_key_is_there_and_no_more(engine: sa.Engine, kept: None) -> None:
    with Session(engine) as session, acting_as(session, ANN):
        [mine] = session.scalars(sa.select(UserLlmProvider)).all()
        assert (mine.user_id, mine.provider) == (ANN, "acme")
        with pytest.raises(InvalidRequestError):
            mine.ciphertext  # noqa: B018
        for column in ("ciphertext", "key_id", "*"):
            with pytest.raises(DBAPIError, match="permission denied"), session.begin_nested():
                session.execute(sa.text(f"SELECT {column} FROM user_llm_providers"))


def test_a_user_removes_its_own_key_and_writes_none(engine: sa.Engine, ring: KeyRing, kept: None) -> None:
    with Session(engine) as session, acting_as(session, ANN):
        for statement in (
            store(ring, ANN, "other", SECRET),
            sa.update(UserLlmProvider).values(provider="other").execution_options(synchronize_session=False),
        ):
            with pytest.raises(DBAPIError, match="permission denied") as caught, session.begin_nested():
                session.execute(statement)
            assert SECRET not in str(caught.value)
        session.execute(sa.text("DELETE FROM user_llm_providers"))
        session.commit()
    with Session(engine) as session, acting_as_service(session):
        assert session.scalars(sa.select(UserLlmProvider.user_id)).all() == [BEN]


def test_a_ciphertext_is_of_no_use_in_another_row(engine: sa.Engine, ring: KeyRing, kept: None) -> None:
    with Session(engine) as session, acting_as_service(session):
        session.execute(
            sa.text(
                "UPDATE user_llm_providers SET ciphertext = (SELECT ciphertext FROM user_llm_providers"
                " WHERE user_id = :ann) WHERE user_id = :ben"
            ),
            {"ann": ANN, "ben": BEN},
        )
        with pytest.raises(KeyRingError, match="not for this row"):
            ring.decrypt(session.execute(stored(BEN, "acme")).one())


def test_no_repr_and_no_error_shows_a_secret(engine: sa.Engine, ring: KeyRing, kept: None) -> None:
    with Session(engine) as session, acting_as_service(session):
        row = session.execute(stored(ANN, "acme")).one()
        shown = [repr(ring), str(ring), repr(ring.decrypt(row)), str(ApiKey(SECRET)), repr(row)]
        with pytest.raises(DBAPIError) as caught:
            session.execute(store(ring, uuid4(), "acme", SECRET))
        shown.append(str(caught.value))
    assert "[parameters" in shown[-1]
    for text in shown:
        for secret in (SECRET, OLD, repr(bytes([1]) * 32)):
            assert secret not in text
        assert repr(bytes(row.ciphertext)) not in text
    assert "<ciphertext>" in shown[-1]


@pytest.mark.parametrize(
    "keys",
    ["", ",", "old", ":" + OLD, "old:", "old:AAAA", "old:not base64!", f"old:{OLD},old:{NEW}", f"old:{OLD[:-4]}"],
)
def test_keys_that_are_none_are_refused_and_not_shown(keys: str) -> None:
    with pytest.raises(KeyRingError, match="Set CHAT_SCHEMA_PROVIDER_KEYS") as refused:
        KeyRing.parse(keys)
    for part in keys.split(","):
        secret = part.partition(":")[2]
        assert not secret or secret not in str(refused.value)


def test_a_rotation_without_a_key_says_how_one_is_made() -> None:
    done = rotate(sa.make_url("postgresql://nowhere.invalid/db"), "")
    assert done.returncode == 1
    assert "Nothing was rotated: CHAT_SCHEMA_PROVIDER_KEYS is not set" in done.stderr
    assert "Traceback" not in done.stderr


class TestARotation:
    def test_encrypts_every_key_anew_and_the_old_one_is_needed_no_more(
        self, engine: sa.Engine, administrator: sa.Engine, kept: None
    ) -> None:
        done = rotate(administrator.url, f"new:{NEW},old:{OLD}", "--batch-size", "1")
        assert done.returncode == 0, done.stderr
        assert "Encrypted 2 keys anew with 'new'." in done.stdout
        for user in (ANN, BEN):
            assert revealed(engine, KeyRing.parse(f"new:{NEW}"), user) == f"{SECRET} of {user}"
        for secret in (SECRET, OLD, NEW):
            assert secret not in done.stdout + done.stderr
        assert "Encrypted 0 keys" in rotate(administrator.url, f"new:{NEW}").stdout

    def test_goes_on_where_it_stopped(
        self, engine: sa.Engine, administrator: sa.Engine, ring: KeyRing, kept: None
    ) -> None:
        with Session(engine) as session, acting_as_service(session):
            session.execute(store(KeyRing.parse(f"new:{NEW},old:{OLD}"), ANN, "acme", "rotated already"))
            session.commit()
        assert "Encrypted 1 keys" in rotate(administrator.url, f"new:{NEW},old:{OLD}").stdout
        assert revealed(engine, KeyRing.parse(f"new:{NEW}"), ANN) == "rotated already"

    def test_leaves_what_it_cannot_read_as_it_is_and_says_so(
        self, engine: sa.Engine, administrator: sa.Engine, ring: KeyRing, kept: None
    ) -> None:
        with administrator.begin() as connection:
            connection.execute(sa.text("UPDATE user_llm_providers SET ciphertext = 'x' WHERE user_id = :u"), {"u": BEN})
        done = rotate(administrator.url, f"new:{NEW},old:{OLD}")
        assert done.returncode == 1
        assert "Encrypted 1 keys" in done.stdout
        assert f"user {BEN} was not encrypted" in done.stderr
        assert "1 keys could not be read" in done.stderr
        without = rotate(administrator.url, f"other:{OLD}")
        assert without.returncode == 1
        assert "The key 'new'" in without.stderr

    def test_leaves_a_row_in_use_to_the_next(
        self, engine: sa.Engine, administrator: sa.Engine, ring: KeyRing, kept: None
    ) -> None:
        with administrator.begin() as connection:
            connection.execute(sa.text("SELECT FROM user_llm_providers WHERE user_id = :u FOR UPDATE"), {"u": ANN})
            done = rotate(administrator.url, f"new:{NEW},old:{OLD}")
        assert "Encrypted 1 keys" in done.stdout
        assert "1 were in use" in done.stdout


def test_the_rest_of_the_package_needs_no_cryptography(tmp_path: Path) -> None:
    (tmp_path / "cryptography.py").write_text("raise ImportError('not installed')")
    program = (
        "from app import cli, models, provider_keys\n"
        f"ring = provider_keys.KeyRing.parse('old:{OLD}')\n"
        "try: ring.encrypt(__import__('uuid').uuid4(), 'a', 'b')\n"
        "except provider_keys.KeyRingError as error: print(error)"
    )
    environment: dict[str, Any] = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert "pip install 'chat-schema[provider-keys]'" in done.stdout
