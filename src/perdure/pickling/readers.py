"""Objects read from frames and from pickles: `loads`, `load` and `Unpickler`, each as in `pickle`.

- What carries a good seal is loaded by C pickle; anything else by perdure's own reader (`own`), which makes plain and
  checked values and registered classes, unless `trust="all"` stands in the call (which raises the audit event
  `perdure.trust_all`).
- The head of a frame tells its length: just its bytes are taken from a file, and a length that lies costs nothing.
- An `Unpickler` keeps its memo from one frame of a `Pickler` to the next, forgets it where a new memo begins, and
  notices where a frame is missing.
- Classes that were renamed, moved, or given other attributes since are found and filled by names; see `rebuilding`.
- References to the outside are resolved where the seal is good, by what is registered here, with `resources`.
- Whatever the bytes are, only a `PerdureError` comes out, or `EOFError` where there are none.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import tee
from typing import Any

from perdure.errors import CannotLoad, CorruptRecord, InvalidArgument, PerdureError
from perdure.keys import KeyRing
from perdure.pickling import lasting, outside
from perdure.pickling.classes import find, find_global
from perdure.pickling.declared import DECLARED
from perdure.pickling.outline import path_to
from perdure.pickling.outside import Resolver, Resources, resources_of
from perdure.pickling.own.limits import LIMITS, Limits
from perdure.pickling.rebuilding import CHECKED, Rebuilder, Reshaped, check_named, check_shape
from perdure.pickling.sources import Next, Source, take_pickle
from perdure.pickling.together import resolved_together
from perdure.records.frame import MAGIC, decode
from perdure.records.seal import Key
from perdure.records.values import FOREIGN, Record

NOTHING = -1  # no frame that was read can be gone on with
PLAIN = -2  # the last one was a pickle without a frame


def loads(
    data: bytes | bytearray | memoryview,
    *,
    trust: str | None = None,
    key: Key | None = None,
    encoding: str = "ASCII",
    errors: str = "strict",
    buffers: Iterable[Any] | None = None,
    resources: Mapping[str, Any] | None = None,
    limits: Limits = LIMITS,
) -> Any:
    """The object in `data`: what `dumps` gave, or a pickle of any protocol, text or binary, found out by itself.

    Without a good seal, plain values, those of the standard library, and registered classes, within `limits`:
    `UntrustedRecord` else, unless `trust="all"`. Damage is `CorruptRecord`.
    `resources` are for the functions registered with `reference`; what they do not find is `CannotResolve`.
    """
    given = resources_of(resources)
    trusting = _is_trusting(trust, "loads")
    data = data if isinstance(data, bytes) else memoryview(data).tobytes()
    if not data:
        raise EOFError("Ran out of input")
    if data[:1] == MAGIC[:1]:
        record = _first_of(_open(data, key, trusting, limits))
        return _value(record, given, encoding, errors, buffers, limits)
    if trusting:
        loader = _Loader(io.BytesIO(data), encoding=encoding, errors=errors, buffers=buffers)
        return _build(loader.prepared(given, None))
    return _read(data, encoding, errors, buffers, limits)


def load(
    file: Source,
    *,
    trust: str | None = None,
    key: Key | None = None,
    encoding: str = "ASCII",
    errors: str = "strict",
    buffers: Iterable[Any] | None = None,
    resources: Mapping[str, Any] | None = None,
    limits: Limits = LIMITS,
) -> Any:
    """The next object in a binary file, which is left at the byte after it; see `loads`. `EOFError` at the end."""
    given = resources_of(resources)
    trusting = _is_trusting(trust, "load")
    source = Next(file)
    if source.is_frame:
        record = _first_of(_open(source.read_frame(), key, trusting, limits))
        return _value(record, given, encoding, errors, buffers, limits)
    if trusting:
        return _build(_Loader(source, encoding=encoding, errors=errors, buffers=buffers).prepared(given, None))
    return _read(take_pickle(source), encoding, errors, buffers, limits)


def _read(data: bytes, encoding: str, errors: str, buffers: Iterable[Any] | None, limits: Limits) -> Any:
    """The value in a pickle without a good seal."""
    from perdure.pickling.own.reading import read  # here, since many programs never meet such a thing

    return read(data, encoding=encoding, errors=errors, buffers=buffers, limits=limits)


def _value(
    record: Record, given: Resources, encoding: str, errors: str, buffers: Iterable[Any] | None, limits: Limits
) -> Any:
    """The value in a frame: by C pickle, or by names where its classes are not what they were."""
    if record.flags & FOREIGN:
        return _read(record.payload, encoding, errors, buffers, limits)
    first, again = (None, None) if buffers is None else tee(buffers)
    loader = _Loader(io.BytesIO(record.payload), encoding=encoding, errors=errors, buffers=first)
    loader.prepared(given, record)
    try:
        return _build(loader)
    except Reshaped:
        source = io.BytesIO(record.payload)
        return _build(Rebuilder(source, loader.find_again, encoding=encoding, errors=errors, buffers=again))


class Unpickler(pickle.Unpickler):
    """Reads from one file what one or several `Pickler`s wrote; subclasses have the hooks of `pickle`'s.

    An exception of a subclass's own hook comes out as it is. Trust is decided as in `loads`.
    """

    def __init__(
        self,
        file: Source,
        *,
        fix_imports: bool = True,
        encoding: str = "ASCII",
        errors: str = "strict",
        buffers: Iterable[Any] | None = None,
        trust: str | None = None,
        key: Key | None = None,
        resources: Mapping[str, Any] | None = None,
        limits: Limits = LIMITS,
    ):
        self._feed = _Feed(file, key, _is_trusting(trust, "Unpickler"), encoding, errors, buffers)
        self._limits = limits
        self._foreign: Any = None  # what reads frames without a good seal
        self._resources = resources_of(resources)
        self._fix_imports = fix_imports
        self._inner: Any = _Inner(self)
        super().__init__(file, fix_imports=fix_imports, encoding=encoding, errors=errors)

    def load(self) -> Any:
        """The next object in the file; `EOFError` at the end."""
        feed = self._feed
        source = Next(feed.file)
        if not source.is_frame:
            if not feed.trusting:
                return _read(take_pickle(source), feed.encoding, feed.errors, feed.buffers, self._limits)
            return self._load(source, feed.count == PLAIN, PLAIN)
        record = _open(source.read_frame(), feed.key, feed.trusting, self._limits)
        is_foreign = bool(record.flags & FOREIGN)
        if record.revision not in (0, feed.count) or (record.revision and is_foreign != (self._foreign is not None)):
            raise CorruptRecord("This dump refers to earlier ones of the same Pickler, which were not read before it.")
        if is_foreign:
            return self._load_foreign(record)
        self._foreign = None
        return self._load(io.BytesIO(record.payload), record.revision > 0, record.revision + 1)

    def _load_foreign(self, record: Record) -> Any:
        """By perdure's own reader, which asks none of the hooks."""
        from perdure.pickling.own.reading import reader  # as above

        feed = self._feed
        feed.count = NOTHING
        if record.revision:
            self._foreign.go_on(record.payload)
        else:
            self._foreign = reader(
                record.payload, encoding=feed.encoding, errors=feed.errors, buffers=feed.buffers, limits=self._limits
            )
        value = self._foreign.load()
        self._foreign.require_end()
        feed.count = record.revision + 1
        return value

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """The class or function of that name; raises `ClassNotFound`, an `ImportError`, where there is none."""
        if global_name == outside.NAME and module_name == outside.MODULE:
            return Resolver(self._resources)
        return _found(self._inner.find_here, module_name, global_name)

    def _load(self, source: Source, goes_on: bool, count: int) -> Any:
        feed = self._feed
        feed.begin(source, NOTHING)
        if not goes_on:
            self._inner = _Inner(self)
        before: dict[int, Any] = self._inner.memo.copy() if goes_on else {}
        wrap = type(self) is Unpickler
        try:
            value = _build(self._inner, wrap=wrap)
        except Reshaped:
            told = self._inner.told
            self._inner = _InnerRebuilder(self)
            self._inner.memo.update(before)
            for args in told:
                self._inner.note_shape(*args)
            feed.begin(feed.again(), NOTHING, again=True)
            value = _build(self._inner, wrap=wrap)
        feed.count = count
        return value


