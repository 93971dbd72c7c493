"""The options of ``-x`` that the chat schema adds to the engine's."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Self

from alembic.util import CommandError

from .engine import options as engine
from .engine.options import option
from .roles import Roles

_ROLES = {"anon-role": "anon", "authenticated-role": "authenticated", "service-role": "service_role"}
_NO_NAMES = ("public", "none", "current_user", "current_role", "session_user", "user")


@dataclasses.dataclass(frozen=True)
class Options(engine.Options):
    """The options of one run; what was not given of the roles may be settled by the database."""

    on_owner_mismatch: str = option(
        "stop",
        "move: adopt rows whose owner is not that of what they hang on, by the rule that the refusal names",
        "stop",
        "move",
    )
    chats_elsewhere: str = option(
        "stop",
        "leave: upgrade beside tables of chats that stand in another schema or under a quoted name",
        "stop",
        "leave",
    )
    rehearse: bool = option(True, "no: upgrade a database that is in use without a rehearsal on a copy of its catalog")
    anon_role: str = option("anon", "name of the role for requests without a user")
    authenticated_role: str = option("authenticated", "name of the role for requests of a user")
    service_role: str = option("service_role", "name of the role for trusted services")

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

    def role(self, name: str) -> str:
        """Return the server's name of one of the three roles."""
        return self.roles.actual(name)

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> Self:
        """Read ``-x`` options; see :meth:`app.engine.options.Options.parse`."""
        options = super().parse(given)
        _refuse_one_name_for_two(options)
        return options

    @classmethod
    def converted(cls, name: str, text: str, field: dataclasses.Field[Any]) -> Any:
        """Return the value that ``text`` gives to the option ``name``, a role's name among them."""
        return _role_name(name, text) if name in _ROLES else super().converted(name, text, field)


def _refuse_one_name_for_two(options: Options) -> None:
    """Two roles of one name would be one role, with the rights of both."""
    by_name: dict[str, list[str]] = {}
    for named, logical in _ROLES.items():
        by_name.setdefault(options.roles.actual(logical), []).append(named)
    for name, same in by_name.items():
        if len(same) > 1:
            raise CommandError(
                f"{', '.join(same[:-1])} and {same[-1]} are {'all' if len(same) == 3 else 'both'} {name}, so nothing "
                "was run: that one role would have the rights of each, so that who comes as the lesser could do what "
                "only the greater may. Give each role a name of its own: -x anon-role=..., -x authenticated-role=..., "
                "-x service-role=..."
            )


def _role_name(name: str, text: str) -> str:
    if not re.fullmatch(r"[^\s\0\"]+", text) or len(text.encode()) > 63:
        raise CommandError(f"-x {name} takes a role name of 1 to 63 bytes, not {text!r}. Nothing was run.")
    if text.lower() in _NO_NAMES or text.lower().startswith("pg_"):
        raise CommandError(
            f"-x {name}={text}: PostgreSQL reserves that name, so nothing was run: grants and policies would speak of "
            "everybody, of the login, or of a role of the server's own. Choose a name of your own, as app_"
            f"{name.removesuffix('-role')}."
        )
    return text
