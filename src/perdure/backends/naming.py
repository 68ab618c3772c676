"""What a store in a SQL database may be called: part of its tables' names, in statements that are put together."""

from __future__ import annotations

import re

from perdure.errors import UnknownScheme

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")  # servers take up to 63 characters, and `_superseded` is to fit


def checked_name(name: str) -> str:
    """The name, if it can be that of a store's tables; raises `UnknownScheme` if not."""
    if not _NAME.fullmatch(name):
        raise UnknownScheme(
            f"{name!r:.100} cannot be the name of a store's tables.",
            hint="Take up to 40 of the letters a to z, digits and underscores; no digit in front.",
        )
    return name
