"""Make the texts that PostgreSQL deparses read alike, whatever its version and however the object came to be.

Equal definitions must read equal or `verify` would cry wolf; different ones must stay different.
"""

import re

_TOKEN = re.compile(r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | [A-Za-z_][\w$]* | \s+ | .""", re.VERBOSE | re.DOTALL)
_ENDS_FROM = re.compile("WHERE|GROUP|HAVING|WINDOW|ORDER|LIMIT|OFFSET|FETCH|FOR|UNION|INTERSECT|EXCEPT|TABLESAMPLE|;")
_VARCHAR = r"'(?:[^']|'')*'::character varying"
_VARCHAR_AS_TEXT = re.compile(rf"\(ARRAY\[({_VARCHAR}(?:, {_VARCHAR})*)\]\)::text\[\]|\(({_VARCHAR})\)::text")


def expression(text: str) -> str:
    """Put an expression or a whole statement on one line, its literals of type varchar as text."""
    one_line = "".join(" " if word.isspace() else word for word in _TOKEN.findall(text)).strip()
    return _VARCHAR_AS_TEXT.sub(_as_text, one_line)


def view(text: str) -> str:
    """Do the same with a view's query, and drop `x.` from its columns where the outer FROM has one item, x.

    PostgreSQL 15 qualifies those, later versions do not. Every version qualifies columns within a sub-select, and other
    columns stay qualified too, so the text still makes the view.
    """
    words = _TOKEN.findall(text)
    alias = _only_alias(words)
    kept: list[str] = []
    selects: list[bool] = []  # for each open parenthesis, whether a sub-select begins there
    for place, word in enumerate(words):
        if word == "(":
            following = next((each for each in words[place + 1 :] if not each.isspace()), "")
            selects.append(following in {"SELECT", "WITH", "VALUES"})
        elif word == ")":
            selects.pop()
        if word == "." and not any(selects) and alias is not None and kept[-1:] == [alias] and kept[-2:-1] != ["."]:
            kept.pop()
        else:
            kept.append(word)
    return expression("".join(kept))


def _only_alias(words: list[str]) -> str | None:
    """Find what the single item of a query's outer FROM is called; None where there are more, or no FROM."""
    depth, within, alias = 0, False, None
    for word in words:
        depth += (word == "(") - (word == ")")
        if depth:
            continue
        if within and word in {",", "JOIN"}:
            return None
        if within and _ENDS_FROM.fullmatch(word):
            break
        if within and (word[0] == '"' or word[0].isidentifier()):
            alias = word
        within = within or word == "FROM"
    return alias


def _as_text(match: re.Match[str]) -> str:
    """Cast each literal to text once: a dump and restore moves the cast of `role IN ('a')` onto each."""
    array, single = match.groups()
    literals = re.sub(_VARCHAR, lambda each: each[0].removesuffix("character varying") + "text", array or single)
    return f"ARRAY[{literals}]" if array else literals
