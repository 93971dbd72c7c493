"""acting_as on random walks through blocks, savepoints, failures and settings made by hand, against a model of them.

The model is two rules: within blocks it is the innermost's user; outside it is what was set by hand, as far as no
rollback took that back. A walk that fails prints its seed and its steps.
"""

from __future__ import annotations

import json
import random
from contextlib import ExitStack, suppress
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DataError
from sqlalchemy.orm import Session

from app.acting_as import acting_as, acting_as_service
from tests.services.people import ANN, BEN, CAT
from tests.services.test_acting_as import BROKEN, NOBODY, SERVICE, Target, user, who

WALKS = 150
BY_HAND = sa.text("SELECT set_config('role', :role, true), set_config('request.jwt.claims', :claims, true)")


class OnPurposeError(Exception):
    """A failure of the service's own."""


class Walk:
    """One walk of a session or connection, and what the model says of it."""

    def __init__(self, dice: random.Random, target: Target, beneath: Target) -> None:
        self.dice, self.targets = dice, [target, beneath]
        self.target = target
        self.blocks: list[UUID | None] = []  # None: the service
        self.outside: tuple[str, str | None] = NOBODY
        self.savepoints: list[tuple[sa.NestedTransaction, tuple[str, str | None]]] = []
        self.steps: list[str] = []

    def look(self) -> None:
        acts_as = self.outside
        if self.blocks:
            acts_as = SERVICE if self.blocks[-1] is None else user(self.blocks[-1])
        assert who(self.target) == acts_as, self.steps

    def go(self) -> None:
        for _ in range(self.dice.randint(1, 6)):
            step = self.dice.choice(
                [
                    self.look,
                    self.block,
                    self.block,
                    self.save,
                    self.undo,
                    self.keep,
                    self.fail,
                    self.commit,
                    self.roll_back,
                    self.set_by_hand,
                    self.give_up,
                ]
            )
            self.steps.append("  " * len(self.blocks) + step.__name__)
            step()

    def block(self) -> None:
        who_for, target = self.dice.choice([None, ANN, BEN, CAT]), self.dice.choice(self.targets)
        if len(self.blocks) == 4:
            return
        with suppress(OnPurposeError), acting_as(target, who_for) if who_for else acting_as_service(target):
            self.blocks.append(who_for)
            try:
                self.go()
            finally:
                self.blocks.pop()

    def save(self) -> None:
        self.look()  # a session saves when its connection is next used: let that be now
        self.savepoints.append((self.target.begin_nested(), self.outside))  # type: ignore[arg-type]
        self.look()

    def undo(self) -> None:
        if self.savepoints:
            savepoint, self.outside = self.savepoints.pop()
            savepoint.rollback()

    def keep(self) -> None:
        if self.savepoints:
            self.savepoints.pop()[0].commit()

    def fail(self) -> None:
        with pytest.raises(DataError):
            self.target.execute(BROKEN)
        self.undo() if self.savepoints else self.roll_back()

    def commit(self) -> None:
        self.target.commit()
        self.savepoints, self.outside = [], NOBODY

    def roll_back(self) -> None:
        self.target.rollback()
        self.savepoints, self.outside = [], NOBODY

    def set_by_hand(self) -> None:
        if not self.blocks:
            self.outside = self.dice.choice([SERVICE, user(ANN), user(BEN)])
            role, sub = self.outside
            self.target.execute(BY_HAND, {"role": role, "claims": json.dumps({"sub": sub})})

    def give_up(self) -> None:
        if self.blocks:
            raise OnPurposeError


@pytest.mark.parametrize("kind", ["session", "connection", "session on a connection"])
def test_a_walk_never_meets_anybody_else(engine: sa.Engine, kind: str) -> None:
    for seed in range(WALKS):
        with ExitStack() as stack:
            connection = None if kind == "session" else stack.enter_context(engine.connect())
            session = None if kind == "connection" else stack.enter_context(Session(connection or engine))
            target = session or connection
            assert target is not None
            walk = Walk(random.Random(seed), target, connection or target)  # noqa: S311  a seed, to walk again
            walk.steps.append(f"seed {seed}")
            for _ in range(3):
                walk.go()
                walk.look()
        with engine.connect() as next_client:
            assert who(next_client) == NOBODY, walk.steps
