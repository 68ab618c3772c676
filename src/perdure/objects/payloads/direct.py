"""Filling ghosts of simple classes from their records, and what an entry notes of the record.

- Run for each object of a bulk: nothing is called that can be spared.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pickle import UnpicklingError, loads
from typing import Any

from perdure import kernels
from perdure.errors import CannotLoad, ClassNotFound, CorruptRecord, PerdureError, UntrustedRecord
from perdure.objects.instances import states
from perdure.objects.instances.persistable import DOZING, GHOST, LOADING, Entry
from perdure.objects.payloads.decoding import Loading, StateUnpickler, placed, refused
from perdure.pickling.rebuilding import Reshaped
from perdure.records.frame import Parts, record_of
from perdure.records.shape import Shape
from perdure.records.values import FOREIGN, LINKED, PLAIN, Record

_attribute = object.__getattribute__


def fill_directly(entry: Entry, obj: Any, parts: Parts, held: dict[str, Any]) -> None:
    """Give a ghost of a simple class its state; run for each object of a bulk."""
    if kernels.compiled is None or not kernels.compiled.fill_one(entry, obj, parts, held):
        _fill(entry, obj, parts, held)


def _fill(entry: Entry, obj: Any, parts: Parts, held: dict[str, Any]) -> None:
    _, revision, flags, _, _, _, references, _, payload, shape = parts
    try:
        entry.state = LOADING
        if flags & FOREIGN:  # before anything that it says of itself counts
            state = _foreign(entry, payload, [*map(held.__getitem__, references)], shape)
        elif flags & PLAIN:
            state = loads(payload)
        else:
            unpickler = StateUnpickler(BytesIO(payload))
            unpickler.objects = objects = [*map(held.__getitem__, references)] if references else ()
            try:
                state = unpickler.load()
            except (Reshaped, ClassNotFound, UnpicklingError) as error:
                state = _rebuilt(entry, payload, objects, error)
        if shape is not None:
            names, links, head = shape
            payload = head + payload
            for place in links:
                state[place] = held[references[state[place]]]
            into = _attribute(obj, "__dict__")
            into and into.clear()  # what an interruption has left there; an `if` is one branch too many here
            into.update(zip(names, state, strict=True))
            if links and not flags & FOREIGN and entry.facts.links_to_learn and not entry.facts.links:
                entry.facts.learn_links([names[place] for place in links])
        else:
            if flags & LINKED:
                state = _linked(state, references, held, entry)
            states.put_simple_state(obj, state)
        entry.revision, entry.flags, entry.references = revision, flags & ~FOREIGN, references
        entry.digest = hash(payload)
        entry.state = DOZING  # last: interrupted before, it is a ghost again
    except (CannotLoad, UntrustedRecord, CorruptRecord) as error:
        raise placed(error, record_of(parts)) from error.__cause__
    except PerdureError:
        raise
    except Exception as error:  # the user's own constructors and state methods run here: anything may come out
        raise refused(record_of(parts), error) from error
    finally:
        if entry.state == LOADING:
            entry.state = GHOST
            states.clear(obj)


def _foreign(entry: Entry, payload: bytes, objects: Sequence[Any], shape: Shape | None) -> Any:
    """The state of a record without a good seal."""
    from perdure.pickling.own.records import simple_state  # here, since many programs never meet such a record

    names = None if shape is None else shape.names
    view = entry.view
    return simple_state(payload, objects, lenient=view.is_lenient(entry), names=names, limits=view.limits)


def _rebuilt(entry: Entry, payload: bytes, objects: Sequence[Any], error: Exception) -> Any:
    """What C pickle could not read, by names; raises the error where a class is missing, and may not be."""
    lenient = entry.view.is_lenient(entry)
    if not lenient and not isinstance(error, Reshaped):
        raise error
    return Loading(payload, objects, None, lenient=lenient).load()


def _linked(
    pair: tuple[dict[str, Any], dict[str, int]], references: Sequence[str], held: dict[str, Any], entry: Entry
) -> dict[str, Any]:
    """The state of format 1 with the objects in the attributes that are just references."""
    state, links = pair
    for name, place in links.items():
        state[name] = held[references[place]]
    return state


def note_read(entry: Entry, record: Record) -> None:
    """What was read is what is stored: the entry notes it, for the next comparison."""
    entry.revision, entry.flags, entry.references = record.revision, record.flags & ~FOREIGN, record.references
    entry.digest = hash(record.payload)
