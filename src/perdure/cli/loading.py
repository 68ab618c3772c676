"""Finds the module of a flow, by its file or its name, and the flow in it.

- A file is loaded as the module of its stem, with its directory first on the import path, so that workers and later
  processes find the same names.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path, PurePosixPath
from types import ModuleType

from perdure.cli.importing import import_users, told
from perdure.errors import FlowError
from perdure.flows import Flow


def load_target(target: str) -> tuple[ModuleType, str]:
    """The module that `FILE_OR_MODULE` names, and what a run notes as its source."""
    if target.endswith(".py") or os.sep in target or os.path.isfile(target):
        file = Path(target)
        module = load_file(file)
        return module, _named(file)
    if not all(part.isidentifier() for part in target.split(".")):
        raise FlowError(f"{target!r} is neither a file nor the name of a module.")
    _put_first(os.getcwd())
    if _locate(target) is None:
        hint = f"Is it the file {target}.py in another directory?" if "." not in target else ""
        raise FlowError(f"There is no module {target!r} here, and no file of that name.", hint=hint)
    return import_users(target, target), target


def load_file(file: Path) -> ModuleType:
    """The module that a file is, by its stem."""
    if not file.is_file():
        what = "is a directory" if file.is_dir() else "is not there"
        raise FlowError(f"The file {file} {what}.")
    stem = file.stem
    if file.suffix != ".py":
        raise FlowError(f"{file} is no Python file: its name must end with .py.")
    if not stem.isidentifier():
        raise FlowError(
            f"{file.name} cannot be imported: {stem!r} is no Python name.",
            hint=f"Rename it, for example to {_identifier(stem)}.py.",
        )
    _refuse_hiding(stem, file)
    _put_first(str(file.resolve().parent))
    return import_users(stem, str(file))


def load_again(flow: str, source: str, given: str | None) -> ModuleType:
    """The module of a run's flow, in a process that has never seen it: by `--file`, by its source, or by its name."""
    name = flow.partition(":")[0]
    if name in sys.modules:
        return sys.modules[name]
    if given is not None:
        root = root_of(name, Path(given))
        if root is None or not Path(given).is_file():
            told = "is not there" if root is not None else f"is not the file of the module {name}"
            raise FlowError(f"{given} {told}, which the flow {flow} is in.")
        _refuse_hiding(name.partition(".")[0], Path(given))
        _put_first(str(root.resolve()))
        return import_users(name, given)
    for candidate in _candidates(source):
        root = root_of(name, candidate)
        if root is not None and candidate.is_file():
            _put_first(str(root.resolve()))
            return import_users(name, str(candidate))
    _put_first(os.getcwd())
    if _locate(name) is None:
        raise FlowError(
            f"The module {name} of the flow {flow} is not found from here (it was run from {source or 'elsewhere'}).",
            hint="Start in the directory that it was run in, or give --file FILE.",
        )
    return import_users(name, name)


def flow_in(module: ModuleType, name: str) -> Flow[..., object]:
    """The flow of that name; raises a sentence that names those that are there."""
    found = getattr(module, name, None)
    if isinstance(found, Flow):
        return found
    there = sorted(key for key, value in vars(module).items() if isinstance(value, Flow))
    if found is None:
        told = f"There is no flow {name!r} in {module.__name__}."
    else:
        told = f"{name!r} in {module.__name__} is no flow (a {type(found).__name__})."
    hint = f"There is: {', '.join(there)}." if there else "Decorate a function with @perdure.flow."
    raise FlowError(told, hint=hint)


def root_of(module: str, file: Path) -> Path | None:
    """The directory from which importing `module` gives `file`; None if it never does."""
    parts = module.split(".")
    for ending in ([*parts[:-1], f"{parts[-1]}.py"], [*parts, "__init__.py"]):
        if file.parts[-len(ending) :] == tuple(ending):
            return Path(*file.parts[: -len(ending)])
    return None


def _refuse_hiding(stem: str, file: Path) -> None:
    """A file that is called like a module that others need would stand in for that."""
    loaded = sys.modules.get(stem)
    other = getattr(loaded, "__file__", None)
    is_other = loaded is not None and (other is None or Path(other).resolve() != file.resolve())
    if stem in sys.stdlib_module_names or stem == "perdure" or is_other:
        kind = "Python's own" if stem in sys.stdlib_module_names else "another"
        raise FlowError(f"{file} would hide {kind} module {stem!r}.", hint="Give the file another name.")


def _locate(name: str) -> object:
    from importlib.util import find_spec

    try:
        return find_spec(name)
    except (ImportError, ValueError):
        return None
    except Exception as error:  # a package above it, which is imported to look into it
        raise FlowError(f"{name} cannot be imported: {told(error)}.") from error


def _candidates(source: str) -> list[Path]:
    """The source as it was given, and its last parts: whoever re-runs may stand further down."""
    parts = PurePosixPath(source).parts
    return [Path(*parts[start:]) for start in range(len(parts))]


def _put_first(directory: str) -> None:
    while directory in sys.path:
        sys.path.remove(directory)
    sys.path.insert(0, directory)


def _named(file: Path) -> str:
    """The file as a run notes it: below the working directory, or its name only; never an absolute path."""
    inside = os.path.relpath(file)
    return file.name if inside.startswith("..") else Path(inside).as_posix()


def _identifier(stem: str) -> str:
    text = "".join(c if c.isalnum() else "_" for c in stem)
    return text if text.isidentifier() else f"flow_{text}"
