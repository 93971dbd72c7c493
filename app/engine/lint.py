"""Revisions checked while they are written: each finding has its file, its line and the recipe to paste.

A revision is read by what it writes: its functions are run as for an offline script (written.py). What a function of
the database does, or a DO block of one's own, is not seen. A finding is left out by a comment at its statement, or
right above it: ``# lint: ignore RULE -- reason``.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError, load_python_file

from .options import Options
from .statements import BLOCKS_WRITERS, MODES, Effect, Statement, named, split
from .written import Step, written

RULES = {
    "strong-lock-scan": "a strong lock is held while a table is read or rewritten",
    "index-not-online": "an index is built or dropped while writers wait",
    "update-in-one-step": "many rows are changed in one transaction",
    "backfill-without-trigger": "rows that come during a backfill are not filled",
    "not-null-in-one-step": "NOT NULL without a CHECK that proves it",
    "key-in-one-step": "a key is checked, or its index built, under a strong lock",
    "function-search-path": "a function finds names by its caller's search_path",
    "table-without-policies": "a table has no row level security",
    "downgrade-destroys": "a downgrade destroys rows without asking",
    "needs-a-database": "a revision cannot be read without a database",
    "ignore-without-reason": "an ignored finding has no reason",
    "unused-ignore": "a comment ignores what is not found",
}
"""Every rule, and what it finds."""

_IGNORE = re.compile(r"#\s*lint:\s*ignore\s+([\w-]+(?:\s*,\s*[\w-]+)*)\s*(?:--\s*(\S.*))?$")


@dataclass(frozen=True, order=True)
class Finding:
    """What is wrong with a revision, where, and how it is written instead."""

    file: str
    line: int
    rule: str
    says: str
    recipe: str

    def __str__(self) -> str:
        recipe = "".join(f"\n    {line}" for line in self.recipe.splitlines())
        return f"{self.file}:{self.line}: {self.rule}: {self.says}{recipe}"

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON document's part."""
        return {
            "file": self.file,
            "line": self.line,
            "rule": self.rule,
            "says": self.says,
            "recipe": self.recipe,
        }


def lint(
    source: Config | str | Path, only: Sequence[str | Path] = (), ignore: Iterable[str] = (), options: Any = None
) -> list[Finding]:
    """Return what is wrong with the revisions of ``source``: a Config, a script folder, or its alembic.ini.

    ``only`` names files or revisions, all of them by default; what comes before them in the chain is read as well.
    ``ignore`` are rules that a project does without. Raises :class:`alembic.util.CommandError` where there is no such
    file, revision or rule.
    """
    left_out = set(ignore)
    if unknown := sorted(left_out - RULES.keys()):
        raise CommandError(
            f"There is no rule {', '.join(unknown)}, so nothing was checked. Rules are: {', '.join(RULES)}."
        )
    chain = _chain(source)
    wanted = _wanted(chain, only)
    state, found = _State(), []
    for path, module in chain:
        findings = _Revision(path, module, state, options).findings(left_out)
        found += [finding for finding in findings if path in wanted]
    return sorted(found)


def assert_clean(source: Config | str | Path, ignore: Iterable[str] = (), options: Any = None) -> None:
    """Raise :class:`AssertionError` that prints every finding: the helper for a project's own tests."""
    found = lint(source, ignore=ignore, options=options)
    if found:
        raise AssertionError("\n" + "\n".join(map(str, found)))


def _chain(source: Config | str | Path) -> list[tuple[Path, ModuleType]]:
    if isinstance(source, Config):
        script = ScriptDirectory.from_config(source)
    elif Path(source).is_dir():
        script = ScriptDirectory(str(source))
    elif Path(source).is_file():
        script = ScriptDirectory.from_config(Config(str(source)))
    else:
        raise CommandError(f"There is no {source}, so nothing was checked. Name a script folder or an alembic.ini.")
    return [(Path(each.path).resolve(), each.module) for each in reversed(list(script.walk_revisions()))]


def _wanted(chain: list[tuple[Path, ModuleType]], only: Sequence[str | Path]) -> set[Path]:
    """Return the files that are asked for; a file of another place is put behind the chain."""
    if not only:
        return {path for path, _ in chain}
    by_name = {str(module.revision): path for path, module in chain}
    found: set[Path] = set()
    for each in only:
        path = Path(each).resolve()
        first, colon, last = str(each).partition(":")
        if path.is_file():
            if path not in by_name.values():
                chain.append((path, load_python_file(str(path.parent), path.name)))
            found.add(path)
        elif str(each) in by_name:
            found.add(by_name[str(each)])
        elif colon and {first, last} <= by_name.keys() | {"head", "base"}:
            names = list(by_name)
            begin = 0 if first == "base" else names.index(first)
            end = len(names) if last == "head" else names.index(last) + 1
            found.update(by_name[name] for name in names[begin:end])
        else:
            raise CommandError(
                f"{each} is neither a file nor a revision of this chain, so nothing was checked. Name some of either, "
                "a range as in 0030:head, or none for all."
            )
    return found


