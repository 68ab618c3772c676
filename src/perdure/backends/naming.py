"""What a store may be called: part of its tables' names in a SQL database, or the path of its files.

- A table's name gets into statements that are put together; a path goes to the operating system as it is.
"""

from __future__ import annotations

import os
import re

from perdure.errors import InvalidArgument, UnknownScheme

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")  # servers take up to 63 characters, and `_superseded` is to fit


def checked_name(name: str) -> str:
    """The name, if it can be that of a store's tables; raises `UnknownScheme` if not."""
    if not _NAME.fullmatch(name):
        raise UnknownScheme(
            f"{name!r:.100} cannot be the name of a store's tables.",
            hint="Take up to 40 of the letters a to z, digits and underscores; no digit in front.",
        )
    return name


def checked_path(path: str | os.PathLike[str]) -> str:
    """The absolute path; raises `InvalidArgument` for what no file can be called."""
    text = os.fspath(path)
    try:
        sound = "\0" not in text and os.fsencode(text) is not None
    except UnicodeEncodeError:
        sound = False
    if not sound:
        raise InvalidArgument(
            f"{text!r:.100} holds a character that no path can have.", hint="Is it a path, or read from one wrongly?"
        )
    return os.path.abspath(text)
