"""Errors of jobs as text that is good on every machine: no file in it has an absolute path.

- A file below an entry of the import path that belongs to Python or to installed packages is named from there; any
  other from the root of its repository, or from its entry of the import path, or by its name alone.
- Texts of errors are the user's and stay as they are, but for the places of code files in them.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
from types import TracebackType
from typing import Any

from perdure.code.git import find_repository

_CODE_FILE = re.compile(r"(?<![\w./\\-])(?:[A-Za-z]:)?[/\\][^\s'\"<>()|*?]+\.(?:pyc?|pyi|pyd|so)\b")
_INSTALLED = tuple({os.path.realpath(prefix) + os.sep for prefix in (sys.prefix, sys.base_prefix)})

_short_names: dict[tuple[str, str], str] = {}


def described(error: BaseException) -> tuple[str, str, str]:
    """The class name, the text and the traceback of what a job raised; never raises."""
    try:
        told = traceback.TracebackException(type(error), error, _users_part(error.__traceback__), compact=True)
        _shorten(told, set())
        trace = "".join(told.format())
    except RecursionError:  # the error comes from the end of the stack, and formatting it needs some
        trace = ""
    return type(error).__name__, without_places(_text_of(error)), without_places(trace)


def without_places(text: str) -> str:
    """The text with the places of code files in it shortened."""
    return _CODE_FILE.sub(lambda match: short_name(match[0]), text)


def short_name(file: str) -> str:
    """A file as seen from its repository or its entry of the import path."""
    if not os.path.isabs(file):
        return file
    key = (file, os.path.dirname(file))
    found = _short_names.get(key)
    if found is None:
        found = _short_names[key] = _short_name(os.path.realpath(file), file)
    return found


def _short_name(real: str, file: str) -> str:
    entries = sorted({os.path.realpath(entry or os.curdir) for entry in sys.path}, key=len, reverse=True)
    entry = next((entry for entry in entries if real.startswith(os.path.join(entry, ""))), None)
    if entry is None or not real.startswith(_INSTALLED):
        repository = find_repository(os.path.dirname(real))
        entry = repository.root if repository is not None else entry
    return os.path.relpath(real, entry).replace(os.sep, "/") if entry is not None else os.path.basename(file)


def _text_of(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"the job tried to exit the interpreter with {error.code!r}"
    try:
        return str(error)
    except Exception:  # noqa: BLE001  # the user's __str__: the job has failed already, and that is to be told
        return "<its text cannot be made: __str__ failed>"


def _users_part(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from the user's function on; all of it where the user's code was not reached."""
    start = trace
    while start is not None and start.tb_frame.f_globals.get("__name__", "").startswith("perdure."):
        start = start.tb_next
    return start or trace


def _shorten(told: traceback.TracebackException, seen: set[int]) -> None:
    """Shorten the files of an error and of those that it came from."""
    todo: list[Any] = [told]
    while todo:
        part = todo.pop()
        if part is None or id(part) in seen:
            continue
        seen.add(id(part))
        for frame in part.stack:
            frame.filename = short_name(frame.filename)
        if getattr(part, "filename", None):  # of a SyntaxError
            part.filename = short_name(part.filename)
        todo += [part.__cause__, part.__context__, *(part.exceptions or ())]