@dataclass
class _State:
    """What the revisions before have made, by the bare names of tables."""

    filled: set[str] = field(default_factory=set)
    """Tables with a trigger, or a column with a default."""
    checks: dict[tuple[str, str], str] = field(default_factory=dict)
    """(table, constraint) -> the column that it proves not to be NULL."""
    proven: set[tuple[str, str]] = field(default_factory=set)
    """(table, column) with a validated proof."""

    def apply(self, effect: Effect) -> None:
        """Remember what ``effect`` changes."""
        table = _bare(effect.table)
        if effect.kind == "create trigger" or (effect.kind == "add column" and effect.safe):
            self.filled.add(table)
        elif effect.kind == "rename":
            new = _bare(effect.name)
            self.filled |= {new} if table in self.filled else set()
            self.checks |= {(new, name): column for (old, name), column in self.checks.items() if old == table}
            self.proven |= {(new, column) for old, column in self.proven if old == table}
        elif effect.proves:
            self.checks[table, effect.name] = effect.proves
            if not effect.safe:
                self.proven.add((table, effect.proves))
        elif effect.kind == "validate" and (column := self.checks.get((table, effect.name))):
            self.proven.add((table, column))


class _Revision:
    """One revision: what it writes, and what is wrong with it."""

    def __init__(self, path: Path, module: ModuleType, state: _State, options: Any) -> None:
        self._path = path
        self._module = module
        self._state = state
        self._options = options or Options()
        self._source = path.read_text("utf-8")
        self._lines = self._source.splitlines()
        self._spans = _spans(ast.parse(self._source))
        self._is_read = True

    def findings(self, left_out: set[str]) -> list[Finding]:
        """Return what is wrong and not ignored by a comment; tell of comments that ignore nothing."""
        found = {finding for finding in self._found() if finding.rule not in left_out}
        ignores = dict(self._ignores())
        used: set[tuple[int, str]] = set()
        kept = []
        for finding in found:
            first, last = self._span(finding.line)
            lines = {line for line in ignores if first <= line <= last or self._is_right_above(line, first)}
            by = {(line, finding.rule) for line in lines if finding.rule in ignores[line][0]}
            used |= by
            if not by:
                kept.append(finding)
        for line, (rules, reason) in ignores.items():
            if not reason:
                kept.append(self._finding(line, "ignore-without-reason", "Say why.", _REASON))
            unused = [rule for rule in rules if (line, rule) not in used and rule not in left_out]
            if unused and self._is_read:
                says = f"{', '.join(unused)} is not found here."
                kept.append(self._finding(line, "unused-ignore", says, "Remove it from the comment."))
        return kept

    def _found(self) -> Iterator[Finding]:
        for direction in ("upgrade", "downgrade"):
            function = getattr(self._module, direction, None)
            if function is None:
                continue
            try:
                steps = written(function, self._options)
            except Exception as error:  # whatever a revision of somebody else's raises
                self._is_read = False
                line = _line_of(error, self._path) or function.__code__.co_firstlineno
                said = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
                says = f"{direction}() could not be run as a script is written ({said})."
                yield self._finding(line, "needs-a-database", says, _OFFLINE)
                continue
            # a way back begins from what this revision and all before it have made
            yield from self._judged(steps, _Judge(self._state, direction))

    def _judged(self, steps: list[Step], judge: _Judge) -> Iterator[Finding]:
        for step in steps:
            for rule, says, recipe in judge.step(step):
                yield self._finding(self._line(step), rule, says, recipe)
        last = steps[-1] if steps else None
        for step, rule, says, recipe in judge.end():
            yield self._finding(self._line(step or last), rule, says, recipe)

    def _line(self, step: Step | None) -> int:
        """Return the line on which the statement begins, within a call that is written over several."""
        if step is None:
            return 1
        first, last = self._span(step.line)
        begin = step.statement.text.splitlines()[0].strip()
        inside = (number for number in range(first, last + 1) if begin in self._lines[number - 1])
        return next(inside, step.line)

    def _span(self, line: int) -> tuple[int, int]:
        """Return the first and the last line of the smallest Python statement around ``line``."""
        around = [span for span in self._spans if span[0] <= line <= span[1]]
        return min(around, key=lambda span: span[1] - span[0], default=(line, line))

    def _is_right_above(self, line: int, first: int) -> bool:
        between = self._lines[line - 1 : first - 1]
        return line < first and all(text.lstrip().startswith("#") for text in between)

    def _ignores(self) -> Iterator[tuple[int, tuple[list[str], str]]]:
        for token in tokenize.generate_tokens(io.StringIO(self._source).readline):
            if token.type == tokenize.COMMENT and (match := _IGNORE.search(token.string)):
                yield token.start[0], (re.split(r"\s*,\s*", match[1]), (match[2] or "").strip())

    def _finding(self, line: int, rule: str, says: str, recipe: str) -> Finding:
        try:
            file = str(self._path.relative_to(Path.cwd()))
        except (ValueError, FileNotFoundError):
            file = str(self._path)
        return Finding(file, line, rule, says, recipe)


