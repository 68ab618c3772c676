"""Reads files of a commit from git's objects, byte for byte: no checkout, no filter, no attribute takes part.

- A commit is looked for in the repositories of the working directory and of the import path.
- What is not there, or cannot be read, is None; whoever asks compares what is there with a digest.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from perdure.code.git import Repository, ask, find_repository, is_object_id
from perdure.code.sources import decode


def text_at(commit: str, path: str) -> str | None:
    """The text of a file at a commit, from a repository that is here; line ends plain. None if there is none."""
    repository = repository_with(commit)
    if repository is None or not _is_inside(path):
        return None
    (answer,) = ask(repository, [["cat-file", "blob", f"{commit}:{path}"]])
    return None if answer is None else decode(answer)


def repository_with(commit: str, places: tuple[str, ...] = ()) -> Repository | None:
    """The first repository here that has the commit: of `places`, the working directory, the import path."""
    for repository in _repositories(places) if is_object_id(commit) else ():
        (answer,) = ask(repository, [["cat-file", "-e", f"{commit}^{{commit}}"]])
        if answer is not None:
            return repository
    return None


def _repositories(places: tuple[str, ...]) -> Iterator[Repository]:
    seen: set[str] = set()
    for place in dict.fromkeys(os.path.realpath(place or os.curdir) for place in (*places, os.curdir, *sys.path)):
        repository = find_repository(place)
        if repository is not None and repository.common_directory not in seen:
            seen.add(repository.common_directory)
            yield repository


def _is_inside(path: str) -> bool:
    return not os.path.isabs(path) and ".." not in path.split("/") and "\0" not in path