class _Inner(pickle.Unpickler):
    """Reads the frames of one memo with the hooks of the `Unpickler`: C pickle's memo cannot be emptied for re-use."""

    def __init__(self, outer: Unpickler):
        feed = outer._feed
        super().__init__(
            feed,
            fix_imports=outer._fix_imports,
            encoding=feed.encoding,
            errors=feed.errors,
            buffers=feed.buffers,
        )
        self.outer = outer
        self.told: list[tuple[Any, ...]] = []  # layouts that fitted: later frames do not tell them again

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if module_name == lasting.MODULE:
            if self.outer._feed.is_frame and global_name in CHECKED:
                return self._check if global_name == lasting.SHAPE else CHECKED[global_name]
            if global_name in _OWN:
                return _OWN[global_name]
        found = self.outer.find_class(module_name, global_name)
        return check_named(found) if self.outer._feed.is_frame else found

    def find_here(self, module_name: str, global_name: str, /) -> Any:
        """What C pickle finds, by the rules of the protocol that is being read."""
        return super().find_class(module_name, global_name)

    def persistent_load(self, pid: Any) -> Any:
        return _resolved(self.outer, pid)

    def _check(self, *args: Any) -> Any:
        cls = check_shape(*args)
        self.told.append(args)
        return cls


class _InnerRebuilder(Rebuilder):
    """The same by names, from the frame on whose classes are not what they were."""

    def __init__(self, outer: Unpickler):
        feed = outer._feed
        super().__init__(
            feed, outer.find_class, fix_imports=False, encoding=feed.encoding, errors=feed.errors, buffers=feed.buffers
        )
        self.outer = outer

    def find_here(self, module_name: str, global_name: str, /) -> Any:
        """What is found by that name."""
        return find_global(module_name, global_name)

    def persistent_load(self, pid: Any) -> Any:
        return _resolved(self.outer, pid)


