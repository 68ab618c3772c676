"""Renames and moves that a program declares: `rename`, `move_module`, and those of a file."""

from __future__ import annotations

import os

from perdure.evolution.names import read_names
from perdure.pickling.declared import DECLARED


def rename(old: str, new: str) -> None:
    """Let what records call `old` (`module:Name`) be `new`: a class with all that is nested in it, or a function.

    A member of an enumeration is named through its class: `shop:Colour.RED`. Holds for this process. Raises
    `InvalidRename` for a circle, for a name that was renamed to something else before, and for what is no name.
    """
    DECLARED.declare({old: new}, {})


def move_module(old: str, new: str) -> None:
    """Let the module `old` of records, and everything below it, be `new`. Raises as `rename` does."""
    DECLARED.declare({}, {old: new})


def declare_names(path: str | os.PathLike[str]) -> None:
    """Declare all that a TOML file says, or nothing: tables `[rename]` and `[move_module]`. Raises `InvalidRename`."""
    names = read_names(path)
    DECLARED.declare(names.renames, names.moves)
