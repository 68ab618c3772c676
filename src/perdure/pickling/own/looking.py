"""Looking into pickles with everything opaque: names stay names, and what would be called is noted, never called.

- The machine is that of the reader; this builder makes stand-ins which keep what is put into them.
- Nothing is imported, looked up or executed, whatever the pickle says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from perdure.pickling import lasting, references
from perdure.pickling.outside import NAME as OUTSIDE
from perdure.pickling.own.building import OWN
from perdure.pickling.own.frames import LENT
from perdure.pickling.own.machine import Machine
from perdure.pickling.own.registry import class_named
from perdure.pickling.own.values import TABLE

CHECKED, REGISTERED, UNKNOWN = "a checked value", "a registered class", "not known here: refused without a good seal"
MOST_CALLS = 10_000  # that are noted


class Call(NamedTuple):
    """Something that loading would call, where the pickle says so, and what perdure's own reader knows of it."""

    name: str
    position: int
    opcode: str
    known: str


class Named:
    """A class or function, by its name."""

    __slots__ = ("name",)

    def __init__(self, name: str):
        self.name = name


class Made:
    """Something that would be made or called: by what, of which arguments, and what is put into it."""

    __slots__ = ("args", "by", "items", "kwargs", "pairs", "states")

    def __init__(self, by: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None):
        self.by = by
        self.args = args
        self.kwargs = kwargs or {}
        self.states: list[Any] = []
        self.items: list[Any] = []
        self.pairs: list[tuple[Any, Any]] = []

    def append(self, item: Any) -> None:
        """Note an item."""
        self.items.append(item)

    add = append

    def __setitem__(self, key: Any, value: Any) -> None:
        self.pairs.append((key, value))


class Told(NamedTuple):
    """What is shown by one line: a reference, a member of an enumeration, a persistent id."""

    text: str


class Beside(bytes):
    """A buffer that is not in the pickle."""


class Looking:
    """A builder that notes `calls`. `ids` are those that the payload refers to, by place."""

    machine: Machine

    def __init__(self, ids: Sequence[str] = ()):
        self.ids = ids
        self.calls: list[Call] = []
        self.misplaced: list[str] = []  # states and items for what takes none
        self.names: dict[str, None] = {}  # that loading would look up

    def _note(self, name: str, known: str) -> None:
        if len(self.calls) < MOST_CALLS:
            self.calls.append(Call(name, self.machine.at, self.machine.opcode, known))

    def find(self, module: str, name: str) -> Any:
        """The name."""
        if len(self.names) < MOST_CALLS:
            self.names[f"{module}:{name}"] = None
        return Named(f"{module}:{name}")

    def extension(self, code: int) -> Any:
        """What `copyreg` may have in the process that loads it."""
        return Named(f"extension code {code}")

    def persistent(self, key: Any) -> Any:
        """What the loading program would be asked for."""
        self._note("persistent_load", UNKNOWN)
        return Made(Named("persistent id"), (key,))

    def call(self, function: Any, args: tuple[Any, ...], *, names: bool) -> Any:
        """What would be called."""
        name = function.name if isinstance(function, Named) else ""
        own = name.partition(":")[2] if name.startswith(f"{OWN}:") else ""
        if own == lasting.SHAPE or own == references.NAMED:
            return Named(str(args[0])) if args and type(args[0]) is str else Made(function, args)
        if own == references.NAME and len(args) == 1 and type(args[0]) is int and 0 <= args[0] < len(self.ids):
            return Told(f"→ {self.ids[args[0]]}")
        if own == lasting.MEMBER and len(args) == 3 and isinstance(args[0], Named):
            return Told(f"{args[0].name}.{args[1]}")
        if own == lasting.MADE and len(args) == 3 and type(args[1]) is tuple and type(args[2]) is dict:
            return self.make(args[0], args[1], args[2])
        if own == OUTSIDE:
            return Made(Named("outside of the store"), args)
        if name in _RECONSTRUCTORS and len(args) == 3:
            return self.make(args[0], () if args[2] is None else (args[2],), {})
        self._note(name or "a value", known(name))
        return Made(function, args)

    def make(self, cls: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """An object that would be made."""
        name = cls.name if isinstance(cls, Named) else ""
        self._note(name or "a value", known(name))
        return Made(cls, args, kwargs)

    def build(self, obj: Any, state: Any) -> Any:
        """Keep the state."""
        if type(obj) is Made:
            obj.states.append(state)
        else:
            self._misplace("a state is set of something that is not made here")
        return obj

    def target(self, obj: Any) -> Any:
        """What keeps the items."""
        if type(obj) is Made:
            return obj
        self._misplace("items are put into something that is not made here")
        return Made(Named(""))

    def _misplace(self, what: str) -> None:
        if len(self.misplaced) < MOST_CALLS:
            self.misplaced.append(f"{what} ({self.machine.opcode} at position {self.machine.at})")

    def finish(self) -> None:
        """A pickle has ended."""


_RECONSTRUCTORS = {"copyreg:_reconstructor", "copy_reg:_reconstructor"}


def known(name: str) -> str:
    """What perdure's own reader knows of a name."""
    module, _, qualname = name.partition(":")
    if (module, qualname) in TABLE or (module, qualname) in LENT:
        return CHECKED
    return REGISTERED if name and class_named(name) is not None else UNKNOWN
