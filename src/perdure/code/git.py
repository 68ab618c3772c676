"""Reads git: which repository a file is in, its commit, and whether files differ from that commit.

- Nothing is written: not the index, not the stash, not the work tree; no optional lock is taken.
- No hook, filter, monitor, text conversion or transfer that a configuration names is run.
- Commit and index are read from git's own files; the program `git` is asked what they hold, not what files do.
- Where `git` is missing, refuses the directory or takes too long, the answer is None: unknown. In doubt, changed.
"""

from __future__ import annotations

import hashlib
import os
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from perdure.code.index import Index, changed_files, has_content, is_one_of, read_index, submodules

if TYPE_CHECKING:
    from subprocess import Popen

_SECONDS = 20.0
_PATHS_IN_ONE_CALL = 200
_TREES_KEPT = 1000
_LONGEST_COMMIT = 1 << 20  # bytes; git is asked about a longer one

# What `git rev-parse --local-env-vars` lists (but for settings): inside a hook they would name another repository.
_LOCAL_VARIABLES = {
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_IMPLICIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_PREFIX", "GIT_INDEX_FILE"),
    *("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_SHALLOW_FILE", "GIT_GRAFT_FILE"),
    *("GIT_REPLACE_REF_BASE", "GIT_NAMESPACE", "GIT_CEILING_DIRECTORIES", "GIT_ATTR_SOURCE", "GIT_EXTERNAL_DIFF"),
}
_SAFE_SETTINGS = ("core.fsmonitor=false", f"core.hooksPath={os.devnull}", "protocol.allow=never")


class Repository(NamedTuple):
    """A work tree and the directories that belong to it; the last two differ in a linked work tree."""

    root: str
    git_directory: str
    common_directory: str


class Differences(NamedTuple):
    """What differs from a commit: whether anything tracked does, which of the paths asked about, which tracked files.

    None is unknown. `tree` is the commit's tree, "" if unknown.
    """

    changed: bool | None
    paths: dict[str, bool | None]
    tree: str = ""
    files: tuple[str, ...] = ()


class Head(NamedTuple):
    """The commit that is checked out ("" before the first one, or if unreadable), and the files that tell it."""

    commit: str
    files: tuple[str, ...]


def find_repository(directory: str) -> Repository | None:
    """The innermost repository whose work tree holds `directory` (a real path), if any.

    The whole disk is no repository of code, nor is one in which the way to the file leads through the user's home
    directory: paths relative to it would tell the user's name.
    """
    home = os.path.realpath(os.path.expanduser("~"))
    place = directory
    while (parent := os.path.dirname(place)) != place:
        if repository := _repository_at(place):
            reveals = _is_below(home, place) and (directory == home or _is_below(directory, home))
            return None if reveals else repository
        place = parent
    return None


def _is_below(path: str, directory: str) -> bool:
    return path.startswith(os.path.join(directory, ""))


def read_head(repository: Repository) -> Head:
    """The commit that HEAD names: a branch, loose or packed, or a commit itself."""
    files = [os.path.join(repository.git_directory, "HEAD")]
    text = _read(files[0])
    for _ in range(5):  # git itself follows no longer chain of symbolic references
        if not text.startswith("ref:"):
            break
        name = text[4:].strip()
        places = dict.fromkeys((repository.git_directory, repository.common_directory))
        files += [os.path.join(place, *name.split("/")) for place in places]
        packed = os.path.join(repository.common_directory, "packed-refs")
        files.append(packed)
        loose = [_read(path) for path in files[-1 - len(places) : -1]]
        text = next(filter(None, loose), "") or _packed(_read(packed), name)
    files.append(os.path.join(repository.git_directory, "index"))
    tables = os.path.join(repository.common_directory, "reftable")
    if not is_object_id(text) and os.path.isdir(tables):
        files.append(os.path.join(tables, "tables.list"))
        (answer,) = ask(repository, [["rev-parse", "--verify", "--quiet", "HEAD^{commit}"]])
        text = (answer or b"").decode("ascii", "replace").strip()
    return Head(text if is_object_id(text) else "", tuple(files))


