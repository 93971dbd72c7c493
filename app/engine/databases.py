"""The databases of a project, reached as its own env.py reaches them, for commands that run no revision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from .options import Options
from .project import Project, VersionTable, project_of


@dataclass(frozen=True)
class Database:
    """One of them, while its env.py is connected to it."""

    connection: sa.Connection
    heads: tuple[str, ...]
    versions: VersionTable
    project: Project
    options: Options
    obeys: bool
    """Whether its env.py is one call of run(), so that a run there obeys other sessions."""


def visit(config: Config, look: Callable[[Database], None]) -> None:
    """Call ``look`` with each database that the env.py of ``config`` connects to; no revision is run there."""
    script = ScriptDirectory.from_config(config)

    def looking(heads: tuple[str, ...], context: MigrationContext) -> list[Any]:
        connection = cast(sa.Connection, context.connection)
        table = context.opts.get("version_table") or VersionTable.name
        look(
            Database(
                connection,
                context.get_current_heads(),
                VersionTable.found_by(connection, context.version_table_schema, table),
                project_of(context),
                context.opts.get("engine_options") or Options(),
                context.opts.get("engine_steering") is not None,
            )
        )
        return []

    with EnvironmentContext(config, script, fn=looking, dont_mutate=True):
        script.run_env()
