"""Who gets in."""

from __future__ import annotations

import base64
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import hypothesis
import jwt
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from chat_api import tokens
from chat_api.settings import Settings
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


LATER = 4_000_000_000
NO_TIMES = [
    "4000000000",
    "tomorrow",
    [LATER],
    {"at": LATER},
    True,
    float("nan"),
    float("inf"),
    10**400,
    1e300,
    LATER**3,
]
ODD: dict[str, list[object]] = {
    "exp": NO_TIMES,
    "nbf": ["soon", [1], {}, float("nan"), LATER],
    "iat": ["soon", [1], {}, float("nan"), LATER],
    "sub": [7, 7.5, True, ["x"], {"id": "x"}, "", "\ud800"],
    "aud": [7, True, {"authenticated": 1}, [["authenticated"]], [{}], [None], []],
    "jti": [7],
}


@pytest.mark.parametrize(("claim", "value"), [(claim, value) for claim, values in ODD.items() for value in values])
def test_a_claim_of_another_type_gets_nobody_in(chat: Running, claim: str, value: object) -> None:
    claims = {"sub": str(chat.person().user_id), "aud": "authenticated", "exp": LATER, claim: value}
    answer = httpx.get(f"{chat.url}/api/me", headers={"Authorization": f"Bearer {signed_as_it_is(claims, chat)}"})
    assert answer.status_code == 401
    assert answer.json()["type"] == INVALID


def test_a_list_of_audiences_and_a_fraction_of_a_second_get_in(chat: Running) -> None:
    claims = {"sub": str(chat.person().user_id), "aud": ["other", "authenticated"], "exp": LATER + 0.5}
    token = signed_as_it_is(claims, chat)
    assert httpx.get(f"{chat.url}/api/me", headers={"Authorization": f"Bearer {token}"}).status_code == 200


def test_json_without_a_bottom_gets_nobody_in(chat: Running) -> None:
    """In the header, which is read before anything is verified."""
    head = base64.urlsafe_b64encode(b"[" * 30_000).rstrip(b"=").decode()
    for token in (f"{head}.e30.e30", signed_text("[" * 30_000, chat), signed_text("[]", chat), signed_text("7", chat)):
        answer = httpx.get(f"{chat.url}/api/me", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401, token[:50]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("4000000000"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
GOOD = st.fixed_dictionaries({"sub": st.uuids().map(str), "aud": st.just("authenticated"), "exp": st.just(LATER)})


@given(GOOD, st.dictionaries(st.sampled_from(["sub", "aud", "exp", "nbf", "iat", "jti", "iss", "x"]), JSON, max_size=3))
@hypothesis.settings(max_examples=500, deadline=None)
def test_whatever_a_token_claims_it_is_somebody_s_or_refused(good: dict[str, Any], odd: dict[str, Any]) -> None:
    there = Settings(sa.make_url("postgresql://"), secret="a secret of the tests, long enough for HS256")
    claims = {**good, **odd}
    try:
        caller = tokens.verify(signed_text(json.dumps(claims), there), there)
    except tokens.TokenError:
        return
    assert str(caller.user_id) == str(UUID(claims["sub"]))
    assert type(claims["exp"]) in (int, float)
    assert caller.expires.timestamp() == pytest.approx(claims["exp"], abs=1)


def signed_as_it_is(claims: dict[str, Any], chat: Running) -> str:
    """Sign claims that PyJWT itself would refuse to sign."""
    return signed_text(json.dumps(claims), chat)


def signed_text(payload: str, there: Running | Settings) -> str:
    secret = there.settings.secret if isinstance(there, Running) else there.secret
    parts = [b'{"alg": "HS256", "typ": "JWT"}', payload.encode()]
    body = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = hmac.digest(secret.encode(), body, "sha256")
    return (body + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


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
