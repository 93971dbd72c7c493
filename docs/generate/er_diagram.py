"""The tables and their keys as a picture, drawn from the models: docs/images/schema.svg and schema_columns.svg."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from app.models import Base
from docs.generate.svg import box, picture, text

HEAD, ROW, GAP = 26, 17, 20
PAGE = 20


@dataclass
class Table:
    """A table, where it stands, and the keys that are drawn of it."""

    name: str
    columns: list[str]
    refers_to: list[str]
    x: float = 0
    y: float = 0
    width: float = field(default=170)

    @property
    def height(self) -> float:
        """How tall its box is."""
        return HEAD + ROW * len(self.columns) + (6 if self.columns else 0)


def diagrams() -> dict[str, str]:
    """Return the overview and the picture with every column, by the names of their files."""
    return {
        "schema.svg": _drawn(_tables(with_columns=False), 190, "The tables of chat-schema and their keys"),
        "schema_columns.svg": _drawn(_tables(with_columns=True), 262, "The tables of chat-schema with their columns"),
    }


def _tables(*, with_columns: bool) -> dict[str, Table]:
    tables = {
        table.name: Table(
            table.name,
            [f"{column.name}  {_type(column)}" for column in table.columns] if with_columns else [],
            list(dict.fromkeys(_drawn_keys(table))),
        )
        for table in Base.metadata.sorted_tables
    }
    for table in tables.values():  # a key that another one implies is left out
        implied = {beyond for other in table.refers_to for beyond in tables[other].refers_to}
        table.refers_to = [other for other in table.refers_to if other not in implied]
    return tables


def _type(column: sa.Column[object]) -> str:
    said = column.type.compile(postgresql.dialect())  # type: ignore[no-untyped-call]
    said = said.lower().replace("timestamp with time zone", "timestamptz")
    return said + ("" if column.nullable else " *")


def _drawn_keys(table: sa.Table) -> Iterator[str]:
    """Yield the tables that this one hangs on; the owner comes with a composite key, and is drawn where none has it."""
    keys = [key for key in table.foreign_key_constraints if key.referred_table is not table]
    composite = {column.name for key in keys if len(key.columns) > 1 for column in key.columns}
    for key in sorted(keys, key=lambda key: key.referred_table.name):
        if len(key.columns) > 1 or not {column.name for column in key.columns} <= composite:
            yield key.referred_table.name


def _drawn(tables: dict[str, Table], width: float, title: str) -> str:
    depth: dict[str, int] = {}
    for name, table in tables.items():  # in the order of their keys
        depth[name] = 1 + max((depth[other] for other in table.refers_to if other in depth), default=-1)
    columns: dict[int, list[Table]] = {}
    for name, table in tables.items():
        columns.setdefault(depth[name], []).append(table)
    between = 60
    for place, column in sorted(columns.items()):
        if place:  # near what they hang on
            column.sort(key=lambda table: sum(tables[o].y for o in table.refers_to) / max(1, len(table.refers_to)))
        y = float(PAGE + 40)
        for table in column:
            table.x, table.y, table.width = PAGE + place * (width + between), y, width
            y += table.height + GAP
    tallest = max(table.y + table.height for table in tables.values())
    for column in columns.values():  # in the middle of the page
        below = tallest - max(table.y + table.height for table in column)
        for table in column:
            table.y += below / 2
    whole = 2 * PAGE + len(columns) * width + (len(columns) - 1) * between
    height = tallest + 44

    def parts() -> Iterator[str]:
        yield text(PAGE, 32, title, "title")
        yield (
            '<marker id="to" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
            '<path class="arrow" d="M0 0L8 4L0 8z"/></marker>'
        )
        for table in tables.values():
            for place, other in enumerate(table.refers_to, start=1):
                yield _key(table, tables[other], place / (len(table.refers_to) + 1))
        for table in tables.values():
            yield box(table.x, table.y, table.width, table.height, "table", 4)
            yield box(table.x, table.y, table.width, HEAD, "head", 4)
            yield text(table.x + 9, table.y + 18, table.name, "on-head")
            for place, column in enumerate(table.columns):
                yield text(table.x + 9, table.y + HEAD + ROW * (place + 0.85), column, "mono")
        below = "An arrow is a foreign key. A key that another one implies is left out."
        below += " *: NOT NULL" * any(table.columns for table in tables.values())
        yield text(PAGE, height - 14, below, "small")

    return picture(whole, height, title, parts())


def _key(table: Table, other: Table, share: float) -> str:
    x, y = table.x, table.y + HEAD * share
    to_x, to_y = other.x + other.width, other.y + HEAD / 2
    bend = max(30.0, (x - to_x) / 2)
    return (
        f'<path class="key" marker-end="url(#to)" '
        f'd="M{x:g} {y:g}C{x - bend:g} {y:g} {to_x + bend:g} {to_y:g} {to_x:g} {to_y:g}"/>'
    )
