"""The worklist of a commit: what is to be looked at, what of it becomes a draft, and the batch that comes out.

- Pickling one object only notes what it refers to; new ones join the list. There is no recursion between records.
- An object whose payload has the bytes of its record is unchanged; of the others the graphs decide (`View.differing`).
- Until the receipt is there nothing is final: `forget_new` makes new objects new again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from itertools import count
from typing import Any

from perdure import kernels
from perdure.code.sources import find_loaded
from perdure.errors import CannotPickle
from perdure.ids import Id
from perdure.objects.instances.classes import ClassFacts, facts_of
from perdure.objects.instances.columns import header_fields, indexed_fields
from perdure.objects.instances.ghosts import assign_class, real_class
from perdure.objects.instances.guests import guest_base, is_guest, is_record
from perdure.objects.instances.holding import is_held_by_buffers
from perdure.objects.instances.persistable import AWAKE, DOZING, ENTRIES, GHOST, Entry, Persistable, entry_of
from perdure.objects.instances.states import is_held, is_held_by_parts
from perdure.objects.payloads.encoding import Encoded, Encoder, explain
from perdure.objects.payloads.pieces import contents_of
from perdure.objects.transactions.naming import Naming
from perdure.objects.views.comparing import differs_from_sample, is_as_stored
from perdure.objects.views.view import View
from perdure.pickling.classes import MAIN, shown_name
from perdure.records.values import CODE, INTERNAL, KEPT, NO_FIELDS, VALUE, Batch, Draft, Fields, Record

_new_tuple = tuple.__new__
_numbers = count(1)
RUN, ATTEMPT = "perdure:Run", "perdure:Attempt"

CodeOf = Callable[["Worklist", str], str]  # names of modules, with a space between -> id of their code record
Needs = tuple[Mapping[str, int], Mapping[str, int], Collection[str], Collection[str]]


class Worklist:
    """What one commit looks at and writes."""

    refers_to_stored = False  # whether what was looked at refers to anything that was stored before

    def __init__(self, view: View, naming: Naming, code_of: CodeOf, origins: list[Any], *, everything: bool):
        self._origins = origins  # paths in errors begin at the object which the user asked to save, if it is one
        self._view = view
        self._naming = naming
        self._code_of = code_of
        self._everything = everything
        self._encoder = Encoder(self._meet, view.protocol)
        self.names = self._encoder.names  # of the classes and functions that the payloads hold
        self._kernel: Any = None  # what does the usual in C
        self._queue: list[Any] = []  # entries, each before its object: it belongs to that, and keeps it in no way
        self._number = next(_numbers)  # what is on the list bears it
        self._position = 0
        self._doubtful: list[tuple[Entry, Encoded]] = []
        self._written: list[tuple[Entry, int, tuple[str, ...]]] = []  # with digest and references, as in the entry
        self._created: list[Entry] = []
        self.drafts: list[Draft] = []
        self._commit_code = ""
        self._new: list[Entry] = []
        self._looked_at: list[tuple[Entry, Any]] = []
        self._left: set[int] | None = None  # addresses of enlisted objects that may not be on the list yet
        self._codes: dict[str, str] = {}  # modules, with a space between -> id of their code record
        self._modules: dict[str, set[str]] = {}  # of the doubtful, by their ids
        self._extra = view.extra_fields
        self._indexed: dict[str, tuple[str, ...]] = {}  # class name -> fields of its drafts that queries ask for
        self.removed: Mapping[str, int] = {}  # ids that the same step removes: not looked at
        if everything:
            self._add_enlisted()

    def _add_enlisted(self) -> None:
        saving = self._saving()
        if saving is not None:
            saving.add_enlisted()
        else:
            for address, obj in self._view.enlisted.items():
                if address in ENTRIES:
                    self._enqueue(ENTRIES[address], obj)
        for entry, guest in self._view.changed_guests():
            self._enqueue(entry, guest)

    def add(self, obj: Any, *, kept: bool = False) -> str:
        """Put an object on the list; `kept` marks it as saved by name. Gives its id."""
        entry = self._refer(obj)
        if kept and not entry.flags & KEPT:
            if entry.state == GHOST:
                self._view.wake(entry, obj)
            entry.flags |= KEPT
            entry.forced = True
        self._enqueue(entry, obj)
        return entry.id

    def add_kept(self, objects: list[Any]) -> None:
        """Put objects that are saved by name on the list; what is new and simple is done with at once."""
        if not objects:
            return
        saving = None if self.removed else self._saving()
        if saving is not None:
            saving.add_kept(objects)
            return
        for obj in objects:
            self.add_other(obj)

    def _saving(self) -> Any:
        """What does the usual in C; None where that was not built. It and the worklist hold each other to the end."""
        if self._kernel is None and kernels.compiled is not None:
            view, encoder = self._view, self._encoder
            self._kernel = kernels.compiled.Saving(
                self, encoder, view, self._naming, view.by_id, view._entries, view.enlisted, self._codes, self._modules,
                self._queue, self._created, self.drafts, self._new, self._looked_at, self._written, self._doubtful,
                self._number, self._extra is not None, self._naming.counts, self._everything,
            )  # fmt: skip
            encoder.enrol = self._kernel.meet
        return self._kernel

    def add_other(self, obj: Any) -> None:
        """One of those."""
        if id(obj) in ENTRIES or (guest_base() is not None and is_guest(obj)):
            self.add(obj, kept=True)
            return
        facts = facts_of(type(obj))
        entry = self._view.enrol(obj, facts, *self._naming.new(obj, facts))
        self._new.append(entry)
        entry.listed = self._number
        entry.flags |= KEPT
        if not facts.simple or self.removed or not self._write_new(entry, obj, facts):
            self._queue.extend((entry, obj))

    def add_copy(self, id_: str, obj: Any, base: int) -> None:
        """Write a copy of `obj`, which keeps its own id, under another."""
        if not is_record(obj):
            self.add_value(id_, obj, base)
            return
        self._view.own_entry(obj)
        facts = facts_of(real_class(obj))
        entry = entry_of(obj)
        if entry is not None:
            self._view.wake(entry, obj)
        self._draft(id_, base, facts, facts.flags | KEPT, self._encode(obj, facts, under=id_), obj)

    def add_value(self, id_: str, value: Any, base: int = 0) -> None:
        """Write a plain value under an id."""
        payload, references, _, payload_flags = self._encoder.encode_value(value)
        name = shown_name(type(value))
        code = self._code_for(name.partition(":")[0])
        flags = VALUE | KEPT | payload_flags
        fields = NO_FIELDS
        if self._extra is not None:
            fields, self._indexed[name] = self._extra.of(value, name), indexed_fields((), self._extra)
        self.drafts.append(Draft(id_, base, flags, name, 0, code, references, fields, payload))

    def run(self) -> None:
        """Look at everything on the list, and at what turns up meanwhile."""
        queue, removed, position = self._queue, self.removed, self._position
        saving = None if removed or position == len(queue) else self._kernel or self._saving()
        while position < len(queue):  # it grows meanwhile
            if saving is not None:
                position = saving.write_usual(position)
                if position == len(queue):
                    break
            entry, obj = queue[position : position + 2]
            position += 2
            facts: Any = entry.facts
            if saving is None and is_new(entry, obj, facts) and not removed:
                if self._write_new(entry, obj, facts):
                    continue
            elif entry.state == GHOST or (removed and entry.id in removed):
                continue
            elif entry.state == DOZING:
                if not entry.forced:
                    self._follow(entry)
                    continue
                self._view.wake(entry, obj)
            self._look_at(entry, obj)
        self._position = position
        if self._doubtful:
            for entry, encoded in self._view.differing(self._doubtful):
                obj = entry()
                self._encoder.modules = self._modules.get(entry.id, set())
                self._write(entry, obj, facts_of(type(obj)), encoded)
            self._doubtful.clear()
            if position < len(queue):  # a code record that is new
                self.run()

    def _write_new(self, entry: Entry, obj: Any, facts: ClassFacts) -> bool:
        """The way of most objects in a bulk, taken while the object is at hand: it dozes before it is stored.

        False if the object takes the long way.
        """
        encoded = self._encoder.encode_simple(obj, facts)
        if encoded is None:
            return False
        payload, references, graph, payload_flags = encoded
        self._created.append(entry)
        entry.digest, entry.references = hash(payload), references
        flags = entry.flags = facts.flags | payload_flags | entry.flags & KEPT
        known = None if self._encoder.modules or flags & INTERNAL else self._codes.get(facts.module)
        code = known or self._code_for(facts.module, flags)
        fields = NO_FIELDS if facts.fields is None and self._extra is None else self._fields(obj, facts)
        self.drafts.append(
            _new_tuple(Draft, (entry.id, 0, flags, facts.name, facts.version, code, references, fields, payload))
        )
        if self._encoder.giving and id(obj) in self._encoder.giving:
            self._looked_at.append((entry, obj))  # who holds its arrays can be told when the pickler has let them go
        elif facts.ghost is not None and not is_held(graph):
            assign_class(obj, facts.ghost)
            entry.state = DOZING
            self._view.enlisted.pop(entry.address, None)
        return True

    def sign(self, *, removals: Mapping[str, int]) -> None:
        """Note whose code makes the commit: that of a record in it, else of a run or an attempt, else the program's."""
        first = self.drafts[0].code if self.drafts else ""
        self._commit_code = first or next(filter(None, self._codes.values()), "")
        if not self._commit_code and not self._codes and (removals or self.drafts):
            own = next(filter(None, map(self._code_told, self.drafts)), "")
            self._commit_code = own or self.program_code()
            self.run()  # a code record that is new

    def _code_told(self, draft: Draft) -> str:
        """The code record that a record of perdure's own is, or speaks of."""
        if draft.class_name == ATTEMPT:
            return next((id_ for id_ in draft.references if id_.startswith("Code.")), "")
        if draft.class_name == RUN:
            module = str(draft.fields.get("flow")).partition(":")[0]
            return self._code(module) if find_loaded(module) is not None else ""
        return draft.id if draft.class_name == CODE else ""

    def program_code(self) -> str:
        """The id of the code record of the running program, "" where none is kept; it is written if it is new."""
        code = self._code(MAIN)
        self.run()
        return code

    def batch(self, time: float, note: str, keep: float | None = None, needs: Needs = ({}, {}, (), ())) -> Batch:
        """The batch. `needs` are its removals, its checks, and what is needed and doubted."""
        removals, checks, needed, doubted = needs
        unused = self._naming.numbers.give_back()
        buffers = contents_of(self.drafts) if self._encoder.met_large else {}
        counts, seen = self._naming.counts, self._view.seen
        parts = (
            self.drafts, removals, checks, seen, time, note, self._commit_code, unused, needed, doubted, counts, (),
            self._indexed, buffers, keep,
        )  # fmt: skip
        return _new_tuple(Batch, parts)  # in a third of the time that names take

    def refers_anew(self) -> bool:
        """Whether anything is written with references that its record does not have, or has just been."""
        for entry in self._created:
            if entry.references:
                return True
        written = self._written  # mostly nothing, or one
        return bool(written) and any(entry.references != references for entry, _, references in written)

    def finish(self, revision: int) -> None:
        """The batch is durable: entries learn what is stored."""
        if kernels.compiled is None or not kernels.compiled.finish(self._created, self._written, revision):
            for entry in self._created:
                entry.revision, entry.forced = revision, False
            for entry, digest, references in self._written:
                entry.revision, entry.digest, entry.references, entry.forced = revision, digest, references, False
        self._view.loaded.extend(self._created)

    def rest(self) -> None:
        """Let what was looked at doze: `View.doze` written out, since it is done for each object.

        Who holds on to a container of an object may change it later, and that would not be seen: the object stays.
        """
        enlisted, giving = self._view.enlisted, self._encoder.giving
        if self._view.jar is not None:
            self._view.jar.settle(entry for entry, _ in self._looked_at)
            self._view.end_guests_step()
        if not self._looked_at:
            return
        in_c = kernels.compiled is not None and not giving
        for entry, obj in kernels.compiled.rest(self._looked_at, enlisted) if in_c else self._looked_at:
            if entry.state == AWAKE and entry.revision:
                ghost = entry.facts.ghost
                if ghost is not None and not is_held_by_parts(obj):
                    if giving and id(obj) in giving and is_held_by_buffers(obj):
                        continue
                    assign_class(obj, ghost)
                    entry.state = DOZING
                    enlisted.pop(entry.address, None)

    def release(self) -> None:
        """Nothing more will be encoded; large pieces are let go."""
        self._encoder.release()
        self._kernel = None
        self.drafts = []

    def forget_new(self) -> None:
        """The commit failed: objects that got their ids in it are new again."""
        for entry in self._created:
            if entry.revision == 0 and entry.state == DOZING and (obj := entry()) is not None:
                self._view.wake(entry, obj)
        for entry in self._new:
            if entry.facts.guest or ENTRIES.get(entry.address) is entry:
                self._view.dismiss(entry)

    # -- one object --------------------------------------------------------------------------------------

    def _meet(self, obj: Any) -> Entry:
        """The entry of an object that is referred to, when the encoder meets it for the first time."""
        entry = self._refer(obj)
        self.refers_to_stored = self.refers_to_stored or entry.revision > 0 or entry.state == GHOST
        return entry

    def _refer(self, obj: Any) -> Entry:
        entry = entry_of(obj)
        if entry is None:
            entry = self._view.own_entry(obj)
            if entry is None:
                return self._enrol(obj)
        if entry.view is not self._view:
            self._view.own_entry(obj)  # raises WrongView
        elif not self._everything and entry.state != GHOST:
            self._enqueue(entry, obj)
        return entry

    def _enrol(self, obj: Any) -> Entry:
        """The entry of a new object, which is on the list from now on."""
        facts = facts_of(type(obj))
        entry = self._view.enrol(obj, facts, *self._naming.new(obj, facts))
        self._new.append(entry)
        entry.listed = self._number
        self._queue.extend((entry, obj))
        return entry

    def _enqueue(self, entry: Entry, obj: Any) -> None:
        if entry.listed != self._number:
            entry.listed = self._number
            self._queue.extend((entry, obj))

    def _follow(self, entry: Entry) -> None:
        """Go through an unchanged object to what it refers to: only as long as something enlisted is not yet found."""
        if self._everything or not self._is_any_left():
            return
        for id_ in entry.references:
            other = self._view.entry(id_)
            obj = other() if other is not None else None
            if other is not None and obj is not None and other.state != GHOST:
                self._enqueue(other, obj)

    def _is_any_left(self) -> bool:
        """Whether an enlisted object is not on the list yet. The set only shrinks: what is new gets on the list."""
        if any(entry.listed != self._number for entry, _ in self._view.changed_guests()):
            return True
        if self._left is None:
            self._left = set(self._view.enlisted)
        while self._left:
            address = self._left.pop()
            if address in ENTRIES and ENTRIES[address].listed != self._number:
                self._left.add(address)
                return True
        return False

    def _look_at(self, entry: Entry, obj: Any) -> None:
        cls = type(obj)
        facts: Any = entry.facts
        if cls is facts.ghost:
            self._view.wake(entry, obj)  # an interruption came while it was to doze
        elif facts.cls is not cls:
            facts = facts_of(cls)
            entry.facts, entry.forced = facts, True
        encoded = self._encoder.encode_simple(obj, facts) if facts.simple else None
        if encoded is None:
            encoded = self._encode(obj, facts)
        self._looked_at.append((entry, obj))
        if entry.revision == 0 or entry.forced or (facts.simple and differs_from_sample(entry, encoded)):
            self._write(entry, obj, facts, encoded)
        elif not is_as_stored(entry, encoded):
            self._doubtful.append((entry, encoded))
            if self._encoder.modules:  # one that is empty may be filled by what is pickled next
                self._modules[entry.id] = self._encoder.modules

    def _encode(self, obj: Any, facts: ClassFacts, under: str | None = None) -> Encoded:
        try:
            return self._encoder.encode(obj, facts, under=under)
        except CannotPickle as error:
            if len(self._origins) != 1 or self._origins[0] is obj:
                raise
            found = explain(self._origins[0], error, stop_at=self._is_stored, otherwise=error)
            if found is error:  # what the user asked to save does not lead there: another object was changed
                raise
            raise found from error

    @staticmethod
    def _is_stored(obj: object) -> bool:
        entry = entry_of(obj) if isinstance(obj, Persistable) else None
        return entry is not None and entry.state != AWAKE and entry.revision > 0

    def _write(self, entry: Entry, obj: Any, facts: ClassFacts, encoded: Encoded) -> None:
        payload, references, _, payload_flags = encoded
        if entry.revision:
            self._written.append((entry, hash(payload), references))
        else:
            self._created.append(entry)
            entry.digest, entry.references = hash(payload), references  # if the commit fails, it is written again
        flags = entry.flags = facts.flags | payload_flags | entry.flags & KEPT
        version = facts.version
        if facts.opaque:
            fields, code, version = obj.record.fields, obj.record.code, obj.record.class_version
        else:
            code = self._code_for(facts.module, flags)
            fields = NO_FIELDS if facts.fields is None and self._extra is None else self._fields(obj, facts)
        parts = (entry.id, entry.revision, flags, facts.name, version, code, references, fields, payload)
        self.drafts.append(_new_tuple(Draft, parts))

    def _draft(self, id_: str, base: int, facts: ClassFacts, flags: int, encoded: Encoded, obj: Any) -> None:
        payload, references, _, payload_flags = encoded
        flags |= payload_flags
        if facts.opaque:
            record: Record = obj.record
            self.drafts.append(Draft(*record)._replace(id=id_, base=base, flags=flags))
            return
        fields = NO_FIELDS if facts.fields is None and self._extra is None else self._fields(obj, facts)
        code = self._code_for(facts.module, flags)
        self.drafts.append(Draft(id_, base, flags, facts.name, facts.version, code, references, fields, payload))

    def _fields(self, obj: Any, facts: ClassFacts) -> Fields:
        fields = header_fields(obj, facts, self._extra)
        if facts.indexed or not (self._extra is None or facts.flags & INTERNAL):
            self._indexed[facts.name] = indexed_fields(facts.indexed, self._extra)
        return fields

    def _code_for(self, module: str, flags: int = 0) -> str:
        """The code record of a module and of all that is named by the payload which was made last."""
        named = self._encoder.modules
        if not named and flags & INTERNAL:
            return ""
        return self._code(" ".join(sorted({*named, module})) if named else module)

    def _code(self, modules: str) -> str:
        if modules not in self._codes:
            self._codes[modules] = self._code_of(self, modules)
        return self._codes[modules]


def is_new(entry: Entry, obj: Any, facts: Any) -> bool:
    """Whether an object is new, awake, and of a simple class."""
    return bool(entry.revision == 0 and entry.state == AWAKE and facts.simple and facts.cls is type(obj))


if kernels.built is not None:
    kernels.built.bind_drafts(Draft, NO_FIELDS)
    kernels.built.bind_ids(Id)
