"""Renames of classes and modules as a TOML file, for people and programs that cannot import the application.

    [rename]
    "shop.models:Cart" = "shop.models:Basket"

    [move_module]
    old_shop = "shop"

- `move_module` is of a module and of all that is below it.
- Names that are none, clash or go in a circle, and a file that cannot be read, are named errors with the file's path.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from perdure.errors import InvalidRename, NotFound
from perdure.files import Files
from perdure.pickling.renames import Renames

TABLES = ("rename", "move_module")


class Names(NamedTuple):
    """Old names and their new ones: of classes and functions (`module:Name`), and of modules."""

    renames: Mapping[str, str] = {}
    moves: Mapping[str, str] = {}

    def joined(self, other: Names) -> Names:
        """Both together; raises `InvalidRename` where they give one name two new ones."""
        for mine, others in ((self.renames, other.renames), (self.moves, other.moves)):
            for old in mine.keys() & others.keys():
                if mine[old] != others[old]:
                    raise InvalidRename(
                        f"{old} is to become {mine[old]}, and {others[old]} as well.", hint="Leave one of them out."
                    )
        return Names({**self.renames, **other.renames}, {**self.moves, **other.moves})


def read_names(path: str | os.PathLike[str]) -> Names:
    """What the TOML file at `path` says. Raises `InvalidRename`, `NotFound`, `AccessDenied`."""
    place = os.path.abspath(path)
    data = Files().read(place)
    if data is None:
        raise NotFound(f"There is no file {os.fspath(path)}.", hint="Look at the path.", path=place)
    import tomllib  # only who has such a file pays for it

    try:
        text = data.decode()
        told = tomllib.loads(text)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidRename(
            f"{os.fspath(path)} is no TOML file: {error}.",
            hint='Write a table [rename] with lines such as "shop:Cart" = "shop:Basket"; a name stands there once.',
            path=place,
        ) from error
    names = Names(*(_table(told, table, os.fspath(path), place) for table in TABLES))
    unknown = sorted(told.keys() - set(TABLES))
    if unknown:
        raise InvalidRename(
            f"{os.fspath(path)} has {unknown[0]!r}, which means nothing here.",
            hint="Its tables are [rename] and [move_module].",
            path=place,
        )
    try:
        Renames(names.renames, names.moves)
    except InvalidRename as error:
        raise InvalidRename(f"{os.fspath(path)}: {error.message}", hint=error.hint, path=place) from error
    return names


def _table(told: Mapping[str, Any], table: str, shown: str, place: str) -> dict[str, str]:
    found = told.get(table, {})
    if not isinstance(found, dict) or not all(isinstance(new, str) for new in found.values()):
        example = '"shop:Cart" = "shop:Basket"' if table == "rename" else 'old_shop = "shop"; "a.b" = "a.c" in quotes'
        raise InvalidRename(
            f"[{table}] of {shown} is no table of names and their new ones.", hint=f"Write {example}.", path=place
        )
    return dict(found)
