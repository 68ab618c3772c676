"""A pickler whose own depth does not grow with the graph: for chains and trees where C pickle's recursion ends.

- What it writes loads with any unpickler of its protocol (2 to 5), and gives the graph that `pickle.dumps` gives.
- The walk is a stack of generators: each writes its part and yields the generator of what is nested in it.
- Hooks are asked as the C pickler asks them: `persistent_id` for everything, `reducer_override` after the builtin
  containers; `dispatch_table`, `copyreg` and `__reduce_ex__` follow.
- It is slower than C pickle by a factor of ten and more, so it only takes over; it is never the first choice.
"""

from __future__ import annotations

import copyreg
import pickle
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from types import FunctionType
from typing import Any, ClassVar

Steps = Iterator[Any]

LOWEST_PROTOCOL = 2
_BATCH = 1000
_UNSHARED = frozenset({type(None), bool, int, float})
_FLAT = frozenset({str, bytes, bytearray, pickle.PickleBuffer})
_TUPLE_ENDS = {1: pickle.TUPLE1, 2: pickle.TUPLE2, 3: pickle.TUPLE3}


class DeepPickler(pickle._Pickler):
    """Pickles graphs of any depth; constructor, `dump` and hooks are those of `pickle.Pickler`.

    Raises `ValueError` for protocols 0 and 1, which cannot express every graph, and `pickle.PicklingError`.
    """

    proto: int
    write: Callable[[bytes], Any]
    memo: dict[int, tuple[int, Any]]
    framer: Any
    get: Callable[[int], bytes]
    memoize: Callable[[Any], None]
    save_type: Callable[[Any], None]
    save_global: Callable[..., None]

    def __init__(
        self,
        file: Any,
        protocol: int | None = None,
        *,
        fix_imports: bool = True,
        buffer_callback: Callable[[pickle.PickleBuffer], Any] | None = None,
    ):
        super().__init__(file, protocol, fix_imports=fix_imports, buffer_callback=buffer_callback)
        if self.proto < LOWEST_PROTOCOL:
            raise ValueError(f"protocols from {LOWEST_PROTOCOL} on are written, not {self.proto}")

    # The inherited writers of single values call these two for the small things that they nest.

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        """Write `obj` and all that it reaches."""
        self._run(self._begin(obj, save_persistent_id))

    def save_reduce(self, func: Any, args: Any, *parts: Any, obj: Any = None) -> None:
        """Write an object as the call and the state that its `__reduce_ex__` gave."""
        self._run(self._reduced(func, args, *parts, obj=obj))

    def _run(self, steps: Steps | None) -> None:
        stack = [] if steps is None else [steps]
        while stack:
            deeper = next(stack[-1], None)
            if deeper is None:
                stack.pop()
            else:
                stack.append(deeper)

    def _begin(self, obj: Any, ask_persistent_id: bool = True) -> Steps | None:
        """Write `obj` if it is flat; else give the steps that write it."""
        self.framer.commit_frame()
        if ask_persistent_id:
            pid = self.persistent_id(obj)
            if pid is not None:
                return self._persistent(pid)
        cls = type(obj)
        if cls in _UNSHARED:
            self._write_flat(cls, obj)
            return None
        known = self.memo.get(id(obj))
        if known is not None:
            self.write(self.get(known[0]))
            return None
        if cls in _FLAT:
            self._write_flat(cls, obj)
            return None
        container = self._containers.get(cls)
        return self._instance(obj, cls) if container is None else container(self, obj)

    def _write_flat(self, cls: type, obj: Any) -> None:
        write: Callable[[DeepPickler, Any], None] = self.dispatch[cls]  # type: ignore[assignment] # stub says Unpickler
        write(self, obj)

    def _persistent(self, pid: Any) -> Steps:
        yield from self._each((pid,), ask_persistent_id=False)
        self.write(pickle.BINPERSID)

    def _each(self, items: Iterable[Any], ask_persistent_id: bool = True) -> Steps:
        for item in items:
            deeper = self._begin(item, ask_persistent_id)
            if deeper is not None:
                yield deeper

    # -- containers ------------------------------------------------------------------------------------------

    def _tuple(self, obj: tuple[Any, ...]) -> Steps:
        if not obj:
            self.write(pickle.EMPTY_TUPLE)
            return
        end = _TUPLE_ENDS.get(len(obj))
        if end is None:
            self.write(pickle.MARK)
        yield from self._each(obj)
        known = self.memo.get(id(obj))
        if known is None:
            self.write(end or pickle.TUPLE)
            self.memoize(obj)
            return
        # A member led back here and wrote the whole tuple: drop the members, take that tuple.
        self.write((pickle.POP * len(obj) if end else pickle.POP_MARK) + self.get(known[0]))

    def _list(self, obj: list[Any]) -> Steps:
        self.write(pickle.EMPTY_LIST)
        self.memoize(obj)
        yield from self._list_items(obj)

    def _dict(self, obj: dict[Any, Any]) -> Steps:
        self.write(pickle.EMPTY_DICT)
        self.memoize(obj)
        yield from self._dict_items(obj.items())

    def _set(self, obj: set[Any]) -> Steps:
        if self.proto < 4:
            yield self._reduced(set, (list(obj),), obj=obj)
            return
        self.write(pickle.EMPTY_SET)
        self.memoize(obj)
        for batch in _batches(obj):
            self.write(pickle.MARK)
            yield from self._each(batch)
            self.write(pickle.ADDITEMS)

    def _frozenset(self, obj: frozenset[Any]) -> Steps:
        if self.proto < 4:
            yield self._reduced(frozenset, (list(obj),), obj=obj)
            return
        self.write(pickle.MARK)
        yield from self._each(obj)
        known = self.memo.get(id(obj))
        if known is None:
            self.write(pickle.FROZENSET)
            self.memoize(obj)
        else:
            self.write(pickle.POP_MARK + self.get(known[0]))

    def _list_items(self, items: Iterable[Any]) -> Steps:
        for batch in _batches(items):
            self.write(pickle.MARK)
            yield from self._each(batch)
            self.write(pickle.APPENDS)

    def _dict_items(self, items: Iterable[tuple[Any, Any]]) -> Steps:
        for batch in _batches(items):
            self.write(pickle.MARK)
            for key, value in batch:
                yield from self._each((key, value))
            self.write(pickle.SETITEMS)

    _containers: ClassVar[dict[type, Callable[[DeepPickler, Any], Steps]]] = {
        tuple: _tuple,
        list: _list,
        dict: _dict,
        set: _set,
        frozenset: _frozenset,
    }

    # -- everything else ---------------------------------------------------------------------------------------

    def _instance(self, obj: Any, cls: type) -> Steps | None:
        override = getattr(self, "reducer_override", None)
        reduced = NotImplemented if override is None else override(obj)
        if reduced is NotImplemented:
            reduce = getattr(self, "dispatch_table", copyreg.dispatch_table).get(cls)
            if cls is type:
                self.save_type(obj)
                return None
            if cls is FunctionType or (reduce is None and issubclass(cls, type)):
                self.save_global(obj)
                return None
            reduced = obj.__reduce_ex__(self.proto) if reduce is None else reduce(obj)
        if isinstance(reduced, str):
            self.save_global(obj, reduced)
            return None
        if not isinstance(reduced, tuple) or not 2 <= len(reduced) <= 6:
            raise pickle.PicklingError(f"__reduce__ of {cls.__name__!r} must give a str, or a tuple of 2 to 6 parts")
        return self._reduced(*reduced, obj=obj)

    def _reduced(
        self,
        func: Any,
        args: Any,
        state: Any = None,
        list_items: Iterable[Any] | None = None,
        dict_items: Iterable[tuple[Any, Any]] | None = None,
        state_setter: Any = None,
        *,
        obj: Any = None,
    ) -> Steps:
        parts, opcode = self._construction(func, args, obj)
        yield from self._each(parts)
        self.write(opcode)
        known = None if obj is None else self.memo.get(id(obj))
        if known is not None:  # an argument led back here and wrote the whole object: take that one
            self.write(pickle.POP + self.get(known[0]))
        elif obj is not None:
            self.memoize(obj)
        if list_items is not None:
            yield from self._list_items(list_items)
        if dict_items is not None:
            yield from self._dict_items(dict_items)
        if state is None:
            return
        if state_setter is None:
            yield from self._each((state,))
            self.write(pickle.BUILD)
        else:
            yield from self._each((state_setter, obj, state))
            self.write(pickle.TUPLE2 + pickle.REDUCE + pickle.POP)

    def _construction(self, func: Any, args: Any, obj: Any) -> tuple[tuple[Any, ...], bytes]:
        """What is pushed to make the bare object, and the opcode that makes it."""
        if not callable(func) or not isinstance(args, tuple):
            raise pickle.PicklingError("__reduce__ must give a callable and a tuple of arguments")
        name = getattr(func, "__name__", "")
        if name not in ("__newobj__", "__newobj_ex__"):
            return (func, args), pickle.REDUCE
        cls = args[0]
        if not hasattr(cls, "__new__") or (obj is not None and cls is not obj.__class__):
            raise pickle.PicklingError(f"the first argument of {name} must be the object's class, not {cls!r}")
        if name == "__newobj__":
            return (cls, args[1:]), pickle.NEWOBJ
        _, positional, by_name = args
        if self.proto >= 4:
            return (cls, positional, by_name), pickle.NEWOBJ_EX
        return (partial(cls.__new__, cls, *positional, **by_name), ()), pickle.REDUCE


def _batches(items: Iterable[Any]) -> Iterator[list[Any]]:
    """The items in lists of up to 1,000, so that an unpickler's stack stays small."""
    iterator = iter(items)
    while batch := list(islice(iterator, _BATCH)):
        yield batch
