"""The user's own modules that some modules use, and what they use besides.

- Own is all but the standard library, installed distributions and perdure; editable installs and scripts are own.
- A module uses what its text imports, at whatever depth of indentation, and what its globals come from. What the text
  imports counts also before it is loaded, so that the closure is the same in every process. Calls of `import_module`
  and `__import__` count where the name is written out in them.
- A package's submodules are not used merely because something else has loaded them.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator
from types import FunctionType, ModuleType
from typing import NamedTuple

from perdure.code.sources import (
    Source,
    file_of,
    find_loaded,
    global_of,
    importable_name,
    is_of_record,
    namespace,
    own_attribute,
    read_source,
    source_beside,
)
from perdure.code.values import ModuleCode

_HOUSE = "perdure"
_STANDARD_LIBRARY = tuple(
    {os.path.join(os.path.dirname(f(os.__file__)), "") for f in (os.path.abspath, os.path.realpath)}
)
_INSTALLED = re.compile(r"[\\/](?:site|dist)-packages[\\/]")
_IMPORT = re.compile(r"import\b[ \t]*(\((?:[^)#]|#[^\n]*)*\)|[^\n#;]+)")
_BEFORE_IMPORT = re.compile(r"(?:^|[:;])[ \t]*(?:from[ \t]+(\.*[ \t]*[\w.]*)[ \t]*)?$")
_COMMENT = re.compile(r"#[^\n]*")
_CALL = re.compile(r"""import_(?:module|_)\s*\(\s*(?:name\s*=\s*)?(["'])(\.*[\w.]+)\1\s*[,)]""")


class Closure(NamedTuple):
    """Own modules by name, what each imports of them, and the names and files of others that they import."""

    sources: dict[str, Source]
    uses: dict[str, tuple[str, ...]]
    outside: dict[str, str]


def find_closure(names: Iterable[str]) -> Closure:
    """The closure of the own modules among `names`. One that cannot be found has a source of origin `unknown`."""
    search = _Search()
    todo = []
    for name in dict.fromkeys(importable_name(name) for name in names):
        found = search.find(name)
        if name not in found and not search.is_known(name):
            search.sources[name] = read_source(name)
            found.append(name)
        todo.extend(found)
    uses = {}
    seen = set(todo)
    while todo:
        name = todo.pop()
        if name in uses:
            continue
        spelled = dict.fromkeys(_used_by(search.sources[name]))
        used = dict.fromkeys(run for other in spelled for run in search.find(other, name))
        uses[name] = tuple(sorted(other for other in used if other != name))
        todo.extend(other for other in used if other not in seen)
        seen.update(used)
    return Closure(search.sources, uses, search.outside)


def written_imports(text: str, name: str, is_package: bool) -> Iterator[str]:
    """The names that import statements in `text` may mean: of modules, or of what is in them."""
    if "\\\n" in text:
        text = text.replace("\\\n", " ")
    for match in _IMPORT.finditer(text):  # begins with a literal, which `re` finds ten times faster than a line's start
        before = _BEFORE_IMPORT.search(text[text.rfind("\n", 0, match.start()) + 1 : match.start()])
        if before is None:
            continue
        items = _COMMENT.sub("", match[1]).strip("()").split(",")
        members = [words[0] for item in items if (words := item.split())]
        if before[1] is None:
            yield from members
        elif base := _absolute(before[1].replace(" ", ""), name, is_package):
            yield base
            yield from (f"{base}.{member}" for member in members if member.isidentifier())


def called_imports(text: str, name: str, is_package: bool) -> Iterator[str]:
    """The names that calls of `import_module` and `__import__` in `text` have as literals."""
    for match in _CALL.finditer(text):
        if found := _absolute(match[2], name, is_package):
            yield found


def root_of(source: Source) -> str:
    """The directory that the module's name starts from: its entry of `sys.path`."""
    depth = source.name.count(".") + (1 if source.is_package else 0)
    place = os.path.dirname(source.file)
    for _ in range(depth):
        place = os.path.dirname(place)
    return place


def module_root(module: ModuleCode) -> str | None:
    """The directory, as its path begins, that a captured module is imported from ("" for the root); None if none."""
    stem = module.path.removesuffix("/__init__.py").removesuffix(".py")
    inside = module.name.replace(".", "/")
    if stem == inside:
        return ""
    return stem.removesuffix(f"/{inside}") if stem.endswith(f"/{inside}") else None


def is_outside(name: str, file: str) -> bool:
    """Whether a module that was loaded from `file` is not the user's own."""
    if name.partition(".")[0] == _HOUSE or _INSTALLED.search(file):
        return True
    return file.startswith(_STANDARD_LIBRARY) or file.startswith("<")


class _Search:
    """Finds modules by name; `known` maps those that were found to whether they are own."""

    def __init__(self) -> None:
        self.sources: dict[str, Source] = {}
        self.outside: dict[str, str] = {}
        self.known: dict[str, bool] = {}

    def find(self, name: str, importer: str = "") -> list[str]:
        """The own modules that importing `name` runs: itself, if it is one, and the packages above it."""
        parts = name.split(".")
        found = []
        for length in range(1, len(parts) + 1):
            part = ".".join(parts[:length])
            if part not in self.known and not self._look(part, importer):
                break
            if not self.known[part]:
                break
            if part in self.sources:
                found.append(part)
        return found

    def is_known(self, name: str) -> bool:
        """Whether the module was found, or is in a package that is not own."""
        parts = name.split(".")
        return name in self.known or not all(self.known.get(".".join(parts[:n]), True) for n in range(1, len(parts)))

    def _look(self, name: str, importer: str) -> bool:
        """Whether there is such a module; what is known of it is noted."""
        module = find_loaded(name)
        if module is None:
            file = "" if name in sys.stdlib_module_names else self._locate(name, importer)
            if not file:
                return self._look_beside(name, importer)
        else:
            file = file_of(module)
        if module is not None and not file:
            self.known[name] = self._is_own_without_file(name, module)
        elif is_outside(name, file) or is_installed_at(name, file):
            self.known[name] = False
            if _INSTALLED.search(file) or not file.startswith(_STANDARD_LIBRARY):
                self.outside[name] = file
        else:
            self.known[name] = True
            self.sources[name] = read_source(name, file)
        return True

    def _look_beside(self, name: str, importer: str) -> bool:
        """Whether the code record that the importer was imported from has such a module."""
        source = source_beside(name, find_loaded(importer)) if importer else None
        if source is not None:
            self.known[name], self.sources[name] = True, source
        return source is not None

    def _is_own_without_file(self, name: str, module: ModuleType) -> bool:
        """Built-in modules, namespace packages, and what was typed."""
        if is_of_record(module):
            self.sources[name] = read_source(name)
            return True
        directories = global_of(module, "__path__")
        if directories is not None:  # a namespace that distributions share is looked through, to find its parts
            places = [os.path.join(str(directory), "") for directory in directories]
            return all(_INSTALLED.search(place) or not is_outside(name, place) for place in places)
        if global_of(module, "__spec__") is not None or name in sys.builtin_module_names:
            return False
        self.sources[name] = read_source(name)
        return True

    def _locate(self, name: str, importer: str) -> str:
        """The file that importing `name` would load; only directories that are known already are looked into."""
        parent, _, last = name.rpartition(".")
        if not last.isidentifier():
            return ""
        if not parent:
            source = self.sources.get(importer)
            directories = [*([root_of(source)] if source and source.file else []), *sys.path]
        elif parent in self.sources:
            source = self.sources[parent]
            directories = [os.path.dirname(source.file)] if source.is_package else []
        else:
            package = find_loaded(parent)
            directories = [] if package is None else [str(d) for d in global_of(package, "__path__") or ()]
        for directory in dict.fromkeys(directories):
            for file in (os.path.join(directory, last, "__init__.py"), os.path.join(directory, f"{last}.py")):
                if os.path.isfile(file):
                    return os.path.abspath(file)
        return ""


def is_installation(entry: str) -> bool:
    """Whether an entry of the import path is Python's own, or a directory that distributions are installed into."""
    below = os.path.join(os.path.abspath(entry), "")
    own = below.startswith(_STANDARD_LIBRARY) or os.path.dirname(os.__file__) in (entry, os.path.realpath(entry))
    is_archive = entry.endswith(".zip") and os.path.basename(entry).startswith("python")
    return own or is_archive or bool(_INSTALLED.search(below)) or bool(_distributions_beside(entry))


def is_installed_at(name: str, file: str) -> bool:
    """Whether a distribution beside the module (`pip install --target`) lists it among its files."""
    top = name.partition(".")[0]
    depth = name.count(".") + (1 if os.path.basename(file).startswith("__init__.") else 0)
    place = os.path.dirname(file)
    for _ in range(depth):
        place = os.path.dirname(place)
    return any(
        f"\n{top}/" in text or f"\n{top}." in text
        for text in (_record(place, entry) for entry in _distributions_beside(place))
    )


_beside: dict[str, tuple[str, ...]] = {}


def _distributions_beside(place: str) -> tuple[str, ...]:
    if place not in _beside:
        try:
            _beside[place] = tuple(entry for entry in os.listdir(place) if entry.endswith(".dist-info"))
        except OSError:
            _beside[place] = ()
    return _beside[place]


def _record(place: str, entry: str) -> str:
    try:
        with open(os.path.join(place, entry, "RECORD"), encoding="utf-8", errors="replace") as file:
            return "\n" + file.read()
    except OSError:
        return ""


def _absolute(origin: str, name: str, is_package: bool) -> str | None:
    """The absolute name of what an import statement in module `name` names, with or without leading dots."""
    rest = origin.lstrip(".")
    level = len(origin) - len(rest)
    if not level:
        return rest
    parts = name.split(".")
    kept = parts[: len(parts) - level + (1 if is_package else 0)]
    return ".".join([*kept, rest] if rest else kept) if kept else None


def _used_by(source: Source) -> Iterator[str]:
    """The names of modules that a module's text and its globals come from."""
    yield from written_imports(source.text, source.name, source.is_package)
    yield from called_imports(source.text, source.name, source.is_package)
    if source.module is None:
        return
    globals_ = namespace(source.module)
    for alias, value in globals_.items():
        kind = type(value)
        if issubclass(kind, ModuleType):
            if alias.startswith("__"):
                continue
            name = global_of(value, "__name__")
            if isinstance(name, str) and name != f"{source.name}.{alias}":
                yield name
                yield from _submodules_spelled(source.text, alias, value)
        else:
            yield from _defined_in(value, kind)


def _submodules_spelled(text: str, alias: str, package: ModuleType) -> Iterator[str]:
    """`import shop` and then `shop.orders`, which another module has imported."""
    if global_of(package, "__path__") is None or is_outside(package.__name__, file_of(package)):
        return
    for attribute, value in namespace(package).items():
        if issubclass(type(value), ModuleType) and f"{alias}.{attribute}" in text:
            yield importable_name(str(global_of(value, "__name__")))


def _defined_in(value: object, kind: type) -> Iterator[str]:
    if kind is FunctionType:
        name = object.__getattribute__(value, "__module__")
    elif issubclass(kind, type):
        name = type.__getattribute__(value, "__dict__").get("__module__")
    else:  # an object, perhaps a decorated function; its own attributes may be anything
        name = own_attribute(value, "__module__") or type.__getattribute__(kind, "__dict__").get("__module__")
    if isinstance(name, str) and name.isprintable():
        yield importable_name(name)
