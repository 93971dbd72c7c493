"""What the service is told by its environment."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa

from chat_schema import database

SHORTEST_SECRET = 32  # bytes; RFC 7518, section 3.2: a key for HS256 is at least as long as its hash


class SettingsError(ValueError):
    """A setting cannot be used: what is wrong, what follows, what to set."""


@dataclass(frozen=True)
class Settings:
    """The settings of one process. What is secret in them is in no repr, so in no log either."""

    database_url: sa.URL = field(repr=False)
    secret: str = field(repr=False)
    audience: str = "authenticated"  # what Supabase's tokens say, so that they are taken as they are
    model_url: str | None = None  # None: the offline responder
    model: str = ""
    model_key: str = field(default="", repr=False)
    files: str = "chat_api_files"  # where attachments lie: a folder, or s3://bucket/prefix
    pool_size: int = 10
    seconds_a_word: float = 0.02  # of the offline responder

    @classmethod
    def from_environment(cls, database_url: sa.URL | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read DATABASE_URL (unless ``database_url`` is given) and CHAT_API_*; without a secret, make one.

        Raises :class:`SettingsError`, and :class:`alembic.util.CommandError` for an address that is not PostgreSQL's.
        """
        if database_url is None:
            if not environ.get("DATABASE_URL"):
                raise SettingsError(
                    "DATABASE_URL is unset, so the service has no database. Set it, or run `python -m chat_api`, which "
                    "brings one."
                )
            database_url = database.parse_url(environ["DATABASE_URL"])
        secret = environ.get("CHAT_API_SECRET") or secrets.token_urlsafe(48)
        if len(secret.encode()) < SHORTEST_SECRET:
            raise SettingsError(
                f"CHAT_API_SECRET has fewer than {SHORTEST_SECRET} bytes, so tokens could be forged. Make one:\n"
                "  export CHAT_API_SECRET=$(python -c 'import secrets; print(secrets.token_urlsafe(48))')"
            )
        model_url = environ.get("CHAT_API_MODEL_URL", "").rstrip("/") or None
        if model_url and not environ.get("CHAT_API_MODEL"):
            raise SettingsError(
                "CHAT_API_MODEL_URL is set and CHAT_API_MODEL is not, so the endpoint would not know what to run. Set "
                "it to one of the names that the endpoint lists under /models."
            )
        return cls(
            database_url=database_url,
            secret=secret,
            audience=environ.get("CHAT_API_AUDIENCE", "authenticated"),
            model_url=model_url,
            model=environ.get("CHAT_API_MODEL", ""),
            model_key=environ.get("CHAT_API_MODEL_KEY", ""),
            files=environ.get("CHAT_API_FILES") or "chat_api_files",
        )
