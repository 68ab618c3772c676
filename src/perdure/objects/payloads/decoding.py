"""Payloads to states, references resolved by what the caller gives for each place in the record's list."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Sequence
from io import BytesIO
from typing import Any, NamedTuple, TypeVar

from perdure.errors import CannotLoad, ClassNotFound, CorruptRecord, PerdureError, UntrustedRecord
from perdure.objects.instances import states
from perdure.objects.instances.classes import ClassFacts
from perdure.objects.payloads.pieces import Pieced, opened
from perdure.pickling import outside
from perdure.pickling.classes import find_global
from perdure.pickling.layouts import POSITIONS, by_name, natural, newer
from perdure.pickling.outline import path_to
from perdure.pickling.outside import OutsideReference, Resolver, Resources
from perdure.pickling.own.limits import LIMIT_HINT, LIMITS, Limits
from perdure.pickling.rebuilding import CHECKED, Rebuilder, Reshaped, check_named
from perdure.pickling.references import MODULE, NAME
from perdure.pickling.together import resolved_together
from perdure.records.buffers import read_table
from perdure.records.frame import Parts, record_of
from perdure.records.shape import Shape, parse_shape
from perdure.records.values import BUFFERED, FOREIGN, KIND_BITS, LINKED, OUTSIDE, PLAIN, SHAPED, STATE, Record

Outside = Callable[[str, Any], Any]  # tag and key -> the object, or what stands for it


class StoredReference(NamedTuple):
    """Stands for a referenced object where a payload is only compared, not loaded."""

    id: str


class ObjectUnpickler(pickle.Unpickler):
    """C unpickler whose references are the given objects; only for records whose seal was verified."""

    outside: Outside = staticmethod(outside.outside)

    def __init__(self, payload: bytes, objects: Sequence[Any], outside: Outside | None = None):
        if isinstance(payload, Pieced):
            file, buffers = opened(payload)
            super().__init__(file, buffers=buffers)
        else:
            super().__init__(BytesIO(payload))
        self.objects = objects
        if outside is not None:
            self.outside = outside

    def find_class(self, module: str, name: str) -> Any:
        if module == MODULE and name in CHECKED:
            return CHECKED[name]
        return check_named(self.find_again(module, name))

    def find_again(self, module: str, name: str) -> Any:
        """What is found of that name, also where states are filled by names afterwards."""
        if module == MODULE:
            if name == NAME:
                return self.objects.__getitem__
            if name == outside.NAME:
                return self.outside
        return find_global(module, name)


class StateUnpickler(pickle.Unpickler):
    """The same without a constructor of its own, which would double the cost of a small record.

    It is not for records that refer to the outside.
    """

    __slots__ = ("objects",)
    objects: Sequence[Any]

    def find_class(self, module: str, name: str) -> Any:
        if module == MODULE:
            if name == NAME:
                return self.objects.__getitem__
            if name in CHECKED:
                return CHECKED[name]
        return check_named(find_global(module, name))


class Loading:
    """What is pickled in a payload, one after the other: by C pickle, or by names where that does not do.

    With `lenient`, objects whose class cannot be found are `Opaque`; else that is `ClassNotFound`. What has no good
    seal (`foreign`) is read by perdure's own reader alone.
    """

    def __init__(
        self,
        payload: bytes,
        objects: Sequence[Any],
        outside: Outside | None,
        *,
        lenient: bool,
        foreign: bool = False,
        limits: Limits = LIMITS,
        kind: type[ObjectUnpickler] = ObjectUnpickler,
    ):
        self._given = payload, objects, outside
        self._lenient = lenient
        self._slow: Rebuilder | None = None
        self._done = 0
        self._own = _own_payload(payload, objects, outside, limits, lenient=lenient) if foreign else None
        if not foreign:
            self.fast = kind(payload, objects, outside)

    def making(self) -> states.Making:
        """How an object is made: the first of the two in a record of a class that takes part in its pickling."""
        return states.Making(*(self.load() if self._own is None else self._own.making()))

    def filling(self, cls: type[Any]) -> states.Filling:
        """What is put into an object of that class: the second of the two."""
        return states.Filling(*(self.load() if self._own is None else self._own.filling(cls)))

    def state(self) -> Any:
        """The only one: a state, or a value."""
        found = self.load()
        if self._own is not None:
            self._own.end()
        return found

    def check(self, names: Any) -> None:
        """Raise `UntrustedRecord` if attributes of what has no good seal are Python's own."""
        if self._own is not None:
            self._own.check_state(None, names)

    def load(self) -> Any:
        """The next one."""
        if self._own is not None:
            return self._own.load()
        if self._slow is None:
            try:
                value = self.fast.load()
            except Reshaped:
                self._begin_again()
            except (ClassNotFound, pickle.UnpicklingError):  # the latter: something is no class by now
                if not self._lenient:
                    raise
                self._begin_again()
            else:
                self._done += 1
                return value
        assert self._slow is not None
        return self._slow.load()

    @property
    def was_rebuilt(self) -> bool:
        """Whether something in it is not as its class has it now, or its class is missing."""
        return self._slow is not None

    def _begin_again(self) -> None:
        payload, objects, outside = self._given
        find = ObjectUnpickler(payload, objects, outside).find_again
        if isinstance(payload, Pieced):
            file, buffers = opened(payload)
            self._slow = Rebuilder(file, find, lenient=self._lenient, buffers=buffers)
        else:
            self._slow = Rebuilder(BytesIO(payload), find, lenient=self._lenient)
        for _ in range(self._done):
            self._slow.load()


