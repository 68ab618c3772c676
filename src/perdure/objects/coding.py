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
from perdure.records.frame import parse_unverified
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
        self._seen_until = -1
        self._unsaved: dict[str, Persistable] = {}
        self._recent: dict[str, tuple[float, Code]] = {}

    def of(self, modules: Iterable[str]) -> Code:
        """The code record of these modules and all of the user's own that they use; new if the store has none."""
        return self.record_of(capture(modules))

    def record_of(self, state: CodeState) -> Code:
        """The code record of a state that was captured here or in another process; new if the store has none."""
        key = state.digest if self._texts else f"{BARE}{state.digest}"
        found = self._find(key)
        if found is None:
            texts = state.texts if self._texts else {}
            sources = {digest: self._source(digest, text) for digest, text in texts.items()}
            found = self._unsaved[key] = Code(state.without_texts(), sources, digest=key)
        assert isinstance(found, Code)
        return found

    def of_modules(self, modules: str) -> Code:
        """The code record of modules (names, with a space between); looked at anew at most once in `FRESH` seconds."""
        now = time.monotonic()
        found = self._recent.get(modules)
        if found is None or now - found[0] > FRESH:
            found = self._recent[modules] = (now, self.of(modules.split()))
        return found[1]

    def _source(self, digest: str, text: str) -> Source:
        found = self._find(digest)
        if found is None:
            found = self._unsaved[digest] = Source(digest, text)
        assert isinstance(found, Source)
        return found

    def _find(self, digest: str) -> Persistable | None:
        unsaved = self._unsaved.get(digest)
        if unsaved is not None:
            return unsaved
        if digest not in self._ids:
            self._read_new()
        id_ = self._ids.get(digest)
        if id_ is None:
            return None
        try:
            found: Persistable = self._store.load(id_)
        except (NotFound, CorruptRecord, UntrustedRecord, NewerFormat, CannotLoad, ClassNotFound, SnapshotTooOld):
            del self._ids[digest]
            return None  # not in this snapshot, or damaged: what made an object must never keep it from being saved
        return found

    def _read_new(self) -> None:
        """Learn the code records that came since the last look."""
        newest = self._seen_until
        for name in (name_of(Code), name_of(Source)):
            for frame in self._store.backend.scan(class_name=name, after=self._seen_until):
                try:
                    record = parse_unverified(frame)
                    newest = max(newest, parse_id(record.id).number)
                except (CorruptRecord, NewerFormat, InvalidId):
                    continue
                self._ids[str(record.fields.get("digest"))] = record.id
        self._seen_until = newest


class CodeRecorder:
    """Says, for the records of one view, which code record their classes belong to; it is written with them."""

    def __init__(self, view: View, *, texts: bool = True):
        self._codes = Codes(_OfView(view), texts=texts)

    def __call__(self, worklist: Worklist, modules: str) -> str:
        code = self._codes.of_modules(modules)
        entry = entry_of(code)
        return worklist.add(code) if entry is None else entry.id  # `persistent_id` would have Python ask a ghost class


class _OfView:
    """A view as `Codes` asks for it: it is not moved forward, since a commit is being put together."""

    def __init__(self, view: View):
        self.backend = view.backend
        self._view = view

    def load(self, id_: str) -> Any:
        return self._view.load_many([id_])[0]
