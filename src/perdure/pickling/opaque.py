"""What stands for an object whose class cannot be found: it shows what is stored, and is stored again as it was.

- Nothing of it can be changed; nothing foreign is called to show or compare it.
- Stored again, it says what was stored: its class's name, arguments, state and items, shared parts shared.
- `Opaque` is what users ask `isinstance` for; whole records are of a class of `perdure.objects` that is one, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from reprlib import Repr
from typing import Any

from perdure.errors import ClassNotFound
from perdure.pickling.layouts import Told

LONGEST = 300  # characters of what is printed

_shorten = Repr()
_shorten.maxlevel, _shorten.maxdict, _shorten.maxstring, _shorten.maxother = 3, 6, 60, 60


class Missing:
    """Stands for a class or function that cannot be found: in its place where it is called or named."""

    __slots__ = ("hint", "name", "told")

    def __init__(self, name: str, hint: str = ""):
        self.name = name
        self.hint = hint  # where a class with a stable name was last
        self.told: Told | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise ClassNotFound(f"{self.name} cannot be found here, so it cannot be called.", path=self.name)

    def __eq__(self, other: object) -> bool:
        return self.name == other.name if isinstance(other, Missing) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"<{self.name}, which is not here>"


class Opaque:
    """An object whose class cannot be found here: `class_name`, `state`, `args` and `items` are what is stored of it.

    Equal to another one of the same class with equal parts. It cannot be changed, and is saved back as it was; as soon
    as its class can be found, `load` gives the real object.
    """

    __slots__ = ()

    _class_name: str
    _state: Any
    _args: tuple[Any, ...]
    _items: list[Any]

    @property
    def class_name(self) -> str:
        """The name of the class as the record has it."""
        return self._class_name

    @property
    def state(self) -> Any:
        """The state: attributes by their names, or what the class made of them."""
        return self._state

    @property
    def args(self) -> tuple[Any, ...]:
        """What it was made with, beside its state."""
        return self._args

    @property
    def items(self) -> list[Any]:
        """What it holds as a list, a set or a dict (pairs)."""
        return self._items

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Opaque):
            return NotImplemented
        return self is other or (self.class_name, self.args, self.state, self.items) == (
            other.class_name, other.args, other.state, other.items,
        )  # fmt: skip

    def __hash__(self) -> int:
        return hash(self.class_name)

    def __repr__(self) -> str:
        parts = [_shorten.repr(arg) for arg in self.args]
        if isinstance(self.state, dict):
            parts += [f"{name}={_shorten.repr(value)}" for name, value in self.state.items()]
        elif self.state is not None:
            parts.append(_shorten.repr(self.state))
        parts += [_shorten.repr(self.items)] if self.items else []
        text = f"<opaque {self.class_name}({', '.join(parts)})>"
        return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


class OpaqueValue(Opaque):
    """One that is no record of its own. `function` made it with `args` and `kwargs`; None: its class's `__new__`."""

    __slots__ = (
        "_args",
        "_aside",
        "_class_name",
        "_function",
        "_hash",
        "_items",
        "_kwargs",
        "_missing",
        "_pairs",
        "_state",
    )

    _aside: dict[str, Any]
    _function: Callable[..., Any] | None
    _hash: int | None
    _kwargs: dict[str, Any]
    _missing: Missing
    _pairs: list[tuple[Any, Any]]

    def __init__(
        self, missing: Missing, function: Callable[..., Any] | None, args: tuple[Any, ...], kwargs: dict[str, Any]
    ):
        set_ = object.__setattr__
        set_(self, "_class_name", missing.name)
        set_(self, "_missing", missing)
        set_(self, "_function", function)
        set_(self, "_args", args)
        set_(self, "_kwargs", kwargs)
        set_(self, "_state", None)
        set_(self, "_aside", {})
        set_(self, "_items", [])
        set_(self, "_pairs", [])
        set_(self, "_hash", None)

    @property
    def items(self) -> list[Any]:
        """What it holds as a list, a set or a dict (pairs)."""
        return [*self._items, *self._pairs]

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"This {self.class_name} is opaque: its class is not here, so it cannot be changed.")

    def __delattr__(self, name: str) -> None:
        self.__setattr__(name, None)

    def __hash__(self) -> int:
        found = self._hash
        if found is None:
            state = self._state if isinstance(self._state, (tuple, list)) else [self._state]
            parts = state[0].values() if len(state) == 1 and isinstance(state[0], dict) else state
            atoms = [part for part in (*self._args, *parts) if type(part) in (str, int, float, bytes, bool)]
            found = hash((self.class_name, *atoms))
            object.__setattr__(self, "_hash", found)
        return found

    @property
    def missing(self) -> Missing:
        """Its class."""
        return self._missing

    # -- while it is loaded ----------------------------------------------------------------------------------

    def take(self, state: Any, aside: dict[str, Any] | None = None) -> None:
        """Note the state, and what was kept beside it."""
        object.__setattr__(self, "_state", state)
        object.__setattr__(self, "_aside", aside or {})

    def take_items(self, items: list[Any]) -> None:
        """Note items, as of a list or a set."""
        self._items.extend(items)

    def take_pairs(self, pairs: Iterable[tuple[Any, Any]]) -> None:
        """Note pairs, as of a dict."""
        self._pairs.extend(pairs)

    # -- on its way out --------------------------------------------------------------------------------------

    def __reduce_ex__(self, _: Any) -> tuple[Any, ...]:
        function, args = self._function, self._args
        if function is None:
            function, args = makes, (self._missing, self._args, self._kwargs)
        items, pairs = self._items, self._pairs
        return function, args, self._state, iter(items) if items else None, iter(pairs) if pairs else None

    def reduced_with(self, setter: Callable[..., None]) -> tuple[Any, ...] | None:
        """The same with what was kept beside the state, which `setter` takes apart; None where nothing was."""
        told = self.__reduce_ex__(0)
        return (*told[:2], (self._state, self._aside), *told[3:], setter) if self._aside else None


def makes(cls: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What payloads name where an object of a class that could not be found was stored again."""
    return cls.__new__(cls, *args, **kwargs)


makes.__module__ = "perdure"
makes.__qualname__ = makes.__name__ = "_made"
_makes = makes
