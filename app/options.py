"""Everything ``-x name=value`` can say to a run, in one place.

``alembic -x lock-timeout=250ms upgrade head`` and ``chat-schema -x ...`` take the same options. A name that is
not in :class:`Options` is refused, because a misspelt safety option that is silently ignored is worse than none.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping
from typing import Any

from alembic.util import CommandError

from .roles import Roles

_UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}
_LONGEST = 24 * _UNITS["h"]
_ROLES = {"anon-role": "anon", "authenticated-role": "authenticated", "service-role": "service_role"}
_CHOICES = {"on-owner-mismatch": ("stop", "move"), "chats-elsewhere": ("stop", "leave")}
_NO_NAMES = ("public", "none", "current_user", "current_role", "session_user", "user")


def _option(default: Any, text: str) -> Any:
    return dataclasses.field(default=default, metadata={"help": text})


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of one run; durations are seconds here, and ``250ms``, ``10s``, ``5min`` or ``1h`` when given."""

    lock_timeout: float = _option(0.1, "how long one attempt waits for a table lock (and makes others queue behind it)")
    lock_retry_for: float = _option(600.0, "how long a revision goes on retrying before it gives up and is undone")
    deployer_wait: float = _option(3600.0, "how long to wait for another deployment that holds the deployer lock")
    batch_time: float = _option(0.2, "target duration of a backfill batch")
    full_speed: bool = _option(
        False, "yes: a backfill does not give way while others are at work, by a quarter of batch-time and equal rests"
    )
    backfill_workers: int = _option(
        1, "connections that backfill at the same time, 1 to 16; one, whatever is said, while others are at work"
    )
    max_replica_lag: float = _option(10.0, "how far a replica may fall behind until a backfill waits for it")
    allow_data_loss: bool = _option(False, "yes: a downgrade may destroy rows that the older shape cannot hold")
    on_owner_mismatch: str = _option(
        "stop", "move: adopt rows whose owner is not that of what they hang on, by the rule that the refusal names"
    )
    chats_elsewhere: str = _option(
        "stop", "leave: upgrade beside tables of chats that stand in another schema or under a quoted name"
    )
    rehearse: bool = _option(True, "no: upgrade a database that is in use without a rehearsal on a copy of its catalog")
    anon_role: str = _option("anon", "name of the role for requests without a user")
    authenticated_role: str = _option("authenticated", "name of the role for requests of a user")
    service_role: str = _option("service_role", "name of the role for trusted services")
    named: frozenset[str] = frozenset()
    """The options that were given, as ``anon-role``; what was not may be settled by the database."""

    @property
    def moves_strays(self) -> bool:
        """Whether rows of another owner than what they hang on are to be moved."""
        return self.on_owner_mismatch == "move"

    @property
    def roles(self) -> Roles:
        """The role names as one object."""
        return Roles(self.anon_role, self.authenticated_role, self.service_role)

    def settle_roles(self, recorded: Roles | None) -> Options:
        """Return these options with the role names that the database has ``recorded``.

        Raises :class:`alembic.util.CommandError` when other names were asked for.
        """
        if recorded is None:
            return self
        names = {option: recorded.actual(logical) for option, logical in _ROLES.items()}
        asked = {option: self.roles.actual(logical) for option, logical in _ROLES.items() if option in self.named}
        wrong = [f"-x {option}={name}" for option, name in asked.items() if name != names[option]]
        if wrong:
            raise CommandError(
                f"{', '.join(wrong)}: this database was set up with "
                f"{', '.join(f'{option}={name}' for option, name in names.items())}, so nothing was run: policies and "
                "grants for another role would leave those that clients use as they are. Leave the -x ...-role options "
                "out: the recorded names are used."
            )
        return dataclasses.replace(
            self,
            anon_role=recorded.anon,
            authenticated_role=recorded.authenticated,
            service_role=recorded.service_role,
        )

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> Options:
        """Read ``-x`` options, for example ``{"lock-timeout": "250ms"}``.

        Raises :class:`alembic.util.CommandError` for an unknown name or a value that does not fit.
        """
        fields = {field.name.replace("_", "-"): field for field in _fields()}
        values: dict[str, Any] = {}
        for name, text in given.items():
            if name not in fields:
                close = difflib.get_close_matches(name, fields, n=1)
                hint = f" Did you mean -x {close[0]}=...?" if close else ""
                raise CommandError(f"Unknown option -x {name}, so nothing was run.{hint}\nKnown options:\n{describe()}")
            field = fields[name]
            values[field.name] = _convert(name, text, field.default)
        options = cls(**values, named=frozenset(given))
        _refuse_one_name_for_two(options)
        return options


def describe() -> str:
    """Return the table of options that help and errors print."""
    lines = []
    for field in _fields():
        name = field.name.replace("_", "-")
        written = f"{name}={_shown(field.default)}"
        lines.append(f"  -x {written:<34} {field.metadata['help']}")
    return "\n".join(lines)


def _fields() -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(Options) if "help" in field.metadata]


def _refuse_one_name_for_two(options: Options) -> None:
    """Two roles of one name would be one role, with the rights of both."""
    by_name: dict[str, list[str]] = {}
    for option, logical in _ROLES.items():
        by_name.setdefault(options.roles.actual(logical), []).append(option)
    for name, same in by_name.items():
        if len(same) > 1:
            raise CommandError(
                f"{', '.join(same[:-1])} and {same[-1]} are {'all' if len(same) == 3 else 'both'} {name}, so nothing "
                "was run: that one role would have the rights of each, so that who comes as the lesser could do what "
                "only the greater may. Give each role a name of its own: -x anon-role=..., -x authenticated-role=..., "
                "-x service-role=..."
            )


def _convert(name: str, text: str, default: object) -> Any:
    if isinstance(default, bool):
        if text in ("yes", "no"):
            return text == "yes"
        raise CommandError(f"-x {name} takes yes or no, not {text!r}. Nothing was run.")
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
    if name in _CHOICES:
        if text in _CHOICES[name]:
            return text
        raise CommandError(f"-x {name} takes {' or '.join(_CHOICES[name])}, not {text!r}. Nothing was run.")
    if not re.fullmatch(r"[^\s\0\"]+", text) or len(text.encode()) > 63:
        raise CommandError(f"-x {name} takes a role name of 1 to 63 bytes, not {text!r}. Nothing was run.")
    if text.lower() in _NO_NAMES or text.lower().startswith("pg_"):
        raise CommandError(
            f"-x {name}={text}: PostgreSQL reserves that name, so nothing was run: grants and policies would speak of "
            "everybody, of the login, or of a role of the server's own. Choose a name of your own, as app_"
            f"{name.removesuffix('-role')}."
        )
    return text


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return "yes|no"
    if isinstance(default, float):
        return f"{default * 1000:.0f}ms" if default < 1 else f"{default:.0f}s"
    return str(default)
