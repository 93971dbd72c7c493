"""Run the service: `python -m chat_api`, and open the link that it prints.

DATABASE_URL unset: on the embedded server, migrated to head, through a login of the service's own. DATABASE_URL set: on
that database, as that login; it was migrated before, by `chat-schema upgrade head` as its owner.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from alembic.util import CommandError
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from chat_api import local, store, tokens
from chat_api.service import Server
from chat_api.settings import Settings, SettingsError
from chat_schema import database
from chat_schema.acting_as import LoginError, acting_as_service_async
from chat_schema.check_login import check_login_async


def main() -> None:
    """Run the command line; exit 1 where the service cannot run."""
    parser = argparse.ArgumentParser(
        prog="python -m chat_api", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0: any that is free")
    parser.add_argument("--user", action="append", metavar="EMAIL", help="print a link for this user; can be repeated")
    parser.add_argument("--data", type=Path, help="folder for the embedded server's data")
    options = parser.parse_args()
    try:
        with contextlib.ExitStack() as stack:
            is_local = options.data is not None or not os.environ.get("DATABASE_URL")
            settings = Settings.from_environment(stack.enter_context(local.running(options.data)) if is_local else None)
            emails = options.user or (["you@example.com"] if is_local else [])
            users = _users(settings, emails)
            listening = stack.enter_context(socket.create_server((options.host, options.port)))
            address = f"http://{options.host}:{listening.getsockname()[1]}/"
            for email, user_id in zip(emails, users, strict=True):
                print(f"{email}: {address}#token={tokens.issue(user_id, settings)}")
            print(f"Serving on {address}; Ctrl-C ends it.", flush=True)
            Server(settings).run([listening])
    except KeyboardInterrupt:
        pass
    except (CommandError, SettingsError, LoginError) as error:
        sys.exit(f"chat-api: {error}")
    except OSError as error:
        sys.exit(f"chat-api: cannot listen on {options.host}:{options.port} ({error.strerror}). Try another --port.")


def _users(settings: Settings, emails: Sequence[str]) -> list[UUID]:
    try:
        return asyncio.run(_checked(settings, emails))
    except OperationalError as error:
        said = database.first_line(error, settings.database_url)
        sys.exit(f"chat-api: the database does not answer, so nothing runs: {said}\nCheck DATABASE_URL.")


async def _checked(settings: Settings, emails: Sequence[str]) -> list[UUID]:
    """Check the login, then return the ids of these users, made where missing."""
    engine = create_async_engine(settings.database_url, connect_args={"prepare_threshold": None})
    try:
        async with engine.connect() as connection:
            await check_login_async(connection)
        async with AsyncSession(engine) as session, session.begin(), acting_as_service_async(session):
            return [await store.ensure_user(session, email) for email in emails]
    finally:
        await engine.dispose()


if __name__ == "__main__":
    main()
