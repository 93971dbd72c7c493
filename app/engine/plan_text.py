"""A plan as a table for a terminal; below 80 columns as a list."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator

from .obstacles import BATCH, Obstacle
from .plan import Plan, Planned


def told(plan: Plan, schema: str | None = None, width: int | None = None) -> str:
    """Return the plan for a terminal of ``width`` columns; tables of ``schema`` are named without it."""
    width = max(40, min(width or shutil.get_terminal_size().columns, 120))
    return "\n".join(_told(plan, schema, width))


def _told(plan: Plan, schema: str | None, width: int) -> Iterator[str]:
    here = plan.current or "base"
    count = len(plan.revisions)
    if count:
        yield f"{count} revision{'s' * (count > 1)}, {plan.direction} from {here} to {plan.target}:"
    elif not plan.would_stop:
        yield f"At {here}: there is nothing to do."
        return
    for revision in plan.revisions:
        yield from _revision(revision, schema, width)
    seconds = [work.seconds for each in plan.revisions for work in each.work if work.seconds]
    if seconds:
        low, high = (sum(each) for each in zip(*seconds, strict=True))
        yield f"The backfills may take {duration(low)}, alone on a fast server, to {duration(high)}, beside clients."
    for note in plan.notes:
        yield from _item("note: ", note, width)
    if plan.would_stop:
        yield f"This {plan.direction} would stop, so nothing was changed. In the way:"
        for each in plan.would_stop:
            yield from _obstacle_told(each, width)
    else:
        yield "Nothing is in the way."


def _obstacle_told(obstacle: Obstacle, width: int) -> Iterator[str]:
    head = "- "
    for line in obstacle.says.splitlines():
        yield from _item(head, line, width)
        head = "  "
    yield from (f"    {line}" for line in obstacle.mends.splitlines())  # to be pasted, so never broken


def _revision(revision: Planned, schema: str | None, width: int) -> Iterator[str]:
    yield from _item(f"  {revision.revision}  {revision.phase:<9} ", revision.does, width)
    margin = " " * (18 if width >= 80 else 4)
    for lock in revision.locks:
        if lock.mode != BATCH:  # told with the backfill
            table = _short(lock.table, schema)
            line = f"{margin}{lock.mode:<21} {table:<22} {lock.lasts}".rstrip()
            if len(line) > width:
                yield from _item(margin, f"{lock.mode:<21} {table} {lock.lasts}".rstrip(), width)
            else:
                yield line
    for work in revision.work:
        rows = "" if work.rows is None else f"about {work.rows:,} rows"
        time = f", {duration(work.seconds[0])} to {duration(work.seconds[1])}" if work.seconds else ""
        yield from _item(f"{margin}{work.does} ", f"{_short(work.table, schema)}: {work.name}; {rows}{time}", width)


def _short(table: str, schema: str | None) -> str:
    return table.removeprefix(f"{schema}.")


def _item(head: str, text: str, width: int) -> Iterator[str]:
    blank = " " * (4 if width < 80 else len(head) if len(head) < 30 else 20)
    lines = textwrap.wrap(text, width, initial_indent=head, subsequent_indent=blank, break_on_hyphens=False)
    yield from lines or [head]


def duration(seconds: float) -> str:
    """Return a duration as it is read: 40 ms, 12 s, 7 min, 3 h."""
    if seconds < 1:
        return f"{max(seconds, 0.001) * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