Found = tuple[str, str, str]


class _Judge:
    """The rules, applied to one direction of one revision, statement by statement."""

    def __init__(self, state: _State, direction: str) -> None:
        self._state = (
            state if direction == "upgrade" else _State(set(state.filled), {**state.checks}, set(state.proven))
        )
        self._is_upgrade = direction == "upgrade"
        self._made: dict[str, Step] = {}
        self._new: set[str] = set()
        self._closed: set[str] = set()
        self._policies: set[str] = set()
        self._guarded = False
        self._locked: dict[tuple[int, str], Effect] = {}

    def step(self, step: Step) -> Iterator[Found]:
        """Yield what is wrong with ``step``, as (rule, says, recipe)."""
        self._guarded = self._guarded or step.by("refuse_data_loss") is not None
        yield from self._functions(step)
        backfill = step.by("backfill")
        if backfill is not None:
            yield from self._backfill(step, backfill.arguments)
            return
        for effect in step.effects:
            if effect.kind in ("create table", "create partition"):
                self._new.add(effect.table)
                if effect.kind == "create table" and not step.conditional:
                    self._made[_bare(effect.table)] = step
            elif effect.kind == "enable row level security":
                self._closed.add(_bare(effect.table))
            elif effect.kind == "create policy":
                self._policies.add(_bare(effect.table))
            if not self._is_new(effect.table):
                yield from self._effect(step, effect)
            self._state.apply(effect)

    def end(self) -> Iterator[tuple[Step, str, str, str]]:
        """Yield what is missing at the end."""
        if not self._is_upgrade:
            return
        for table, step in self._made.items():
            if table not in self._closed or table not in self._policies:
                lacks = "policies" if table in self._closed else "row level security"
                yield step, "table-without-policies", f"{table} has no {lacks}.", _policies(table)

    def _effect(self, step: Step, effect: Effect) -> Iterator[Found]:
        table = effect.table
        rule = _RULE_OF.get(effect.kind)
        strong = effect.lock in MODES and MODES.index(effect.lock) >= BLOCKS_WRITERS
        if effect.kind in ("create index", "drop index", "reindex"):
            if not effect.safe and step.by("create_index_online", "drop_index_online") is None:
                yield "index-not-online", _INDEX_SAYS[effect.kind].format(effect.name or table), _index(effect)
        elif effect.kind == "set not null" or effect.kind == "add column not null":
            if (_bare(table), effect.name) not in self._state.proven:
                says = f"NOT NULL of {table}.{effect.name} reads the whole table under AccessExclusive"
                says += ", and fails where it has rows." if effect.kind == "add column not null" else "."
                yield "not-null-in-one-step", says, _not_null(table, effect.name)
        elif rule == "key-in-one-step":
            if not effect.safe:
                yield rule, f"The key {effect.name or 'of'} {table} is checked while writers wait.", _key(effect)
        elif effect.kind in ("update", "delete"):
            yield from self._rows(step, effect)
        elif effect.work and strong and effect.kind != "referenced" and not effect.safe:
            says = f"{effect.kind.capitalize()} of {table} {effect.work} it under {effect.lock}."
            yield "strong-lock-scan", says, _strong(effect)
        elif effect.kind == "add column" and effect.work:
            says = f"The new column {table}.{effect.name} rewrites the table under AccessExclusive."
            yield "strong-lock-scan", says, _column(effect)
        elif effect.kind == "validate":
            yield from self._under_a_lock(step, effect, "is read")
        if effect.kind in ("drop table", "drop column", "truncate", "drop schema") and not self._is_upgrade:
            yield from self._destroys(effect)
        if strong and table:
            self._locked.setdefault((step.transaction, _bare(table)), effect)

    def _rows(self, step: Step, effect: Effect) -> Iterator[Found]:
        if not self._is_upgrade and effect.kind == "delete":
            yield from self._destroys(effect)
        own = [call for call in step.calls if not any(callable(each) for each in call.arguments.values())]
        if own and own[0].name != "sql":
            return  # an operation of the project's own answers for what it does
        says = f"The {effect.kind} of {effect.table} holds every row that it changes until the end of the revision."
        yield "update-in-one-step", says, _backfill(effect.table)

    def _under_a_lock(self, step: Step, effect: Effect, does: str) -> Iterator[Found]:
        held = self._locked.get((step.transaction, _bare(effect.table)))
        if held is not None:
            says = f"{effect.table} {does} while the transaction still holds {held.lock} on it ({held.kind})."
            yield "strong-lock-scan", says, _LATER.format(name=effect.name, table=effect.table)

    def _backfill(self, step: Step, given: dict[str, Any]) -> Iterator[Found]:
        table = named(str(given["table"]))
        own = [call for call in step.calls if not any(callable(each) for each in call.arguments.values())]
        if str(given["pending"]).strip().upper() == "FALSE" or own[0].name != "backfill":
            return
        if _bare(table) not in self._state.filled and not self._is_new(table):
            says = f"No trigger fills the rows of {table} that come while {given['name']!r} runs."
            yield "backfill-without-trigger", says, _trigger(table)

    def _destroys(self, effect: Effect) -> Iterator[Found]:
        if not self._guarded and not self._is_new(effect.table):
            what = f"{effect.table}.{effect.name}" if effect.name else effect.table
            says = f"The {effect.kind} of {what} destroys what is in it, and nobody is asked."
            yield "downgrade-destroys", says, _guard(effect)

    def _functions(self, step: Step) -> Iterator[Found]:
        texts = [step.statement]
        if step.calls and step.calls[0].name != "sql":
            given = (each for call in step.calls for each in call.arguments.values() if isinstance(each, str))
            texts += [statement for each in given if "CREATE" in each.upper() for statement in split(each)]
        for statement in texts:
            name = _function(statement)
            if name and not _has_safe_path(statement):
                says = f"{name}() finds types, operators and functions by the search_path of whoever calls it."
                yield "function-search-path", says, _PATH

    def _is_new(self, table: str) -> bool:
        return table in self._new


