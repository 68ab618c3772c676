"""Recorded code as files, in a cache: the trees of its commits as git keeps them, and what was changed laid over them.

- Blobs are written byte for byte; the repository is only read. Nothing is written outside of the cache.
- The files of submodules go where they were; of a submodule that is not here it is said that they are missing.
- A directory is filled under another name and then renamed; before it is used, the recorded modules in it are compared
  with their digests, and it is filled anew if one differs.
- Where a repository is not here, or lacks objects, the texts that the code record keeps are written instead.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from perdure.code.archives import Archive
from perdure.code.git import Repository, ask, tree_of
from perdure.code.modules import module_root
from perdure.code.sources import decode, is_text_of
from perdure.code.trees import repository_with
from perdure.code.values import ModuleCode
from perdure.errors import SourceMissing
from perdure.files import Files

_TOGETHER = 64 << 20  # bytes of blobs that are asked for at a time
_FILE, _PROGRAM, _LINK = "100644", "100755", "120000"


class Checkout(NamedTuple):
    """Recorded code as files. `roots` are the directories to import from; `notes` say what is not as it was.

    `trees` is whether all of it comes from the trees of its commits, `whole` whether all files are known to be as then.
    """

    roots: tuple[str, ...]
    trees: bool
    whole: bool
    notes: tuple[str, ...]


class _Entry(NamedTuple):
    mode: str
    id: str
    size: int
    path: str


class _Part(NamedTuple):
    """A commit of a repository or submodule, which is at a path; without a repository: it is not here."""

    repository: Repository | None
    commit: str
    path: str
    entries: list[_Entry]


def check_out(archive: Archive, cache: Path) -> Checkout:
    """Write the code of a record into the cache, if it is not there. Raises `SourceMissing`: a module has no text."""
    files = Files()
    roots: dict[str, None] = {}
    notes: list[str] = []
    trees = whole = True
    for number in (*range(len(archive.state.repositories)), None):
        modules = [module for module in archive.state.modules if module.repository == number]
        if not modules:
            continue
        directory: str | None = None
        told: list[str] = []
        if number is not None:
            directory, told = _tree(archive, number, modules, cache, files)
            notes += told
        if directory is None:
            trees = False
            if number is None:
                notes.append(f"{_named(modules)}: in no repository, from the texts that were kept")
            directory = _sources(archive, modules, cache, files)
        whole = whole and not told
        roots.update(
            (_joined(directory, root), None) for module in modules if (root := module_root(module)) is not None
        )
    return Checkout(tuple(roots), trees, trees and whole, tuple(notes))


def _tree(
    archive: Archive, number: int, modules: list[ModuleCode], cache: Path, files: Files
) -> tuple[str | None, list[str]]:
    """The directory with the tree of a repository, None if that is not to be had; and what is not as it was."""
    state = archive.state.repositories[number]
    short = f"commit {state.commit[:7]}"
    if not state.commit:
        return None, [f"{_named(modules)}: nothing was committed yet, so from the texts that were kept"]
    repository = repository_with(state.commit)
    if repository is None:
        return None, [f"{_named(modules)}: {short} is in no repository here, so from the texts that were kept"]
    lost = f"{_named(modules)}: the objects of {short} are not all there, so from the texts that were kept"
    tree = tree_of(repository, state.commit)  # not the one that the record tells: the name in the cache follows it
    parts = _parts(repository, state.commit)
    if parts is None or not tree:
        return None, [lost]
    overlay = _overlay(archive, modules, {entry.path for part in parts for entry in part.entries})
    held = [(part.path, part.commit) for part in parts if part.repository is not None]
    key = hashlib.sha256(repr((tree, held, sorted(overlay.items()))).encode()).hexdigest()[:16]
    directory = cache / "trees" / f"{tree[:40]}-{key}"

    def content() -> Iterator[tuple[str, bytes, str]]:
        for part in parts:
            if part.repository is not None:
                yield from _contents(part.repository, [each for each in part.entries if each.path not in overlay])
        yield from ((path, text.encode("utf-8", "surrogatepass"), _FILE) for path, text in overlay.items())

    if not _fill(directory, modules, content, files):
        return None, [lost]
    other = [path for path in state.files if path not in overlay]
    notes = [
        f"the submodule {part.path} (commit {part.commit[:7]}) is not here, so that its files are missing"
        for part in parts
        if part.repository is None
    ]
    if other or state.more:
        more = f" and {len(other) + state.more - 3} more" if len(other) + state.more > 3 else ""
        notes.append(f"files that had been changed and were not kept: {', '.join(other[:3])}{more}")
    if state.changed is None:
        notes.append(f"whether files differed from {short} is not known")
    return str(directory), notes


def _overlay(archive: Archive, modules: list[ModuleCode], known: set[str]) -> dict[str, str]:
    """The texts of the modules that are not in the commit as they ran; `known` are the paths in that."""
    changed = [module for module in modules if module.changed is not False or module.path not in known]
    return {module.path: text for module in changed if (text := archive.text(module)) is not None}


def _sources(archive: Archive, modules: list[ModuleCode], cache: Path, files: Files) -> str:
    """The directory with the texts of modules, each where it was."""
    texts = {}
    for module in modules:
        text = archive.text(module)
        if text is None or module_root(module) is None or not _is_inside(module.path):
            raise SourceMissing(
                f"The text of {module.name} is not in {archive.name}, nor in a repository that is here.",
                hint="Start in the repository that it was committed to.",
                path=module.name,
                code=archive.name,
            )
        texts[module.path] = text
    key = hashlib.sha256(repr(sorted((module.path, module.digest) for module in modules)).encode()).hexdigest()
    directory = cache / "sources" / key[:40]

    def content() -> Iterator[tuple[str, bytes, str]]:
        return ((path, text.encode("utf-8", "surrogatepass"), _FILE) for path, text in texts.items())

    _fill(directory, modules, content, files)
    return str(directory)


def _fill(
    directory: Path,
    modules: Iterable[ModuleCode],
    contents: Callable[[], Iterator[tuple[str, bytes, str]]],
    files: Files,
) -> bool:
    """Have the contents in the directory: path, bytes, mode of git. False if some cannot be had."""
    recorded = list(modules)
    if _is_whole(directory, recorded):
        return True
    files.make_directories(str(directory.parent), mode=0o700)
    with files.lock(f"{directory}.lock", create=True):
        if _is_whole(directory, recorded):
            return True
        aside = Path(f"{directory}.new")
        for old in (aside, directory):
            shutil.rmtree(old, ignore_errors=True)
        files.make_directories(str(aside))
        try:
            links = []
            for path, content, mode in contents():
                if mode == _LINK:
                    links.append((path, os.fsdecode(content)))
                elif _is_inside(path):
                    files.make_directories(str((aside / path).parent))
                    files.write_new(str(aside / path), content, mode=0o777 if mode == _PROGRAM else 0o666)
            for path, target in links:  # last: nothing is written through one
                if _is_inside(path) and _is_inside(os.path.normpath(os.path.join(os.path.dirname(path), target))):
                    (aside / path).parent.mkdir(parents=True, exist_ok=True)
                    os.symlink(target, aside / path)
        except LookupError:
            shutil.rmtree(aside, ignore_errors=True)
            return False
        files.rename(str(aside), str(directory))
    return _is_whole(directory, recorded)


def _is_whole(directory: Path, modules: list[ModuleCode]) -> bool:
    """Whether the directory is there, and the recorded modules in it are what they were."""
    if not directory.is_dir():
        return False
    for module in modules:
        if not _is_inside(module.path):
            return False
        try:
            raw = (directory / module.path).read_bytes()
        except OSError:
            return False
        text = decode(raw)
        same = is_text_of(text, module.digest) if text is not None else False
        if not same and hashlib.sha256(raw).hexdigest() != module.digest:
            return False
    return True


def _parts(repository: Repository, commit: str, path: str = "") -> list[_Part] | None:
    """The files of a commit, then those of its submodules; None if git does not tell the first."""
    (answer,) = ask(repository, [["ls-tree", "-r", "-l", "-z", "--full-tree", commit]])
    if answer is None:
        return None
    entries, links = [], []
    for line in answer.split(b"\0"):
        head, _, name = line.partition(b"\t")
        fields = [field.decode("ascii", "replace") for field in head.split()]
        if len(fields) == 4 and fields[1] == "blob":
            size = int(fields[3]) if fields[3].isdigit() else 0
            entries.append(_Entry(fields[0], fields[2], size, path + os.fsdecode(name)))
        elif len(fields) == 4 and fields[1] == "commit":
            links.append((os.fsdecode(name), fields[2]))
    parts = [_Part(repository, commit, path.rstrip("/"), entries)]
    for inside, linked in links:
        found = repository_with(linked, (os.path.join(repository.root, inside),))
        below = None if found is None else _parts(found, linked, f"{path}{inside}/")
        parts += below or [_Part(None, linked, path + inside, [])]
    return parts


def _contents(repository: Repository, entries: list[_Entry]) -> Iterator[tuple[str, bytes, str]]:
    """Path, bytes and mode. Raises `LookupError` if git does not have all of them."""
    for chunk in _chunks(entries):
        ids = "".join(f"{entry.id}\n" for entry in chunk).encode("ascii")
        (answer,) = ask(repository, [["cat-file", "--batch"]], given=ids)
        place = 0
        for entry in chunk:
            head, _, _ = (answer or b"")[place : place + 200].partition(b"\n")
            if head.split()[:2] != [entry.id.encode(), b"blob"]:
                raise LookupError(entry.id)
            begin = place + len(head) + 1
            assert answer is not None
            yield entry.path, answer[begin : begin + entry.size], entry.mode
            place = begin + entry.size + 1


def _chunks(entries: list[_Entry]) -> Iterator[list[_Entry]]:
    chunk: list[_Entry] = []
    size = 0
    for entry in entries:
        if chunk and size + entry.size > _TOGETHER:
            yield chunk
            chunk, size = [], 0
        chunk.append(entry)
        size += entry.size
    if chunk:
        yield chunk


def _is_inside(path: str) -> bool:
    parts = path.replace(os.sep, "/").split("/")
    return not os.path.isabs(path) and not {"", "..", ".git"} & {part.lower() for part in parts} and "\0" not in path


def _joined(directory: str, root: str) -> str:
    return os.path.join(directory, *root.split("/")) if root else directory


def _named(modules: list[ModuleCode]) -> str:
    names = [module.path or module.name for module in modules]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
