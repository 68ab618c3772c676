"""Imports a module of the user's, and tells in one sentence what went wrong in the user's code."""

from __future__ import annotations

import os
import traceback
from importlib import import_module
from types import ModuleType, TracebackType

from perdure.errors import FlowError


def import_users(name: str, shown: str) -> ModuleType:
    """The module of that name; whatever it raises becomes a sentence about `shown`."""
    try:
        return import_module(name)
    except SystemExit as error:
        raise FlowError(
            f"{shown} ends the program ({told(error)}) while it is imported.",
            hint='Put what it does as a script under `if __name__ == "__main__":`.',
        ) from error
    except Exception as error:
        raise FlowError(f"Importing {shown} raised {told(error)}, so nothing of it can be run.") from error


def told(error: BaseException, trace: TracebackType | None = None) -> str:
    """What a user's code raised, in one sentence with the line that did it."""
    text = " ".join(str(error).split())
    what = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if isinstance(error, SyntaxError) and error.filename:
        return f"{type(error).__name__}: {error.msg} ({_near(error.filename)}, line {error.lineno})"
    frames = [
        frame
        for frame in traceback.extract_tb(trace or error.__traceback__)
        if not frame.filename.startswith("<") and not _is_house(frame.filename)
    ]
    own = [frame for frame in frames if _near(frame.filename) != frame.filename] or frames
    return f"{what} ({_near(own[-1].filename)}, line {own[-1].lineno})" if own else what


def _near(file: str) -> str:
    inside = os.path.relpath(file)
    return file if inside.startswith("..") else inside


def _is_house(file: str) -> bool:
    return file.startswith(os.path.dirname(os.path.dirname(__file__)) + os.sep)
