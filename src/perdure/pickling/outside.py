"""References to what is kept outside of the store: which classes are stored by tag and key, and how they are found.

- A payload holds a call of `outside` with the tag and the key, and nothing else of the object.
- What a tag means is decided by the functions that this process has registered, never by what a record names.
- Keys are plain values: `str`, `int`, `float`, `bool`, `bytes`, and tuples of these. Nothing else, and never None.
- Of several registered classes that an object is an instance of, the nearest in its class's order counts.
- Two references are the same if tag and key are; then the object itself need not be had.
- The name that stands in payloads is `perdure:_outside`; it is part of format 1 for ever.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar
from weakref import ref

from perdure.errors import CannotResolve, PerdureError, UnknownTag

MODULE, NAME = "perdure", "_outside"
MOST_BITS = 4096  # of a number in a key
MOST_PARTS = 1000  # of a key, nested ones included

Resolve = Callable[[Any, Any], Any]  # (key, resources) -> the object
ResolveMany = Callable[[list[Any], Any], Mapping[Any, Any]]  # (keys, resources) -> objects by key
F = TypeVar("F", bound=Resolve)

_KEY_ATOMS = (str, int, float, bool, bytes)


class OutsideReference:
    """What a record says of something outside of the store, where that is only looked at or compared."""

    __slots__ = ("key", "tag")

    def __init__(self, tag: str, key: Any):
        self.tag = tag
        self.key = key

    def __repr__(self) -> str:
        return f"<{self.tag} {self.key!r}, outside of the store>"


class Kind(NamedTuple):
    """What is registered under a tag; see `reference`."""

    tag: str
    cls: type[Any]
    key: Callable[[Any], Any]
    resolve: Resolve
    shared: bool = True
    many: ResolveMany | None = None


class BadKey(pickle.PicklingError):
    """An object has no key that can be stored; the message says why, and is reported with the path to it."""


_by_tag: dict[str, Kind] = {}
_by_class: dict[int, Kind] = {}  # by address: metaclasses may not be hashable; the kind holds the class
_known: dict[int, tuple[ref[type[Any]], Kind | None]] = {}  # classes that were asked about
BATCHED: dict[str, Kind] = {}  # by tag, those that have `many`
REGISTERED = _by_class  # false as long as there is nothing to ask about


def reference(
    tag: str,
    cls: type[Any],
    *,
    key: Callable[[Any], Any],
    many: ResolveMany | None = None,
    shared: bool = True,
) -> Callable[[F], F]:
    """Register the function below it: objects of `cls` and its subclasses are stored as `tag` and `key(obj)`.

    The function is called `(key, resources)` when what holds the object is loaded, and gives the object, an instance
    of `cls`, or raises. Equal keys that are loaded together give one object; `shared=False`: each place gets its own.
    `many(keys, resources)` gives a mapping from keys to objects, for all that are loaded together; what is not in it is
    asked for one by one. A tag that is registered again must be for a class of the same name (its module was
    reloaded); else `ValueError`.
    """
    if not isinstance(tag, str) or not tag:
        raise TypeError(f"a tag is a str that is not empty, not {tag!r:.60}")
    if not isinstance(cls, type):
        raise TypeError(f"what is stored by tag and key is named by its class, not by {cls!r:.60}")
    if cls.__module__ == "builtins" or issubclass(cls, type):
        raise TypeError(f"{cls.__qualname__} is stored by its value; make a class of your own for what is outside")
    if hasattr(cls, "persistent_id") or hasattr(cls, "_p_activate"):  # the latter: a class of ZODB's
        raise TypeError(f"objects of {cls.__qualname__} are records of their own, not something outside")
    if many is not None and not shared:
        raise ValueError("what is had in one call for many keys is shared by all places with the same key")
    before = _by_tag.get(tag)
    if before is not None and before.cls.__qualname__ != cls.__qualname__:
        raise ValueError(f"the tag {tag!r} is that of {before.cls.__module__}.{before.cls.__qualname__} already")

    def register(resolve: F) -> F:
        global _known
        kind = Kind(tag, cls, key, resolve, shared, many)
        _by_tag[tag] = _by_class[id(cls)] = kind
        BATCHED.pop(tag, None)
        if many is not None:
            BATCHED[tag] = kind
        _known = {}  # another one: what a thread that still looks in the old registry finds is not kept
        return resolve

    return register


def register_own(kind: Kind) -> None:
    """Register a class that says itself, by `__reduce__`, what it is stored as: picklers need not ask for it."""
    _by_tag[kind.tag] = kind


def kind_of(obj: Any) -> Kind | None:
    """What is registered for the class of an object; None for what is stored by its state."""
    cls = type(obj)
    known = _known.get(id(cls))
    return known[1] if known is not None and known[0]() is cls else _look_up(cls)


def _look_up(cls: type[Any]) -> Kind | None:
    known, place = _known, id(cls)
    kinds = (_by_class.get(id(base)) for base in cls.__mro__)
    kind = next((kind for kind in kinds if kind is not None), None)
    known[place] = ref(cls, lambda _: known.pop(place, None)), kind
    return kind


def key_of(kind: Kind, obj: Any) -> Any:
    """The key that an object is stored by; raises `BadKey`."""
    try:
        key = kind.key(obj)
    except Exception as error:  # the user's function: anything may come out, and it is why there is no key
        raise BadKey(f"{_described(kind, obj)}: its key cannot be had: {type(error).__name__}: {error}.") from error
    wrong = _wrong_part(key)
    if wrong:
        raise BadKey(
            f"{_described(kind, obj)}: its key must be a str, int, float, bool, bytes or a tuple of these,"
            f" and {wrong}. Let the key function give a plain value."
        )
    return key


def _described(kind: Kind, obj: Any) -> str:
    return f"cannot store this {type(obj).__qualname__} as a reference ({kind.tag!r})"


def _wrong_part(key: Any) -> str:
    """What is wrong with a key; nothing if it can be stored."""
    if key is None:
        return "it is None (was the object never stored where it belongs?)"
    parts = [key]
    for count, part in enumerate(parts):
        cls = type(part)
        if count == MOST_PARTS:
            return f"it has more than {MOST_PARTS} parts"
        if cls is tuple:
            parts += part
        elif not any(cls is atom for atom in _KEY_ATOMS):  # `in` would ask a metaclass of the user's
            return f"{'it is' if part is key else 'a part of it is'} of the class {cls.__qualname__}"
        elif cls is float and part != part:
            return "a number in it is NaN, which equals no key"
        elif cls is int and part.bit_length() > MOST_BITS:
            return f"a number in it has more than {MOST_BITS} bits"
    return ""


def reduction(obj: Any) -> Any:
    """For a pickler's `reducer_override`: how a registered object is stored; NotImplemented for all others."""
    kind = kind_of(obj)
    return NotImplemented if kind is None else (outside, (kind.tag, key_of(kind, obj)))


