"""The charts of the pages and of the README, drawn from the figures that the benchmarks have written."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docs.generate.svg import box, path, picture, text

FIGURES = Path(__file__).parents[1] / "benchmarks.json"
INSTRUCTIONS = Path(__file__).parents[1] / "instructions.json"
SHOWN = 1_000_000  # the largest table that was measured with clients too
WIDTH = 760


@dataclass(frozen=True)
class Bar:
    """One bar: what it stands for, how long it is, and what is written behind it."""

    name: str
    value: float
    said: str
    css: str = "other"


def charts() -> dict[str, str]:
    """Return each picture by its name, from docs/benchmarks.json and docs/instructions.json."""
    whole = json.loads(FIGURES.read_text("utf-8"))
    runs = {run["rows"]: run for run in whole["runs"]}
    source = f"python -m benchmarks.backfill, {whole['machine']['Date']}, {whole['machine']['Machine']}"
    shown = runs[SHOWN]["results"]
    idle = [result for result in shown if not result["clients"]]
    busy = [result for result in shown if result["clients"]]
    return {
        "benchmark_wait.svg": _bars(
            f"The longest that a client waited, while {SHOWN:,} messages were migrated (shorter is better)",
            [_wait(result) for result in busy],
            f"{source}. The scale is logarithmic.",
            logarithmic=True,
        ),
        "benchmark_seconds.svg": _bars(
            f"Seconds to migrate {SHOWN:,} messages, nobody else at work (shorter is better)",
            [_bar(result, result["seconds"], f"{result['seconds']:.1f} s") for result in idle],
            source,
        ),
        "benchmark_size.svg": _bars(
            "Size of the table afterwards, to that before (shorter is better)",
            [_bar(result, size := result["size_after"] / result["size_before"], f"{size:.2f}") for result in idle],
            source,
        ),
        "benchmark_growth.svg": _lines(
            "Microseconds a message, nobody else at work (flat: ten times the rows take ten times as long)",
            {rows: [result for result in run["results"] if not result["clients"]] for rows, run in runs.items()},
            lambda result: 1e6 * result["seconds"] / result["rows"],
            source,
        ),
        "benchmark_policies.svg": _policies(),
    }


def _policies() -> str:
    results = json.loads(INSTRUCTIONS.read_text("utf-8"))["results"]
    pages = [result for result in results if result["way"] == "user"]
    return _bars(
        "Instructions of the server for a page: as a user under policies, to those as the owner",
        [Bar(page["statement"], page["ratio"], f"{page['ratio']:.2f}", "ours") for page in pages],
        f"python -m benchmarks.instructions --json docs/instructions.json, PostgreSQL {pages[0]['postgres']}",
        left=260,
    )


def _css(result: dict[str, Any]) -> str:
    if result["error"]:
        return "failed"
    return "ours" if result["way"].startswith("ours") else "other"


def _bar(result: dict[str, Any], value: float, said: str) -> Bar:
    return Bar(result["way"], value, said + (", then it failed" if result["error"] else ""), _css(result))


def _wait(result: dict[str, Any]) -> Bar:
    milliseconds = result["clients"]["during"][-1]  # p50, p99, longest
    return _bar(
        result, milliseconds, f"{milliseconds / 1000:.1f} s" if milliseconds >= 1000 else f"{milliseconds:.0f} ms"
    )


def _bars(title: str, bars: Sequence[Bar], source: str, *, logarithmic: bool = False, left: int = 140) -> str:
    room, step = 570 - left, 34
    height = 62 + step * len(bars) + 34
    longest = max(bar.value for bar in bars)
    least = min(bar.value for bar in bars) / 4

    def length(value: float) -> float:
        if logarithmic:
            return room * math.log(value / least) / math.log(longest / least)
        return room * value / longest

    def parts() -> Iterator[str]:
        yield text(20, 32, title, "caption")
        for place, bar in enumerate(bars):
            y = 54 + step * place
            yield text(left - 10, y + 17, bar.name, anchor="end")
            yield box(left, y, length(bar.value), 24, bar.css)
            yield text(left + length(bar.value) + 8, y + 17, bar.said)
        yield text(20, height - 14, source, "small")

    return picture(WIDTH, height, title, parts())


def _lines(
    title: str, runs: dict[int, list[dict[str, Any]]], measured: Callable[[dict[str, Any]], float], source: str
) -> str:
    left, top, room, tall, height = 70, 60, 480, 240, 370
    sizes = sorted(runs)
    ways = [result["way"] for result in runs[sizes[0]]]
    values = {way: [measured(_of(runs[size], way)) for size in sizes] for way in ways}
    most = max(max(line) for line in values.values()) * 1.1

    def at(place: int, value: float) -> tuple[float, float]:
        return left + room * place / (len(sizes) - 1), top + tall * (1 - value / most)

    def parts() -> Iterator[str]:
        yield text(20, 32, title, "caption")
        step = 10 if most > 30 else 5
        for value in range(0, int(most), step):
            y = at(0, value)[1]
            yield path(f"M{left} {y:g}H{left + room}", "grid")
            yield text(left - 10, y + 5, str(value), "small", "end")
        for place, size in enumerate(sizes):
            yield text(at(place, 0)[0], top + tall + 22, f"{size:,} messages", "small", "middle")
        ends: list[float] = []
        for way in sorted(ways, key=lambda name: -values[name][-1]):
            points = [at(place, value) for place, value in enumerate(values[way])]
            css = "ours" if way.startswith("ours") else "other"
            yield path("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points), f"line-{css}")
            end = max([points[-1][1], *(each + 18 for each in ends[-1:])])  # names do not lie on each other
            ends.append(end)
            yield text(points[-1][0] + 10, end + 5, f"{way}: {values[way][-1]:.1f}")
        yield text(20, height - 14, source, "small")

    return picture(WIDTH, height, title, parts())


def _of(results: Sequence[dict[str, Any]], way: str) -> dict[str, Any]:
    return next(result for result in results if result["way"] == way)
