"""A store of perdure as the disk of a prevalent system: its journal and snapshots are records of perdure's own.

    root prevalence:NAME → SystemOwner    which process writes; every commit checks that it still does
    SystemFile                            a file of the system, by its name
    SystemPiece                           a piece of it: an entry of the journal, or up to a MiB of a snapshot

- What is written waits in memory; each sync is one commit of all that waits, so one entry of the journal is one record.
- Who takes the system over writes the owner's record; the next commit of the one before conflicts: `WriterDeposed`.
- A journal file that is finished becomes few large pieces. Pieces that are gone leave the past of the store as well.
- Commits go past the views of the store: a transaction that is open in the caller's thread has no part in them.
"""

from __future__ import annotations

import builtins
import errno
import os
import threading
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, ExitStack, suppress
from typing import Any

from perdure.backends.base import number_of
from perdure.errors import (
    ConflictError,
    InvalidArgument,
    KeyMissing,
    NotFound,
    OutcomeUnknown,
    PerdureError,
    ReadOnly,
    WriterDeposed,
)
from perdure.files import DIRECTORY, FILE, Disk
from perdure.objects.store import Store
from perdure.objects.transactions.naming import Numbers
from perdure.ownership import Owner, owner_of, ownership
from perdure.prevalence.pieces import (
    FILES,
    INDEXED,
    PIECES,
    File,
    Piece,
    SystemOwner,
    file_draft,
    piece_draft,
    state_of,
)
from perdure.records.frame import decode, encoder
from perdure.records.queries import Condition, Query
from perdure.records.values import Batch, Draft, Record

PIECE_BYTES = 1 << 20
TOGETHER = 200  # pieces that are read at a time
PATIENCE = 10.0  # seconds for which a commit is tried again, when the connection was lost or the store was busy
LOCK = "lock"