def identity(obj: Any) -> str | None:
    """A text that is the same for equal references, stored or live; None for what is no reference."""
    if type(obj) is OutsideReference:
        return same_text(obj.tag, obj.key)
    own = getattr(type(obj), "__outside__", None)
    if own is not None:
        return same_text(*own(obj))
    kind = kind_of(obj) if _by_class else None
    return None if kind is None else same_text(kind.tag, key_of(kind, obj))


def is_plain(tag: Any, key: Any) -> bool:
    """Whether tag and key are what is written; a record that was not sealed here may hold anything."""
    return type(tag) is str and not _wrong_part(key)


def same_text(tag: str, key: Any) -> str:
    """Tells apart what Python takes for equal: 1, True and 1.0."""
    return f"{tag}\n{key!r}"


# -- the other way -------------------------------------------------------------------------------------------


class Resources(dict[str, Any]):
    """What the functions of references are given: a mapping that says which resource is missing, and where from."""

    def __missing__(self, name: str) -> Any:
        raise CannotResolve(
            f"No resource {name!r} was given.",
            hint=f"Open the store with make_store(url, resources={{{name!r}: …}}), or give resources=… to loads.",
        )


NO_RESOURCES = Resources()


def resources_of(given: Mapping[str, Any] | None) -> Resources:
    """What a caller gave as `resources=…`; raises `TypeError` for what is no mapping by names."""
    if given is None:
        return NO_RESOURCES
    if isinstance(given, Resources):
        return given
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise TypeError(f"resources are a mapping from names to whatever references need, not {given!r:.60}")
    return Resources(given)


