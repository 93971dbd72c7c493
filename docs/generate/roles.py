"""What the site reads of docstrings: Sphinx's roles, such as ``:class:`Session```, as plain code."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Roles(griffe.Extension):
    """Takes the roles out of each docstring before it is shown."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Write ``:func:`name``` as ```name```."""
        if obj.docstring:
            obj.docstring.value = re.sub(r":\w+:(?=`)", "", obj.docstring.value).replace("``", "`")