class StoreDisk(Disk):
    """The files of one system in a store, under `place`. Only who holds the lock may write."""

    is_store = True

    def __init__(self, store: Store, name: str, *, take_over: bool = False):
        if not name or "/" in name or not name.isprintable():
            raise InvalidArgument(f"{name!r:.60} is no name for a system.", hint='name="tasks"')
        if store.key is None:
            raise KeyMissing("The store's key is not here, so nothing can be sealed or verified.")
        self.place = f"{store.url or 'store:'}::{name}"
        self.key = store.key
        self.owner = ""  # who has the lock, as far as it is known
        self._backend = store.backend
        self._name, self._take_over = name, take_over
        self._clock = store._clock
        self._gate = threading.RLock()
        self._numbers = Numbers(store.backend)
        self._encode = encoder(store.key)
        self._keep = store._keep
        self._files: dict[str, File] | None = None  # of the one that holds the lock
        self._waiting: dict[Piece, int] = {}  # to be written, and of which file
        self._removed: dict[str, int] = {}  # ids to the revisions that wrote them
        self._gone: list[str] = []  # removed, and not erased from the store's past yet
        self._checks: dict[str, int] = {}
        self._tokens: dict[int, str] = {}
        self._deposed: WriterDeposed | None = None

    # -- looking ----------------------------------------------------------------------------------------------

    def kind(self, path: str) -> str | None:
        if path == self.place:
            return DIRECTORY
        folder, name = os.path.split(path)
        return FILE if folder == self.place and (name == LOCK or name in self._present()) else None

    def size(self, path: str) -> int:
        file = self._file(path)
        if file.pieces is not None:
            return max((piece.at + piece.size for piece in file.pieces), default=0)
        return len(self._content(file))

    def stamp(self, path: str) -> tuple[int, ...]:
        return self._file(path).number, self.size(path)

    def list(self, path: str) -> list[str]:
        return [*self._present()] if path == self.place else []

    def read(self, path: str, offset: int = 0, size: int = -1) -> bytes:
        if os.path.basename(path) == LOCK:
            return self.owner.encode()
        content = self._content(self._file(path))
        return content[offset:] if size < 0 else content[offset : offset + size]

    def map(self, path: str) -> memoryview:
        return memoryview(bytearray(self.read(path)))

    def _present(self) -> dict[str, File]:
        if self._files is not None:
            return self._files
        found = self._backend.find(Query((FILES,), (Condition("system", "==", self._name),)))
        records = self._records(found.ids)
        return {
            str(record.fields["name"]): File(number_of(record.id), str(record.fields["name"]), record.revision)
            for record in records
        }

    def _file(self, path: str) -> File:
        folder, name = os.path.split(path)
        found = self._present().get(name) if folder == self.place else None
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        return found

    def _content(self, file: File) -> bytes:
        with self._gate:
            pieces = self._pieces(file)
            missing = [piece.id for piece in pieces if piece.content is None]
            stored = {number_of(record.id): state_of(record)["content"] for record in self._records(missing)}
            if len(stored) < len(missing):  # somebody has removed it, past this system
                raise OSError(errno.EIO, "a piece of it is gone from the store", file.name)
            parts: list[bytes] = []
            end = 0
            for piece in pieces:
                content = stored[piece.number] if piece.content is None else piece.content
                if piece.at != end:
                    whole = bytearray(b"".join(parts))
                    whole[piece.at : piece.at + len(content)] = content
                    parts, end = [bytes(whole)], len(whole)
                else:
                    parts.append(content)
                    end += len(content)
            return b"".join(parts)

    def _pieces(self, file: File) -> builtins.list[Piece]:
        """The pieces of a file, in the order in which they were written; those that are stored without content."""
        if file.pieces is not None:
            return file.pieces
        found = self._backend.find(Query((PIECES,), (Condition("file", "==", file.number),)))
        pieces = []
        for record in self._records(found.ids):
            state = state_of(record)
            piece = Piece(number_of(record.id), state["at"], state["content"])
            piece.base = record.revision
            pieces.append(piece)
        if self._files is not None:
            file.pieces = [piece.without_content() for piece in pieces]
        return pieces

    def _records(self, ids: Iterable[str]) -> builtins.list[Record]:
        wanted = [*ids]
        found = []
        for start in range(0, len(wanted), TOGETHER):
            some = wanted[start : start + TOGETHER]
            frames = self._backend.read(some)
            found += [decode(frames[id_], self.key) for id_ in some if id_ in frames]
        return found

    # -- writing ----------------------------------------------------------------------------------------------

    def write(
        self, path: str, offset: int, data: bytes | memoryview, *, create: bool = False, mode: int = 0o666
    ) -> int:
        name = os.path.basename(path)
        if name == LOCK:
            return len(data)  # who has the lock stands in the owner's record
        with self._gate:
            files = self._writable(path)
            if create:
                self._remove(files.pop(name, None))
                files[name] = File(self._numbers.take(), name)
            if data:
                self._append(self._file(path), offset, bytes(data))
        return len(data)

    def truncate(self, path: str, size: int) -> None:
        """Cut it off; what is left becomes few pieces, however many they were."""
        with self._gate:
            self._writable(path)
            file = self._file(path)
            content = self._content(file)[:size]
            pieces = self._pieces(file)
            if len(pieces) <= 1 + len(content) // PIECE_BYTES and len(content) == self.size(path):
                return
            self._remove_pieces(pieces)
            file.pieces = []
            for start in range(0, len(content), PIECE_BYTES):
                self._append(file, start, content[start : start + PIECE_BYTES])

    def _append(self, file: File, offset: int, data: bytes) -> None:
        self._pieces(file)
        assert file.pieces is not None
        for start in range(0, len(data), PIECE_BYTES):
            piece = Piece(self._numbers.take(), offset + start, data[start : start + PIECE_BYTES])
            file.pieces.append(piece)
            self._waiting[piece] = file.number

    def rename(self, source: str, target: str) -> None:
        with self._gate:
            files = self._writable(source)
            file = self._file(source)
            del files[file.name]
            name = os.path.basename(target)
            self._remove(files.pop(name, None))
            file.name, file.is_changed = name, True
            files[name] = file

    def link(self, source: str, target: str) -> None:
        raise OSError(errno.ENOTSUP, "no links", target)

    def unlink(self, path: str) -> None:
        with self._gate:
            files = self._writable(path)
            self._remove(files.pop(self._file(path).name))

    def make_directory(self, path: str, mode: int = 0o777) -> None:
        raise OSError(errno.ENOTSUP, "no directories in a store", path)

    def _writable(self, path: str) -> dict[str, File]:
        if self._deposed is not None:
            raise self._deposed
        if self._files is None:
            raise ReadOnly(f"{self.place} is not open for writing.", path=path)
        return self._files

    def _remove(self, file: File | None) -> None:
        if file is not None:
            self._remove_pieces(self._pieces(file))
            if file.base:
                self._removed[file.id] = file.base

    def _remove_pieces(self, pieces: builtins.list[Piece]) -> None:
        self._removed.update({piece.id: piece.base for piece in pieces if piece.base})
        for piece in pieces:
            self._waiting.pop(piece, None)

    # -- making durable ---------------------------------------------------------------------------------------

    def sync(self, path: str) -> None:
        if os.path.basename(path) != LOCK:
            self._file(path)  # raises where there is none any more
        self._commit()

    def sync_directory(self, path: str) -> None:
        if path == self.place:
            self._commit()

    def sync_all(self, path: str) -> bool:
        self._commit()
        return True

    def hold(self, path: str) -> int:
        self._file(path)
        token = max(self._tokens, default=0) + 1
        self._tokens[token] = path
        return token

    def write_held(self, token: int, offset: int, data: bytes | memoryview) -> int:
        return self.write(self._tokens[token], offset, data)

    def sync_held(self, token: int) -> None:
        self._commit()

    def let_go(self, token: int) -> None:
        self._tokens.pop(token, None)

    def _commit(self) -> None:
        """Write all that waits as one commit; raises `WriterDeposed` or `OutcomeUnknown`."""
        with self._gate:
            if self._deposed is not None:
                raise self._deposed
            if self._files is None:
                return
            changed = [file for file in self._files.values() if file.is_changed]
            if not (changed or self._waiting or self._removed):
                return
            drafts = [file_draft(self._name, file) for file in changed]
            drafts += [piece_draft(number, piece) for piece, number in self._waiting.items()]
            revision = self._applied(drafts)
            for piece in self._waiting:
                piece.base, piece.content = revision, None
            self._waiting = {}
            for file in changed:
                file.base, file.is_changed = revision, False
            self._gone += self._removed
            self._removed = {}
            if len(self._gone) >= TOGETHER:
                self._erase()

    def _applied(self, drafts: builtins.list[Draft]) -> int:
        batch = Batch(
            drafts, self._removed, self._checks, time=self._clock.now(), note=f"prevalence {self._name}",
            counted=True, indexed=INDEXED, keep=self._keep,
        )  # fmt: skip
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return self._backend.apply(batch, self._encode).revision
            except ConflictError as error:
                self._deposed = WriterDeposed(
                    f"Another process has taken {self.place} over, and writes it now; nothing is taken here.",
                    hint="Close it here.",
                    path=self.place,
                    epoch=0,
                )
                raise self._deposed from error
            except OutcomeUnknown:
                raise
            except PerdureError as error:
                if not error.retryable or time.monotonic() > deadline:
                    raise OutcomeUnknown(
                        f"The store did not take what was to be journaled: {error.message}",
                        hint="Check it, then open the system again.",
                        path=self.place,
                    ) from error
            time.sleep(0.1)

    def _erase(self) -> None:
        """Have the store forget what is gone, in its past too."""
        with suppress(PerdureError):  # they only take room: the next time does it as well
            self._backend.erase(self._gone)
            self._gone = []

    # -- one writer -------------------------------------------------------------------------------------------

    def lock(self, path: str, *, exclusive: bool, create: bool) -> AbstractContextManager[Any]:
        """Be the one writer; `BlockingIOError` where a process that may live is it."""
        with self._gate:
            store = Store(self._backend, self.key, code="off")
            found = self._owner_in(store)
            owner = owner_of(found.owner)
            if owner is not None and owner.lives() and not self._take_over:
                self.owner = str(owner)
                raise BlockingIOError(errno.EAGAIN, "locked", path)
            with ExitStack() as stack:
                mine = stack.enter_context(ownership())
                self._claim(store, found, mine, path)
                stack.callback(self._give_back)
                self._files = None
                self._files = self._present()
                return stack.pop_all()

    def _give_back(self) -> None:
        with self._gate:
            if self._gone:
                self._erase()
            if self._files is not None and self._deposed is None:
                store = Store(self._backend, self.key, code="off")
                with suppress(PerdureError):  # who comes finds that this process does not write any more
                    found = self._owner_in(store)
                    if found.owner == self.owner:
                        found.owner = ""
                        store.save(found)
            self._files = None

    def _owner_in(self, store: Store) -> SystemOwner:
        root = f"prevalence:{self._name}"
        for _ in range(3):
            try:
                found = store.roots[root]
                assert isinstance(found, SystemOwner)
                return found
            except NotFound:
                with suppress(ConflictError):  # another process was faster
                    store.roots[root] = SystemOwner(self._name)
        raise ConflictError(f"Others change the roots of {self.place} all the time.", path=self.place)

    def _claim(self, store: Store, found: SystemOwner, mine: Owner, path: str) -> None:
        found.owner = self.owner = mine.header()
        try:
            id_ = store.save(found)
        except ConflictError as error:
            raise BlockingIOError(errno.EAGAIN, "locked", path) from error
        (record,) = self._records([id_])
        if record.fields["owner"] != self.owner:
            raise BlockingIOError(errno.EAGAIN, "locked", path)
        self._checks = {id_: record.revision}