def _own_payload(
    payload: bytes, objects: Sequence[Any], outside: Outside | None, limits: Limits, *, lenient: bool
) -> Any:
    from perdure.pickling.own.records import Payload  # here, since many programs never meet such a record

    if isinstance(payload, Pieced):
        _refuse_too_large(payload, limits)
        file, buffers = opened(payload)
        return Payload(file.read(), buffers, objects, outside, lenient=lenient, limits=limits)
    return Payload(payload, None, objects, outside, lenient=lenient, limits=limits)


def _refuse_too_large(payload: Pieced, limits: Limits) -> None:
    """Raise `UntrustedRecord` before large pieces are read that are more than is taken without a good seal."""
    size = sum(piece.length for piece in read_table(payload))
    if size > limits.bytes:
        raise UntrustedRecord(
            f"{payload.id or 'The record'} has no good seal, and {size} bytes of large pieces, above {limits.bytes}.",
            hint=LIMIT_HINT,
            ids=(payload.id,) if payload.id else (),
        )


def state_of(
    record: Record,
    objects: Sequence[Any],
    outside: Outside | None = None,
    *,
    lenient: bool = True,
    limits: Limits = LIMITS,
) -> Any:
    """A simple object's state as it is stored, or a plain value."""
    foreign = bool(record.flags & FOREIGN)
    try:
        if record.flags & SHAPED:
            shape = parse_shape(record.payload)
            values_only = record.payload[len(shape.head) :]
            if record.flags & (PLAIN | FOREIGN | BUFFERED) == PLAIN:
                return _named_values(shape, pickle.loads(values_only), objects)  # no file: it has no frame
            loading = Loading(values_only, objects, outside, lenient=lenient, foreign=foreign, limits=limits)
            state = _named_values(shape, loading.state(), objects)
            loading.check(state)
            return state
        loading = Loading(record.payload, objects, outside, lenient=lenient, foreign=foreign, limits=limits)
        state = loading.state()
        if record.flags & LINKED:
            state, links = state
            for name, place in links.items():
                state[name] = objects[place]
        if record.flags & KIND_BITS == STATE:
            loading.check(state)
        return state
    except (CannotLoad, UntrustedRecord, CorruptRecord) as error:
        raise placed(error, record) from error.__cause__
    except PerdureError:
        raise
    except Exception as error:  # the user's own constructors and state methods run here: anything may come out
        raise refused(record, error) from error


def _named_values(shape: Shape, values: list[Any], objects: Sequence[Any]) -> dict[str, Any]:
    """The state of that shape with those values, and objects where just references are."""
    for place in shape.links:
        values[place] = objects[values[place]]
    return dict(zip(shape.names, values, strict=True))


def parts_to_make(
    facts: ClassFacts,
    record: Record,
    objects: Sequence[Any],
    outside: Outside | None,
    *,
    lenient: bool = True,
    limits: Limits = LIMITS,
) -> states.Reduced:
    """How the object in a record is made and what is put into it, as its class has it now.

    Everything is read, and upgraded, before anything is made. Raises `UpgradeFailed`, `NewerClass`.
    """
    making, fill = begun(record, objects, outside, lenient=lenient, limits=limits)
    return making, upgraded(facts, record, fill(facts.cls))


