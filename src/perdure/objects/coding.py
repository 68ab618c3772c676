"""Code records as objects of a store: each state of the code once, each text of a module once.

- They are content-addressed: `digest` stands in the header, so that a record that is there is found without unpickling.
- Two processes may write the same one at the same moment; then there are two, which harms nobody.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Protocol

from perdure.backends.base import Backend
from perdure.code.capture import capture
from perdure.code.values import CodeState
from perdure.errors import (
    CannotLoad,
    ClassNotFound,
    CorruptRecord,
    InvalidId,
    NewerFormat,
    NotFound,
    SnapshotTooOld,
    UntrustedRecord,
)
from perdure.ids import parse_id
from perdure.objects.instances.persistable import Persistable, entry_of
from perdure.objects.transactions.worklist import Worklist
from perdure.objects.views.view import View
from perdure.pickling.classes import name_of
from perdure.records.frame import is_sealed, parse_unverified
from perdure.records.seal import Key
from perdure.records.values import Plain

BARE = "bare:"  # before the digest of a state whose texts were not to be kept
FRESH = 1.0  # seconds for which a commit takes the state of the code to be the one that was seen last


class Source(Persistable):
    """The text of one module, stored once however many code records name it."""

    __module__ = "perdure"  # the name in records, for ever
    __record_internal__ = True

    def __init__(self, digest: str, text: str):
        self.digest = digest
        self.text = text

    def __record_fields__(self) -> dict[str, Plain]:
        return {"digest": self.digest}


class Code(Persistable):
    """A code record: which code made something. `state` holds commit, modules, packages; `sources` the texts.

    `erased` are the digests of texts that were here, and that somebody had the store forget.
    """

    __module__ = "perdure"  # the name in records, for ever
    __record_internal__ = True

    erased: tuple[str, ...] = ()

    def __init__(self, state: CodeState, sources: dict[str, Source], *, digest: str = ""):
        self._plain = state.as_plain()
        self.sources = sources
        self.digest = digest or state.digest
        self.summary = state.summary()

    @property
    def state(self) -> CodeState:
        """What was captured; its texts are in `sources`."""
        return CodeState.from_plain(self._plain)

    def erase(self, source: Source) -> None:
        """Refer to that text no more, and say that it was erased."""
        gone = [digest for digest, held in self.sources.items() if held is source]
        self.sources = {digest: held for digest, held in self.sources.items() if held is not source}
        self.erased = (*self.erased, *gone)

    def __record_fields__(self) -> dict[str, Plain]:
        commits = [repository.commit for repository in self.state.repositories if repository.commit]
        told: dict[str, Plain] = {"digest": self.digest, "summary": self.summary, "commit": ",".join(commits)}
        return {**told, "erased": ",".join(self.erased)} if self.erased else told


class Loader(Protocol):
    """What `Codes` asks of a store."""

    backend: Backend

    def load(self, id_: str) -> Any: ...


class Codes:
    """Finds or makes the code record of what runs now, in the view of the caller. Without `texts` none is kept."""

    def __init__(self, store: Loader, *, texts: bool = True):
        self._store = store
        self._texts = texts
        self._ids: dict[str, str] = {}  # digest -> id, of code records and sources
        self._seen_until: dict[str, int] = {}  # class -> the last number of those that were looked at
        self._unsaved: dict[str, Persistable] = {}

    def of(self, modules: Iterable[str]) -> Code:
        """The code record of these modules and all of the user's own that they use; new if the store has none."""
        return self.record_of(capture(modules))

    def record_of(self, state: CodeState) -> Code:
        """The code record of a state that was captured here or in another process; new if the store has none."""
        key = self._key(state)
        found = self._find(name_of(Code), key)
        if found is None:
            texts = state.texts if self._texts else {}
            sources = {digest: self._source(digest, text) for digest, text in texts.items()}
            found = self._unsaved[key] = Code(state.without_texts(), sources, digest=key)
        assert isinstance(found, Code)
        return found

    def stored_id(self, state: CodeState, key: Key | None, at: int) -> str | None:
        """The id of the state's code record, if it was there at that revision, with a good seal; nothing is loaded."""
        digest = self._key(state)
        id_ = self._id_of(name_of(Code), digest)
        if id_ is None or key is None:
            return None
        try:
            frame = self._store.backend.read([id_], at).get(id_)
        except (CorruptRecord, SnapshotTooOld):
            return None
        return id_ if frame is not None and is_sealed(frame, key) else None

    def _key(self, state: CodeState) -> str:
        return state.digest if self._texts else f"{BARE}{state.digest}"

    def _source(self, digest: str, text: str) -> Source:
        found = self._find(name_of(Source), digest)
        if found is None:
            found = self._unsaved[digest] = Source(digest, text)
        assert isinstance(found, Source)
        return found

    def _find(self, class_name: str, digest: str) -> Persistable | None:
        unsaved = self._unsaved.get(digest)
        if unsaved is not None:
            return unsaved
        id_ = self._id_of(class_name, digest)
        if id_ is None:
            return None
        try:
            found: Persistable = self._store.load(id_)
        except (NotFound, CorruptRecord, UntrustedRecord, NewerFormat, CannotLoad, ClassNotFound, SnapshotTooOld):
            del self._ids[digest]
            return None  # not in this snapshot, or damaged: what made an object must never keep it from being saved
        return found

    def _id_of(self, class_name: str, digest: str) -> str | None:
        if digest not in self._ids:
            self._read_new(class_name)
        return self._ids.get(digest)

    def _read_new(self, class_name: str) -> None:
        """Learn the records of a class that came since the last look."""
        newest = seen = self._seen_until.get(class_name, -1)
        for frame in self._store.backend.scan(class_name=class_name, after=seen):
            try:
                record = parse_unverified(frame)
                newest = max(newest, parse_id(record.id).number)
            except (CorruptRecord, NewerFormat, InvalidId):
                continue
            self._ids[str(record.fields.get("digest"))] = record.id
        self._seen_until[class_name] = newest


class CodeRecorder:
    """Says, for the records of one view, which code record their classes belong to; it is written with them.

    Modules are looked at anew at most once in `FRESH` seconds, and when something was removed: it may be that record.
    """

    def __init__(self, view: View, *, texts: bool = True):
        self._view = view
        self._codes = Codes(_OfView(view), texts=texts)
        self._recent: dict[str, tuple[float, Code | str]] = {}  # when, and the id of what was stored by then
        self._removals = 0  # of the view, when it was asked last

    def __call__(self, worklist: Worklist, modules: str) -> str:
        now = time.monotonic()
        if self._removals != self._view.removals:
            self._removals = self._view.removals
            self._recent.clear()
        found = self._recent.get(modules)
        if found is None or now - found[0] > FRESH:
            found = self._recent[modules] = (now, self._of(modules.split()))
        code = found[1]
        if type(code) is str:
            return code
        entry = entry_of(code)
        return worklist.add(code) if entry is None else entry.id  # it may have been taken back

    def _of(self, modules: Iterable[str]) -> Code | str:
        state = capture(modules)
        return self._codes.stored_id(state, self._view.key, self._view.revision) or self._codes.record_of(state)


class _OfView:
    """A view as `Codes` asks for it: it is not moved forward, since a commit is being put together."""

    def __init__(self, view: View):
        self.backend = view.backend
        self._view = view

    def load(self, id_: str) -> Any:
        return self._view.load_many([id_])[0]
