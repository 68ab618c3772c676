"""Takes the code record of this moment: the own modules that some modules use, their repositories, the environment.

- The same modules are captured anew only when one was imported again, one of their files changed, or a commit or the
  index of a repository did; else the capture before is given back, for the price of a few calls of `stat`.
- So a change to a tracked file that was not captured is seen at the next of these, or in another process.
- What was typed at a prompt is captured every time.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

from perdure.code.environment import all_versions, describe_platform, describe_python, versions_of
from perdure.code.git import Differences, Head, Repository, differences, find_repository, read_head
from perdure.code.locks import find_locks
from perdure.code.modules import Closure, find_closure, root_of
from perdure.code.sources import Signature, Source, is_same_module, signature_of
from perdure.code.values import BY_VALUE, INTERACTIVE, UNKNOWN, CodeState, ModuleCode, RepositoryState

_FILES_TOLD = 200
_KEPT = 64  # captures; a program has few sets of modules, and each holds their texts


class _Capture(NamedTuple):
    state: CodeState
    sources: dict[str, Source]
    watched: tuple[tuple[str, Signature], ...]

    def is_current(self) -> bool:
        for file, signature in self.watched:
            if signature_of(file) != signature:
                return False
        return all(is_same_module(name, source) for name, source in self.sources.items())


class _Place(NamedTuple):
    """Where a file is: its repository, if any, its path in there, and what that path begins at ("" without a file)."""

    repository: Repository | None
    path: str
    root: str = ""


_captures: dict[tuple[tuple[str, ...], bool, bool], _Capture] = {}


def capture(modules: Iterable[str], *, repository_state: bool = True, all_packages: bool = False) -> CodeState:
    """Which code the modules of these names, and what they use, are. Never raises for what cannot be found out.

    Without `repository_state` the commit is told, but not whether files differ from it, which takes a process of git.
    `all_packages` tells the versions of every installed distribution, not only of those that the code imports.
    """
    key = (tuple(sorted(set(modules))), repository_state, all_packages)
    known = _captures.get(key)
    if known is not None and known.is_current():
        return known.state
    taken = _take(*key)
    if any(source.origin in (INTERACTIVE, BY_VALUE, UNKNOWN) for source in taken.sources.values()):
        _captures.pop(key, None)
    else:
        while len(_captures) >= _KEPT:
            _captures.pop(next(iter(_captures)), None)
        _captures[key] = taken
    return taken.state


def _take(names: tuple[str, ...], repository_state: bool, all_packages: bool) -> _Capture:
    closure = find_closure(names)
    places = _find_places(closure.sources)
    repositories = list(dict.fromkeys(p.repository for _, p in sorted(places.items()) if p.repository is not None))
    watched = {source.file: source.signature for source in closure.sources.values() if source.file}
    states, changed = [], {}
    for repository in repositories:
        head = _watch_head(repository, watched)
        members = [name for name, place in places.items() if place.repository == repository]
        blobs = {places[name].path: closure.sources[name].blobs() for name in members}
        found = differences(repository, head.commit, blobs) if repository_state else Differences(None, {})
        states.append(RepositoryState(head.commit, found.changed, found.tree, *_some(found.files)))
        changed.update({name: found.paths.get(places[name].path) for name in members})
    locks = find_locks(
        (source.file, places[name].root, source.text)
        for name, source in sorted(closure.sources.items())
        if source.file and places[name].root
    )
    watched.update((file, signature_of(file)) for file in locks.looked_at)
    texts = {source.digest: source.text for source in closure.sources.values() if source.text}
    state = CodeState(
        modules=_describe(closure, places, repositories, changed),
        repositories=tuple(states),
        python=describe_python(),
        platform=describe_platform(),
        packages=all_versions() if all_packages else versions_of(closure.outside),
        locks=locks.locks,
        texts=texts | locks.texts,
    )
    return _Capture(state, closure.sources, tuple(watched.items()))


def _some(files: tuple[str, ...]) -> tuple[tuple[str, ...], int]:
    """The names that are told, and how many are not."""
    return files[:_FILES_TOLD], max(0, len(files) - _FILES_TOLD)


def _watch_head(repository: Repository, watched: dict[str, Signature]) -> Head:
    """Reads HEAD; the signatures are of before, so that a commit in the meantime is seen next time."""
    before = {file: signature_of(file) for file in read_head(repository).files}
    head = read_head(repository)
    watched.update({file: before.get(file, signature_of(file)) for file in head.files})
    return head


def _find_places(sources: dict[str, Source]) -> dict[str, _Place]:
    """Where each module's file is; links are followed, as git does."""
    directories: dict[str, tuple[Repository | None, str]] = {}
    places = {}
    for name, source in sources.items():
        if not source.file:
            places[name] = _Place(None, source.path_in_record)
            continue
        file = os.path.realpath(source.file) if os.path.islink(source.file) else source.file
        directory, base = os.path.split(file)
        if directory not in directories:
            real = os.path.realpath(directory)
            directories[directory] = (find_repository(real), real)
        repository, real = directories[directory]
        root = root_of(source) if repository is None else repository.root
        path = os.path.relpath(source.file if repository is None else os.path.join(real, base), root)
        places[name] = _Place(repository, path.replace(os.sep, "/"), root)
    return places


def _describe(
    closure: Closure,
    places: dict[str, _Place],
    repositories: list[Repository],
    changed: dict[str, bool | None],
) -> tuple[ModuleCode, ...]:
    modules = []
    for name, source in sorted(closure.sources.items()):
        repository, path, _ = places[name]
        modules.append(
            ModuleCode(
                name=name,
                path=path,
                digest=source.digest,
                origin=source.origin,
                exact=source.exact,
                repository=None if repository is None else repositories.index(repository),
                changed=changed.get(name),
                uses=closure.uses.get(name, ()),
            )
        )
    return tuple(modules)
