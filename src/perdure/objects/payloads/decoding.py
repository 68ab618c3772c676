"""Payloads to states, references resolved by what the caller gives for each place in the record's list."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Sequence
from io import BytesIO
from typing import Any, NamedTuple

from perdure.errors import CannotLoad, PerdureError
from perdure.objects.payloads.pieces import Pieced, opened
from perdure.pickling import outside
from perdure.pickling.classes import find_global
from perdure.pickling.outline import path_to
from perdure.pickling.outside import OutsideReference, Resolver, Resources
from perdure.pickling.references import MODULE, NAME
from perdure.pickling.together import resolved_together
from perdure.records.frame import Parts, record_of
from perdure.records.shape import parse_shape
from perdure.records.values import KIND_BITS, LINKED, OUTSIDE, SHAPED, STATE, VALUE, Record

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
        if name == NAME and module == MODULE:
            return self.objects.__getitem__
        return find_global(module, name)


def state_of(record: Record, objects: Sequence[Any], outside: Outside | None = None) -> Any:
    """A simple object's state, or a plain value."""
    try:
        if record.flags & SHAPED:
            shape = parse_shape(record.payload)
            values = ObjectUnpickler(record.payload[len(shape.head) :], objects, outside).load()
            for place in shape.links:
                values[place] = objects[values[place]]
            return dict(zip(shape.names, values, strict=True))
        loaded = ObjectUnpickler(record.payload, objects, outside).load()
        if not record.flags & LINKED:
            return loaded
        state, links = loaded
        for name, place in links.items():
            state[name] = objects[place]
        return state
    except PerdureError:
        raise
    except Exception as error:  # the user's own constructors and state methods run here: anything may come out
        raise refused(record, error) from error


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


def comparable(record: Record) -> Any:
    """The graph in a record, in the form that `Encoder` gives.

    `StoredReference` and `OutsideReference` are in the place of what it refers to: nothing is loaded or resolved.
    """
    objects = [StoredReference(id_) for id_ in record.references]
    if record.flags & KIND_BITS in (STATE, VALUE):
        return state_of(record, objects, OutsideReference)
    unpickler = ObjectUnpickler(record.payload, objects, OutsideReference)
    try:
        return unpickler.load(), unpickler.load()
    except PerdureError:
        raise
    except Exception as error:  # as above
        raise refused(record, error) from error


def refused(record: Record, error: BaseException) -> CannotLoad:
    """The error for a record that is whole, but that the classes in it refuse."""
    return CannotLoad(
        f"{record.id or 'The record'} ({record.class_name}) cannot be loaded: {type(error).__name__}: {error}".rstrip(),
        hint="The code of its class may have changed since it was saved.",
        ids=(record.id,),
    )
