"""Everything ``-x name=value`` can say to a run of the engine; a project adds options of its own in a subclass.

``alembic -x lock-timeout=250ms upgrade head``. A name that is not in the class is refused, because a misspelt safety
option that is silently ignored is worse than none.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping
from typing import Any, Self

from alembic.util import CommandError

_BYTES = {"MB": 2**20, "GB": 2**30, "TB": 2**40}
_UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}
_LONGEST = 24 * _UNITS["h"]


class Size(int):
    """A number of bytes, given as ``500MB``, ``10GB`` or ``2TB``; 0 is no limit, given as ``none``."""

    def __str__(self) -> str:
        if not self:
            return "none"
        unit = next((unit for unit in ("TB", "GB", "MB") if self >= _BYTES[unit]), "MB")
        return f"{self / _BYTES[unit]:.4g}{unit}"


def option(default: Any, text: str, *choices: str) -> Any:
    """Return a field for ``-x``: its type is that of ``default``, a string is one of ``choices``."""
    return dataclasses.field(default=default, metadata={"help": text, "choices": choices})


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of one run; durations are seconds here, and ``250ms``, ``10s``, ``5min`` or ``1h`` when given."""

    lock_timeout: float = option(0.1, "how long one attempt waits for a table lock (and makes others queue behind it)")
    lock_retry_for: float = option(600.0, "how long a revision goes on retrying before it gives up and is undone")
    deployer_wait: float = option(3600.0, "how long to wait for another deployment that holds the deployer lock")
    batch_time: float = option(0.2, "target duration of a backfill batch")
    full_speed: bool = option(
        False, "yes: a backfill does not give way while others are at work, by a quarter of batch-time and equal rests"
    )
    backfill_workers: int = option(
        1, "connections that backfill at the same time, 1 to 16; one, whatever is said, while others are at work"
    )
    max_replica_lag: float = option(10.0, "how far a replica may fall behind until a backfill waits for it")
    max_wal_held: Size = option(  # noqa: RUF009  an int
        Size(10 * _BYTES["GB"]), "how much log a replication slot or the archive may hold back until a backfill waits"
    )
    max_database_size: Size = option(  # noqa: RUF009  an int
        Size(0), "how large the database may be until a backfill waits for room"
    )
    wait_for_autovacuum: bool = option(False, "yes: a backfill waits while autovacuum is at work on its table")
    wait_while: str = option("", "a query; while its answer is true, or a text that says why, a backfill waits")
    stop_before_backfill: bool = option(
        False, "yes: an upgrade ends before the first revision that has rows to backfill, with exit code 3"
    )
    before_revision: str = option("", "a command to run before each revision; where it fails, the run ends")
    after_revision: str = option("", "a command to run after each revision; where it fails, the run ends")
    log_format: str = option("plain", "json: each line of the log is a JSON object", "plain", "json")
    metrics: str = option("", "a file for Prometheus to which the run writes how far it is, once a second")
    allow_data_loss: bool = option(False, "yes: a downgrade may destroy rows that the older shape cannot hold")
    named: frozenset[str] = dataclasses.field(default=frozenset(), kw_only=True)
    """The options that were given, by the name that ``-x`` takes."""

    def role(self, name: str) -> str:
        """Return the server's name of the role that revisions call ``name``; a project may let its options say it."""
        return name

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> Self:
        """Read ``-x`` options, for example ``{"lock-timeout": "250ms"}``.

        Raises :class:`alembic.util.CommandError` for an unknown name or a value that does not fit.
        """
        fields = {field.name.replace("_", "-"): field for field in _fields(cls)}
        values: dict[str, Any] = {}
        for name, text in given.items():
            if name not in fields:
                close = difflib.get_close_matches(name, fields, n=1)
                hint = f" Did you mean -x {close[0]}=...?" if close else ""
                known = cls.describe()
                raise CommandError(f"Unknown option -x {name}, so nothing was run.{hint}\nKnown options:\n{known}")
            field = fields[name]
            values[field.name] = cls.converted(name, text, field)
        return cls(**values, named=frozenset(given))

    @classmethod
    def converted(cls, name: str, text: str, field: dataclasses.Field[Any]) -> Any:
        """Return the value that ``text`` gives to the option ``name``."""
        return _convert(name, text, field)

    @classmethod
    def describe(cls) -> str:
        """Return the table of options that help and errors print."""
        lines = []
        for field in _fields(cls):
            name = field.name.replace("_", "-")
            written = f"{name}={_shown(field.default)}"
            lines.append(f"  -x {written:<34} {field.metadata['help']}")
        return "\n".join(lines)


def _fields(options: type[Options]) -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(options) if "help" in field.metadata]


def _convert(name: str, text: str, field: dataclasses.Field[Any]) -> Any:
    default, choices = field.default, field.metadata["choices"]
    if isinstance(default, bool):
        if text in ("yes", "no"):
            return text == "yes"
        raise CommandError(f"-x {name} takes yes or no, not {text!r}. Nothing was run.")
    if isinstance(default, Size):
        match = re.fullmatch(r"(\d{1,6}(?:\.\d+)?)(MB|GB|TB)", text)
        if text == "none" or match:
            return Size(float(match[1]) * _BYTES[match[2]]) if match else Size(0)
        raise CommandError(
            f"-x {name} takes none, or a size such as 500MB, 10GB or 2TB, not {text!r}. Nothing was run."
        )
    if isinstance(default, int):
        if text.isdecimal() and 1 <= int(text) <= 16:
            return int(text)
        raise CommandError(f"-x {name} takes a whole number from 1 to 16, not {text!r}. Nothing was run.")
    if isinstance(default, float):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|min|h)", text)
        # Less than a millisecond is 0 to PostgreSQL, which takes it for no limit at all.
        if match and _UNITS["ms"] <= (seconds := float(match[1]) * _UNITS[match[2]]) <= _LONGEST:
            return seconds
        raise CommandError(
            f"-x {name} takes a duration from 1ms to 24h, such as 250ms, 10s, 5min or 1h, not {text!r}. "
            "Nothing was run."
        )
    if choices and text not in choices:
        raise CommandError(f"-x {name} takes {' or '.join(choices)}, not {text!r}. Nothing was run.")
    return text


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return "yes|no"
    if isinstance(default, float):
        return f"{default * 1000:.0f}ms" if default < 1 else f"{default:.0f}s"
    return str(default)
