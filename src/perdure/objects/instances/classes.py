"""What perdure knows of a user's class, found out once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from perdure import kernels
from perdure.errors import CannotPickle
from perdure.ids import prefix_of
from perdure.objects.instances.ghosts import ghost_class
from perdure.objects.instances.guests import is_guest_class
from perdure.objects.instances.indexing import indexed_names, taker
from perdure.objects.instances.opaque import opaque_name
from perdure.objects.instances.persistable import Persistable
from perdure.objects.instances.plans import Plan
from perdure.objects.instances.states import is_simple
from perdure.pickling.classes import name_of, public_module, shown_name
from perdure.pickling.declared import versioned_of
from perdure.pickling.layouts import layout_of
from perdure.records.shape import Shape, shape_of
from perdure.records.values import CLASS_FIELD, INTERNAL, NO_FIELDS, REDUCED, STATE, Fields

LEARNING = 8  # objects of a class that are searched for references among their attributes
MOST_SHAPES = 100  # of a class


class Lost(Persistable):
    """What a reference becomes whose record or class is not there: the error comes when it is touched."""


class ClassFacts:
    """A class of persistable objects: its name in records, its ghost class, and how its state is taken."""

    __slots__ = (
        "_told", "_without", "cls", "direct", "eager", "fields", "fit", "fit_version", "flags", "ghost", "guest",
        "indexed", "links", "links_to_learn", "module", "name", "opaque", "plan", "prefix", "shapes", "simple",
        "untried", "version",
    )  # fmt: skip

    def __init__(self, cls: type[Any]):
        self.guest = is_guest_class(cls) and not issubclass(cls, Persistable)
        if not cls.__weakrefoffset__ and not self.guest:
            raise CannotPickle(
                f"Objects of {cls.__qualname__} cannot be records of their own: they do not allow weak references,"
                " as all that is built on tuple, int or bytes.",
                hint="Let a Persistable hold the value in an attribute.",
            )
        self.cls = cls
        versioned = versioned_of(cls)
        if versioned is not None:
            versioned.require_complete()
        stands_for = opaque_name(cls)
        self.opaque = stands_for is not None
        self.name = stands_for or (versioned.name if versioned is not None else name_of(cls))
        self.version = 0 if versioned is None else versioned.version
        self.module = public_module(cls.__module__)
        self.prefix = prefix_of(cls)
        self.ghost = None if self.guest else ghost_class(cls)
        self.eager = self.ghost is None and not self.guest
        self.untried = issubclass(cls, BaseException)  # made again with `args`, which need not be what `__init__` takes
        self.simple = self.ghost is not None and is_simple(cls) and not self.opaque
        layout = layout_of(cls) if not self.opaque else None
        self.plan = None if layout is None else Plan(cls, layout)
        # Filled from its record without detours: always, or where the record has just this shape and version.
        self.direct = self.simple and cls is not Lost and self.plan is None
        self.fit: Shape | None = None
        self.fit_version = -1
        # Perdure's own classes name what can be shown of them without unpickling; see flows.
        told: Callable[[Any], Fields] | None = getattr(cls, "__record_fields__", None)
        self._told = told
        self.learn_index()
        internal = INTERNAL if getattr(cls, "__record_internal__", False) else 0
        self.flags = internal | (STATE if self.simple or self.opaque else REDUCED)
        self.links: dict[str, None] = {}  # attributes that were seen to hold nothing but a reference
        self.links_to_learn = LEARNING
        self.shapes: dict[tuple[str, ...], Shape | None] = {}  # names of attributes -> what their payload begins with
        self._without: dict[tuple[bytes, int], Shape | None] = {}

    def learn_index(self) -> None:
        """What the class names in `__indexed__` by now: in a session it may be set later than the class is used."""
        self.indexed = () if self._told else indexed_names(self.cls)
        self.fields = taker(self.name, self.indexed) if self.indexed else self._told
        if self.version:
            self.fields = _with_class(self.fields, shown_name(self.cls))

    def learn_links(self, names: Iterable[str]) -> None:
        """Attributes that hold nothing but a reference: their places stand beside the state from now on."""
        self.links_to_learn -= 1
        self.links = {**self.links, **dict.fromkeys(names)}  # another thread may be going through the old one
        self.shapes = {}

    def shape(self, names: tuple[str, ...]) -> Shape | None:
        """The shape of states with those names, and with references in all of `links`; None if they get none."""
        if len(self.shapes) >= MOST_SHAPES:
            return None  # attributes of this class are as good as the keys of a dict
        links = [place for place, name in enumerate(names) if name in self.links]
        found = self.shapes[names] = shape_of(names, links, self._beside(names))
        return found

    def _beside(self, names: tuple[str, ...]) -> list[int]:
        """The places of attributes that the class does not declare, where it declares any."""
        declared = () if self.plan is None else self.plan.layout.names
        return [place for place, name in enumerate(names) if name not in declared] if declared else []

    def shape_without(self, shape: Shape, place: int) -> Shape | None:
        """The shape of states that have no reference at one place of `shape.links`."""
        key = shape.head, place
        found = self._without.get(key)
        if found is None and len(self._without) < MOST_SHAPES:
            links = [link for link in shape.links if link != place]
            found = self._without[key] = shape_of(shape.names, links, self._beside(shape.names))
        return found


def is_kind_of(cls: type[Any], base: type[Any]) -> bool:
    """`issubclass`, of which no user's metaclass can make an error: such a class is none of `base`'s kind."""
    if any(each is base for each in cls.__mro__):
        return True
    try:
        return issubclass(cls, base)
    except Exception:  # noqa: BLE001 (hooks of the user's run here; abstract classes do not take what has no hash)
        return False


def _with_class(take: Callable[[Any], Fields] | None, name: str) -> Callable[[Any], Fields]:
    """A stable name cannot be imported: the header says where its class was."""

    def taken(obj: Any) -> Fields:
        return {CLASS_FIELD: name, **(NO_FIELDS if take is None else take(obj))}

    return taken


_facts: dict[int, ClassFacts] = {}  # by address: metaclasses may not be hashable; the facts hold the class


if kernels.built is not None:
    kernels.built.bind_facts(ClassFacts, _facts)


def known_facts(cls: type[Any]) -> ClassFacts | None:
    """The facts of a class, if anybody has asked for them."""
    return _facts.get(id(cls))


def facts_of(cls: type[Any]) -> ClassFacts:
    """The facts of a class as its author wrote it; raises `CannotPickle` if it cannot be found by a name."""
    found = _facts.get(id(cls))
    if found is None:
        found = _facts[id(cls)] = ClassFacts(cls)
    return found
