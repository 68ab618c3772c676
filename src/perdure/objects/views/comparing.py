"""Whether objects differ from their records: by the bytes of their payloads, and where those differ, by the graphs."""

from __future__ import annotations

import pickle
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from perdure.errors import CannotLoad, CannotPickle, SnapshotTooOld
from perdure.objects.instances.classes import facts_of
from perdure.objects.instances.guests import id_of_guest, is_guest
from perdure.objects.instances.persistable import AWAKE, Entry, Persistable, entry_of
from perdure.objects.payloads.decoding import StoredReference, comparable
from perdure.objects.payloads.encoding import Encoded, Encoder
from perdure.objects.payloads.pieces import laid_over
from perdure.objects.views.reader import Reader
from perdure.pickling.compare import same_state
from perdure.pickling.outside import identity
from perdure.records.frame import Parts, record_of
from perdure.records.values import BUFFERED, FOREIGN, PLAIN, Record

_ELSEWISE = BUFFERED | FOREIGN  # what is not unpickled just so


class Comparing(Reader):
    """A reader that tells what was changed."""

    protocol: int

    @abstractmethod
    def own_entry(self, obj: Any) -> Entry | None:
        """The entry of `obj`; None if it is new to every store. Raises `WrongView` if another view has it."""

    def is_changed(self, entry: Entry, obj: Any) -> bool:
        """Whether the object differs from its record; only an awake one can."""
        if entry.revision == 0 or entry.forced or type(obj) is not entry.facts.cls:
            return entry.state == AWAKE
        if entry.state != AWAKE:
            return False
        probe = self.probe()
        try:
            encoded = probe.encode(obj, facts_of(type(obj)))
        except CannotPickle:
            return True  # what the record holds could be pickled; whoever commits this will be told
        finally:
            probe.release()
        return not is_as_stored(entry, encoded) and bool(self.differing([(entry, encoded)]))

    def differing(self, doubtful: Sequence[tuple[Entry, Encoded]]) -> list[tuple[Entry, Encoded]]:
        """Those of the pairs whose graph is not that of the record that was read: bytes alone do not tell."""
        ids = [entry.id for entry, _ in doubtful]
        try:
            frames = self.backend.read(ids, self.revision)
        except SnapshotTooOld:
            frames = self.backend.read(ids)  # what is still there as it was read can be compared all the same
        changed, opened = [], self.opener()
        for entry, encoded in doubtful:
            frame = frames.get(entry.id)
            if frame is not None:
                parts = opened(frame)
                if (
                    parts[1] == entry.revision
                    and not _surely_differs(entry, parts, encoded)
                    and _holds(entry, record_of(parts), encoded)
                ):
                    note_stored(entry, encoded)  # these bytes, too, mean unchanged
                    continue
            changed.append((entry, encoded))
        return changed

    def probe(self) -> Encoder:
        """An encoder that only looks: objects that are new get no id by it."""

        def known(obj: Any) -> Any:
            return self.own_entry(obj) or _Unsaved

        return Encoder(known, self.protocol)


def is_as_stored(entry: Entry, encoded: Encoded) -> bool:
    """Whether the payload has the bytes of the record, and its places mean the same objects."""
    return hash(encoded[0]) == entry.digest and encoded[1] == entry.references


def differs_from_sample(entry: Entry, encoded: Encoded) -> bool:
    """Whether the attribute that there is a sample of is another one now: then the record need not be read again."""
    sample, state = entry.sample, encoded[2]
    if sample is None or sample[0] != entry.revision or type(state) is not dict:
        return False
    live = state.get(sample[1], entry)
    kind = type(live)
    if kind is not str and kind is not int and kind is not float and kind is not bool and live is not None:
        return False
    return kind is not type(sample[2]) or (sample[2] != live and live == live)


def note_stored(entry: Entry, encoded: Encoded) -> None:
    """Remember the payload as one that means what is stored."""
    entry.digest, entry.references = hash(encoded[0]), encoded[1]


def _surely_differs(entry: Entry, parts: Parts, encoded: Encoded) -> bool:
    """Whether names of attributes, or a text, number or None in one of them, are others: the usual change."""
    plan = entry.facts.plan
    if plan is not None and not plan.fits(parts):
        return False  # what is stored means something else by now
    shape, flags = parts[9], parts[2] | encoded[3]
    if shape is None or not parts[2] & encoded[3] & PLAIN or flags & _ELSEWISE or type(encoded[2]) is not dict:
        return False
    state: dict[str, Any] = encoded[2]
    if tuple(state) != shape.names:
        return True
    for place, (stored, live) in enumerate(zip(pickle.loads(parts[8]), state.values(), strict=True)):
        kind = type(live)
        if kind is str or kind is int or kind is bool or live is None:
            if type(stored) is not kind or stored != live or place in shape.links:
                return True
        elif kind is float and (type(stored) is not float or (stored != live and live == live)):
            return True
    return False


def _holds(entry: Entry, record: Record, encoded: Encoded) -> bool:
    """Whether the record has the graph that was encoded; in doubt it has not. Large pieces: their digests decide."""
    laid = laid_over(record, encoded[0])
    if laid is None:
        return False
    try:
        facts: Any = entry.facts
        stored = comparable(laid, facts, limits=entry.view.limits)
    except CannotLoad:  # state methods that look at what they refer to have met a stand-in
        return False
    return same_state(stored, encoded[2], _reference)


class _Unsaved:
    """Stands for the entry of an object that was never saved."""

    id = "new.0"
    mark = 0


def _reference(obj: object) -> str | None:
    """The id that an object stands for in a comparison; None for what is compared by its state."""
    if is_guest(obj):
        return id_of_guest(obj) or "new.0"
    if isinstance(obj, Persistable):
        entry = entry_of(obj)
        return "new.0" if entry is None else entry.id
    return obj.id if isinstance(obj, StoredReference) else identity(obj)
