"""Imports modules from a code record: from the texts that it keeps, or from the git tree that it names.

- One finder, at the end of `sys.meta_path`: what can be imported here is never taken from a record.
- It serves only the modules of one code record: while one of them is asked for, and what their own code imports later.
- A process has one version of each module: another one is refused, before anything runs, by an error that names both.
- A text is compared with its digest before it is compiled. Modules say where they are from: `__spec__.origin`.
- What was typed at a prompt, or is a script that cannot be imported by its name, becomes a module of its own, named
  after its text: `typed_` and the digest's first digits.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import Any, NamedTuple, cast

from perdure.code.sources import NO_TEXT, find_loaded, is_of_record, is_text_of, loader_of, read_source
from perdure.code.trees import text_at
from perdure.code.values import BY_VALUE, CodeState, ModuleCode
from perdure.errors import ClassNotFound, SourceMissing, VersionClash
from perdure.pickling.classes import MAIN, put_in_place

TYPED = "typed_"

TextOf = Callable[[str], str | None]  # digest of a text -> the text, where it is kept


class _Here(NamedTuple):
    """A module that this process has, or would import: the digest of its text, and what to call it in an error."""

    digest: str
    told: str


class Archive:
    """What can be imported of one code record; `name` is the id of that, `text_of` gives the texts that are kept."""

    def __init__(self, name: str, state: CodeState, text_of: TextOf):
        self.name = name
        self.state = state
        self._text_of = text_of
        self.modules = {_importable(module): module for module in state.modules}

    def provide(self, name: str) -> bool:
        """Import the module that records call `name`; False if the code record does not have it, or it is here.

        Raises `VersionClash`, `SourceMissing`, and `ClassNotFound` for whatever its code raises.
        """
        module = self.state.module(name)
        if module is None:
            return False
        own = _importable(module)
        self.refuse_other(name)
        for each in self._reached(name):
            here = _here(_importable(each))
            if here is None:
                self._require_text(each)
            elif here.digest != each.digest:
                raise self._clash(each, here)
        loaded = find_loaded(own)
        if loaded is not None and not is_of_record(loaded):
            return False  # of the same text, and what is asked for is not in it
        self._import(own, module)
        _claims.update((each.name, _Here(each.digest, f"from {self.name}")) for each in self._reached(name))
        if name == MAIN:
            put_in_place(MAIN, sys.modules[own])
        return True

    def kept(self, digest: str) -> str | None:
        """The text of that digest, if it is kept: of a module, or of what is kept of a lock file."""
        return self._text_of(digest)

    def text(self, module: ModuleCode) -> str | None:
        """The text of a module: as it was kept, else from a repository here that has the commit; None if neither."""
        text = "" if module.digest == NO_TEXT else self._text_of(module.digest)
        if text is None and module.repository is not None:
            commit = self.state.repositories[module.repository].commit
            text = text_at(commit, module.path) if commit else None
        return text if text is not None and is_text_of(text, module.digest) else None

    def spec(self, name: str) -> ModuleSpec | None:
        """How the finder says that the module of that name is here."""
        module = self.modules.get(name)
        if module is not None:
            origin = f"perdure {self.name}: {module.path or module.name}"
            loader = cast(Any, ArchivedLoader(self, module))  # no base class: `importlib.abc` is slow to import
            return ModuleSpec(name, loader, origin=origin, is_package=is_package(module))
        if any(other.startswith(f"{name}.") for other in self.modules):
            return ModuleSpec(name, cast(Any, _Nothing()), origin=f"perdure {self.name}", is_package=True)
        return None

    def refuse_other(self, name: str) -> None:
        """Raise `VersionClash` if the module, or one that it uses, comes from a record with another text."""
        for module in self._reached(name):
            claim = _claims.get(module.name)
            if claim is not None and claim.digest != module.digest:
                raise self._clash(module, claim)

    def _reached(self, name: str) -> list[ModuleCode]:
        """The module, what it uses, and what these use, all in this record."""
        modules = {module.name: module for module in self.state.modules}
        todo, reached = [name], dict[str, ModuleCode]()
        while todo:
            each = todo.pop()
            if each in modules and each not in reached:
                reached[each] = modules[each]
                todo.extend(modules[each].uses)
        return [reached[each] for each in sorted(reached)]

    def _require_text(self, module: ModuleCode) -> None:
        if self.text(module) is None:
            where = f" nor in a repository here ({self._commit(module)})" if self._commit(module) else ""
            raise SourceMissing(
                f"The text of {module.name} is not in {self.name}{where}.",
                hint="Start in a directory that has the module, or in the repository that it was committed to.",
                path=module.name,
                code=self.name,
            )

    def _clash(self, module: ModuleCode, here: _Here) -> VersionClash:
        commit = f" ({self._commit(module)})" if self._commit(module) else ""
        return VersionClash(
            f"{module.name} is here already, {here.told}, and is not the one of {self.name}{commit}: a process has one"
            " version of a module.",
            hint="Load this object in another process, where that one is not importable;"
            " `perdure rerun --code recorded` does that for runs.",
            path=module.name,
            code=self.name,
        )

    def _commit(self, module: ModuleCode) -> str:
        commit = "" if module.repository is None else self.state.repositories[module.repository].commit[:7]
        return f"commit {commit}{', changed' if module.changed else ''}" if commit else ""

    def _import(self, own: str, module: ModuleCode) -> None:
        _serve(self)
        sys.audit("perdure.archived_import", own, self.name)
        try:
            with _serving(self):
                import_module(own)
        except ClassNotFound:
            raise
        except (Exception, SystemExit) as error:  # the archived code runs here: anything may come out
            raise ClassNotFound(
                f"{module.name} was imported from {self.name}, and raised {type(error).__name__}: {error}.",
                hint=f"It ran with {', '.join([self.state.python, *map(' '.join, self.state.packages)])}.",
                path=module.name,
                code=self.name,
            ) from error


class ArchivedLoader:
    """Loads one module of a code record; `archive` says of which, `module` what is known of it."""

    from_code_record = True

    def __init__(self, archive: Archive, module: ModuleCode):
        self.archive = archive
        self.module = module

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def get_source(self, fullname: str) -> str | None:
        return self.archive.text(self.module)

    def is_package(self, fullname: str) -> bool:
        return is_package(self.module)

    def get_code(self, fullname: str) -> CodeType:
        text = self.archive.text(self.module)
        if text is None:
            raise ImportError(f"The text of {fullname} is not in {self.archive.name} any more.", name=fullname)
        file = f"<perdure {self.archive.name}>/{self.module.path or f'{fullname}.py'}"
        code: CodeType = compile(text, file, "exec", dont_inherit=True)
        return code

    def exec_module(self, module: ModuleType) -> None:
        with _serving(self.archive):
            if self.module.origin == BY_VALUE:
                from perdure.code.typed import restored  # seldom: what was typed at a prompt

                restored(self.archive.text(self.module) or "", module, self.archive.name)
                return
            exec(self.get_code(module.__name__), module.__dict__)


class ArchiveFinder:
    """The last of `sys.meta_path`: asked for what nobody else has found."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _names:
            return None
        archive = _asked.get() or _of_importer()
        return None if archive is None else archive.spec(fullname)


