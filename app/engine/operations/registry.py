"""How an operation of ours becomes ``op.<name>(...)``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from inspect import signature
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

import sqlalchemy as sa
from alembic.operations import MigrateOperation, Operations

from ..options import Options
from ..project import project_of

P = ParamSpec("P")
R = TypeVar("R")


def operation(function: Callable[Concatenate[Operations, P], R]) -> Callable[Concatenate[Operations, P], R]:
    """Register ``function(operations, ...)`` as ``op.<its name>(...)``; it runs at once, online and offline."""

    @functools.wraps(function)
    def watched(operations: Operations, /, *args: P.args, **kwargs: P.kwargs) -> R:
        watch = _watch(operations)
        if watch is None:
            return function(operations, *args, **kwargs)
        given = signature(function).bind(operations, *args, **kwargs)
        given.apply_defaults()
        with watch.within(function.__name__, dict(given.arguments)):
            return function(operations, *args, **kwargs)

    def proxy(cls: type[MigrateOperation], operations: Operations, *args: Any, **kwargs: Any) -> Any:
        return watched(operations, *args, **kwargs)

    proxy.__name__ = function.__name__
    proxy.__doc__ = function.__doc__
    holder = type(function.__name__, (MigrateOperation,), {function.__name__: classmethod(proxy)})
    Operations.register_operation(function.__name__)(holder)
    return watched


class Watch(Protocol):
    """What is told of the operations that a revision calls and of the statements they write; see written.py."""

    def within(self, name: str, arguments: dict[str, Any]) -> AbstractContextManager[None]:
        """Be entered while the operation ``name`` runs."""

    def writes(self, text: str) -> None:
        """Hear of a statement that is written into a condition."""


def _watch(operations: Operations) -> Watch | None:
    return cast("Watch | None", operations.get_context().opts.get("engine_watch"))


def options_of(operations: Operations) -> Options:
    """Return the options of this run, which env.py hands to ``context.configure``; the defaults where it gives none."""
    return cast(Options, operations.get_context().opts.get("engine_options") or Options())


def is_offline(operations: Operations) -> bool:
    """Tell whether the revision is being written as a script instead of run."""
    return bool(operations.get_context().as_sql)


def identifier(operations: Operations, name: str) -> str:
    """Quote one identifier where it needs quotes."""
    return str(operations.get_context().dialect.identifier_preparer.quote(name))


def quoted(operations: Operations, name: str) -> str:
    """Quote ``table`` or ``schema.table`` where it needs quotes; a bare name is one of the project's default schema."""
    default = project_of(operations.get_context()).default_schema
    parts = [default, name] if default and "." not in name else name.split(".")
    return ".".join(identifier(operations, part) for part in parts)


def quoted_role(operations: Operations, logical: str) -> str:
    """Return the quoted name that the server has for a role of the revisions, or ``PUBLIC``."""
    if logical == "PUBLIC":
        return logical
    actual = options_of(operations).role(logical)
    return operations.get_context().dialect.identifier_preparer.quote_identifier(actual)


def literal(text: str) -> str:
    """Return ``text`` as an SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def statement(operations: Operations, text: str) -> None:
    """Execute ``text`` to the letter: no bind parameters are looked for and no ``%`` is doubled."""
    context = operations.get_context()
    if context.as_sql:
        context.impl.static_output(text.strip().rstrip(";") + ";\n")
    else:
        operations.get_bind().execution_options(no_parameters=True).exec_driver_sql(text)


def scalar(operations: Operations, query: str) -> Any:
    """Return the single value of ``query``; only online."""
    return operations.get_bind().execute(sa.text(query)).scalar()


def rows(operations: Operations, query: str) -> list[Any]:
    """Return the rows of ``query``; only online."""
    return list(operations.get_bind().execute(sa.text(query)))


def written_by(operations: Operations, function: Callable[[], Any]) -> list[str]:
    """Return the statements that ``function`` would write into the script; only offline."""
    impl = operations.get_context().impl
    written: list[str] = []
    outer = vars(impl).get("static_output")
    watch = _watch(operations)

    def keep(text: str) -> None:
        if watch is not None:
            watch.writes(text)
        written.append(text)

    impl.static_output = keep  # type: ignore[method-assign]
    try:
        function()
    finally:
        if outer is None:
            del impl.static_output
        else:
            impl.static_output = outer  # type: ignore[method-assign]
    return [text.strip().rstrip(";") for text in written]


def is_conditional(operations: Operations) -> bool:
    """Tell whether what is written now goes into a condition, where nothing can leave the transaction."""
    return "static_output" in vars(operations.get_context().impl)
