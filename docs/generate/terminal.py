"""Record `chat-schema upgrade head` in a terminal, on a database that clients write to: docs/images/upgrade.svg.

    python -m docs.generate.terminal [--rows 150000]

On a scratch server that is gone afterwards; DATABASE_URL is not looked at. The command runs in a pseudo-terminal of 80
columns. The picture is its screen when the largest backfill is halfway, and below it what the clients felt.
"""

from __future__ import annotations

import argparse
import os
import pty
import re
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator, Mapping
from fcntl import ioctl
from itertools import groupby
from pathlib import Path

import psycopg
import pyte
from pyte.screens import Char

from app import database, embedded
from benchmarks import traffic
from benchmarks.companion import Companion
from benchmarks.corpus import Corpus, load
from benchmarks.measure import Clients, felt
from benchmarks.traffic import CLIENTS, FlatClient
from benchmarks.ways import BEFORE, conninfo, upgrade
from docs.generate import DOCS
from docs.generate.svg import MONO, escape

COLUMNS, ROWS = 80, 24
WIDTH, LINE, LEFT, TOP = 8.4, 19, 20, 52
COLOURS = {
    "default": "#d1d7e0", "black": "#656c76", "red": "#f47067", "green": "#57ab5a", "brown": "#daaa3f",
    "blue": "#539bf5", "magenta": "#b083f0", "cyan": "#39c5cf", "white": "#cdd9e5",
    "brightblack": "#9198a1", "brightgreen": "#6bc46d", "brightblue": "#6cb6ff", "brightcyan": "#56d4dd",
    "brightred": "#ff938a", "brightbrown": "#eac55f", "brightmagenta": "#dcbdfb", "brightwhite": "#f0f6fc",
}  # fmt: skip


def main() -> None:
    """Record it, and write the picture."""
    parser = argparse.ArgumentParser(prog="python -m docs.generate.terminal", description=__doc__)
    parser.add_argument("--rows", type=int, default=150_000, help="messages to give a conversation (default: 150000)")
    parser.add_argument("--data", type=Path, default=database.project_folder().parent / "shared" / "data")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chat-schema-picture-") as folder:
        Path(folder).chmod(0o711)
        with embedded.running(Path(folder) / "data") as server:
            url = server.url("product")
            with psycopg.connect(conninfo(server.url("postgres")), autocommit=True) as connection:
                connection.execute("CREATE DATABASE product")
            upgrade(url, BEFORE)
            with psycopg.connect(conninfo(url), autocommit=True) as connection:
                load(connection, Corpus.find(options.data), options.rows)
                connection.execute("VACUUM (ANALYZE)")
            talk = Companion(traffic.run, FlatClient, conninfo(url))
            with talk:
                time.sleep(5)
                began = time.monotonic()
                screen = recorded(
                    [sys.executable, "-m", "chat_schema", "upgrade", "head"],
                    {"DATABASE_URL": url.render_as_string(hide_password=False)},
                )
                ended = time.monotonic()
                time.sleep(1)  # what clients feel afterwards
    file = DOCS / "images" / "upgrade.svg"
    file.write_text(drawn(screen, "$ chat-schema upgrade head", told(felt(talk.result, began, ended))), "utf-8")
    print(file)


def told(clients: Clients) -> list[str]:
    """Return what the clients felt, in two lines."""
    return [
        f"Meanwhile {CLIENTS} clients sent {clients.statements:,} statements, and {clients.failed:,} failed.",
        f"The longest took {clients.during.longest:,.0f} ms; before the upgrade, {clients.before.longest:,.0f} ms.",
    ]


def recorded(command: list[str], environment: Mapping[str, str]) -> list[list[Char]]:
    """Return the screen when the largest backfill was about halfway; the command has to succeed."""
    here, there = pty.openpty()
    ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {**os.environ, **environment, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": str(ROWS)}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(command, stdin=there, stdout=there, stderr=there, env=environment, close_fds=True)
    os.close(there)
    screen = pyte.Screen(COLUMNS, ROWS)
    best: tuple[int, list[list[Char]]] = (101, [])
    stream = pyte.ByteStream(screen)
    while process.poll() is None or select.select([here], [], [], 0)[0]:
        if not select.select([here], [], [], 0.1)[0]:
            continue
        try:
            stream.feed(os.read(here, 65536))
        except OSError:  # the other end is closed
            break
        shown = [int(percent) for line in screen.display for percent in re.findall(r"(\d+)\s?%", line)]
        running = [abs(55 - percent) for percent in shown if 0 < percent < 100]
        if running and running[-1] < best[0]:
            best = (running[-1], [[screen.buffer[y][x] for x in range(COLUMNS)] for y in range(ROWS)])
    if process.wait():
        raise SystemExit("\n".join(screen.display))
    return best[1]


def drawn(screen: list[list[Char]], command: str, below: list[str]) -> str:
    """Return the screen as a picture: a dark window on a page of either colour."""
    while screen and not any(char.data.strip() for char in screen[-1]):
        screen = screen[:-1]
    width = 2 * LEFT + COLUMNS * WIDTH
    height = TOP + LINE * (len(screen) + 1) + 50
    size = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(command)}">',
        f"<title>{escape(command)}</title>",
        f"<style>text {{ font-family: {MONO}; font-size: 14px; white-space: pre }}</style>",
        f'<rect width="{width:g}" height="{height:g}" rx="8" fill="#0d1117" stroke="#3d444d"/>',
        *(f'<circle cx="{22 + 18 * place}" cy="18" r="5.5" fill="#3d444d"/>' for place in range(3)),
        f'<text x="{LEFT}" y="{TOP}" fill="#f0f6fc" font-weight="bold">{escape(command)}</text>',
    ]
    for place, line in enumerate(screen, start=1):
        parts += _line(line, TOP + LINE * place)
    for place, said in enumerate(reversed(below)):
        style = 'fill="#9198a1" style="font-size: 12px"'
        parts.append(f'<text x="{LEFT}" y="{height - 14 - 18 * place:g}" {style}>{escape(said)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _line(line: list[Char], y: float) -> Iterator[str]:
    at = 0
    for (colour, bold), run in groupby(line, key=lambda char: (char.fg, char.bold)):
        said = "".join(char.data for char in run)
        if said.strip():
            fill = COLOURS.get(colour, f"#{colour}" if re.fullmatch(r"[0-9a-f]{6}", colour) else COLOURS["default"])
            weight = ' font-weight="bold"' if bold else ""
            length = len(said.rstrip()) * WIDTH
            yield (
                f'<text x="{LEFT + at * WIDTH:.1f}" y="{y:g}" fill="{fill}"{weight} textLength="{length:.1f}" '
                f'lengthAdjust="spacingAndGlyphs">{escape(said.rstrip())}</text>'
            )
        at += len(said)


if __name__ == "__main__":
    main()
