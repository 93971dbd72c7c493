"""``chat-schema plan``: what an upgrade, or a downgrade, would do to this database, and what would stop it here.

What is told to be clear must not stop the command that is planned: so it asks what env.py asks before the first change,
by the same functions. Tests that see a command refused ask the plan first.
"""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from . import database, look, operations, rehearsal  # noqa: F401  operations: what the revisions call
from .engine import plan as engine
from .engine.obstacles import Obstacle
from .engine.plan import Plan
from .engine.statements import named
from .engine.written import Step
from .options import Options
from .project import PROJECT, VERSIONS
from .revision import RevisionError, require
from .roles import recorded_roles
from .version_table import current_revisions, refuse_strangers, refuse_wrong_revision, roles_where_at


def make(connection: sa.Connection, script: ScriptDirectory, target: str, options: Options) -> Plan:
    """Return what it takes to bring this database to ``target``, and what would stop it here; change nothing."""
    plan = Plan(current="", target=target)
    at_head = tuple(script.get_heads())
    if target in ("head", *at_head) and roles_where_at(connection, at_head) is not None:
        plan.current = ", ".join(at_head)
        return plan
    try:
        refuse_strangers(connection)
        try:
            database.require_rights(connection)
        except CommandError as refused:
            plan.would_stop.append(_obstacle(refused))
        refuse_wrong_revision(connection, script)
        heads = tuple(current_revisions(connection))
        plan.current = ", ".join(heads)
        settled = options.settle_roles(recorded_roles(connection))
    except CommandError as refused:  # what lies behind it cannot be looked at
        plan.would_stop.append(_obstacle(refused))
        return plan
    except sa.exc.ProgrammingError:
        if not plan.would_stop:
            raise
        return plan  # without those rights it cannot be looked at either
    finally:
        connection.rollback()
    hooks = engine.Hooks(
        _adopts, _holds(connection), reads_rows=bool(heads)
    )  # of tables that may be a stranger's: none
    made = engine.make(connection, script, target, heads, settled, PROJECT, VERSIONS, hooks)
    made.would_stop[:0] = plan.would_stop
    if made.revisions and made.direction == "upgrade":
        _upgrades(connection, script, heads, settled, made)
    elif made.revisions:
        _downgrades(connection, script, heads, settled, made)
    connection.rollback()
    return made


def _upgrades(
    connection: sa.Connection, script: ScriptDirectory, heads: tuple[str, ...], options: Options, plan: Plan
) -> None:
    plan.would_stop += look.obstacles(connection, look.looks(script, heads, options))
    if not heads and not options.rehearse:
        plan.notes.append("Without a rehearsal it is not known what triggers of your own do (-x rehearse=no).")
    if not plan.would_stop and rehearsal.is_needed(connection, heads, options):
        rehearsed = rehearsal.rehearse(connection.engine.url, options)
        plan.would_stop += rehearsed.obstacles
        plan.notes += [*(f"Stays as yours: {each}" for each in rehearsed.kept), *rehearsed.notes, rehearsal.OPEN]


def _downgrades(
    connection: sa.Connection, script: ScriptDirectory, heads: tuple[str, ...], options: Options, plan: Plan
) -> None:
    from .catalog import load_expected
    from .dependents import find_dependents

    functions = [script.get_revision(each.revision).module.downgrade for each in plan.revisions]
    for found in find_dependents(connection, functions, options, load_expected()):
        plan.would_stop.append(Obstacle(f"{found}, which the downgrade would drop."))


def _holds(connection: sa.Connection) -> Callable[[Step], bool]:
    """Return what tells whether the conditions of op.when() around a step are met here."""

    def holds(step: Step) -> bool:
        conditions = [call.arguments for call in step.calls if call.name == "when"]
        return all(
            when["otherwise"] is not None or engine.count(connection, f"SELECT ({when['condition']})::int") != 0
            for when in conditions
        )

    return holds


def refuses(connection: sa.Connection, step: Step) -> str | None:
    """Return why op.require_chat_schema() of a service's revision would refuse to run here."""
    call = step.by("require_chat_schema")
    if call is None:
        return None
    try:
        require(connection, str(call.arguments["at_least"]))
    except RevisionError as error:
        return str(error)
    return None


def _adopts(step: Step) -> str | None:
    """Return the table that a step brings into shape where it stands already, or gives back."""
    call = step.by("adopt_table", "release_table")
    return None if call is None else named(str(call.arguments["table"]))


def _obstacle(refused: CommandError) -> Obstacle:
    says, _, mends = str(refused).partition("\n")
    return Obstacle(says, mends)
