"""Lets backups forget what their store has forgotten: no version of an object is left, nor a large piece of it alone.

- First the backup is brought up to date, so that it tells of the removal, and nothing in its newest state refers to
  what is gone. Then it is written anew beside itself, and takes its own place: all of it or nothing.
- The increments become one. Everything else in it stays bit for bit.
"""

from __future__ import annotations

import os
from collections.abc import Collection

from perdure.files import Files
from perdure.objects.store import Store
from perdure.records.buffers import digests_of
from perdure.records.frame import parse_unverified
from perdure.records.values import Buffer
from perdure.upkeep.backing_up import backup
from perdure.upkeep.backup_files import BackupFile, BackupWriter, Contents
from perdure.upkeep.past import Step


def forget_in_backup(
    store: Store, path: str | os.PathLike[str], ids: Collection[str], *, files: Files | None = None
) -> int:
    """Take every version of those objects out of a backup of the store; gives how many. They must be forgotten there.

    Raises what `backup` does. Cut off, the file is as it was, or up to date; the same call does the rest.
    """
    files, place = files or Files(), os.path.realpath(path)
    backup(store, place, files=files)
    with files.lock(place, exclusive=True):
        file = BackupFile(place, files=files)
        contents = file.contents()
        gone = versions_in(file, contents, ids)
        if gone:
            with files.beside(place) as aside:
                _write_without(BackupWriter.new(files, aside), file, contents, set(ids))
        return gone


def versions_in(file: BackupFile, contents: Contents, ids: Collection[str]) -> int:
    """How many versions of those objects are in a backup."""
    return sum(id_ in step.past.frames for step in file.steps(contents.end) for id_ in ids)


def _write_without(writer: BackupWriter, file: BackupFile, contents: Contents, ids: set[str]) -> None:
    told_of_all = {"encrypted": True} if contents.encrypted else {}
    writer.begin(store=contents.store, key=contents.key, since=0, oldest=contents.oldest, **told_of_all)
    pieces: dict[str, Buffer] = {}
    written: set[str] = set()
    for past, brought in file.steps(contents.end):
        pieces.update(brought)  # parts of the mapped file; one that only what goes has named may be needed later
        kept = past._replace(frames={id_: frame for id_, frame in past.frames.items() if id_ not in ids})
        _write_step(writer, Step(kept, pieces), written)
    last = contents.increments[-1]
    told = {"revision": last.revision, "next": contents.next_number, "indexes": contents.indexes, "time": last.time}
    writer.finish(**told)


def _write_step(writer: BackupWriter, step: Step, written: set[str]) -> None:
    for frame in step.past.frames.values():
        for digest in digests_of(parse_unverified(frame)):
            if digest not in written:
                content = step.pieces[digest]
                writer.piece(digest, len(content), [content])
                written.add(digest)
        writer.record(frame)
    writer.revision(step.past)
