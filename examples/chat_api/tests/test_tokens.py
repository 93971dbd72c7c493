"""Who gets in."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt
import pytest

from chat_api import tokens
from tests.conftest import Running

NOT_ASKED = "about:blank"
INVALID = "urn:chat-api:problem:invalid-token"


def unsigned(claims: dict[str, Any]) -> str:
    parts = [json.dumps(part).encode() for part in ({"alg": "none", "typ": "JWT"}, claims)]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts) + "."


@pytest.mark.parametrize(
    "case",
    [
        "missing", "not bearer", "garbage", "expired", "forged", "changed", "no algorithm", "another algorithm",
        "no expiry", "no subject", "subject is no uuid", "another audience", "no audience",
    ],
)  # fmt: skip
def test_no_other_token_gets_in(chat: Running, case: str) -> None:
    ann, bob = chat.person(), chat.person()
    secret, other_secret = chat.settings.secret, "another secret, also long enough for the algorithm"
    good = {"sub": str(ann.user_id), "aud": "authenticated", "exp": datetime.now(UTC) + timedelta(hours=1)}

    def signed(key: str = secret, algorithm: str = "HS256", **changes: object) -> str:
        claims = {name: value for name, value in {**good, **changes}.items() if value is not None}
        return jwt.encode(claims, key, algorithm=algorithm)

    head, _, signature = ann.token.split(".")
    made = {
        "garbage": "Bearer not.a.token",
        "not bearer": f"Basic {signed()}",
        "expired": f"Bearer {signed(exp=datetime.now(UTC) - timedelta(minutes=1))}",
        "forged": f"Bearer {signed(other_secret)}",
        "changed": f"Bearer {head}.{bob.token.split('.')[1]}.{signature}",
        "no algorithm": f"Bearer {unsigned({**good, 'exp': 4_000_000_000})}",
        "another algorithm": f"Bearer {signed(secret * 2, 'HS512')}",
        "no expiry": f"Bearer {signed(exp=None)}",
        "no subject": f"Bearer {signed(sub=None)}",
        "subject is no uuid": f"Bearer {signed(sub='ann')}",
        "another audience": f"Bearer {signed(aud='anon')}",
        "no audience": f"Bearer {signed(aud=None)}",
    }
    headers = {"Authorization": made[case]} if case in made else {}
    for path in ("/api/conversations", "/api/events", "/api/me"):
        answer = httpx.get(chat.url + path, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.json()["type"] == (NOT_ASKED if case in ("missing", "not bearer") else INVALID)
    assert httpx.get(f"{chat.url}/api/me", headers={"Authorization": f"Bearer {signed()}"}).status_code == 200


def test_an_algorithm_of_the_same_family_does_not_get_in(chat: Running) -> None:
    claims = {"sub": str(chat.person().user_id), "aud": "authenticated", "exp": 4_000_000_000}
    token = jwt.encode(claims, chat.settings.secret * 2, algorithm="HS384")
    assert httpx.get(f"{chat.url}/api/me", headers={"Authorization": f"Bearer {token}"}).status_code == 401


def test_a_live_stream_ends_with_its_token(chat: Running) -> None:
    token = tokens.issue(chat.person().user_id, chat.settings, timedelta(seconds=2))
    with httpx.stream("GET", f"{chat.url}/api/events", headers={"Authorization": f"Bearer {token}"}) as response:
        assert list(response.iter_lines())[:2] == ["event: ready", "data: {}"]  # and then it ended


def test_settings_show_no_secret(chat: Running) -> None:
    assert chat.settings.secret not in repr(chat.settings)