_OWN = {function.__name__: function for function in lasting.LASTING}


def _resolved(outer: Unpickler, pid: Any) -> Any:
    own = getattr(outer, "persistent_load", None)
    if own is None:
        raise pickle.UnpicklingError("a persistent id needs a subclass of Unpickler with persistent_load")
    return own(pid)


class _Loader(pickle.Unpickler):
    resources: Resources
    record: Record | None

    def prepared(self, resources: Resources, record: Record | None) -> _Loader:
        self.resources, self.record = resources, record
        return self

    def place_of(self, tag: str, key: Any) -> tuple[str, str]:
        """The path to a reference, for errors."""
        record = self.record
        if record is None:
            return "", ""
        return "", path_to(_name(record), record.payload, record.flags, tag, key)

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if self.record is None:
            return self.find_again(module_name, global_name)
        if module_name == lasting.MODULE and global_name in CHECKED:
            return CHECKED[global_name]
        return check_named(self.find_again(module_name, global_name))

    def find_again(self, module_name: str, global_name: str) -> Any:
        """What is found of that name, also where states are filled by names afterwards."""
        if global_name == outside.NAME and module_name == outside.MODULE:
            record = self.record
            held = [] if record is None else [(_name(record), record.payload, record.flags)]
            return Resolver(self.resources, self.place_of, resolved_together(held, self.resources))
        return _found(super().find_class, module_name, global_name)


def _name(record: Record) -> str:
    return record.class_name.rpartition(":")[2]


