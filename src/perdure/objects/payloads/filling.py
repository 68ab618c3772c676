"""Making objects from whole records: in place of what an object is like, or as a copy that belongs to no view.

- Whatever constructors and state methods of users' classes raise becomes `CannotLoad`, with the record.
- A record is unpickled as a whole before anything of the object is taken away.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from perdure.errors import CannotLoad, CorruptRecord, PerdureError, UntrustedRecord
from perdure.objects.instances import states
from perdure.objects.instances.classes import facts_of
from perdure.objects.instances.ghosts import assign_class
from perdure.objects.instances.opaque import fill_opaque
from perdure.objects.payloads.decoding import Outside, begun, parts_to_make, placed, refused, upgraded
from perdure.pickling.own.limits import LIMITS, Limits
from perdure.records.values import KIND_BITS, STATE, Record


def refill(
    obj: Any,
    cls: type[Any],
    record: Record,
    objects: Sequence[Any],
    outside: Outside | None,
    *,
    limits: Limits = LIMITS,
) -> None:
    """Give an object the class and the state in a record, in place of its own; it stays the same object.

    `objects` are those at the places that the payload refers to, `outside` finds those that are in no store. Raises
    `CannotLoad` if the class refuses.
    """
    facts = facts_of(cls)
    with user_code(record):
        making, filling = parts_to_make(facts, record, objects, outside, limits=limits)
        if facts.opaque:
            assign_class(obj, cls)
            states.clear(obj)
            fill_opaque(obj, record, objects, making.args, filling.state, filling.items or filling.pairs)
            return
        bare = None if record.flags & KIND_BITS == STATE else states.make(cls, making)
        assign_class(obj, cls)
        states.clear(obj)
        if bare is not None:
            states.move(bare, obj)
            states.move_items(bare, obj)
        states.fill(obj, filling)


def detached(cls: type[Any], record: Record, objects: Sequence[Any], outside: Outside | None) -> Any:
    """A copy of the object in a record that belongs to no view; `objects` are those that the payload refers to."""
    with user_code(record):
        making, filling = parts_to_make(facts_of(cls), record, objects, outside)
        copy = states.make(cls, making)
        states.fill(copy, filling)
    return copy


def refill_guest(
    obj: Any,
    record: Record,
    objects: Sequence[Any],
    outside: Outside | None,
    *,
    lenient: bool = True,
    limits: Limits = LIMITS,
) -> None:
    """Give a guest the state in a record; a ghost does not know yet that it has it."""
    with user_code(record):
        obj.__setstate__(guest_state(type(obj), record, objects, outside, lenient=lenient, limits=limits))


def detached_guest(cls: type[Any], record: Record, objects: Sequence[Any], outside: Outside | None) -> Any:
    """A copy of the guest in a record that belongs to no view."""
    copy = new_guest(cls)
    refill_guest(copy, record, objects, outside)
    return copy


def new_guest(cls: Any) -> Any:
    """A bare guest, as ZODB makes it."""
    return cls.__new__(cls)


def guest_state(
    cls: type[Any],
    record: Record,
    objects: Sequence[Any],
    outside: Outside | None,
    *,
    lenient: bool = True,
    limits: Limits = LIMITS,
) -> Any:
    """The state in a guest's record, as its class has it now."""
    _, fill = begun(record, objects, outside, lenient=lenient, limits=limits)  # it is made bare
    return upgraded(facts_of(cls), record, fill(cls)).state


@contextmanager
def user_code(record: Record) -> Iterator[None]:
    """What comes out of constructors and state methods of users' classes becomes `CannotLoad`, with the record."""
    try:
        yield
    except (CannotLoad, UntrustedRecord, CorruptRecord) as error:
        raise placed(error, record) from error.__cause__
    except PerdureError:
        raise
    except Exception as error:  # the user's own code ran: anything may come out
        raise refused(record, error) from error
