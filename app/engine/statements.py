"""What a statement of DDL does to tables: which locks it takes, whether it reads or rewrites them meanwhile.

Strings and the bodies of functions are opaque here. A full parser was weighed: pglast is PostgreSQL's own and under the
GPL, sqlglot gives up on most of PostgreSQL's DDL. The few forms that matter are read from the words of the statement.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MODES = (
    "AccessShare",
    "RowShare",
    "RowExclusive",
    "ShareUpdateExclusive",
    "Share",
    "ShareRowExclusive",
    "Exclusive",
    "AccessExclusive",
)
"""The modes of table locks, the weakest first."""
BLOCKS_WRITERS = MODES.index("Share")

_TOKEN = re.compile(
    r"""
      (?P<nothing> \s+ | --[^\n]* | /\*.*?\*/ )
    | (?P<body> \$(?P<tag>[^\W\d]\w*|)\$ .*? \$(?P=tag)\$ )
    | (?P<string> [eE]'(?:[^'\\]|\\.|'')*' | (?:[bBxXnN]|[uU]&)?'(?:[^']|'')*' )
    | (?P<name> "(?:[^"]|"")*" )
    | (?P<word> [\w$]+ )
    | (?P<sign> . )
    """,
    re.DOTALL | re.VERBOSE,
)
_VOLATILE = re.compile(
    r"\b(clock_timestamp|timeofday|random|random_normal|gen_random_uuid|uuid_generate_v\w+|uuidv[47]|nextval)\s*\(",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Statement:
    """One statement: its text, and its words, upper case where they are not quoted."""

    text: str
    words: tuple[str, ...]

    def starts(self, *words: str) -> bool:
        """Tell whether it begins with these words."""
        return self.words[: len(words)] == words

    def has(self, *words: str) -> bool:
        """Tell whether these words stand in it, one after the other."""
        return _find(self.words, words) is not None


@dataclass(frozen=True)
class Effect:
    """What a statement does to one table; ``kind`` is a few words, as ``add foreign key``.

    ``lock`` is the mode that it takes; ``work`` says what takes long under it: ``scans`` or ``rewrites``. ``name`` is
    the column, constraint, index or trigger; ``safe`` says that it is in its safe form (NOT VALID, CONCURRENTLY, USING
    INDEX), or has a default. ``proves`` is the column of a CHECK that says ``IS NOT NULL``.
    """

    kind: str
    table: str
    lock: str = ""
    work: str = ""
    name: str = ""
    safe: bool = False
    proves: str = ""


def split(text: str) -> list[Statement]:
    """Return the statements of ``text``; what is no more than blanks and comments is none."""
    found: list[Statement] = []
    words: list[str] = []
    begin = depth = 0
    for token in _TOKEN.finditer(text):
        kind, value = token.lastgroup, token[0]
        if kind == "nothing":
            continue
        if not words:
            begin = token.start()
        if value == ";" and not depth:
            if words:
                found.append(Statement(text[begin : token.start()].strip(), tuple(words)))
            words = []
            continue
        words.append(value.upper() if kind == "word" else value)
        depth += _deeper(words)
    if words:
        found.append(Statement(text[begin:].strip(), tuple(words)))
    return found


def _deeper(words: Sequence[str]) -> int:
    """Follow parentheses, and the bodies of functions in standard SQL, whose statements end in semicolons too."""
    last = words[-1]
    if last == "(" or (last == "ATOMIC" and words[-2:-1] == ["BEGIN"]):
        return 1
    if last == ")":
        return -1
    if "ATOMIC" in words and last in ("CASE", "END"):
        return 1 if last == "CASE" else -1
    return 0


def named(text: str) -> str:
    """Return the name of a table as it is compared here: as written, without ``public`` and needless quotes."""
    parts = [_plain(part) for part in re.findall(r'"(?:[^"]|"")*"|[\w$]+', text)]
    return ".".join(parts[1:] if len(parts) > 1 and parts[0] == "public" else parts)


def _plain(part: str) -> str:
    if not part.startswith('"'):
        return part.lower()
    bare = part[1:-1].replace('""', '"')
    return bare if re.fullmatch(r"[a-z_][a-z0-9_$]*", bare) else part


def effects(statement: Statement) -> list[Effect]:
    """Return what ``statement`` does to tables, as far as its words tell."""
    return list(_effects(statement))


def _effects(statement: Statement) -> Iterator[Effect]:
    words = _Words(statement.words)
    if words.take("ALTER", "TABLE"):
        yield from _altered(words)
    elif words.take("CREATE"):
        yield from _created(words)
    elif words.take("DROP"):
        yield from _dropped(words)
    elif words.take("ALTER", "POLICY"):
        words.name()
        words.take("ON")
        yield Effect("alter policy", words.name(), "AccessExclusive")
    elif words.take("TRUNCATE"):
        words.take("TABLE")
        words.take("ONLY")
        yield Effect("truncate", words.name(), "AccessExclusive")
    elif words.take("LOCK"):
        words.take("TABLE")
        words.take("ONLY")
        table = words.name()
        mode = "".join(word.title() for word in words.until("MODE")[1:]) if "IN" in words.rest() else "AccessExclusive"
        yield Effect("lock", table, mode)
    elif words.take("CLUSTER") or (statement.starts("VACUUM") and "FULL" in statement.words):
        table = _Words([word for word in words.rest() if word not in ("VACUUM", "FULL", "(", ")", "VERBOSE")]).name()
        yield Effect("rewrite", table, "AccessExclusive", "rewrites")
    elif words.take("REFRESH", "MATERIALIZED", "VIEW"):
        safe = words.take("CONCURRENTLY")
        yield Effect("refresh", words.name(), "Exclusive" if safe else "AccessExclusive", "rewrites", safe=safe)
    elif words.take("REINDEX"):
        safe = "CONCURRENTLY" in statement.words
        yield Effect("reindex", "", "ShareUpdateExclusive" if safe else "Share", "scans", words.last(), safe)
    elif words.take("COMMENT", "ON", "TABLE"):
        yield Effect("comment", words.name(), "ShareUpdateExclusive")
    else:
        yield from _written(statement.words)


def _altered(words: _Words) -> Iterator[Effect]:
    words.take("IF", "EXISTS")
    words.take("ONLY")
    table = words.name()
    words.take("*")
    for action in words.parts():
        yield from _action(table, _Words(action))


def _action(table: str, words: _Words) -> Iterator[Effect]:
    strong, whole = "AccessExclusive", tuple(words.rest())
    if words.take("ADD"):
        if not words.starts_constraint():
            words.take("COLUMN")
            words.take("IF", "NOT", "EXISTS")
            yield from _column(table, words)
            return
        name = words.name() if words.take("CONSTRAINT") else ""
        yield from _constraint(table, name, words)
    elif words.take("DROP"):
        kind = "drop constraint" if words.take("CONSTRAINT") else "drop column"
        words.take("COLUMN")
        words.take("IF", "EXISTS")
        yield Effect(kind, table, strong, name=words.name())
    elif words.take("VALIDATE", "CONSTRAINT"):
        yield Effect("validate", table, "ShareUpdateExclusive", "scans", words.name(), True)
    elif words.take("RENAME"):
        if words.take("TO"):
            schema = table.rpartition(".")[0]
            yield Effect("rename", table, strong, name=f"{schema}.{words.name()}".removeprefix("."))
        else:
            yield Effect("rename part", table, strong)
    elif words.take("SET", "SCHEMA"):
        new = named(f"{words.name()}.{table.rpartition('.')[2]}")
        yield Effect("rename", table, strong, name=new)
    elif words.take("ALTER"):
        words.take("COLUMN")
        column = words.name()
        if words.take("SET", "NOT", "NULL"):
            yield Effect("set not null", table, strong, "scans", column)
        elif words.take("TYPE") or words.take("SET", "DATA", "TYPE"):
            yield Effect("alter type", table, strong, "rewrites", column)
        elif words.take("SET", "STATISTICS") or words.take("SET", "("):
            yield Effect("set statistics", table, "ShareUpdateExclusive", name=column)
        elif words.take("ADD", "GENERATED"):
            yield Effect("add identity", table, strong, name=column)
        else:
            yield Effect("alter column", table, strong, name=column)
    elif words.take("SET", "(") or words.take("RESET", "(") or words.take("CLUSTER", "ON"):
        yield Effect("set", table, "ShareUpdateExclusive")
    elif (
        words.take("SET", "LOGGED")
        or words.take("SET", "UNLOGGED")
        or words.take("SET", "ACCESS", "METHOD")
        or words.take("SET", "TABLESPACE")
    ):
        yield Effect("rewrite", table, strong, "rewrites")
    elif words.take("ATTACH", "PARTITION"):
        partition = words.name()
        yield Effect("attach partition", table, "ShareUpdateExclusive")
        yield Effect("attached", partition, strong, "scans")
    elif words.take("DETACH", "PARTITION"):
        safe = "CONCURRENTLY" in whole
        yield Effect("detach partition", table, "ShareUpdateExclusive" if safe else strong, safe=safe)
    elif "TRIGGER" in whole[:3]:
        yield Effect("switch trigger", table, "ShareRowExclusive")
    elif words.take("ENABLE", "ROW") or words.take("FORCE", "ROW"):
        yield Effect("enable row level security", table, strong)
    else:
        yield Effect("alter", table, strong)


def _column(table: str, words: _Words) -> Iterator[Effect]:
    strong = "AccessExclusive"
    column, rest = words.name(), words.rest()
    text = " ".join(rest)
    rewrites = (
        "STORED" in rest
        or _find(rest, ("AS", "IDENTITY")) is not None
        or rest[:1] in (["SERIAL"], ["BIGSERIAL"], ["SMALLSERIAL"])
        or ("DEFAULT" in rest and _VOLATILE.search(text.replace(" (", "(")) is not None)
    )
    has_value = rewrites or "DEFAULT" in rest
    yield Effect("add column", table, strong, "rewrites" if rewrites else "", column, has_value)
    if _find(rest, ("NOT", "NULL")) is not None and not has_value:
        yield Effect("add column not null", table, strong, "scans", column)
    if "PRIMARY" in rest or "UNIQUE" in rest:
        yield Effect("add unique", table, strong, "scans", column)
    if (place := _find(rest, ("CHECK",))) is not None and place:
        yield Effect("add check", table, strong, "scans", column)
    if (place := _find(rest, ("REFERENCES",))) is not None:
        # of a column that comes without values PostgreSQL checks none, and it holds the lock for an instant
        target = _Words(rest[place + 1 :]).name()
        yield Effect("add foreign key", table, strong, "scans" if has_value else "", column, not has_value)
        yield Effect("referenced", target, "ShareRowExclusive", "", column, True)


def _constraint(table: str, name: str, words: _Words) -> Iterator[Effect]:
    rest = words.rest()
    not_valid = _find(rest, ("NOT", "VALID")) is not None
    scans = "" if not_valid else "scans"
    if words.take("FOREIGN", "KEY"):
        yield Effect("add foreign key", table, "ShareRowExclusive", scans, name, not_valid)
        if (place := _find(rest, ("REFERENCES",))) is not None:
            yield Effect("referenced", _Words(rest[place + 1 :]).name(), "ShareRowExclusive", scans, name, not_valid)
    elif words.take("CHECK"):
        proves = named(rest[2]) if tuple(rest[3:7]) == ("IS", "NOT", "NULL", ")") else ""
        yield Effect("add check", table, "AccessExclusive", scans, name, not_valid, proves)
    elif words.take("NOT", "NULL"):
        yield Effect("set not null" if scans else "add check", table, "AccessExclusive", scans, name, not_valid)
    elif words.take("EXCLUDE"):
        yield Effect("add exclude", table, "AccessExclusive", "scans", name)
    else:
        kind = "add primary key" if "PRIMARY" in rest[:1] else "add unique"
        safe = _find(rest, ("USING", "INDEX")) is not None
        yield Effect(kind, table, "AccessExclusive", "" if safe else "scans", name, safe)


def _created(words: _Words) -> Iterator[Effect]:
    words.take("OR", "REPLACE")
    if words.take("UNIQUE", "INDEX") or words.take("INDEX"):
        safe = words.take("CONCURRENTLY")
        words.take("IF", "NOT", "EXISTS")
        name = "" if words.peek() == "ON" else words.name()
        words.take("ON")
        words.take("ONLY")
        yield Effect("create index", words.name(), "ShareUpdateExclusive" if safe else "Share", "scans", name, safe)
    elif words.take("TRIGGER") or words.take("CONSTRAINT", "TRIGGER"):
        name = words.name()
        words.until("ON")
        words.take("ON")
        yield Effect("create trigger", words.name(), "ShareRowExclusive", name=name)
    elif words.take("POLICY"):
        name = words.name()
        words.take("ON")
        yield Effect("create policy", words.name(), "AccessExclusive", name=name)
    elif words.take("RULE"):
        words.until("TO")
        words.take("TO")
        yield Effect("create rule", words.name(), "AccessExclusive")
    elif words.take("STATISTICS"):
        words.until("FROM")
        words.take("FROM")
        yield Effect("create statistics", words.name(), "ShareUpdateExclusive")
    elif words.take("UNLOGGED", "TABLE") or words.take("TABLE"):
        words.take("IF", "NOT", "EXISTS")
        table = words.name()
        yield Effect("create partition" if words.take("PARTITION", "OF") else "create table", table)
        rest = words.rest()
        for place, word in enumerate(rest):
            if word == "REFERENCES":
                yield Effect("referenced", _Words(rest[place + 1 :]).name(), "ShareRowExclusive", safe=True)


def _dropped(words: _Words) -> Iterator[Effect]:
    strong = "AccessExclusive"
    if words.take("INDEX"):
        safe = words.take("CONCURRENTLY")
        words.take("IF", "EXISTS")
        yield Effect("drop index", "", "ShareUpdateExclusive" if safe else strong, name=words.name(), safe=safe)
    elif words.take("TABLE") or words.take("MATERIALIZED", "VIEW"):
        words.take("IF", "EXISTS")
        for part in words.parts():
            yield Effect("drop table", _Words(part).name(), strong)
    elif words.take("TRIGGER") or words.take("POLICY") or words.take("RULE"):
        words.take("IF", "EXISTS")
        name = words.name()
        words.take("ON")
        yield Effect("drop part", words.name(), strong, name=name)
    elif words.take("SCHEMA"):
        words.take("IF", "EXISTS")
        if "CASCADE" in words.rest():
            yield Effect("drop schema", words.name(), strong)


def _written(words: Sequence[str]) -> Iterator[Effect]:
    if words[0] in ("GRANT", "REVOKE", "DO", "COMMENT"):
        return
    for place, word in enumerate(words):
        before = words[place - 1] if place else ""
        after = _Words([each for each in words[place + 1 : place + 8] if each != "ONLY"])
        if word == "UPDATE" and before not in ("FOR", "KEY", "ON", "DO", "BEFORE", "AFTER", "OR"):
            yield Effect("update", after.name(), "RowExclusive")
        elif word == "DELETE" and after.take("FROM"):
            yield Effect("delete", after.name(), "RowExclusive")
        elif word == "INSERT" and after.take("INTO"):
            yield Effect("insert", after.name(), "RowExclusive")


def _find(words: Sequence[str], wanted: Sequence[str]) -> int | None:
    size = len(wanted)
    return next((at for at in range(len(words) - size + 1) if list(words[at : at + size]) == list(wanted)), None)


class _Words:
    """The words of a statement, read from left to right."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = list(words)
        self._at = 0

    def peek(self) -> str:
        return self._words[self._at] if self._at < len(self._words) else ""

    def last(self) -> str:
        return named(self._words[-1])

    def rest(self) -> list[str]:
        return self._words[self._at :]

    def take(self, *wanted: str) -> bool:
        """Go past these words if they come next."""
        found = self._words[self._at : self._at + len(wanted)] == list(wanted)
        self._at += len(wanted) if found else 0
        return found

    def until(self, word: str) -> list[str]:
        """Return what comes before ``word``, and stop there."""
        begin = self._at
        while self._at < len(self._words) and self._words[self._at] != word:
            self._at += 1
        return self._words[begin : self._at]

    def name(self) -> str:
        """Go past a name, perhaps with its schema, and return it as it is compared."""
        parts = [self.peek()]
        self._at += 1
        while self.peek() == ".":
            self._at += 1
            parts.append(self.peek())
            self._at += 1
        return named(".".join(parts))

    def starts_constraint(self) -> bool:
        """Tell whether a constraint is added here, and no column."""
        first, second = self.peek(), (self.rest()[1:2] or [""])[0]
        return (
            first in ("CONSTRAINT", "CHECK", "UNIQUE", "EXCLUDE")
            or (first, second) in (("FOREIGN", "KEY"), ("PRIMARY", "KEY"))
            or (first, second) == ("NOT", "NULL")
        )

    def parts(self) -> Iterator[list[str]]:
        """Yield the parts between commas that stand in no parentheses."""
        part: list[str] = []
        depth = 0
        for word in self.rest():
            depth += (word == "(") - (word == ")")
            if word == "," and not depth:
                yield part
                part = []
            else:
                part.append(word)
        yield part
