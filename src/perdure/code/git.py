"""Reads git: which repository a file is in, its commit, and whether files differ from that commit.

- Nothing is written: not the index, not the stash, not the work tree; no optional lock is taken.
- No hook, filter, monitor, text conversion or transfer that a configuration names is run.
- The commit is read from git's own files; the program `git` is asked only what was changed.
- Where `git` is missing, refuses the directory or takes too long, the answer is None: unknown. In doubt, changed.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from subprocess import Popen

_SECONDS = 20.0
_PATHS_IN_ONE_CALL = 200
_BYTES_TO_COMPARE = 16 << 20  # a larger file whose times were touched counts as changed, unread

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
    if not _is_object_id(text) and os.path.isdir(tables):
        files.append(os.path.join(tables, "tables.list"))
        (answer,) = _ask(repository, [["rev-parse", "--verify", "--quiet", "HEAD^{commit}"]])
        text = (answer or b"").decode("ascii", "replace").strip()
    return Head(text if _is_object_id(text) else "", tuple(files))


def differences(
    repository: Repository, commit: str, blobs: Mapping[str, Iterable[bytes]]
) -> tuple[bool | None, dict[str, bool | None]]:
    """Whether tracked files differ from `commit`, and the same of each path in `blobs`, relative to the root.

    `blobs` gives the contents that would make a path unchanged: its bytes, and its bytes with plain line ends. A path
    that the commit does not have is changed.
    """
    if not commit:
        return True, dict.fromkeys(blobs, True)
    unfiltered = _without_filters(repository)
    if unfiltered is None:
        return None, dict.fromkeys(blobs)
    paths = list(blobs) if len(blobs) <= _PATHS_IN_ONE_CALL else []
    index, tree = _ask(
        repository,
        [
            [*unfiltered, "diff-index", "--raw", "-z", "--no-renames", "--ignore-submodules=dirty", commit, "--"],
            ["ls-tree", "-z", "--full-tree", *(["--"] if paths else ["-r"]), commit, *paths],
        ],
    )
    changed = None if index is None else _is_changed(repository, index)
    if tree is None:
        return changed, dict.fromkeys(blobs)
    stored = dict(_tree_entries(tree))
    return changed, {
        path: stored.get(path) not in {blob_id(content, len(commit)) for content in contents}
        for path, contents in blobs.items()
    }


def blob_id(content: bytes, length: int = 40) -> str:
    """The id that git gives to a file's bytes; `length` 64 in repositories of the SHA-256 format."""
    make = hashlib.sha256 if length == 64 else hashlib.sha1
    return make(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


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


def _is_object_id(text: str) -> bool:
    return len(text) in (40, 64) and not text.strip("0123456789abcdef")


def _without_filters(repository: Repository) -> list[str] | None:
    """Options that switch off each configured filter: git would run it on a file as young as the index."""
    (answer,) = _ask(repository, [["config", "-z", "--name-only", "--get-regexp", r"^filter\."]], fine=(0, 1))
    if answer is None:
        return None
    options = []
    for name in sorted({key.rpartition(".")[0] for key in os.fsdecode(answer).split("\0") if key}):
        if "=" in name:  # cannot be named in an option
            return None
        options += ["-c", f"{name}.clean=", "-c", f"{name}.process=", "-c", f"{name}.required=false"]
    return options


def _is_changed(repository: Repository, answer: bytes) -> bool:
    """Whether the answer of `diff-index` names a real change; git lists files whose times were merely touched, too."""
    fields = iter(answer.split(b"\0"))
    for head in fields:
        if not head:
            continue
        old_mode, new_mode, old_id, new_id, status = head.decode("ascii").lstrip(":").split(" ")
        path = os.path.join(repository.root, os.fsdecode(next(fields)))
        touched = status == "M" and old_mode == new_mode and not new_id.strip("0")
        if not touched or not _has_blob(path, old_id):
            return True
    return False


def _has_blob(path: str, id_: str) -> bool:
    try:
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _BYTES_TO_COMPARE:
            return False
        with open(path, "rb") as file:
            content = file.read()
    except OSError:
        return False
    return id_ in (blob_id(content, len(id_)), blob_id(content.replace(b"\r\n", b"\n"), len(id_)))


def _tree_entries(answer: bytes) -> Iterable[tuple[str, str]]:
    for entry in answer.split(b"\0"):
        if entry:
            head, _, path = entry.partition(b"\t")
            yield os.fsdecode(path), head.rpartition(b" ")[2].decode("ascii")


def _ask(
    repository: Repository, questions: Sequence[Sequence[str]], *, fine: tuple[int, ...] = (0,)
) -> list[bytes | None]:
    """The answers of `git`, all asked at the same time; None for one that failed."""
    import subprocess  # a third of the cost of the first capture; a program that captures nothing does not pay it

    options = ["--no-optional-locks", "--no-pager", "--literal-pathspecs", "-C", repository.root]
    for setting in _SAFE_SETTINGS:
        options += ["-c", setting]
    environment = {name: value for name, value in os.environ.items() if name not in _LOCAL_VARIABLES}
    environment |= {"GIT_NO_LAZY_FETCH": "1", "GIT_NO_REPLACE_OBJECTS": "1", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}

    def start(question: Sequence[str]) -> Popen[bytes]:
        command = ["git", *options, *question]
        nothing = subprocess.DEVNULL
        return subprocess.Popen(command, stdin=nothing, stdout=subprocess.PIPE, stderr=nothing, env=environment)

    running: list[Popen[bytes]] = []
    try:
        running.extend(map(start, questions))
        outputs = [process.communicate(timeout=_SECONDS)[0] for process in running]
    except (OSError, subprocess.TimeoutExpired):
        for process in running:
            process.kill()
            process.communicate()
        return [None] * len(questions)
    return [output if process.returncode in fine else None for process, output in zip(running, outputs, strict=True)]
