"""Names of classes and functions in records: `module:qualified.name`.

- A class of the running script (`__main__`) is named after the module that the script is when imported: the module
  name given to `python -m`, or the stem of its file. When that very script runs, the name means `__main__`'s class
  again, never a second import.
- A name is only given to what can be found again under it.
- What is declared of a name (`declared`) comes before what is found under it.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from contextlib import suppress
from typing import Any

from perdure.errors import CannotPickle, ClassNotFound, PerdureError
from perdure.pickling.declared import DECLARED

MAIN = "__main__"
_last_seen: list[Any] = []  # the main module, and its file
WAYS_OUT = (
    "If it is called otherwise now, say so with perdure.rename or perdure.move_module;"
    ' load(id, missing="opaque") shows what is stored without it.'
)

_in_place: dict[str, Any] = {}


def main_module_name() -> str:
    """The importable name of the running script; `__main__` where it has none (an interactive session)."""
    main = sys.modules.get(MAIN)
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name:
        return str(spec.name).removesuffix(".__main__")
    file = getattr(main, "__file__", None)
    if file:
        _last_seen[:] = [main, file]
    elif _last_seen and _last_seen[0] is main:
        file = _last_seen[1]  # Python takes it away at the end of the script, when threads may still run
    name = os.path.basename(file) if file else ""  # `pathlib` would take most of the time
    stem, _, suffix = name.rpartition(".")
    stem = stem if stem and suffix else name
    return stem if stem.isidentifier() else MAIN


def public_module(module: str) -> str:
    """`module` as records spell it."""
    return main_module_name() if module == MAIN else module


def shown_name(cls: type[Any]) -> str:
    """The name of a class for those who look at a record; nothing need be found under it (`NoneType`, for one)."""
    return f"{public_module(cls.__module__)}:{cls.__qualname__}"


def name_of(obj: Any) -> str:
    """The name of a class or function, which `find` gives back; raises `CannotPickle` where there is none."""
    module, qualname = getattr(obj, "__module__", None), getattr(obj, "__qualname__", None)
    if not module or not qualname:
        raise CannotPickle(f"{obj!r} has no name under which it could be found again.")
    try:
        found = _walk(sys.modules[module], qualname)
    except (KeyError, AttributeError):
        found = DECLARED.known.get(f"{public_module(module)}:{qualname}")
    if found is not obj:
        raise CannotPickle(
            f"{module}.{qualname} is not what is found under that name.",
            hint="Define it at the top level of a module, so that it can be imported when it is loaded.",
        )
    return f"{public_module(module)}:{qualname}"


def find(name: str) -> Any:
    """What `name` means here; imports its module if need be. Raises `ClassNotFound`."""
    module, _, qualname = name.partition(":")
    return find_global(module, qualname)


def find_imported(name: str) -> Any:
    """What `name` means among what is imported already, None where it means nothing there; runs nobody's code."""
    name = DECLARED.current(name) if DECLARED.active else name
    if name in DECLARED.known:
        return DECLARED.known[name]
    module, _, qualname = name.partition(":")
    if module != MAIN and module == main_module_name():
        module = MAIN
    return imported_as(module, qualname)


def imported_as(module: str, qualname: str) -> Any:
    """What stands under that name in a module, None where nothing does or it is not imported; runs nobody's code."""
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, "__dict__", {}).get(part)  # no module's or class's own way of giving attributes
    return found


def find_global(module: str, qualname: str) -> Any:
    """What is called `qualname` in `module`, which is imported if need be. Raises `ClassNotFound`."""
    if DECLARED.active:
        name = DECLARED.current(f"{module}:{qualname}" if qualname else module)
        if name in DECLARED.known:
            return DECLARED.known[name]
        module, _, qualname = name.partition(":")
    if not qualname:
        raise ClassNotFound(
            f"No class here has the stable name {module}.",
            hint="Import the module that declares it with perdure.versioned. " + WAYS_OUT,
            path=module,
        )
    if module != MAIN and module == main_module_name():
        try:
            return _walk(sys.modules[MAIN], qualname)
        except AttributeError:
            pass  # the script may have shrunk since, or share its name with another module: import that one
    loaded = sys.modules.get(module)
    try:
        if loaded is None:
            _refuse_running(module)
            loaded = importlib.import_module(module)
        return _walk(loaded, qualname)
    except (PerdureError, MemoryError):
        raise
    except (Exception, SystemExit) as error:  # the user's module is run: anything may come out
        now = _name_now(module, qualname)
        if now is not None:
            with suppress(ClassNotFound):
                return find_global(*now)
        usual = isinstance(error, (ImportError, AttributeError, ValueError, TypeError))
        said = f"{error}" if usual else f"importing it raises {type(error).__name__}: {error}"
        if module in _in_place:
            with suppress(AttributeError):
                return _walk(_in_place[module], qualname)
        raise ClassNotFound(
            f"{module}:{qualname} cannot be found here: {said}.",
            hint="Make its module importable (start in its directory, or install it). " + WAYS_OUT,
            path=f"{module}:{qualname}",
        ) from error


def _name_now(module: str, qualname: str) -> tuple[str, str] | None:
    """What a name of Python 2's standard library became: records of protocols up to 2 may have such names."""
    import _compat_pickle  # late: hardly anybody needs it

    renamed: tuple[str, str] | None = _compat_pickle.NAME_MAPPING.get((module, qualname))
    moved: str | None = _compat_pickle.IMPORT_MAPPING.get(module)
    return renamed or (None if moved is None else (moved, qualname))


def _refuse_running(module: str) -> None:
    """Raise `ImportError` if the module is the script that is running: all of it would run a second time."""
    file = getattr(sys.modules.get(MAIN), "__file__", None)
    if file is None or module != main_module_name():
        return
    spec = importlib.util.find_spec(module)
    if spec is not None and spec.origin is not None and os.path.realpath(spec.origin) == os.path.realpath(file):
        raise ImportError("the script that is running does not have it")


def put_in_place(name: str, module: Any) -> None:
    """Let records that name `module` where this process has nothing of it mean what this one has."""
    _in_place[name] = module


def _walk(module: Any, qualname: str) -> Any:
    found = module
    for part in qualname.split("."):
        found = getattr(found, part)
    return found
