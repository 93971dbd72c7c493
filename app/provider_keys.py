"""Keys of model providers: a user's own API keys, encrypted by the service and decrypted by it alone.

    ring = KeyRing.from_environment()  # CHAT_SCHEMA_PROVIDER_KEYS="2026b:<base64>,2026a:<base64>"
    with acting_as_service(session):
        session.execute(store(ring, user_id, "anthropic", api_key))
        ...
        api_key = ring.decrypt(session.execute(stored(user_id, "anthropic")).one()).reveal()

The first key of the ring encrypts, each of them decrypts what was encrypted with it. To rotate: put a new key first,
deploy, run ``chat-schema rotate-keys``, then take the old one out. AES-256-GCM with a random nonce; user, provider and
key id are authenticated with the text, so that a ciphertext is of no use in another row.

Needs ``chat-schema[provider-keys]``. No secret is in a repr, a log or an error of this module.
"""

from __future__ import annotations

import base64
import dataclasses
import os
import secrets
from collections.abc import Iterator, Mapping
from typing import Any, Protocol
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.dialects.postgresql.dml import Insert

from .models import UserLlmProvider
from .models.llm_provider import Ciphertext

VARIABLE = "CHAT_SCHEMA_PROVIDER_KEYS"
_NONCE = 12
_KEY = 32


class KeyRingError(ValueError):
    """The keys are not usable, or do not fit a ciphertext: what is wrong and what to do, and no secret."""


class Stored(Protocol):
    """A row of :func:`stored`."""

    user_id: Any
    provider: Any
    ciphertext: Any
    key_id: Any


class ApiKey:
    """A decrypted key, shown by nothing but :meth:`reveal`."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the key itself, for the request to the provider."""
        return self._text

    def __repr__(self) -> str:
        return "<API key>"


class KeyRing:
    """The service's keys by id; the first encrypts."""

    __slots__ = ("_keys", "current")

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        if not keys:
            raise KeyRingError(f"There is no key. {_HOW}")
        for key_id, key in keys.items():
            if not key_id or len(key) != _KEY:
                raise KeyRingError(f"The key {key_id!r} has {len(key)} bytes, not {_KEY}. {_HOW}")
        self._keys = dict(keys)
        self.current = next(iter(keys))

    def __repr__(self) -> str:
        return f"<KeyRing of {', '.join(self._keys)}>"

    @classmethod
    def parse(cls, text: str) -> KeyRing:
        """Read ``id:base64,id:base64``."""
        keys: dict[str, bytes] = {}
        for place, part in enumerate(filter(None, (part.strip() for part in text.split(","))), start=1):
            key_id, colon, encoded = part.partition(":")
            try:
                key = base64.b64decode(encoded, validate=True)
            except ValueError:
                key = b""
            if not colon or not key_id or not key:
                raise KeyRingError(f"Key {place} is not written as id:base64. {_HOW}")
            if key_id in keys:
                raise KeyRingError(f"Two keys are called {key_id!r}. {_HOW}")
            keys[key_id] = key
        return cls(keys)

    @classmethod
    def from_environment(cls) -> KeyRing:
        """Read the variable CHAT_SCHEMA_PROVIDER_KEYS."""
        text = os.environ.get(VARIABLE)
        if not text:
            raise KeyRingError(f"{VARIABLE} is not set. {_HOW}")
        return cls.parse(text)

    def encrypt(self, user_id: UUID, provider: str, text: str) -> tuple[str, Ciphertext]:
        """Return the id of the key, and what to store."""
        nonce = secrets.token_bytes(_NONCE)
        about = _about(user_id, provider, self.current)
        return self.current, Ciphertext(nonce + _cipher(self._keys[self.current]).encrypt(nonce, text.encode(), about))

    def decrypt(self, row: Stored) -> ApiKey:
        """Return the API key of a row of :func:`stored`.

        Raises :class:`KeyRingError` where the ring has not the key, or the text is not this row's.
        """
        key = self._keys.get(row.key_id)
        if key is None:
            raise KeyRingError(
                f"The key {row.key_id!r}, with which the row of provider {row.provider!r} of user {row.user_id} was "
                f"encrypted, is not in the ring. Put it back into {VARIABLE}, behind the current one."
            )
        from cryptography.exceptions import InvalidTag

        sealed, about = bytes(row.ciphertext), _about(row.user_id, row.provider, row.key_id)
        try:
            return ApiKey(_cipher(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], about).decode())
        except (InvalidTag, ValueError):
            raise KeyRingError(
                f"The row of provider {row.provider!r} of user {row.user_id} was not encrypted with the key "
                f"{row.key_id!r} of this ring, or not for this row. Let the user enter the API key anew."
            ) from None


