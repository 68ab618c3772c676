"""Brings back, from the copy that was made for it, what a rename has changed in a store that keeps no history.

- Only a record that is just what the rename made of its copy gets its old state; what was changed since is left alone
  and reported.
- It is one commit for each of up to `TOGETHER` records, like the rename itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from perdure.backends.base import chunks
from perdure.backends.encrypted import opened
from perdure.errors import CorruptRecord, NotFound, TransactionError
from perdure.files import Files
from perdure.objects.store import Store
from perdure.objects.transactions.signing import signing
from perdure.pickling.renames import Renames
from perdure.records.frame import WIDE_HEAD, decode, frame_length
from perdure.records.values import Batch, Draft, Record
from perdure.upkeep.renamed import renamed
from perdure.upkeep.renaming import TOGETHER, Refused, RenameReport, class_changes, indexed_fields, note_of


def put_back(store: Store, renames: Renames, copy: str | os.PathLike[str], *, note: str = "") -> RenameReport:
    """Undo a rename by the file that `rename_in_store(…, copy_to=…)` wrote; `renames` are those of that call.

    Raises `NotFound` without the file, `CorruptRecord` and `UntrustedRecord` for what is not this store's.
    """
    desk, backend, key = store.desk(), store.backend, store.key
    if desk.is_in_transaction:
        raise TransactionError("To put back makes commits of its own.", hint="Call it outside of the transaction.")
    desk.require_writable()
    assert key is not None  # require_writable has asked for it
    records = [decode(opened(backend, frame), key) for frame in frames_in(copy)]
    refused: list[Refused] = []
    drafts: list[tuple[Draft, str]] = []
    for ids in chunks(record.id for record in records):
        wanted = {record.id: record for record in records if record.id in set(ids)}
        frames = backend.read(ids)
        for id_, old in wanted.items():
            present = decode(frames[id_], key) if id_ in frames else None
            if present is not None and _same(present, old):
                continue  # the rename did not come to it, or it is back already
            if present is None or not _is_made_of(present, old, renames):
                refused.append(Refused(id_, old.class_name, "It was changed or removed since."))
                continue
            drafts.append((Draft(*old)._replace(base=present.revision), present.class_name))
    revisions = []
    indexes = backend.indexes()
    for start in range(0, len(drafts), TOGETHER):
        some = drafts[start : start + TOGETHER]
        names = {(old_name, draft.class_name) for draft, old_name in some}
        batch = Batch(
            [draft for draft, _ in some], time=desk.clock.now(), note=note or f"take back: {note_of(renames)}",
            indexed=indexed_fields(names, indexes),
        )  # fmt: skip
        with signing(desk) as apply:
            revisions.append(apply(batch).revision)
    classes = class_changes((name, draft.class_name) for draft, name in drafts)
    return RenameReport(len(drafts), len(records), classes, class_changes(()), tuple(refused), tuple(revisions))


def frames_in(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """The frames in a file, one behind another."""
    place = os.path.abspath(path)
    data = Files().read(place)
    if data is None:
        raise NotFound(f"There is no file {os.fspath(path)}.", hint="Look at the path.", path=place)
    position = 0
    while position < len(data):
        length = frame_length(data[position : position + WIDE_HEAD])
        if length is None or position + length > len(data):
            raise CorruptRecord(f"{os.fspath(path)} was cut short.", path=place, position=position)
        yield data[position : position + length]
        position += length


def _is_made_of(present: Record, old: Record, renames: Renames) -> bool:
    made = renamed(old, renames)
    return made is not None and _same(present, made.draft)


def _same(present: Record, other: Record | Draft) -> bool:
    return (present.class_name, present.payload) == (other.class_name, other.payload)
