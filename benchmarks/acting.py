"""What acting for a user adds to a transaction: BEGIN, a sidebar of 20 conversations, COMMIT, from a service's side.

    python -m benchmarks.acting [--rounds 200]

On a scratch server that is gone afterwards; DATABASE_URL is not looked at. The ways take turns, so that what else the
machine does falls on all alike; shown are the medians of the times and of their ratios to the owner's in the same
turn. The blocks act in the owner's role: what policies cost is another question (`python -m benchmarks.queries`).

* **owner** opens no block.
* **no pipeline** sends role and claims by themselves, as with a driver that cannot pipeline or a libpq before 14.
* **acting** sends them together with BEGIN.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from unittest.mock import patch
from uuid import UUID

import psycopg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from app import embedded
from app.acting_as import acting_as, acting_as_async
from app.queries import conversations_of_user
from benchmarks.ways import upgrade

USER = UUID(int=1)
OWNER = "postgres"
FILL = f"""
INSERT INTO users (id) VALUES ('{USER}');
INSERT INTO conversations (user_id, title) SELECT '{USER}', 'Trip to Lyon' FROM generate_series(1, 20);
"""
PAGE = conversations_of_user(USER, limit=20)
TURNS = 20  # transactions of a way in a row

Way = Callable[[], Awaitable[None]]


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.acting", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=200, help=f"rounds of {TURNS} transactions each (default: 200)")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="chat-schema-bench-") as folder:
        Path(folder).chmod(0o711)
        with embedded.running(Path(folder) / "data") as server:
            url = server.url("postgres")
            upgrade(url, "head")
            engine = sa.create_engine(url)
            with engine.begin() as connection:
                connection.exec_driver_sql(FILL)
            took = asyncio.run(_measure(_ways(engine, create_async_engine(url)), rounds))
    print("| transaction | p50 | to the owner's |\n|---|---|---|")
    for name, seconds in took.items():
        owners = took["asynchronous owner" if name.startswith("async") else "owner"]
        ratio = median(mine / owner for mine, owner in zip(seconds, owners, strict=True))
        print(f"| {name} | {1e6 * median(seconds):.0f} µs | {ratio:.2f} |")


def _ways(engine: sa.Engine, async_engine: AsyncEngine) -> dict[str, Way]:
    async def one(acting: bool) -> None:
        with Session(engine) as session, acting_as(session, USER, role=OWNER) if acting else nullcontext():
            assert len(session.scalars(PAGE).all()) == 20
            session.commit()

    async def asynchronous(acting: bool) -> None:
        async with (
            AsyncSession(async_engine) as session,
            acting_as_async(session, USER, role=OWNER) if acting else nullcontext(),
        ):
            assert len((await session.scalars(PAGE)).all()) == 20
            await session.commit()

    ways: dict[str, Way] = {}
    for prefix, transaction in (("", one), ("asynchronous ", asynchronous)):
        ways[f"{prefix}owner"] = lambda transaction=transaction: transaction(False)  # type: ignore[misc]
        ways[f"{prefix}no pipeline"] = lambda transaction=transaction: transaction(True)  # type: ignore[misc]
        ways[f"{prefix}acting"] = lambda transaction=transaction: transaction(True)  # type: ignore[misc]
    return ways


async def _measure(ways: dict[str, Way], rounds: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, transaction in ways.items():
            pipelines = not name.endswith("no pipeline")
            with patch.object(psycopg.capabilities, "has_pipeline", lambda check=False, yes=pipelines: yes):
                await transaction()
                began = time.perf_counter()
                for _ in range(TURNS):
                    await transaction()
                found[name].append((time.perf_counter() - began) / TURNS)
    return found


if __name__ == "__main__":
    main()