class _Feed:
    """What an `Unpickler` reads from: one verified payload after the other. `count` is that of the frame to come."""

    def __init__(
        self,
        file: Source,
        key: Key | None,
        trusting: bool,
        encoding: str,
        errors: str,
        buffers: Iterable[Any] | None,
    ):
        self.file = file
        self.key = key
        self.trusting = trusting
        self.encoding = encoding
        self.errors = errors
        self.buffers = None if buffers is None else _Replayed(buffers)
        self.count = NOTHING
        self.current: Source = io.BytesIO()
        self.is_frame = False

    def begin(self, source: Source, count: int, *, again: bool = False) -> None:
        """Give the bytes of the next pickle; `again`: of the same one from its beginning, with its buffers."""
        self.current, self.count = source, count
        self.is_frame = isinstance(source, io.BytesIO)
        if self.buffers is not None:
            self.buffers.begin(again=again)

    def again(self) -> Source:
        """The frame that is being read, from its beginning."""
        assert isinstance(self.current, io.BytesIO)
        return io.BytesIO(self.current.getvalue())

    def read(self, size: int, /) -> bytes:
        return self.current.read(size)

    def readline(self) -> bytes:
        return self.current.readline()


class _Replayed:
    """Buffers beside a pickle, which may have to be given once more."""

    def __init__(self, buffers: Iterable[Any]):
        self._buffers = iter(buffers)
        self._given: list[Any] = []
        self._left: Iterator[Any] = iter(())

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        for buffer in self._left:
            return buffer
        buffer = next(self._buffers)
        self._given.append(buffer)
        return buffer

    def begin(self, *, again: bool) -> None:
        """Another pickle comes, or the same one again."""
        if again:
            self._left = iter([*self._given])
        else:
            self._given = []


def _is_trusting(trust: str | None, call: str) -> bool:
    if trust is None:
        return False
    if trust != "all":
        raise InvalidArgument(f"trust is either left out or 'all', not {trust!r}")
    sys.audit("perdure.trust_all", call)
    return True


def _open(frame: bytes, key: Key | None, trusting: bool, limits: Limits) -> Record:
    known = None if trusting else key or _personal_key()
    return decode(frame, known, trust_all=trusting, foreign=limits.unpacking)


def _personal_key() -> Key | None:
    """The user's own key if there is one: reading makes none."""
    ring = KeyRing()
    return ring.personal() if (ring.directory / "personal").exists() else None


def _first_of(record: Record) -> Record:
    if record.revision:
        raise CannotLoad(
            "This dump refers to earlier ones of the same Pickler.",
            hint="Read the whole file with one perdure.Unpickler.",
        )
    return record


def _found(find_here: Callable[[str, str], Any], module_name: str, global_name: str) -> Any:
    if DECLARED.active:
        name = f"{module_name}:{global_name}"
        if DECLARED.current(name) != name or name in DECLARED.known:
            return find(name)
        if global_name == "getattr" and module_name in ("builtins", "__builtin__"):
            return _declared_attribute  # nested classes, as protocols below 4 spell them
    try:
        return find_here(module_name, global_name)
    except (ImportError, AttributeError):
        return find_global(module_name, global_name)  # raises ClassNotFound


def _declared_attribute(obj: Any, *rest: Any) -> Any:
    if isinstance(obj, type) and rest:
        name = f"{obj.__module__}:{obj.__qualname__}.{rest[0]}"
        if DECLARED.current(name) != name or name in DECLARED.known:
            return find(name)
    return getattr(obj, *rest)


def _build(unpickler: Any, *, wrap: bool = True) -> Any:
    try:
        return unpickler.load()
    except (PerdureError, MemoryError, Reshaped):
        raise
    except Exception as error:
        if not wrap:
            raise
        if isinstance(error, pickle.UnpicklingError | EOFError):
            raise CorruptRecord(f"The pickle cannot be read: {error}.") from error
        raise CannotLoad(
            f"The object cannot be built from what is stored: {type(error).__name__}: {error}.",
            hint="Its class refused the stored state; the exception that it raised is the cause of this one.",
        ) from error
