"""From names of classes in records to classes: what they are here, what stands for those that are not, who made them.

- A name is looked up once in each view. A stable name cannot be imported: the header says where its class was.
- A class that is not here is `ClassNotFound`, which names the record and the code that made it; whoever asked for
  `missing="opaque"` gets an `Opaque` instead, until the class can be found.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from perdure.backends.base import Backend, number_of
from perdure.errors import (
    CannotLoad,
    ClassNotFound,
    CorruptRecord,
    NewerFormat,
    PerdureError,
    SnapshotTooOld,
    StorageError,
    UntrustedRecord,
)
from perdure.objects.instances import states
from perdure.objects.instances.classes import ClassFacts, Lost, facts_of
from perdure.objects.instances.ghosts import assign_class
from perdure.objects.instances.guests import is_guest_class
from perdure.objects.instances.opaque import opaque_class
from perdure.objects.instances.persistable import GHOST, Entry, Persistable
from perdure.objects.views.archived import Archives, Reading
from perdure.objects.views.replaced import Following, Records
from perdure.pickling.classes import find, find_imported
from perdure.pickling.lasting import stable
from perdure.pickling.own.registry import class_named as registered
from perdure.records.frame import Parts, parse_unverified
from perdure.records.values import CLASS_FIELD, FOREIGN, NO_FIELDS, Fields, Record

SHOWN = 12  # characters of a commit


class Classes(Following):
    """An identity map that knows the classes of its records."""

    backend: Backend

    def __init__(self) -> None:
        super().__init__()
        self.archives = Archives(cast(Reading, self))
        self.opaque = False  # whether what is loaded now may have classes that are not here
        self._lenient: set[int] = set()  # numbers of those that were loaded so
        self._classes: dict[str, ClassFacts] = {}

    def is_lenient(self, entry: Entry) -> bool:
        """Whether the object may have parts whose classes are not here."""
        return self.opaque or entry.facts.opaque or entry.number in self._lenient

    @contextmanager
    def strictly(self) -> Iterator[None]:
        """Within the block nothing may be missing."""
        before = self.opaque, self._lenient
        self.opaque, self._lenient = False, set()
        try:
            yield
        finally:
            self.opaque, self._lenient = before

    def allow_missing(self, ids: Iterable[str]) -> None:
        """Let these have parts whose classes are not here from now on; and all that is loaded while `opaque` is set."""
        self.opaque = True
        self._lenient.update(map(number_of, ids))

    @abstractmethod
    def records(self, ids: Iterable[str]) -> Records: ...

    def facts_told(self, names: Mapping[str, str]) -> dict[str, ClassFacts]:
        """What is known of the classes that a backend's list names, by id; `Lost` where that cannot be said.

        There is no seal on that list. So a name that is not imported, and that no record of this view has shown, is
        not looked up: the record itself is read, and its seal verified.
        """
        found: dict[str, ClassFacts] = {}
        missing: set[str] = set()  # classes that are not here, as a record of theirs has shown
        for id_, name in names.items():
            facts = self._classes.get(name) or self._facts_imported(name)
            if facts is None and name not in missing:
                facts, shown = self._facts_shown(id_)
                if facts is None and shown == name:
                    missing.add(name)
            found[id_] = facts_of(Lost) if facts is None else facts  # it will say why when it is touched
        return found

    def _facts_imported(self, name: str) -> ClassFacts | None:
        cls = find_imported(name)
        if not _is_record_class(cls):
            return None
        facts = self._classes[name] = facts_of(cls)
        return facts

    def _facts_shown(self, id_: str) -> tuple[ClassFacts | None, str]:
        """The facts of the class that the record itself names, if it is here; and that name, if its seal is good."""
        try:
            parts = self.records([id_]).get(id_)
        except (UntrustedRecord, CorruptRecord, NewerFormat):
            parts = None
        if parts is None:
            return None, ""
        try:
            return self.facts_of_record(parts), parts[3]
        except ClassNotFound:
            return None, parts[3]
        except UntrustedRecord:
            return None, ""

    def facts_of_record(self, parts: Parts | Record) -> ClassFacts:
        """What is known of the class of a record; one without a good seal means none that is not registered here."""
        if parts[2] & FOREIGN:
            return self._facts_registered(parts[3], parts[0])
        return self.facts_named(parts[3], parts[0], parts[7])

    def _facts_registered(self, class_name: str, id_: str) -> ClassFacts:
        """The same of a record without a good seal: nothing is imported, and nobody's code is run."""
        facts = self._classes.get(class_name)
        if facts is None:
            cls = registered(class_name)
            if cls is None or not _is_record_class(cls):
                if self.opaque:
                    return facts_of(opaque_class(class_name))
                raise UntrustedRecord(
                    f"{id_} does not carry a good seal of the store's key, and it names {class_name}, which is no class"
                    " that this program has imported or registered.",
                    hint="Import the module that defines it, or bring the key (perdure key import FILE); if you know"
                    " where the record comes from, read it with trust='all'.",
                    ids=(id_,),
                )
            facts = self._classes[class_name] = facts_of(cls)
        return facts

    def facts_named(self, class_name: str, id_: str, fields: Fields = NO_FIELDS) -> ClassFacts:
        """What is known of the class that a record under a good seal names; `fields` are its own, where at hand."""
        facts = self._classes.get(class_name)
        if facts is None:
            try:
                cls = class_named(class_name, fields)
            except ClassNotFound as error:
                error.ids = (id_,)
                if not self._is_provided(error):
                    if self.opaque:
                        return facts_of(opaque_class(class_name))
                    error.message = f"The class of {id_} is not here: {error.message}"
                    raise
                cls = class_named(class_name, fields)
            if not _is_record_class(cls):
                if self.opaque:
                    return facts_of(opaque_class(class_name))
                raise ClassNotFound(
                    f"{class_name}, the class of {id_}, is not a Persistable here.",
                    hint="The object was replaced by a plain value, or its class changed: make that one again, or say"
                    ' with perdure.rename what it is called now; load(id, missing="opaque") shows what is stored.',
                    ids=(id_,),
                )
            facts = self._classes[class_name] = facts_of(cls)
        return facts

    def _is_provided(self, error: ClassNotFound) -> bool:
        """Whether what was not found was imported from the object's code record; with `opaque`, nothing is raised."""
        try:
            return self.archives.provide(error)
        except PerdureError:
            if self.opaque:
                return False
            raise

    def explained(self, error: ClassNotFound, id_: str, parts: Parts | Record) -> ClassNotFound:
        """The error with the record that names what is not there, its class and the commit that it came from."""
        if "code" in error.details or (error.ids and error.ids != (id_,)):
            return error
        if not error.ids:
            error.message = f"{id_} cannot be loaded. {error.message}"
        error.ids = (id_,)
        code = parts[5]
        commit, summary = self._made_by(code)
        error.details = {**error.details, "class_name": parts[3], "code": code, "commit": commit}
        if code:
            told = f"commit {commit[:SHOWN]}" if commit else summary
            error.message = f"{error.message} It is a {parts[3]}, saved by the code of {code}: {told}."
        return error

    def _made_by(self, code: str) -> tuple[str, str]:
        """The commit and the summary of a code record, by its header."""
        try:
            frame = self.backend.read([code]).get(code) if code else None
            fields = NO_FIELDS if frame is None else parse_unverified(frame).fields
        except (CorruptRecord, NewerFormat, SnapshotTooOld, StorageError):
            fields = NO_FIELDS
        return str(fields.get("commit") or ""), str(fields.get("summary") or "")

    def _heal(self, entry: Entry, obj: Any) -> bool:
        """Make an opaque object a ghost of its class, if that can be found by now; whether something is to be loaded.

        Raises `ClassNotFound` where it is still missing, and may not be.
        """
        record = obj.record
        facts = self.facts_of_record(record)
        if facts.opaque:
            return False
        try:
            assign_class(obj, facts.ghost or facts.cls)
        except TypeError:  # the layouts of the two classes differ: whoever holds the opaque one keeps that
            self._part_with(entry)
            return True
        entry.facts, entry.state = facts, GHOST
        states.clear(obj)
        self.enlisted.pop(entry.address, None)
        return True

    def _find_again(self, entry: Entry, obj: Any, record: Record) -> None:
        """Make a ghost of the right class of one whose class was not there before; raises if it still is not."""
        facts = self.facts_of_record(record)
        try:
            assign_class(obj, facts.ghost or facts.cls)
        except TypeError as error:
            raise CannotLoad(
                f"{entry.id} is seen as an object without a class, and cannot become a {facts.cls.__qualname__}.",
                hint="Let go of what refers to it, and load that again.",
                ids=(entry.id,),
            ) from error
        entry.facts = facts


def _is_record_class(found: Any) -> bool:
    return isinstance(found, type) and (issubclass(found, Persistable) or is_guest_class(found))


def class_named(class_name: str, fields: Fields = NO_FIELDS) -> Any:
    """What the name of a class in a record means here. Raises `ClassNotFound`."""
    hint = fields.get(CLASS_FIELD)
    return stable(class_name, hint) if isinstance(hint, str) and ":" not in class_name else find(class_name)