_HOW = (
    f"Set {VARIABLE} to id:base64 of {_KEY} random bytes, the current key first and those before it behind, separated "
    'by commas: `echo "2026a:$(head -c 32 /dev/urandom | base64)"` makes one.'
)


def _about(user_id: UUID, provider: str, key_id: str) -> bytes:
    parts = (user_id.bytes, provider.encode(), key_id.encode())
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def _cipher(key: bytes) -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError:
        raise KeyRingError(
            "The package cryptography is not installed, so nothing can be encrypted: pip install "
            "'chat-schema[provider-keys]'."
        ) from None
    return AESGCM(key)


def store(ring: KeyRing, user_id: UUID, provider: str, api_key: str) -> Insert:
    """Return the INSERT of a user's API key, which replaces the one before. As the service."""
    key_id, ciphertext = ring.encrypt(user_id, provider, api_key)
    new = insert(UserLlmProvider).values(user_id=user_id, provider=provider, ciphertext=ciphertext, key_id=key_id)
    return new.on_conflict_do_update(
        index_elements=[UserLlmProvider.user_id, UserLlmProvider.provider],
        set_={"ciphertext": new.excluded.ciphertext, "key_id": new.excluded.key_id},
    )


def stored(user_id: UUID, provider: str) -> sa.Select[UUID, str, Ciphertext, str]:
    """Return the row for :meth:`KeyRing.decrypt`, or none. As the service. Index: user_llm_providers_pkey."""
    p = UserLlmProvider
    return sa.select(p.user_id, p.provider, p.ciphertext, p.key_id).where(p.user_id == user_id, p.provider == provider)


@dataclasses.dataclass
class Rotation:
    """What a batch of a rotation has done, and which rows it could not read: why, without a secret."""

    rotated: int = 0
    unreadable: list[str] = dataclasses.field(default_factory=list)


def count_to_rotate(connection: sa.Connection, ring: KeyRing) -> int:
    """Count the rows that are not encrypted with the current key."""
    count = connection.scalar(
        sa.text("SELECT count(*) FROM public.user_llm_providers WHERE key_id <> :current"), {"current": ring.current}
    )
    connection.rollback()
    return count or 0


def rotate(connection: sa.Connection, ring: KeyRing, batch_size: int) -> Iterator[Rotation]:
    """Encrypt with the current key what an older one has encrypted, batch by batch, each its own commit.

    What was rotated is found no more, so a rotation that was killed goes on where it stopped. A row that is locked is
    left to the next run; one that the ring cannot read stays as it is.
    """
    others = sa.text("SELECT DISTINCT key_id FROM public.user_llm_providers WHERE key_id <> :current ORDER BY 1")
    batch = sa.text(
        "SELECT user_id, provider, ciphertext, key_id FROM public.user_llm_providers"
        " WHERE key_id = :key AND (user_id, provider) > (:user, :provider)"
        " ORDER BY user_id, provider LIMIT :size FOR UPDATE SKIP LOCKED"
    )
    write = sa.text(
        "UPDATE public.user_llm_providers SET ciphertext = :ciphertext, key_id = :key"
        " WHERE user_id = :user AND provider = :provider"
    )
    with connection.begin():
        older = list(connection.scalars(others, {"current": ring.current}))
    for key in older:
        user, provider = UUID(int=0), ""
        while True:
            done = Rotation()
            with connection.begin():
                rows = connection.execute(
                    batch, {"key": key, "user": user, "provider": provider, "size": batch_size}
                ).all()
                for row in rows:
                    try:
                        text = ring.decrypt(row).reveal()
                    except KeyRingError as error:
                        done.unreadable.append(str(error))
                        continue
                    key_id, ciphertext = ring.encrypt(row.user_id, row.provider, text)
                    connection.execute(
                        write,
                        {"ciphertext": ciphertext, "key": key_id, "user": row.user_id, "provider": row.provider},
                    )
                    done.rotated += 1
            if not rows:
                break
            user, provider = rows[-1].user_id, rows[-1].provider
            yield done
