"""The values that cross between floors: records down and up, batches down, receipts up.

- They are tuples: frozen, cheap, picklable; no value holds an object of the user's.
- `references` are the ids that the payload refers to, each once, in order of first use.
- `fields` are named plain values (text, numbers, booleans, None) that can be shown without unpickling.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

Buffer = bytes | bytearray | memoryview
Plain = str | int | float | bool | None
Fields = Mapping[str, Plain]

STATE = 0  # the payload is the state of an instance that is made by cls.__new__(cls)
REDUCED = 1  # the payload is what __reduce_ex__ gave, apart from the class
VALUE = 2  # the payload is a whole pickled value that is no Persistable
KIND_BITS = 0x0003
INTERNAL = 0x0004  # perdure's own: roots, code records, runs, jobs
LINKED = 0x0010  # the payload is a pair: a state, and for attributes that are just a reference, its place
PLAIN = 0x0020  # the payload names no class and no function
BUFFERED = 0x0200  # large pieces are kept apart, and named first in the payload; see `records.buffers` (format 2)
COMPRESSED = 0x0400  # the payload, but for their names, is compressed; see `records.compression` (format 2)
ENCRYPTED = 0x0800  # the payload, but for their names, is a frame that is encrypted; see `records.hidden` (format 3)
SHAPED = 0x0040  # the payload is a shape and the values of its attributes; see `perdure.records.shape` (format 2)
OUTSIDE = 0x0100  # the payload refers to something outside of the store
FOREIGN = 0x1000  # only in memory: it has no good seal, so that it is read by perdure's own reader alone
KEPT = 0x0008  # saved by name or by `save`, not only because something refers to it

NO_FIELDS: Fields = {}
CLASS_FIELD = "class"  # of a record whose class has a stable name: where that class was, as `module:Name`

CODE, SOURCE = "perdure:Code", "perdure:Source"  # classes of code records, and of the texts of modules in them
SYSTEM_FILE, SYSTEM_PIECE = (
    "perdure:SystemFile",
    "perdure:SystemPiece",
)  # files of prevalent systems, and pieces


class Record(NamedTuple):
    """A stored object, as its frame tells. `revision` is that of the commit that wrote it."""

    id: str
    revision: int
    flags: int
    class_name: str
    class_version: int
    code: str
    references: tuple[str, ...]
    fields: Fields
    payload: bytes


class Draft(NamedTuple):
    """A record that is to be written. `base` is the revision that it was read at; 0: it must be new."""

    id: str
    base: int
    flags: int
    class_name: str
    class_version: int
    code: str
    references: tuple[str, ...]
    fields: Fields
    payload: bytes


class Batch(NamedTuple):
    """One atomic step. `removals` and `checks` map ids to the revisions that they were read at.

    `seen` is the revision of the view: when the store is still there, nothing can conflict. `unused` is the range
    (first, end) of numbers that were reserved for this batch and not used: the backend takes them back if it can.
    `needed` are ids that drafts newly refer to: they must be there when the batch is applied. `doubted` are those of
    them that may be gone even where the store is still at `seen`; None: all may be. With `counted` the numbers of all
    new drafts come from `reserve`, so that nobody else can have them. `unreferred` are ids that nothing referred to at
    revision `seen`: nothing that was written since then may do so either. `indexed` names, for each class, the fields
    of its drafts that queries ask for.
    `buffers` are large pieces of the payloads, by their digests (see `records.buffers`): written where they are not
    there yet. `keep` is for how many seconds replaced versions stay readable at least; None: until they are packed.
    """

    drafts: list[Draft]
    removals: Mapping[str, int] = {}
    checks: Mapping[str, int] = {}
    seen: int = 0
    time: float = 0.0
    note: str = ""
    code: str = ""
    unused: tuple[int, int] = (0, 0)
    needed: Collection[str] = ()
    doubted: Collection[str] | None = None
    counted: bool = False
    unreferred: Collection[str] = ()
    indexed: Mapping[str, tuple[str, ...]] = {}
    buffers: Mapping[str, Buffer] = {}
    keep: float | None = None


class Receipt(NamedTuple):
    """What a batch got: the revision of its commit, and what the backend's watch gives until the next one, if known."""

    revision: int
    mark: object = None


class Commit(NamedTuple):
    """One commit of a store; `numbers` are those of the ids that it wrote or removed."""

    revision: int
    time: float
    note: str
    code: str
    numbers: tuple[int, ...]


class Version(NamedTuple):
    """One stored version of an object; `frame` is None where the commit removed it."""

    revision: int
    frame: bytes | None


class Description(NamedTuple):
    """What a store says of itself: format, its own id, the id of its key, newest revision, next free number.

    `oldest` is the first revision whose state is kept whole (0: all are). What is `encrypted` is in `records.hidden`.
    """

    format: int
    store: str
    key: int
    revision: int
    next_number: int
    oldest: int = 0
    encrypted: bool = False


class Past(NamedTuple):
    """One revision of a store, as it is written anew elsewhere: its frames by their ids, and the ids that it removed.

    `commit` is None where versions are kept, but not the commit that wrote them; it may name numbers of which nothing
    is kept.
    """

    revision: int
    commit: Commit | None
    frames: Mapping[str, bytes]
    removed: tuple[str, ...] = ()