_RULE_OF = dict.fromkeys(("add foreign key", "add unique", "add primary key"), "key-in-one-step")
_INDEX_SAYS = {
    "create index": "Writers wait while the index {} is built.",
    "drop index": "The index {} is dropped under AccessExclusive on its table: reads and writes wait.",
    "reindex": "Writers wait while {} is built anew.",
}


def _function(statement: Statement) -> str:
    words = [word for word in statement.words if word not in ("OR", "REPLACE")]
    if words[:1] != ["CREATE"] or words[1:2] not in (["FUNCTION"], ["PROCEDURE"]):
        return ""
    return named("".join(words[2 : words.index("(")])) if "(" in words else named(words[2])


def _has_safe_path(statement: Statement) -> bool:
    words = list(statement.words)
    if statement.has("BEGIN", "ATOMIC"):  # its names were bound when it was made
        return True
    for at, word in enumerate(words[:-2]):
        if word == "SET" and words[at + 1] == "SEARCH_PATH":
            path = words[at + 2 :]
            if path[0] == "FROM":  # a run has the safe path
                return True
            last = path[1]
            for comma, name in zip(path[2::2], path[3::2], strict=False):
                if comma != ",":
                    break
                last = name
            return named(last.strip("'")) == "pg_temp"
    return False


def _bare(table: str) -> str:
    return table.rpartition(".")[2]


def _spans(tree: ast.AST) -> list[tuple[int, int]]:
    compound = (ast.FunctionDef, ast.ClassDef, ast.If, ast.For, ast.While, ast.With, ast.Try)
    return [
        (node.lineno, node.end_lineno or node.lineno)
        for node in ast.walk(tree)
        if isinstance(node, ast.stmt) and not isinstance(node, compound)
    ]


def _line_of(error: BaseException, path: Path) -> int | None:
    """Return the line of the revision from which ``error`` came."""
    found, trace = None, error.__traceback__
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename).resolve() == path:
            found = trace.tb_lineno
        trace = trace.tb_next
    return found


