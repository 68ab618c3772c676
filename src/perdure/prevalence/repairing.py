"""Repair: a directory that cannot be opened becomes one that can, with as much as is whole, and nothing thrown away.

- What is damaged, and what comes after it, is moved into a folder `damaged-…` beside the rest, as it was found.
- It is told beforehand which commands are lost; with `dry_run` that is all.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from perdure.errors import CorruptJournal
from perdure.prevalence.folder import JOURNAL, SNAPSHOT, Folder, Reached
from perdure.prevalence.inspecting import Verified, verify
from perdure.records.seal import Key


class Repaired(NamedTuple):
    """What a repair does, or did."""

    last: int  # the newest command that is kept
    moved: list[str]  # files that are put aside whole
    cut: tuple[str, int] | None  # a file that ends at that byte from now on; as it was, it is put aside
    aside: str  # the folder for them; "": nothing has to be done


def repair(folder: Folder, key: Key | None, *, dry_run: bool = False) -> Repaired:
    """Make the directory one that opens, at the newest command that can be had; call it with the lock held.

    Raises `CorruptJournal` if no snapshot is good: then there is nothing to begin with.
    """
    found = verify(folder, key)
    if found.base < 0:
        raise CorruptJournal(
            f"No snapshot in {folder.directory} is good, so nothing can be recovered.",
            hint="Take a snapshot from a backup.",
            path=folder.directory,
            offset=0,
        )
    if not found.wrong:
        return Repaired(found.last, [], None, "")
    moved, cut = _what_to_move(folder, key, found)
    aside = folder.path(time.strftime("damaged-%Y%m%d-%H%M%S"))
    if not dry_run:
        _put_aside(folder, aside, moved, cut)
        journals = folder.numbers(JOURNAL)
        folder.note(Reached(journals[-1] if journals else 0, found.last if journals else 0))
    return Repaired(found.last, moved, cut, aside)


def _what_to_move(folder: Folder, key: Key | None, found: Verified) -> tuple[list[str], tuple[str, int] | None]:
    bad = {wrong.path: wrong.offset for wrong in found.wrong}
    moved = [folder.numbered(SNAPSHOT, number) for number in folder.numbers(SNAPSHOT) if number not in found.snapshots]
    cut = None
    for number in folder.numbers(JOURNAL):
        path = folder.numbered(JOURNAL, number)
        if number > found.last + 1 or (path in bad and not bad[path]):
            moved.append(path)
        elif path in bad:
            if number <= found.last:
                cut = (path, bad[path])
            else:
                moved.append(path)
    # Older snapshots stay only if the journal leads on from them.
    moved += [folder.numbered(SNAPSHOT, number) for number in found.snapshots if number not in found.lead]
    return moved, cut


def _put_aside(folder: Folder, aside: str, moved: list[str], cut: tuple[str, int] | None) -> None:
    files = folder.files
    files.make_directories(aside)
    if cut is not None:
        path, end = cut
        data = files.read(path) or b""
        files.replace_durably(_in(aside, path), data)
        files.truncate(path, end)
        files.sync(path)
    for path in moved:
        files.rename(path, _in(aside, path))
    files.sync_directory(aside)
    files.sync_directory(folder.directory)


def _in(aside: str, path: str) -> str:
    return f"{aside}/{path.replace(chr(92), '/').rpartition('/')[2]}"
