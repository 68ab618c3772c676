"""Objects written as sealed frames: `dumps`, `dump` and `Pickler`, each as in `pickle`.

- Where C pickle's recursion ends, the iterative pickler takes over, with the same hooks and the same memo.
- The revision of a frame counts the dumps of one `Pickler` since its memo was empty.
- A dump that fails writes nothing and leaves the `Pickler` as it was.
- Buffers that go out of band are not under the seal.
- Classes are told with the names of their attributes, and members of enumerations by name; see `lasting`.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any, Protocol

from perdure.errors import CannotPickle, PerdureError, TransactionError
from perdure.keys import KeyRing
from perdure.pickling.deep import LOWEST_PROTOCOL, DeepPickler
from perdure.pickling.lasting import Telling, is_class_or_function
from perdure.pickling.paths import find_unpicklable, told_apart
from perdure.pickling.references import named
from perdure.records.frame import encoder
from perdure.records.seal import Key
from perdure.records.values import NO_FIELDS, VALUE, Draft

PROTOCOL = 5
_REFUSALS = (TypeError, AttributeError, pickle.PicklingError)
_HOOKS = ("persistent_id", "reducer_override", "dispatch_table")

BufferCallback = Callable[[pickle.PickleBuffer], Any]


class Sink(Protocol):
    """What is written to: a binary file, or anything with this method."""

    def write(self, data: bytes, /) -> Any:
        """Take the bytes of one frame."""


def dumps(
    obj: Any, protocol: int | None = PROTOCOL, *, key: Key | None = None, buffer_callback: BufferCallback | None = None
) -> bytes:
    """`obj` and all that it reaches as bytes, sealed with `key` (the user's own if none is given).

    Raises `CannotPickle`, whose `.path` leads to the part that cannot be pickled.
    """
    number = _checked_protocol(protocol, buffer_callback)
    callback = None if buffer_callback is None else _Answers(buffer_callback)
    return _frame(obj, _payload(obj, number, callback), key, 0)


def payload_of(obj: Any, name: str = "") -> bytes:
    """`obj` as a bare pickle of the newest protocol, neither framed nor sealed.

    Raises `CannotPickle`, whose `.path` begins with `name` (the class's, if none is given).
    """
    return _payload(obj, PROTOCOL, None, name)


def _payload(obj: Any, protocol: int, callback: _Answers | None, name: str = "") -> bytes:
    try:
        try:
            return _c_payload(obj, protocol, callback)
        except RecursionError:
            return _deep_payload(obj, protocol, callback)
    except (PerdureError, MemoryError):
        raise
    except Exception as error:  # the user's methods run here; what they raise is why it cannot be done
        raise _cannot_pickle(obj, error, lambda part: False, name) from error


def dump(
    obj: Any,
    file: Sink,
    protocol: int | None = PROTOCOL,
    *,
    key: Key | None = None,
    buffer_callback: BufferCallback | None = None,
) -> None:
    """Write `dumps(obj, …)` to a binary file; several dumps may follow one another."""
    file.write(dumps(obj, protocol, key=key, buffer_callback=buffer_callback))


NESTED = 4  # the first protocol that can name what is nested in a class


class _Told(Telling):
    """What `dumps` says of objects, beside what pickle does."""

    protocol: int

    def reducer_override(self, obj: Any) -> Any:
        if not is_class_or_function(obj):
            return self.of_instance(obj)
        told = self.told(obj) if isinstance(obj, type) else NotImplemented
        if told is NotImplemented and self.protocol < NESTED and "." in obj.__qualname__:
            return named, (f"{obj.__module__}:{obj.__qualname__}",)
        return told


class _ValuePickler(_Told, pickle.Pickler):
    pass


class _DeepValuePickler(_Told, DeepPickler):
    pass


class Pickler(pickle.Pickler):
    """Writes objects to one file and keeps the references between them; subclasses have the hooks of `pickle`'s.

    After a dump that failed, the pickler is as it was before. An exception of a subclass's own hook comes out as it is.
    """

    _own_override: Callable[[Any], Any] | None = None
    _telling: _Told

    def __init__(
        self,
        file: Sink,
        protocol: int | None = PROTOCOL,
        *,
        fix_imports: bool = True,
        buffer_callback: BufferCallback | None = None,
        key: Key | None = None,
    ):
        number = _checked_protocol(protocol, buffer_callback)
        callback = None if buffer_callback is None else _Answers(buffer_callback)
        self._frames = _Frames(file, number, fix_imports, callback, key)
        self._telling = _Told()
        self._telling.protocol = number
        super().__init__(self._frames.payload, number, fix_imports=fix_imports, buffer_callback=callback)

    def dump(self, obj: Any, /) -> None:
        """Write `obj` as one frame; what an earlier dump has written is referred to."""
        frames = self._frames
        if frames.busy:
            raise TransactionError(
                "A pickler cannot dump while it dumps.",
                hint="Use another Pickler, or perdure.dumps, inside __reduce__.",
            )
        frames.busy = True
        known = len(self.memo.copy())
        try:
            self._write(obj, known)
        except BaseException:
            self.memo = {place: entry for place, entry in self.memo.copy().items() if entry[0] < known}
            raise
        finally:
            frames.busy = False

    def clear_memo(self) -> None:
        """Forget what was written: the next dump stands for itself."""
        super().clear_memo()
        self._frames.count = 0

    def _write(self, obj: Any, known: int) -> None:
        frames = self._frames
        frames.begin()
        if self._own_override is None:
            self._own_override = getattr(self, "reducer_override", _asks_nothing)
            vars(self)["reducer_override"] = self._override
        try:
            try:
                super().dump(obj)
            except RecursionError:
                self._dump_deep(obj, known)
        except (PerdureError, MemoryError):
            raise
        except _REFUSALS as error:
            refusal = _cannot_pickle(obj, error, self._claims)
            if refusal.path or type(self) is Pickler:
                raise refusal from error
            raise
        except Exception as error:
            if type(self) is Pickler:
                raise _cannot_pickle(obj, error, self._claims) from error
            raise
        frames.file.write(_frame(obj, frames.payload.getvalue(), frames.key, frames.count))
        frames.count += 1

    def _dump_deep(self, obj: Any, known: int) -> None:
        frames = self._frames
        frames.begin(again=True)
        deep = DeepPickler(
            frames.payload,
            max(frames.protocol, LOWEST_PROTOCOL),
            fix_imports=frames.fix_imports,
            buffer_callback=frames.callback,
        )
        for hook in _HOOKS:
            own = getattr(self, hook, None)
            if own is not None:
                setattr(deep, hook, own)
        deep.memo = {place: entry for place, entry in self.memo.copy().items() if entry[0] < known}
        deep.dump(obj)
        self.memo = deep.memo

    def _override(self, obj: Any) -> Any:
        """What a subclass says goes first; then what perdure says."""
        assert self._own_override is not None
        told = self._own_override(obj)
        return self._telling.reducer_override(obj) if told is NotImplemented else told

    def _claims(self, part: Any) -> bool:
        """Whether a hook takes `part`, so that it is not to blame."""
        persistent_id = getattr(self, "persistent_id", None)
        if persistent_id is not None and persistent_id(part) is not None:
            return True
        override = self._own_override or getattr(self, "reducer_override", None)
        if override is not None and override(part) is not NotImplemented:
            return True
        return type(part) in getattr(self, "dispatch_table", ())


def _asks_nothing(obj: Any) -> Any:
    return NotImplemented


class _Frames:
    """Where a `Pickler` writes to, and how far it is."""

    def __init__(self, file: Sink, protocol: int, fix_imports: bool, callback: _Answers | None, key: Key | None):
        if not callable(getattr(file, "write", None)):
            raise TypeError("the file must have a 'write' method")
        self.file = file
        self.protocol = protocol
        self.fix_imports = fix_imports
        self.callback = callback
        self.key = key
        self.payload = io.BytesIO()
        self.count = 0
        self.busy = False

    def begin(self, *, again: bool = False) -> None:
        """Make room for the next payload; `again`: for the same one, from its beginning."""
        self.payload.seek(0)
        self.payload.truncate()
        if self.callback is not None:
            self.callback.begin(again=again)


class _Answers:
    """A buffer callback that is asked once for each buffer, also when a second pickler starts from the beginning."""

    def __init__(self, ask: BufferCallback):
        self.ask = ask
        self.given: list[bool] = []
        self.next = 0

    def __call__(self, buffer: pickle.PickleBuffer) -> bool:
        if self.next == len(self.given):
            self.given.append(bool(self.ask(buffer)))
        self.next += 1
        return self.given[self.next - 1]

    def begin(self, *, again: bool) -> None:
        self.next = 0
        if not again:
            self.given = []


def _checked_protocol(protocol: int | None, buffer_callback: BufferCallback | None) -> int:
    number = PROTOCOL if protocol is None or protocol < 0 else int(protocol)
    if number > PROTOCOL:
        raise ValueError(f"the highest protocol is {PROTOCOL}, not {number}")
    if buffer_callback is not None and number < PROTOCOL:
        raise ValueError(f"buffer_callback needs protocol {PROTOCOL}")
    return number


def _c_payload(obj: Any, protocol: int, callback: _Answers | None) -> bytes:
    payload = io.BytesIO()
    pickler = _ValuePickler(payload, protocol, buffer_callback=callback)
    pickler.protocol = protocol
    pickler.dump(obj)
    return payload.getvalue()


def _deep_payload(obj: Any, protocol: int, callback: _Answers | None) -> bytes:
    if callback is not None:
        callback.begin(again=True)
    payload = io.BytesIO()
    pickler = _DeepValuePickler(payload, max(protocol, LOWEST_PROTOCOL), buffer_callback=callback)
    pickler.protocol = max(protocol, LOWEST_PROTOCOL)
    pickler.dump(obj)
    return payload.getvalue()


def _cannot_pickle(obj: Any, error: Exception, stop_at: Callable[[object], bool], name: str = "") -> CannotPickle:
    name = name or type(obj).__qualname__
    found = find_unpicklable(obj, name, stop_at)
    if found is None:
        return CannotPickle(f"{name} cannot be pickled: {error} ({type(error).__name__}).")
    path, (reason, hint) = found[0], told_apart(found[1])
    return CannotPickle(f"{path}: {reason}", hint=hint, path=path)


def _frame(obj: Any, payload: bytes, key: Key | None, count: int) -> bytes:
    cls = type(obj)
    draft = Draft("", 0, VALUE, f"{cls.__module__}:{cls.__qualname__}", 0, "", (), NO_FIELDS, payload)
    return encoder(key or KeyRing().personal())(draft, count)