_REASON = "# lint: ignore RULE -- the reason"
_OFFLINE = """\
Write what a script can run, and ask the database only while there is one:
if not context.is_offline_mode():
    ..."""
_PATH = "SET search_path = pg_catalog, pg_temp   -- beside LANGUAGE; and name the schema of what the body uses"
_LATER = """\
In a later revision, so that the lock is let go of first:
op.validate_constraint("{name}", "{table}")"""


def _index(effect: Effect) -> str:
    name = effect.name or "ix_name"
    if effect.kind == "drop index":
        return f'op.drop_index_online("{name}")'
    if effect.kind == "reindex":
        return f'op.sql("REINDEX INDEX CONCURRENTLY {name}")   # within op.get_context().autocommit_block()'
    return f'In a revision of its own:\nop.create_index_online("{name}", "{effect.table}", ["column"])'


def _not_null(table: str, column: str) -> str:
    column = column if re.fullmatch(r"\w+", column) else "column"
    return (
        f"The column comes nullable, or with a constant default. Then, each in a revision of its own:\n"
        f'op.add_not_null_check("{table}", "{column}")\n'
        f'op.validate_not_null_check("{table}", "{column}")\n'
        f'op.set_not_null("{table}", "{column}")'
    )


def _key(effect: Effect) -> str:
    if effect.kind == "add foreign key":
        name = effect.name or "fk_name"
        return (
            f'op.create_foreign_key("{name}", "{effect.table}", ..., postgresql_not_valid=True)\n'
            f'and in a later revision: op.validate_constraint("{name}", "{effect.table}")'
        )
    kind = "PRIMARY KEY" if effect.kind == "add primary key" else "UNIQUE"
    name = effect.name or "uq_name"
    return (
        f'op.create_index_online("{name}", "{effect.table}", ["column"], unique=True)\n'
        "and in a later revision:\n"
        f'op.sql("ALTER TABLE {effect.table} ADD CONSTRAINT {name} {kind} USING INDEX {name}")'
    )


def _strong(effect: Effect) -> str:
    if effect.kind == "add check":
        name = effect.name or "ck_name"
        return (
            f'op.sql("ALTER TABLE {effect.table} ADD CONSTRAINT {name} CHECK (...) NOT VALID")\n'
            f'and in a later revision: op.validate_constraint("{name}", "{effect.table}")'
        )
    if effect.kind == "alter type":
        return (
            "A new column of the new type, a trigger that fills it, op.backfill, then the readers move to it. A wider "
            "varchar, or text for a varchar, is no rewrite: ignore it with that reason."
        )
    if effect.kind == "refresh":
        return f"REFRESH MATERIALIZED VIEW CONCURRENTLY {effect.table}   -- needs a unique index"
    if effect.kind == "attached":
        return "Before, in revisions of their own: a CHECK of the partition's bounds NOT VALID, then validated."
    return "A new table or column beside the old one, a trigger that fills it, op.backfill, then the readers move."


def _column(effect: Effect) -> str:
    return (
        f'op.add_column("{effect.table}", sa.Column("{effect.name}", ..., nullable=True))   # no value of each row\n'
        f"ALTER TABLE {effect.table} ALTER {effect.name} SET DEFAULT ...   -- for rows that come\n"
        "and op.backfill in the next revision, for those that stand"
    )


def _backfill(table: str) -> str:
    bare = _bare(table)[:1]
    return (
        f'op.backfill("a name", table="{table}", alias="{bare}",\n'
        f'    batch="UPDATE {table} AS {bare} SET ... WHERE {{batch}} AND <pending>", pending="<pending>")'
    )


def _trigger(table: str) -> str:
    return (
        "In the revision before it:\n"
        f"CREATE TRIGGER {_bare(table)}_fill BEFORE INSERT OR UPDATE ON {table}\n"
        "  FOR EACH ROW WHEN (<pending>) EXECUTE FUNCTION ..."
    )


def _policies(table: str) -> str:
    return (
        f'op.enable_row_level_security("{table}")\n'
        f'op.create_policy("{table}_select_own", "{table}", "SELECT", to="...", using="...")'
    )


def _guard(effect: Effect) -> str:
    count = f"SELECT count(*) FROM {effect.table}"
    if effect.kind == "drop column":
        count += f" WHERE {effect.name} IS NOT NULL"
    return f'First of all in downgrade():\nop.refuse_data_loss("rows of {effect.table}", "{count}")'