def differences(repository: Repository, commit: str, blobs: Mapping[str, Iterable[bytes]]) -> Differences:
    """How the work tree differs from `commit`, and which paths in `blobs`, relative to the root, do.

    `blobs` gives the contents that would make a path unchanged: its bytes, and its bytes with plain line ends. A path
    that the commit does not have is changed.
    """
    if not commit:
        return Differences(True, dict.fromkeys(blobs, True))
    index = read_index(os.path.join(repository.git_directory, "index"), id_size=len(commit) // 2)
    if index is None:
        return _told_by_git(repository, commit, blobs)
    if index.tree and index.tree == _tree_without_asking(repository, commit):
        return _differences(b"", _changed_in(repository, index), index, index.tree, blobs)  # nothing is staged
    question = ["diff-index", "--cached", "--raw", "-z", "--no-renames", "--ignore-submodules=none", commit, "--"]
    with asked(repository, [question]) as answers:
        files = _changed_in(repository, index)
        (staged,) = answers()
    if staged is None:
        return Differences(None, dict.fromkeys(blobs))
    tree = index.tree if not staged and index.tree else tree_of(repository, commit)
    return _differences(staged, files, index, tree, blobs)


def _changed_in(repository: Repository, index: Index) -> list[str]:
    """What of the work tree is not as the index has it, submodules included."""
    moved = [path for path, id_ in submodules(index).items() if _has_moved(repository, path, id_)]
    return changed_files(repository.root, index) + moved


def _differences(
    staged: bytes, files: list[str], index: Index, tree: str, blobs: Mapping[str, Iterable[bytes]]
) -> Differences:
    before = {path: old for path, (old, _, _) in _raw_entries(staged).items()}
    told: dict[str, bool | None] = {}
    for path, contents in blobs.items():
        stored = before[path] if path in before else index.files[path].id if path in index.files else ""
        told[path] = not is_one_of(stored, contents)
    names = tuple(sorted({*before, *files}))
    return Differences(bool(names), told, tree, names)


def tree_of(repository: Repository, commit: str) -> str:
    """The tree of a commit; "" if git does not tell."""
    known = _tree_without_asking(repository, commit)
    if known:
        return known
    (answer,) = ask(repository, [["rev-parse", "--verify", "--quiet", f"{commit}^{{tree}}"]])
    tree = (answer or b"").decode("ascii", "replace").strip()
    if is_object_id(tree):
        _remember(commit, tree)
    return tree


def _tree_without_asking(repository: Repository, commit: str) -> str:
    """The tree of a commit that was asked about before, or that lies in a file of its own; "" for any other."""
    found = _trees.get(commit, "")
    if not found:
        try:
            with open(os.path.join(repository.common_directory, "objects", commit[:2], commit[2:]), "rb") as file:
                content = zlib.decompressobj().decompress(file.read(_LONGEST_COMMIT), _LONGEST_COMMIT)
        except (OSError, zlib.error):
            return ""
        make = hashlib.sha256 if len(commit) == 64 else hashlib.sha1
        head, _, body = content.partition(b"\0")
        word, _, tree = body.partition(b"\n")[0].decode("ascii", "replace").partition(" ")
        sound = head.startswith(b"commit ") and make(content, usedforsecurity=False).hexdigest() == commit
        if sound and word == "tree" and is_object_id(tree):
            found = _remember(commit, tree)
    return found


_trees: dict[str, str] = {}  # of commits, which never change


def _remember(commit: str, tree: str) -> str:
    if len(_trees) >= _TREES_KEPT:
        _trees.clear()
    _trees[commit] = tree
    return tree


def _told_by_git(repository: Repository, commit: str, blobs: Mapping[str, Iterable[bytes]]) -> Differences:
    """The same for an index that is not read here: git looks at the work tree, with every filter switched off."""
    unfiltered = _without_filters(repository)
    if unfiltered is None:
        return Differences(None, dict.fromkeys(blobs))
    paths = list(blobs) if len(blobs) <= _PATHS_IN_ONE_CALL else []
    index, entries = ask(
        repository,
        [
            [*unfiltered, "diff-index", "--raw", "-z", "--no-renames", "--ignore-submodules=dirty", commit, "--"],
            ["ls-tree", "-z", "--full-tree", *(["--"] if paths else ["-r"]), commit, *paths],
        ],
    )
    names = () if index is None else _really_changed(repository, index)
    told: dict[str, bool | None] = dict.fromkeys(blobs)
    if entries is not None:
        stored = dict(_tree_entries(entries))
        told = {path: not is_one_of(stored.get(path, ""), contents) for path, contents in blobs.items()}
    changed = None if index is None else bool(names)
    return Differences(changed, told, tree_of(repository, commit), names)


def _has_moved(repository: Repository, path: str, commit: str) -> bool:
    """Whether a submodule that is there is at another commit."""
    found = _repository_at(os.path.join(repository.root, path))
    return found is not None and read_head(found).commit not in ("", commit)


def _repository_at(place: str) -> Repository | None:
    entry = os.path.join(place, ".git")
    try:
        mode = os.stat(entry).st_mode
    except OSError:
        return None
    if stat.S_ISREG(mode):  # a linked work tree or a submodule
        text = _read(entry)
        if not text.startswith("gitdir:"):
            return None
        entry = os.path.normpath(os.path.join(place, text[len("gitdir:") :].strip()))
    if not os.path.isfile(os.path.join(entry, "HEAD")):
        return None
    common = _read(os.path.join(entry, "commondir"))
    return Repository(place, entry, os.path.normpath(os.path.join(entry, common)) if common else entry)


def _read(path: str) -> str:
    """The text of one of git's small files; "" where it is not there."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().strip()
    except OSError:
        return ""


def _packed(text: str, name: str) -> str:
    for line in text.splitlines():
        commit, _, other = line.partition(" ")
        if other == name:
            return commit
    return ""


def is_object_id(text: str) -> bool:
    """Whether the text is the whole id of a commit, a tree or a blob."""
    return len(text) in (40, 64) and not text.strip("0123456789abcdef")


def _without_filters(repository: Repository) -> list[str] | None:
    """Options that switch off each configured filter: git would run it on a file as young as the index."""
    (answer,) = ask(repository, [["config", "-z", "--name-only", "--get-regexp", r"^filter\."]], fine=(0, 1))
    if answer is None:
        return None
    options = []
    for name in sorted({key.rpartition(".")[0] for key in os.fsdecode(answer).split("\0") if key}):
        if "=" in name:  # cannot be named in an option
            return None
        options += ["-c", f"{name}.clean=", "-c", f"{name}.process=", "-c", f"{name}.required=false"]
    return options


def _raw_entries(answer: bytes) -> dict[str, tuple[str, str, bool]]:
    """What `diff-index` lists: path -> id before, id now, and whether only the content may differ."""
    fields = iter(answer.split(b"\0"))
    found = {}
    for head in fields:
        if head:
            old_mode, new_mode, old_id, new_id, status = head.decode("ascii").lstrip(":").split(" ")
            found[os.fsdecode(next(fields))] = old_id, new_id, status == "M" and old_mode == new_mode
    return found


def _really_changed(repository: Repository, answer: bytes) -> tuple[str, ...]:
    """The files in an answer of `diff-index` that differ; git lists those whose times were merely touched, too."""
    return tuple(
        sorted(
            path
            for path, (old_id, new_id, touched) in _raw_entries(answer).items()
            if not touched or new_id.strip("0") or not has_content(os.path.join(repository.root, path), old_id)
        )
    )


def _tree_entries(answer: bytes) -> Iterable[tuple[str, str]]:
    for entry in answer.split(b"\0"):
        if entry:
            head, _, path = entry.partition(b"\t")
            yield os.fsdecode(path), head.rpartition(b" ")[2].decode("ascii")


def ask(
    repository: Repository, questions: Sequence[Sequence[str]], *, fine: tuple[int, ...] = (0,), given: bytes = b""
) -> list[bytes | None]:
    """The answers of `git`, all asked at the same time, each at most `_SECONDS`; None for one that failed."""
    with asked(repository, questions, fine=fine, given=given) as answers:
        return answers()


@contextmanager
def asked(
    repository: Repository, questions: Sequence[Sequence[str]], *, fine: tuple[int, ...] = (0,), given: bytes = b""
) -> Iterator[Callable[[], list[bytes | None]]]:
    """Ask `git`, and go on; what this gives waits for the answers. `given` is what each reads from its input."""
    import subprocess  # a third of the cost of the first capture; a program that captures nothing does not pay it

    options = ["--no-optional-locks", "--no-pager", "--literal-pathspecs", "-C", repository.root]
    for setting in _SAFE_SETTINGS:
        options += ["-c", setting]
    environment = {name: value for name, value in os.environ.items() if name not in _LOCAL_VARIABLES}
    environment |= {"GIT_NO_LAZY_FETCH": "1", "GIT_NO_REPLACE_OBJECTS": "1", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    running: list[Popen[bytes]] = []

    def start(question: Sequence[str]) -> Popen[bytes]:
        command = ["git", *options, *question]
        nothing = subprocess.DEVNULL
        source = subprocess.PIPE if given else nothing
        return subprocess.Popen(command, stdin=source, stdout=subprocess.PIPE, stderr=nothing, env=environment)

    def answers() -> list[bytes | None]:
        if len(running) < len(questions):
            return [None] * len(questions)
        try:
            outputs = [process.communicate(given or None, timeout=_SECONDS)[0] for process in running]
        except (OSError, subprocess.TimeoutExpired):
            return [None] * len(questions)
        return [
            output if process.returncode in fine else None for process, output in zip(running, outputs, strict=True)
        ]

    try:
        with suppress(OSError):  # there is no git
            running.extend(map(start, questions))
        yield answers
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.communicate()
