"""Who calls: bearer tokens, signed with HS256 by whoever holds the secret."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import jwt

from chat_api.settings import Settings

ALGORITHM = "HS256"
LIFETIME = timedelta(hours=12)


class TokenError(ValueError):
    """The token does not say who calls."""


@dataclass(frozen=True)
class Caller:
    """A user, and until when its token says so."""

    user_id: UUID
    expires: datetime


def issue(user_id: UUID, settings: Settings, lifetime: timedelta = LIFETIME) -> str:
    """Return a token for ``user_id``."""
    claims = {"sub": str(user_id), "aud": settings.audience, "exp": datetime.now(UTC) + lifetime}
    return jwt.encode(claims, settings.secret, algorithm=ALGORITHM)


def verify(token: str, settings: Settings) -> Caller:
    """Return who calls; raises :class:`TokenError` with a reason that may be told to anybody."""
    try:
        claims = jwt.decode(
            token,
            settings.secret,
            algorithms=[ALGORITHM],  # never what the token's own header asks for
            audience=settings.audience,
            options={"require": ["exp", "sub", "aud"]},
        )
        if type(claims["exp"]) not in (int, float):  # a text that reads as a number was taken for one
            raise TokenError("The token is not valid here.")
        return Caller(UUID(claims["sub"]), datetime.fromtimestamp(claims["exp"], UTC))
    except jwt.ExpiredSignatureError:
        raise TokenError("The token has expired.") from None
    # JSON holds anything: a claim of another type, a number without end, lists in lists until Python gives up.
    except (jwt.InvalidTokenError, ValueError, TypeError, OverflowError, RecursionError):
        raise TokenError("The token is not valid here.") from None