class _Nothing:
    """Loads a package that is only a name above others."""

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run."""


_finder = ArchiveFinder()
_names: set[str] = set()  # of the modules in all archives that were asked, and of the packages above them
_claims: dict[str, _Here] = {}  # what was imported from code records, or will be when their modules ask for it
_asked: ContextVar[Archive | None] = ContextVar("perdure_archive_that_is_imported_from", default=None)


def is_claimed(name: str) -> bool:
    """Whether the module that records call `name`, or one that uses it, was imported from a code record."""
    return name in _claims


def is_package(module: ModuleCode) -> bool:
    """Whether a captured module is a package, by its file."""
    return module.path.rpartition("/")[2].startswith("__init__.")


def _importable(module: ModuleCode) -> str:
    """The name under which a module of a record is imported from it; a script may have a name that is none."""
    return f"{TYPED}{module.digest[:12]}" if module.name == MAIN else module.name


def _serve(archive: Archive) -> None:
    for name in archive.modules:
        parts = name.split(".")
        _names.update(".".join(parts[:length]) for length in range(1, len(parts) + 1))
    if sys.meta_path[-1:] != [_finder]:
        sys.meta_path[:] = [*(finder for finder in sys.meta_path if finder is not _finder), _finder]


@contextmanager
def _serving(archive: Archive) -> Iterator[None]:
    token = _asked.set(archive)
    try:
        yield
    finally:
        _asked.reset(token)


def _of_importer() -> Archive | None:
    """The archive that the code which imports came from; None for code from elsewhere."""
    frame = sys._getframe(1)
    found: Any = frame
    while found is not None:
        loader = found.f_globals.get("__loader__")
        if isinstance(loader, ArchivedLoader):
            return loader.archive
        found = found.f_back
    return None


def _here(name: str) -> _Here | None:
    """The module as this process has it, or would import it from elsewhere; None if it would not."""
    loaded = find_loaded(name)
    if loaded is not None:
        loader = loader_of(loaded)
        if isinstance(loader, ArchivedLoader):
            return _Here(loader.module.digest, f"from {loader.archive.name}")
        source = read_source(name)
        return _Here(source.digest, f"from {source.file or 'a directory without a module of that name'}")
    spec = _elsewhere(name)
    if spec is None:
        return None
    if not spec.origin or not spec.has_location:
        return _Here("", f"as {spec.origin or 'a directory'}")
    return _Here(read_source(name, spec.origin).digest, f"in {spec.origin}")


def _elsewhere(name: str) -> ModuleSpec | None:
    """What the other finders say of a module; nothing is imported for that."""
    parts = name.split(".")
    path: Sequence[str] | None = None
    spec = None
    for length in range(1, len(parts) + 1):
        part = ".".join(parts[:length])
        loaded = sys.modules.get(part)
        if loaded is not None and length < len(parts):
            path = list(getattr(loaded, "__path__", []))
            continue
        spec = _asked_of_others(part, path)
        if spec is None:
            return None
        path = list(spec.submodule_search_locations or [])
    return spec


def _asked_of_others(name: str, path: Sequence[str] | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        if finder is not _finder and hasattr(finder, "find_spec"):
            spec = finder.find_spec(name, path, None)
            if spec is not None:
                return spec
    return None
