"""A backend in which everything is encrypted, over one that keeps it; see decision 043 and `records.hidden`.

- Who is above sees frames, notes and large pieces as they were given; who is below sees what is hidden, and may be any
  backend. What must not be opened, such as a backup, asks `at_rest` for the one below.
- A frame that cannot be opened, without the key or because it was changed, comes up as it lies: its header is right as
  far as its seal is, and `decode` says what is wrong with it. One bad record is one bad record.
- Nothing of what headers tell for queries reaches the backend below: it has no index and no column of it. Questions are
  answered by looking through the records of the class.
- Large pieces have other digests at rest. Which, the record tells that names them: it was read before they are asked
  for, or it comes with them. What no record has named goes by its digest at rest, and is given as it lies.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial

from perdure.backends.base import Backend, Keep
from perdure.errors import CorruptRecord, InvalidArgument, KeyMissing
from perdure.records.buffers import changed_piece, digest_of, missing_piece
from perdure.records.encryption import require_library
from perdure.records.frame import NARROW_HEAD, Encoder, flags_of
from perdure.records.hidden import NOTE, UNKNOWN_NOTE, AtRest, Hiding, StoredPiece
from perdure.records.queries import Found, Query
from perdure.records.seal import Key
from perdure.records.values import (
    BUFFERED,
    ENCRYPTED,
    NO_FIELDS,
    Batch,
    Buffer,
    Commit,
    Description,
    Draft,
    Past,
    Receipt,
    Version,
)


class EncryptedBackend(Backend):
    """What `below` keeps, opened with that key; without a key its headers, and nothing can be written."""

    def __init__(self, below: Backend, key: Key | None):
        self.below = below
        self.read_only = below.read_only
        self._hiding = None if key is None else Hiding(key)
        self._pieces: dict[str, AtRest] = {}  # of contents that a frame has named, by their own digests

    # -- what is hidden ----------------------------------------------------------------------------------

    def hidden(self, frame: bytes) -> bytes:
        """The frame as it is at rest."""
        return self._key_there().hide(frame, self._at_rest)

    def opened(self, frame: bytes) -> bytes:
        """The frame that is hidden in one at rest; that itself where it cannot be opened."""
        if self._hiding is None or len(frame) < NARROW_HEAD or not flags_of(frame) & ENCRYPTED:
            return frame
        found = self._hiding.open(frame)
        if found is None:
            return frame
        if flags_of(found) & BUFFERED:
            self._pieces.update(self._hiding.pieces_of(found, frame))
        return found

    def _opened_all(self, frames: dict[str, bytes]) -> dict[str, bytes]:
        opened = self.opened
        return {id_: opened(frame) for id_, frame in frames.items()}

    def _hidden_batch(self, batch: Batch) -> Batch:
        """The batch without anything that is for its owner only; its pieces are hidden, and known from now on."""
        hiding = self._key_there()
        buffers: dict[str, Buffer] = {}
        for digest, content in batch.buffers.items():
            if isinstance(content, StoredPiece):
                buffers[digest] = content
                continue
            stored = hiding.hide_piece(digest, content)
            name = digest_of(stored)
            buffers[name] = stored
            self._pieces[digest] = AtRest(name, len(stored), memoryview(content).nbytes)
        drafts = [_shown(draft) for draft in batch.drafts]
        return batch._replace(drafts=drafts, indexed={}, note=hiding.hide_note(batch.note), buffers=buffers)

    def _at_rest(self, digest: str) -> AtRest:
        found = self._pieces.get(digest)
        if found is None:
            raise missing_piece(digest)
        return found

    def _key_there(self) -> Hiding:
        if self._hiding is None:
            raise KeyMissing("The store is encrypted, and its key is not on this machine.")
        return self._hiding

    def _commit(self, commit: Commit) -> Commit:
        if not commit.note.startswith(NOTE):
            return commit
        note = UNKNOWN_NOTE if self._hiding is None else self._hiding.open_note(commit.note)
        return commit._replace(note=note)

    # -- writing -----------------------------------------------------------------------------------------

    def apply(self, batch: Batch, encode: Encoder) -> Receipt:
        whole = {draft.id: draft for draft in batch.drafts}
        hide = self._key_there().hide

        def encode_hidden(draft: Draft, revision: int) -> bytes:
            return hide(encode(whole[draft.id], revision), self._at_rest)

        return self.below.apply(self._hidden_batch(batch), encode_hidden)

    def replay_part(self, past: Past, batch: Batch) -> None:
        hidden = self._hidden_batch(batch)
        commit = past.commit and past.commit._replace(note=hidden.note)
        frames = {id_: self.hidden(frame) for id_, frame in past.frames.items()}
        self.below.replay_part(past._replace(commit=commit, frames=frames), hidden)

    def mend(self, id_: str, revision: int, frame: bytes, keep: Keep) -> None:
        self.below.mend(id_, revision, self.hidden(frame), lambda before: keep(self.opened(before)))

    # -- reading -----------------------------------------------------------------------------------------

    def read(self, ids: Iterable[str], at: int | None = None) -> dict[str, bytes]:
        return self._opened_all(self.below.read(ids, at))

    def read_run(self, first: int, end: int, at: int) -> dict[str, bytes]:
        return self._opened_all(self.below.read_run(first, end, at))

    def scan(
        self,
        *,
        class_name: str | None = None,
        internal: bool | None = None,
        after: int = -1,
        at: int | None = None,
    ) -> Iterator[bytes]:
        return map(self.opened, self.below.scan(class_name=class_name, internal=internal, after=after, at=at))

    def history(self, id_: str) -> list[Version]:
        versions = self.below.history(id_)
        return [Version(at, None if frame is None else self.opened(frame)) for at, frame in versions]

    def commits(self, before: int | None = None, limit: int | None = None) -> list[Commit]:
        return [*map(self._commit, self.below.commits(before, limit))]

    def commits_of(self, revisions: Collection[int]) -> dict[int, Commit]:
        return {revision: self._commit(commit) for revision, commit in self.below.commits_of(revisions).items()}

    def buffer(self, digest: str) -> Buffer:
        """The large piece of that digest, read into memory."""
        if digest not in self._pieces:
            return self.below.buffer(digest)
        found = bytearray()
        for part in self.buffer_parts(digest):
            found += part
        return found

    def buffer_parts(self, digest: str) -> Iterator[Buffer]:
        if digest not in self._pieces:
            return self.below.buffer_parts(digest)
        name = self._pieces[digest].digest
        damaged: Callable[[], CorruptRecord] = partial(changed_piece, name)
        return self._key_there().open_piece(self.below.buffer_parts(name), damaged)

    def find(self, query: Query) -> Found:
        self._key_there()
        return super().find(query)

    def lacking(self, query: Query) -> list[str]:
        self._key_there()
        return super().lacking(query)

    def buffers(self) -> dict[str, int]:
        owned = {at_rest.digest: (digest, at_rest.length) for digest, at_rest in self._pieces.items()}
        return dict(owned.get(digest, (digest, length)) for digest, length in self.below.buffers().items())

    def drop_buffers(self, digests: Collection[str], seen: int) -> list[str]:
        names = {self._pieces[digest].digest if digest in self._pieces else digest: digest for digest in digests}
        return [names[name] for name in self.below.drop_buffers(names, seen)]

    # -- what is the same --------------------------------------------------------------------------------

    def describe(self) -> Description:
        return self.below.describe()

    def revision(self) -> int:
        return self.below.revision()

    def reserve(self, count: int, *, durable: bool = True) -> int:
        return self.below.reserve(count, durable=durable)

    def give_back(self, first: int, end: int) -> bool:
        return self.below.give_back(first, end)

    def watch(self) -> Callable[[], object]:
        return self.below.watch()

    def classes(self, ids: Iterable[str], at: int | None = None) -> dict[str, str]:
        return self.below.classes(ids, at)

    def ids(self, *, internal: bool = False, at: int | None = None) -> list[str]:
        return self.below.ids(internal=internal, at=at)

    def ids_of(self, numbers: Collection[int], at: int) -> list[str]:
        return self.below.ids_of(numbers, at)

    def class_names(self) -> list[str]:
        return self.below.class_names()

    def changes(self, since: int) -> tuple[int, set[int]]:
        return self.below.changes(since)

    def referrers(self, ids: Collection[str]) -> dict[str, list[str]]:
        return self.below.referrers(ids)

    def removals(self) -> dict[str, int]:
        return self.below.removals()

    def begin(self, oldest: int, key: int) -> None:
        self.below.begin(oldest, key)

    def mark_encrypted(self) -> None:
        self.below.mark_encrypted()

    def renew_indexes(self) -> None:
        self.below.renew_indexes()

    def size(self) -> int | None:
        return self.below.size()

    def pack(self, oldest: int) -> int:
        return self.below.pack(oldest)

    def erase(self, ids: Collection[str]) -> None:
        self.below.erase(ids)

    def close(self) -> None:
        self.below.close()


def opened_for(backend: Backend, key: Key | None, encrypt: bool | None) -> Backend:
    """The backend of a store as its owner asked for it: `encrypt` is True, False, or None for as it is.

    An empty store is made an encrypted one. Raises `InvalidArgument` for one that is not empty and not what was asked
    for, `DriverMissing` without the package.
    """
    described = backend.describe()
    if described.encrypted and encrypt is False:
        raise InvalidArgument(
            "The store is encrypted, and stays so.",
            hint="Leave encrypt= away; `perdure copy --no-encrypt` makes a copy that is not.",
        )
    if not described.encrypted and not encrypt:
        return backend
    require_library()
    if not described.encrypted and (described.revision or not _is_marked(backend)):
        raise InvalidArgument(
            f"The store is not encrypted, and holds {backend.revision()} revisions already.",
            hint="`perdure copy --encrypt` makes a copy that is encrypted.",
        )
    return EncryptedBackend(backend, key)


def _is_marked(backend: Backend) -> bool:
    """Make an encrypted store of one that was empty; whether it is one now: others may have filled it meanwhile."""
    try:
        backend.mark_encrypted()
    except ValueError:
        return backend.describe().encrypted
    return True


def at_rest(backend: Backend) -> Backend:
    """The backend that keeps what is hidden; the very same one where nothing is."""
    return backend.below if isinstance(backend, EncryptedBackend) else backend


def opened(backend: Backend, frame: bytes) -> bytes:
    """A frame that was taken from a backend at rest, as that backend's owner sees it."""
    return backend.opened(frame) if isinstance(backend, EncryptedBackend) else frame


def _shown(draft: Draft) -> Draft:
    """What the backend below may see of a draft before it is a frame."""
    id_, base, flags, class_name, version, code, references, _, _ = draft
    return Draft(id_, base, flags, class_name, version, code, references, NO_FIELDS, b"")
