"""Objects to payloads. The pickler never calls the store: it emits references; the worklist decides what is written.

- A simple object's payload is the names of its attributes and a list of their values (`SHAPED`). For an attribute that
  is nothing but a reference, its place is in the list: that costs much less than a call in the pickle. Any other
  object's payload is two pickles in a row (how it is made, what is put in), so that the bare object exists before
  anything refers to it; a plain value's is one pickle of the value. A payload that names no class and no function says
  so (`PLAIN`).
- Values that are flat (`perdure.pickling.flat`) are pickled without a memo.
- One C pickler is used again and again, and made anew after an error or a large record (its memo never shrinks).
  Where its recursion ends, the iterative pickler takes over. What is usual is pickled by the compiled part.
- What is large (buffers, bytes) is not in the payload, but beside it (`BUFFERED`).
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from itertools import count
from types import FunctionType
from typing import Any

from perdure import kernels
from perdure.errors import CannotPickle, PerdureError, TransactionError
from perdure.objects.instances.classes import ClassFacts
from perdure.objects.instances.ghosts import real_class
from perdure.objects.instances.guests import is_record
from perdure.objects.instances.persistable import ENTRIES, Entry, Persistable, entry_of
from perdure.objects.instances.states import BARE, PROTOCOL, Reduced, make, reduced, simple_state
from perdure.objects.payloads.pieces import Given, Part, has_large, joined, taken_out
from perdure.objects.payloads.usual import has_code
from perdure.pickling.classes import MAIN, name_of, public_module
from perdure.pickling.deep import DeepPickler
from perdure.pickling.flat import Collector, FlatPickler, is_flat
from perdure.pickling.lasting import LASTING, Telling
from perdure.pickling.lasting import shape as shape_function
from perdure.pickling.outside import outside
from perdure.pickling.paths import find_unpicklable, told_apart
from perdure.pickling.references import named, reference
from perdure.records.buffers import LARGE
from perdure.records.shape import without_start
from perdure.records.values import BUFFERED, INTERNAL, KEPT, OUTSIDE, PLAIN, SHAPED

_marks = count(1)
_attribute = object.__getattribute__

LONGEST_PATH = 400  # characters; the beginning and the end of a longer one are told

LARGE_PAYLOAD = 64 * 1024  # bytes; about a thousand objects


# A payload, the ids that it refers to, the graph that was pickled (for a comparison with what is stored), and SHAPED,
# PLAIN, OUTSIDE and BUFFERED as they fit. A bare tuple, since one is made for each object.
Encoded = tuple[bytes, tuple[str, ...], Any, int]
SHAPED_PLAIN = SHAPED | PLAIN
_LASTING = frozenset(map(id, LASTING))


class _Hooks(Telling):
    """What both picklers do with objects that are records of their own, and with what has no lasting name."""

    place_of: Callable[[Any], int]
    name_it: Callable[[Any], Any]
    names: set[str]
    note_module: Callable[[str], None]
    asked: bool  # whether anything was pickled that is no plain value

    def reducer_override(self, obj: Any) -> Any:
        self.asked = True
        if obj is reference or obj is shape_function:
            return NotImplemented
        if is_record(obj):
            return reference, (self.place_of(obj),)
        if isinstance(obj, (type, FunctionType)):
            return self.by_name(obj)
        return self.of_instance(obj)

    def by_name(self, obj: Any) -> Any:
        """How a class or function is named; a class with declared attributes is told with them, the first time."""
        if isinstance(obj, type) and "_perdure_ghost_of" not in obj.__dict__:
            told = self.told(obj)
            if told is not NotImplemented:
                self.names.add(told[1][-1] if len(told[1]) > 2 else told[1][0])
                self.note_module(obj.__module__)
                return told
        return self.name_it(obj)


class _FastPickler(_Hooks, pickle.Pickler):
    pass


class _DeepPickler(_Hooks, DeepPickler):
    pass


class Encoder:
    """Encodes objects of one view; `enrol` gives the entry of an object that is referred to."""

    __slots__ = (
        "_declined", "_flat_pickler", "_itself", "_mark", "_outside", "_parts", "_pickler", "_places",
        "_protocol", "enrol", "giving", "met_large", "modules", "names",
    )  # fmt: skip

    def __init__(self, enrol: Callable[[Any], Entry], protocol: int = PROTOCOL):
        self.met_large = False  # whether a payload has large pieces
        self.giving: set[int] = set()  # addresses of objects that gave a buffer away while they were pickled
        self._declined: Any = None  # the object for which the short way was of no use
        self._protocol = protocol
        self.enrol = enrol  # another one may take its place that does the same
        self._places: dict[str, int] = {}
        self._mark = next(_marks)
        self._itself: tuple[Any, str] | None = None
        self._parts: list[Part] = []
        self._pickler: _FastPickler | None = None
        self._flat_pickler: FlatPickler | None = None
        self._outside = False  # whether the payload refers to something outside of the store
        self.names: set[str] = set()  # of the classes and functions that payloads name
        self.modules: set[str] = set()  # what the last payload names is in, but for Python's own and perdure's

    def encode(self, obj: Any, facts: ClassFacts, *, under: str | None = None) -> Encoded:
        """The payload of a persistable object that is awake.

        With `under`, it is encoded as if its id were that one (a copy that refers to itself refers to the copy).
        """
        if facts.simple:
            found = self.encode_simple(obj, facts) if under is None and obj is not self._declined else None
            state = simple_state(obj)
            return found or self._dump(obj, (state,), state, under)
        if facts.opaque:
            return self._as_stored(obj, under)
        making, filling = self._ask(obj, facts)
        told = (tuple(making), tuple(filling))  # plain tuples: payloads name no class of perdure's
        return self._dump(obj, told, told, under)

    def _as_stored(self, obj: Any, under: str | None) -> Encoded:
        """What an opaque object was loaded from."""
        self._places, self._itself = {}, None if under is None else (obj, under)
        for target in obj.referred:
            self.place_of(target)
        record = obj.record
        return record.payload, tuple(self._places), None, record.flags & ~(KEPT | INTERNAL)

    def encode_simple(self, obj: Any, facts: ClassFacts) -> Encoded | None:
        """What `encode` does for an object of a simple class, on a short way; None where it takes the long one."""
        if kernels.compiled is not None:
            found: Encoded | None = kernels.compiled.encode_simple(self, obj, facts)
            if found is not NotImplemented:
                return found
        return self.encode_simple_in_python(obj, facts)

    def encode_simple_in_python(self, obj: Any, facts: ClassFacts) -> Encoded | None:
        """The same, as it stands beside the compiled part."""
        pickler = self._pickler or self._new_pickler()
        graph = _attribute(obj, "__dict__")
        names = tuple(graph)
        shape = facts.shapes.get(names) or facts.shape(names)
        if shape is None:
            return None
        values = [*graph.values()]
        places: dict[str, int] = {}
        self._places, self._itself = places, None
        self._parts.clear()
        pickler.asked = False
        if self.modules:
            self.modules = set()
        try:
            for place in shape.links:
                value = values[place]
                entry = ENTRIES.get(id(value))  # `place_of` written out
                if entry is None or entry.mark != self._mark:
                    if not isinstance(value, Persistable):
                        shape = facts.shape_without(shape, place)
                        if shape is None:
                            return None
                        continue
                    entry = self.enrol(value)
                    entry.mark = self._mark
                values[place] = places.setdefault(entry.id, len(places))
            rest = self._flat(values) or self._with_memo(obj, pickler, values)
        except (PerdureError, MemoryError):
            self._pickler = None
            raise
        except Exception:  # noqa: BLE001 (state methods of the user's run here; the long way says what it means)
            self._pickler = None
            return None
        except BaseException:
            self._pickler = None
            raise
        payload = shape.head + (rest if pickler.asked else without_start(rest))
        if len(payload) > LARGE_PAYLOAD:
            self._pickler = None
        if not pickler.asked:
            return payload, tuple(places), graph, SHAPED_PLAIN
        flags = SHAPED if not facts.links_to_learn and not self._outside else self._noted(facts, graph)
        return payload, tuple(places), graph, flags

    def _flat(self, values: list[Any]) -> bytes | None:
        """The pickle of values that do without a memo; None where they do not, or are large."""
        if self._protocol != PROTOCOL or not is_flat(values):
            return None
        pickler = self._flat_pickler = self._flat_pickler or FlatPickler()
        return pickler.dump(values)

    def _with_memo(self, obj: Any, pickler: _FastPickler, values: list[Any]) -> bytes:
        pickler.dump(values)
        pickler.clear_memo()  # at once: what it holds would seem to be held by somebody
        part: Any = self._parts[0]
        return part if len(self._parts) == 1 else self._small(obj)

    def _noted(self, facts: ClassFacts, graph: dict[str, Any]) -> int:
        """Learn what can be learnt of a state that is not plain; gives its flags."""
        if facts.links_to_learn:
            facts.learn_links(name for name, value in graph.items() if isinstance(value, Persistable))
        flags, self._outside = SHAPED | OUTSIDE if self._outside else SHAPED, False
        return flags

    def encode_value(self, value: Any) -> Encoded:
        """The payload of a plain value."""
        return self._dump(value, (value,), value, None)

    def release(self) -> None:
        """Let go of the pickler, and of whom it asks: else all that was pickled would wait for a garbage collection."""
        self._pickler = self._flat_pickler = self._declined = None
        self.enrol = _nobody
        self._parts.clear()

    def place_of(self, obj: Any) -> int:
        """The place of an object among the references of the payload that is being made."""
        entry = entry_of(obj)
        if self._itself is not None and obj is self._itself[0]:
            id_ = self._itself[1]
        elif entry is not None and entry.mark == self._mark:
            id_ = entry.id  # asked about before
        else:
            entry = self.enrol(obj)
            entry.mark, id_ = self._mark, entry.id
        places = self._places
        return places.setdefault(id_, len(places))

    def name_it(self, obj: Any) -> Any:
        """Note the name of a class or function; say it ourselves where C pickle would say another."""
        real = obj.__dict__.get("_perdure_ghost_of") if isinstance(obj, type) else None
        if real is not None:
            self._note_module(real.__module__)
            return named, (name_of(real),)
        if obj is outside:
            self._outside = True
        elif id(obj) not in _LASTING:
            self.names.add(f"{public_module(obj.__module__)}:{obj.__qualname__}")
            self._note_module(obj.__module__)
        if obj.__module__ == MAIN:
            return named, (name_of(obj),)
        return NotImplemented

    def _note_module(self, module: str) -> None:
        if has_code(module):
            self.modules.add(module)

    def _ask(self, obj: Any, facts: ClassFacts) -> Reduced:
        try:
            told = reduced(obj, facts.cls)
        except CannotPickle as error:
            raise self._explained(obj, error) from error
        except (PerdureError, MemoryError):
            raise
        except Exception as error:  # the user's own state methods run here: anything may come out
            raise self._explained(obj, error) from error
        if facts.untried:
            self._try(obj, facts, told)
        if facts.guest and told[0] != BARE:
            raise CannotPickle(
                f"{facts.cls.__qualname__} cannot be stored as it is: its objects are made with arguments.",
                hint="Let it do without __getnewargs__, or be a Persistable.",
            )
        return told

    def _try(self, obj: Any, facts: ClassFacts, told: Reduced) -> None:
        """Whether an object can be made again as it says; once a class, of those that often cannot."""
        try:
            make(facts.cls, told[0])
        except Exception as error:  # as above
            name = facts.cls.__qualname__
            raise CannotPickle(
                f"{name} cannot be saved: its objects could not be made again: {type(error).__name__}: {error}.",
                hint=f"Let {name}.__init__ take what it gives to Exception.__init__, or give it a __reduce__.",
                path=name,
            ) from error
        facts.untried = False

    def _dump(self, obj: Any, graphs: tuple[Any, ...], graph: Any, under: str | None) -> Encoded:
        self._places, self._outside, self.modules = {}, False, set()
        self._itself = None if under is None else (obj, under)
        try:
            payload, flags = self._pickled(obj, graphs)
        except RecursionError:
            self._pickler = None
            payload, flags = self._explaining(obj, lambda: self._pickled_deep(obj, graphs))
        except (PerdureError, MemoryError):
            self._pickler = None
            raise
        except Exception as error:  # as above
            self._pickler = None
            raise self._explained(obj, error) from error
        except BaseException:
            self._pickler = None
            raise
        if len(payload) > LARGE_PAYLOAD:
            self._pickler = None
        if self._outside:
            flags, self._outside = flags | OUTSIDE, False
        return payload, tuple(self._places), graph, flags

    def _pickled(self, obj: Any, graphs: tuple[Any, ...]) -> tuple[bytes, int]:
        pickler = self._pickler or self._new_pickler()
        parts = self._parts
        parts.clear()
        for graph in graphs:
            pickler.dump(graph)
        pickler.clear_memo()
        return self._gathered(obj)

    def _new_pickler(self) -> _FastPickler:
        self._parts, self._outside = [], False
        # fix_imports would spell builtins as Python 2 did, up to protocol 2: `find_global` looks for them as they are.
        pickler = self._pickler = _FastPickler(
            Collector(self._parts), self._protocol, fix_imports=False, buffer_callback=self._callback
        )
        pickler.place_of, pickler.name_it, pickler.names = self.place_of, self.name_it, self.names
        pickler.note_module = self._note_module
        return pickler

    def _pickled_deep(self, obj: Any, graphs: tuple[Any, ...]) -> tuple[bytes, int]:
        self._places = {}
        self._parts = []
        pickler = _DeepPickler(
            Collector(self._parts), self._protocol, fix_imports=False, buffer_callback=self._callback
        )
        pickler.place_of, pickler.name_it, pickler.names = self.place_of, self.name_it, self.names
        pickler.note_module = self._note_module
        for graph in graphs:
            pickler.dump(graph)
        return self._gathered(obj)

    @property
    def _callback(self) -> Callable[[pickle.PickleBuffer], bool] | None:
        return self._give if self._protocol >= 5 else None

    def _give(self, buffer: pickle.PickleBuffer) -> bool:
        """Asked for each buffer that is pickled; whether it stays in the pickle."""
        try:
            content = buffer.raw()
        except BufferError:
            return True  # it is not contiguous, and the pickler says so
        large = content.nbytes >= LARGE
        self._parts.append(Given(content if large else None))
        return not large

    def _small(self, obj: Any) -> bytes:
        """The payload without large pieces; `ValueError` if there are any: the short way leaves those to the long."""
        if has_large(self._parts):
            self._declined = obj
            raise ValueError("large pieces")
        return self._gathered(obj)[0]

    def _gathered(self, obj: Any) -> tuple[bytes, int]:
        """The payload, once all its parts are there, and its flag."""
        parts = self._parts
        if any(isinstance(part, Given) for part in parts):
            self.giving.add(id(obj))
        if not has_large(parts):
            return joined(parts), 0
        self.met_large = True
        return taken_out(parts), BUFFERED

    def _explaining(self, obj: Any, make: Callable[[], tuple[bytes, int]]) -> tuple[bytes, int]:
        try:
            return make()
        except (PerdureError, MemoryError):
            raise
        except Exception as error:  # as above
            raise self._explained(obj, error) from error

    def _explained(self, obj: Any, error: BaseException) -> CannotPickle:
        if isinstance(error, CannotPickle) and (error.path or error.ids):
            return error  # it says where, already
        return explain(obj, error)


if kernels.built is not None:
    kernels.built.bind_encoder(Encoder, Persistable, PerdureError, SHAPED, SHAPED_PLAIN, LARGE_PAYLOAD)


def explain(
    obj: Any,
    error: BaseException,
    *,
    stop_at: Callable[[object], bool] = lambda _: False,
    otherwise: CannotPickle | None = None,
) -> CannotPickle:
    """The error for something that cannot be pickled, with the whole path from `obj` to it.

    It is `otherwise`, if that is given, where no way leads from `obj` to it.
    """
    cls = real_class(obj)
    id_ = obj.persistent_id if isinstance(obj, Persistable) else None
    name = id_ or cls.__name__
    found = find_unpicklable(obj, name, stop_at)
    if found is None and otherwise is not None:
        return otherwise
    path, (reason, hint) = (found[0], told_apart(found[1])) if found is not None else (name, (str(error), ""))
    if len(path) > LONGEST_PATH:
        path = f"{path[: LONGEST_PATH // 2]} … {path[-LONGEST_PATH // 2 :]}"
    return CannotPickle(f"{path} cannot be saved: {reason}", hint=hint, path=path, ids=(id_,) if id_ else ())


def _nobody(obj: Any) -> Entry:
    raise TransactionError("The commit that this encoder belongs to is over.")