class Resolver:
    """Stands for `outside` while records are unpickled: finds what they refer to, each shared key once.

    Raises `UnknownTag`, and `CannotResolve` for whatever the registered function raises, or if it gives anything
    else than an instance of the class. `locate` gives the id and the path of a reference in what is being loaded;
    `found` is what was resolved before, to be used again.
    """

    def __init__(
        self,
        resources: Resources,
        locate: Callable[[str, Any], tuple[str, str]] | None = None,
        found: dict[str, Any] | None = None,
    ):
        self.resources = resources
        self.locate = locate
        self._found = {} if found is None else found

    def __call__(self, tag: str, key: Any) -> Any:
        try:
            kind = _by_tag.get(tag)
            if kind is None:
                raise _unknown(tag, key)
            if not kind.shared:
                return resolved(kind, key, self.resources)
            text = same_text(tag, key)
            if text not in self._found:
                self._found[text] = resolved(kind, key, self.resources)
            return self._found[text]
        except CannotResolve as error:
            raise self._placed(error, tag, key) from error.__cause__

    def _placed(self, error: CannotResolve, tag: str, key: Any) -> CannotResolve:
        id_, path = ("", "") if self.locate is None or error.path else self.locate(tag, key)
        if path:
            error.path, error.message = path, f"{path}: {error.message}"
        if id_ and not error.ids:
            error.ids = (id_,)
        error.details = {"tag": tag, "key": key, **error.details}
        return error


def resolved(kind: Kind, key: Any, resources: Resources) -> Any:
    """What the registered function gives for a key; raises `CannotResolve`."""
    what = f"The {kind.tag} with the key {key!r:.80}"
    try:
        found = kind.resolve(key, resources)
    except CannotResolve:
        raise
    except Exception as error:  # the user's function: anything may come out, and it is why there is no object
        if isinstance(error, PerdureError) and error.retryable:
            raise
        told = str(error) if isinstance(error, PerdureError) else f"{type(error).__name__}: {error}"
        raise CannotResolve(
            f"{what} cannot be had from outside of the store: {told}".rstrip(": "),
            hint="The record is whole; it loads as soon as what it refers to is there again.",
        ) from error
    if not isinstance(found, kind.cls):
        raise CannotResolve(
            f"{what} is not there: the function registered for it gave {type(found).__qualname__},"
            f" not a {kind.cls.__qualname__}.",
            hint="It must give the object, or raise.",
        )
    return found


def outside(tag: str, key: Any) -> Any:
    """What payloads name; perdure's unpicklers put a `Resolver` in this function's place."""
    return Resolver(NO_RESOURCES)(tag, key)


outside.__module__ = MODULE
outside.__qualname__ = outside.__name__ = NAME


def _unknown(tag: Any, key: Any) -> UnknownTag:
    return UnknownTag(
        f"Nothing is registered here for the tag {tag!r:.60} (key {key!r:.80}).",
        hint="Import the module that has perdure.reference for it before the object is loaded"
        " (perdure.outside.open_files() is for open files, perdure.outside.mapped for SQLAlchemy).",
    )
