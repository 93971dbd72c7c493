"""Replies as HTML: Markdown by markdown-it-py, code coloured by Pygments, and nothing kept that nh3 does not know.

A reply is what a model wrote, and a model writes what it was fed. So HTML in it is text, images are links (a picture
from elsewhere tells its server who reads), links lead away from this origin only, and classes are Pygments' alone.
The page's Content-Security-Policy stands behind all of it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import nh3
from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.token import STANDARD_TYPES
from pygments.util import ClassNotFound

LONGEST = 40_000  # characters, which may take some seconds where they are made to; a longer reply is shown as text
LONGEST_CODE = 20_000  # of one block; a longer one is not coloured

_TAGS = {"p", "br", "hr", "h2", "h3", "h4", "h5", "h6", "strong", "em", "s", "a", "blockquote", "ul", "ol", "li"}
_TAGS |= {"code", "pre", "span", "table", "thead", "tbody", "tr", "th", "td"}


@functools.lru_cache(maxsize=2_000)
def to_html(text: str) -> str | None:
    """Return ``text`` as HTML that may stand in the page; None where it is too long."""
    if len(text) > LONGEST:
        return None
    return nh3.clean(
        _markdown.render(text),
        tags=_TAGS,
        attributes={"a": {"href", "title"}, "ol": {"start"}},
        allowed_classes={"span": {name for name in STANDARD_TYPES.values() if name}},
        # A block of code may be wider than the page: it scrolls, by keyboard too.
        set_tag_attribute_values={
            "a": {"target": "_blank"},
            "pre": {"tabindex": "0", "role": "group", "aria-label": "Code"},
        },
        url_schemes={"http", "https", "mailto"},
        url_relative="deny",
        link_rel="noopener noreferrer nofollow",
    )


def _coloured(code: str, language: str, _: str) -> str:
    """Return ``code`` in coloured spans, or nothing where nobody knows the language."""
    if len(code) > LONGEST_CODE or not language:
        return ""
    try:
        lexer = get_lexer_by_name(language, stripnl=False)
    except ClassNotFound:
        return ""
    return highlight(code, lexer, HtmlFormatter(nowrap=True))


def _outline(state: StateCore) -> None:
    """Let headings begin below the page's own, and leave out no level."""
    level = 1
    for token in state.tokens:
        if token.type == "heading_open":
            level = min(int(token.tag[1]) + 1, level + 1, 6)
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{level}"


def _parser() -> MarkdownIt:
    options: dict[str, Any] = {"html": False, "linkify": True, "highlight": _coloured}
    rules: Sequence[str] = ("table", "strikethrough", "linkify")
    parser = MarkdownIt("commonmark", options).enable(rules).disable("image")
    parser.core.ruler.push("outline", _outline)
    return parser


_markdown = _parser()
