"""Replies as HTML: what Markdown may become, and what it never becomes."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_api.markdown import LONGEST, to_html

ALLOWED = {"href", "title", "start", "class", "target", "rel", "tabindex", "role", "aria-label"}


class Found(HTMLParser):
    """What a piece of HTML is made of."""

    def __init__(self, html: str | None) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        assert html is not None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def test_markdown_becomes_html() -> None:
    html = to_html("A **bold** word, `code`, ~~no~~\n\n- one\n- two\n\n| a | b |\n|---|---|\n| 1 | 2 |")
    assert html is not None
    for part in ("<strong>bold</strong>", "<code>code</code>", "<s>no</s>", "<li>one</li>", "<td>1</td>"):
        assert part in html


def test_code_is_coloured_by_class_and_keeps_each_character() -> None:
    code = '\n\ndef f(x):\n\treturn "<a & b>"  # 漢字\n\n'
    found = Found(to_html(f"```python\n{code}\n```"))
    assert found.text.startswith(code)
    assert ("class", "k") in found.attributes
    plain = Found(to_html(f"```no-such-language\n{code}\n```"))
    assert plain.text == found.text
    assert "span" not in plain.tags


def test_an_address_becomes_a_link_that_tells_nobody_where_it_was_found() -> None:
    found = Found(to_html("See https://example.com/a?b=1 or [this](http://example.org 'title')."))
    links = [value for name, value in found.attributes if name == "href"]
    assert links == ["https://example.com/a?b=1", "http://example.org"]
    assert found.attributes.count(("rel", "noopener noreferrer nofollow")) == 2


@pytest.mark.parametrize(
    ("markdown", "levels"),
    [("# a\n## b\n### c", ["h2", "h3", "h4"]), ("#### a\n# b\n###### c", ["h2", "h2", "h3"]), ("a\n===", ["h2"])],
)
def test_headings_stand_below_the_page_s_own_and_leave_out_no_level(markdown: str, levels: list[str]) -> None:
    assert Found(to_html(markdown)).tags == levels


@pytest.mark.parametrize(
    "attack",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[a](javascript:alert(1))",
        "[a](&#106;avascript:alert(1))",
        "[a](java\nscript:alert(1))",
        "[a](data:text/html,<script>alert(1)</script>)",
        "[a](vbscript:x) [b](file:///etc/passwd)",
        "<javascript:alert(1)>",
        "![x](https://evil.example/pixel.png)",
        "[a](/c/somewhere) [b](//evil.example) [c](#sign-in)",
        '[a](https://e.example "x\\" onmouseover=\\"alert(1)")',
        '```html"><img src=x onerror=alert(1)>\nx\n```',
        "``` x` onclick=alert(1)\nx\n```",
        "<svg/onload=alert(1)> <math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
        "[ref]\n\n[ref]: javascript:alert(1)",
        "```html\n<span class='primary' id=app onclick=x>\n```",
        "\u202e\u0000&#0;<b>",
    ],
)
def test_what_it_never_becomes(attack: str) -> None:
    found = Found(to_html(attack))
    assert not set(found.tags) & {"script", "img", "svg", "math", "style", "form", "iframe", "b"}
    assert {name for name, _ in found.attributes} <= ALLOWED
    for name, value in found.attributes:
        if name == "href":
            assert value is not None
            assert value.startswith(("https://", "http://", "mailto:"))
        if name == "class":
            assert value != "primary"


ATTACKS = ("<script>a</script>", "<img src=x onerror=a>", "<b onclick=a>", "[a](javascript:a)", "<svg onload=a>")


@given(st.lists(st.sampled_from([*"<>&\"'`*_[]()#!|-=:/\\ \n", "a", *ATTACKS])))
def test_whatever_is_written_no_script_comes_of_it(written: list[str]) -> None:
    found = Found(to_html("".join(written)))
    assert not set(found.tags) & {"script", "img", "svg", "style", "iframe"}
    assert {name for name, _ in found.attributes} <= ALLOWED
    assert not [value for name, value in found.attributes if name == "href" and "script:" in (value or "")[:11]]


def test_a_reply_that_is_too_long_to_render_is_shown_as_text() -> None:
    assert to_html("x" * LONGEST) is not None
    assert to_html("x" * (LONGEST + 1)) is None