def begun(
    record: Record,
    objects: Sequence[Any],
    outside: Outside | None,
    *,
    lenient: bool = True,
    limits: Limits = LIMITS,
) -> tuple[states.Making, Callable[[type[Any]], states.Filling]]:
    """How the object in a record is made; and what reads, once it is there, what is put into it, as it is stored.

    It takes the class of the object.
    """
    if record.flags & KIND_BITS == STATE:  # its class was a simple one then
        return states.BARE, lambda _: states.Filling(
            state_of(record, objects, outside, lenient=lenient, limits=limits), None, None, None
        )
    foreign = bool(record.flags & FOREIGN)
    loading = Loading(record.payload, objects, outside, lenient=lenient, foreign=foreign, limits=limits)
    return loading.making(), loading.filling


def upgraded(facts: ClassFacts, record: Record, filling: states.Filling) -> states.Filling:
    """What is put into an object, as its class has it now."""
    if facts.plan is None:
        if record.class_version and not facts.opaque:
            raise placed(newer(facts.cls, record.class_version, 0), record)
        if facts.simple and type(filling.state) is tuple and filling.setter is None:  # it had slots
            return filling._replace(state=by_name(filling.state, None) or filling.state)
        return filling
    try:
        return filling._replace(state=facts.plan.state(record, filling.state))
    except CannotLoad as error:
        raise placed(error, record) from error.__cause__
    except PerdureError:
        raise
    except Exception as error:  # what gives a new field its default is the user's
        raise refused(record, error) from error


T = TypeVar("T", bound=PerdureError)


def placed(error: T, record: Record) -> T:
    """The error, which names the record from now on, if it names none."""
    if not error.ids:
        error.ids = (record.id,)
        error.message = f"{name_in_paths(record)} cannot be loaded. {error.message}"
    return error


def resolver_for(record: Record, resources: Resources, found: dict[str, Any]) -> Resolver | None:
    """What resolves the references to the outside of a record that has any; `found` is shared among records."""
    if not record.flags & OUTSIDE:
        return None

    def locate(tag: str, key: Any) -> tuple[str, str]:
        return record.id, path_to(name_in_paths(record), record.payload, record.flags, tag, key)

    return Resolver(resources, locate, found)


def together(records: Iterable[Parts], resources: Resources) -> dict[str, Any]:
    """What records refer to outside, as far as it is had in one call for many; for `found` of `resolver_for`."""
    held = (record_of(parts) for parts in records if parts[2] & OUTSIDE)
    return resolved_together(((name_in_paths(record), record.payload, record.flags) for record in held), resources)


def name_in_paths(record: Record) -> str:
    """What the paths in errors begin with: the id, or the class where there is none."""
    return record.id or record.class_name.rpartition(":")[2]


def comparable(record: Record, facts: ClassFacts | None, *, limits: Limits = LIMITS) -> Any:
    """The graph in a record, in the form that `Encoder` gives of an object of that class as it is now.

    `StoredReference` and `OutsideReference` are in the place of what it refers to: nothing is loaded or resolved.
    """
    objects = [StoredReference(id_) for id_ in record.references]
    if facts is None or (facts.plan is None and facts.simple and record.flags & KIND_BITS == STATE):
        return state_of(record, objects, OutsideReference, limits=limits)
    try:
        making, filling = parts_to_make(facts, record, objects, OutsideReference, limits=limits)
    except PerdureError:
        raise
    except Exception as error:  # as above
        raise refused(record, error) from error
    if facts.simple:
        return filling.state if making == states.BARE and filling[1:] == (None, None, None) else (making, filling)
    if facts.plan is not None and facts.plan.layout.form != POSITIONS:
        filling = filling._replace(state=natural(facts.cls, filling.state))
    return tuple(making), tuple(filling)


def refused(record: Record, error: BaseException) -> CannotLoad:
    """The error for a record that is whole, but that the classes in it refuse."""
    return CannotLoad(
        f"{record.id or 'The record'} ({record.class_name}) cannot be loaded: {type(error).__name__}: {error}".rstrip(),
        hint="The code of its class may have changed since it was saved.",
        ids=(record.id,),
    )
