"""What all pictures share: colours for a light and a dark page, boxes and text."""

from __future__ import annotations

from collections.abc import Iterable
from xml.sax.saxutils import escape as escape

SANS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
MONO = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'Liberation Mono', monospace"

STYLE = f"""
  text {{ font-family: {SANS}; font-size: 14px; fill: #1f2328 }}
  .page {{ fill: #ffffff; stroke: #d1d9e0 }}
  .title {{ font-size: 17px; font-weight: 600 }}
  .caption {{ font-size: 14px; font-weight: 600 }}
  .small {{ font-size: 12px; fill: #59636e }}
  .mono {{ font-family: {MONO}; font-size: 12px }}
  .ours {{ fill: #0a7f5a }}
  .other {{ fill: #8c959f }}
  .failed {{ fill: #cf222e }}
  .grid {{ stroke: #d1d9e0; stroke-width: 1; fill: none }}
  .line-ours {{ stroke: #0a7f5a; stroke-width: 3; fill: none }}
  .line-other {{ stroke: #8c959f; stroke-width: 2; fill: none }}
  .table {{ fill: #f6f8fa; stroke: #8c959f }}
  .head {{ fill: #0a7f5a }}
  .on-head {{ fill: #ffffff; font-weight: 600; font-size: 13px }}
  .key {{ stroke: #59636e; stroke-width: 1.3; fill: none }}
  .arrow {{ fill: #59636e }}
  @media (prefers-color-scheme: dark) {{
    text {{ fill: #f0f6fc }}
    .page {{ fill: #0d1117; stroke: #3d444d }}
    .small {{ fill: #9198a1 }}
    .ours {{ fill: #2dba8a }}
    .other {{ fill: #656c76 }}
    .failed {{ fill: #f85149 }}
    .grid {{ stroke: #3d444d }}
    .line-ours {{ stroke: #2dba8a }}
    .line-other {{ stroke: #656c76 }}
    .table {{ fill: #151b23; stroke: #656c76 }}
    .head {{ fill: #14694d }}
    .on-head {{ fill: #ffffff }}
    .key {{ stroke: #9198a1 }}
    .arrow {{ fill: #9198a1 }}
  }}
"""


def picture(width: float, height: float, title: str, parts: Iterable[str]) -> str:
    """Return a whole SVG file on a page of its own colour, with ``title`` for those who do not see it."""
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img" aria-label="{escape(title, {chr(34): "&quot;"})}">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n"
        f'<rect class="page" x="0.5" y="0.5" width="{width - 1:g}" height="{height - 1:g}" rx="8"/>\n{body}\n</svg>\n'
    )


def text(x: float, y: float, said: str, css: str = "", anchor: str = "start") -> str:
    """Return a line of text that begins, ends or is centred at ``x``."""
    return f'<text x="{x:g}" y="{y:g}" class="{css}" text-anchor="{anchor}">{escape(said)}</text>'


def box(x: float, y: float, width: float, height: float, css: str, radius: float = 2) -> str:
    """Return a filled rectangle."""
    return f'<rect class="{css}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius:g}"/>'


def path(d: str, css: str) -> str:
    """Return a line."""
    return f'<path class="{css}" d="{d}"/>'
