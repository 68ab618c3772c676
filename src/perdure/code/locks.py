"""What pins the environment: the lock file of a project, the lock file or the block (PEP 723) of a script.

- Looked for from the module's directory up to the root of its repository, or to its entry of the import path.
- Kept are the names, versions and markers of the packages, one a line: no address, no path, no hash.
- The files are machine-written and large: they are looked through, not parsed.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from perdure.code.values import LockFile

NAMES = ("uv.lock", "pylock.toml")
SCRIPT = "script"

_PACKAGE = re.compile(r"^\[\[packages?\]\]$", re.MULTILINE)
_FIELD = re.compile(r'^(name|version|marker) = "((?:[^"\\]|\\.)*)"', re.MULTILINE)
_FORKS = re.compile(r"^resolution-markers = \[(.*?)^\]", re.MULTILINE | re.DOTALL)
_MARKER = re.compile(r'"((?:[^"\\]|\\.)*)"')
_BLOCK = re.compile(r"^# /// script\s*$\s(?P<content>(?:^#(?:| .*)$\s)+?)^# ///$", re.MULTILINE)
_DEPENDENCIES = re.compile(r"^#? *dependencies *= *\[(.*?)\]\s*$", re.MULTILINE | re.DOTALL)

_known: dict[str, tuple[tuple[int, int], str]] = {}  # file -> its time and size, and what is kept of it


class Found(NamedTuple):
    """Lock files, what is kept of each by its digest, and every file whose coming or going would matter."""

    locks: tuple[LockFile, ...]
    texts: dict[str, str]
    looked_at: tuple[str, ...]


def find_locks(places: Iterable[tuple[str, str, str]]) -> Found:
    """The lock files of modules: for each its file, the directory where the search ends, and its text."""
    locks: dict[tuple[str, str], str] = {}
    looked_at: dict[str, None] = {}
    searched: set[tuple[str, str]] = set()
    for file, root, text in places:
        relative = os.path.relpath(file, root).replace(os.sep, "/")
        if not file.startswith(os.path.join(root, "")):
            continue  # a link leads there
        beside = f"{file}.lock"
        looked_at[beside] = None
        kept = _kept_of(beside)
        if kept is None and "# /// script" in text:
            kept = block_of(text)
        if kept is not None:
            locks[SCRIPT, relative] = kept
        directory = os.path.dirname(file)
        if (directory, root) in searched:
            continue
        searched.add((directory, root))
        for candidate in _upwards(directory, root):
            looked_at[candidate] = None
            kept = _kept_of(candidate)
            if kept is not None:
                locks[os.path.basename(candidate), os.path.relpath(candidate, root).replace(os.sep, "/")] = kept
                break
    texts = {hashlib.sha256(text.encode()).hexdigest(): text for text in locks.values()}
    digests = {text: digest for digest, text in texts.items()}
    found = tuple(sorted(LockFile(kind, path, digests[text]) for (kind, path), text in locks.items()))
    return Found(found, texts, tuple(looked_at))


def kept_text(text: str) -> str:
    """The packages that a lock file pins: `name==version`, and `; marker` where it pins only under one."""
    lines = set()
    for block in _PACKAGE.split(text)[1:]:
        head = block.partition("\n[")[0]
        fields = dict(_FIELD.findall(head))
        if "name" not in fields or "version" not in fields:
            continue
        forks = _FORKS.search(head)
        markers = [fields["marker"]] if "marker" in fields else _MARKER.findall(forks[1]) if forks else []
        condition = " or ".join(f"({marker})" for marker in markers).replace('\\"', '"')
        lines.add(f"{fields['name']}=={fields['version']}" + (f" ; {condition}" if condition else ""))
    return "".join(f"{line}\n" for line in sorted(lines))


def block_of(text: str) -> str | None:
    """The dependencies that the block of a script declares, one a line; None if it has no block."""
    block = _BLOCK.search(text)
    if block is None:
        return None
    content = "".join(line[2:] + "\n" for line in block["content"].splitlines())
    found = _DEPENDENCIES.search(content)
    names = [each.partition("@")[0].strip() for each in _MARKER.findall(found[1])] if found else []
    return "".join(f"{name}\n" for name in sorted(names))


def _upwards(directory: str, root: str) -> Iterator[str]:
    while True:
        for name in NAMES:
            yield os.path.join(directory, name)
        parent = os.path.dirname(directory)
        if directory == root or parent == directory:
            return
        directory = parent


def _kept_of(file: str) -> str | None:
    try:
        status = os.stat(file)
        signature = status.st_mtime_ns, status.st_size
        known = _known.get(file)
        if known is None or known[0] != signature:
            with open(file, encoding="utf-8", errors="replace") as stream:
                known = _known[file] = signature, kept_text(stream.read())
    except OSError:
        return None
    return known[1]
